"""Where a video comes from, what to call it in messages, and why it cannot be read."""

from __future__ import annotations

import os
import stat
from typing import Any

import av

from clipwise.errors import DecodeError


def name_source(source: Any) -> tuple[Any, str]:
    """What to give to FFmpeg, and what to call it in messages."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not len(source):
            raise DecodeError("<bytes>: is empty (0 bytes)")
        return bytes(source), "<bytes>"
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if "://" in path:
            return path, path
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            raise DecodeError(f"{path}: there is no such file") from error
        if stat.S_ISDIR(status.st_mode):
            raise DecodeError(
                f"{path}: is a folder, not a video file; folders of frames are read with FrameFolderReader"
            )
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError(f"{path}: is a pipe or a device, not a file")
        if not status.st_size:
            raise DecodeError(f"{path}: is empty (0 bytes)")
        return f"file:{path}", path  # without the prefix FFmpeg takes 'a:b.mp4' for a protocol
    if hasattr(source, "read") and hasattr(source, "seek"):
        return source, str(getattr(source, "name", f"<{type(source).__name__}>"))
    raise DecodeError(f"a video is given as a path, bytes or a file that can seek, not as {type(source).__name__}")


def reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)


def local_path(source: Any) -> str | None:
    """The path behind what ``name_source`` gave, None for bytes, file objects and URLs."""
    return source.removeprefix("file:") if isinstance(source, str) and source.startswith("file:") else None


def why_not_opened(source: Any, error: Exception, timeout_s: float | None) -> str:
    """What is wrong with a source that FFmpeg refuses, judged by its first bytes."""
    head = b""
    try:
        if isinstance(source, bytes):
            head = source[:4096]
        elif (path := local_path(source)) is not None:
            with open(path, "rb") as file:
                head = file.read(4096)
    except OSError:
        pass
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not a video; the download that made it has failed"
    if head and all(32 <= byte < 127 or byte in b"\t\r\n\f" for byte in head):
        return "is a text file, not a video"
    if head[4:8] == b"ftyp":
        return "has no index (moov box): the file was cut off before its end, or never finished"
    if isinstance(error, av.error.ExitError):
        return f"opening took longer than {timeout_s} s"
    return f"is not a video that FFmpeg can read: {reason(error)}"
