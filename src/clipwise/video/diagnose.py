"""What is wrong with a source that FFmpeg refuses."""

from __future__ import annotations

import os
import stat
from typing import Any

import av


def why_not_a_file(path: str) -> str:
    """Why there is not a video file at ``path``."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return "there is no such file"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder, not a video file; folders of frames are read with FrameFolderReader"
    if not stat.S_ISREG(status.st_mode):
        return "is a pipe or a device, not a file"
    return "is empty (0 bytes)"


def why_not_opened(source: Any, error: Exception, timeout_s: float | None) -> str:
    """What is wrong with a file, judged by its first bytes.

    Args:
        source: bytes, or what FFmpeg was given.
        error: its answer.
    """
    head = b""
    try:
        if isinstance(source, bytes):
            head = source[:4096]
        elif isinstance(source, str) and source.startswith("file:"):
            with open(source.removeprefix("file:"), "rb") as file:
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
    reason = getattr(error, "strerror", None) or error or type(error).__name__
    if isinstance(error, OSError) and not isinstance(error, av.error.InvalidDataError) and not head:
        return f"cannot be opened: {reason}"
    return f"is not a video that FFmpeg can read: {reason}"


def why_no_video(container: Any, has_stream: bool) -> str:
    """Why no video can be read from an open container."""
    if has_stream:
        return "holds video of a kind that FFmpeg cannot decode"
    kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
    return f"has no video stream, only {kinds}"
