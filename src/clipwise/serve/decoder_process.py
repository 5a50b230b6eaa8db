"""The process that opens one file of a stranger, and then ends.

Before it touches the file it limits itself: memory, CPU time, open files, and no writing to any file. It opens only
self-contained video containers, so that no playlist can make it read other files or the network. It answers with
plain JSON and raw bytes: what comes from here is never unpickled.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

# FFmpeg demuxers of self-contained video files. Left out on purpose: hls, concat, dash, sdp, rtsp, image2, lavfi, …
CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg,flv,live_flv,asf,ogg,gif,mpegvideo,h264,hevc,m4v,mxf,rm,dv,ivf,obu,apng"


def serve_file(connection: Connection, path: str, name: str, settings: dict[str, Any]) -> None:
    """Answer requests about one file until the connection closes: "open", then "frames" and "stream" in any order.

    Args:
        path: waits for a request ("open", path, name) if empty.
        settings: memory_mb, cpu_s, max_pixels, max_frames, max_duration_s.
    """
    import torch

    torch.set_num_threads(1)
    reader: Any = None
    stream: Iterator[tuple[int, np.ndarray]] = iter(())
    stream_at: tuple[int, int] | None = None
    try:
        while True:
            request = connection.recv()
            try:
                if request[0] == "ready":
                    _answer(connection, {"ready": True})
                elif request[0] == "open":
                    _, path, name = request
                    confine(settings["memory_mb"], settings["cpu_s"])
                    reader, facts = open_checked(path, settings)
                    _answer(connection, facts, reader.pts_s(np.arange(reader.num_frames)))
                elif request[0] == "frames":
                    _, indices, transform = request
                    frames = reader.frames(indices, transform=transform)
                    _answer(connection, {"shape": frames.shape}, np.ascontiguousarray(frames))
                else:
                    _, start, step, count = request
                    if stream_at != (start, step):  # else go on decoding where the last request ended
                        stream = reader.iterate(start, step)
                    frames = np.stack([frame for _, frame in itertools.islice(stream, count)])
                    stream_at = (start + step * count, step)
                    _answer(connection, {"shape": frames.shape}, frames)
            except Exception as error:
                code, message = explain(error)
                _answer(connection, {"error": code, "message": message.replace(path, name) if path else message})
    except (EOFError, OSError):  # the server has gone, or wants no more
        pass


def _answer(connection: Connection, head: dict[str, Any], body: np.ndarray | None = None) -> None:
    connection.send_bytes(json.dumps({**head, "bytes": 0 if body is None else body.nbytes}).encode())
    if body is not None:
        connection.send_bytes(body.data.cast("B") if body.size else b"")


def confine(memory_mb: int, cpu_s: float) -> None:
    """Limit this process; on systems without ``resource`` (Windows) only the server's clock guards it."""
    try:
        import resource
    except ImportError:
        return
    size = _virtual_size()
    if size:
        limit = size + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    seconds = int(used + cpu_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def _virtual_size() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


class RefusedError(Exception):
    """A file that goes over a limit: (code, message)."""


def open_checked(path: str, settings: dict[str, Any]):
    """A reader and the file's facts; what the header claims is checked before any frame is decoded.

    Raises:
        RefusedError: over a limit, or a container that is not taken.
    """
    from clipwise.video.decode import open_video

    container_name = _check_header(path, settings)
    reader = open_video(path)
    _check_size(reader.width, reader.height, settings)
    _check_frames(reader.num_frames, settings)
    _check_duration(reader.duration_s, settings)
    facts = {
        "num_frames": reader.num_frames,
        "fps": reader.fps,
        "height": reader.height,
        "width": reader.width,
        "duration_s": reader.duration_s,
        "damage": reader.damage,
        "codec": str(getattr(reader, "codec", "")),
        "container": container_name,
    }
    return reader, facts


def _check_header(path: str, settings: dict[str, Any]) -> str:
    import av

    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(path, container_options=options, timeout=settings["cpu_s"], metadata_errors="replace")
    except av.error.FFmpegError as error:
        with open(path, "rb") as file:
            head = file.read(64)
        if _looks_like_playlist(head) or isinstance(error, av.error.ArgumentError):
            raise RefusedError(
                "unsupported_type",
                "this is not a self-contained video file (playlists and raw frames are not accepted). Send mp4, webm, mkv, mov, avi or another ordinary video.",
            ) from None
        return ""  # open_video will say better why it can't be read
    with container:
        for stream in container.streams.video:
            context = stream.codec_context
            if context is not None:
                _check_size(context.width, context.height, settings)
            _check_frames(stream.frames, settings)
            if stream.duration and stream.time_base:
                _check_duration(float(stream.duration * stream.time_base), settings)
        return container.format.name


def _looks_like_playlist(head: bytes) -> bool:
    return head.lstrip().startswith((b"#EXTM3U", b"ffconcat", b"<MPD", b"v=0", b"YUV4MPEG2"))


def _check_size(width: int, height: int, settings: dict[str, Any]) -> None:
    if width * height > settings["max_pixels"]:
        raise RefusedError(
            "too_many_pixels",
            f"the frames are {width} x {height} pixels; at most {settings['max_pixels']:,} pixels are allowed. Resize the video.",
        )


def _check_frames(count: int, settings: dict[str, Any]) -> None:
    if count > settings["max_frames"]:
        raise RefusedError(
            "too_many_frames",
            f"the video claims {count:,} frames; at most {settings['max_frames']:,} are allowed. Split it.",
        )


def _check_duration(seconds: float, settings: dict[str, Any]) -> None:
    if seconds > settings["max_duration_s"]:
        raise RefusedError(
            "too_long",
            f"the video lasts {seconds:,.0f} s; at most {settings['max_duration_s']:,.0f} s are allowed. Split it.",
        )


def explain(error: BaseException) -> tuple[str, str]:
    """Code and sentence of what went wrong with a file."""
    if isinstance(error, RefusedError):
        return error.args[0], error.args[1]
    chain, text = error, str(error)
    while chain.__cause__ is not None:
        chain = chain.__cause__
        text += f" {chain}"
    if isinstance(error, MemoryError) or "annot allocate memory" in text or "out of memory" in text:
        return "decode_memory", "decoding this file needs more memory than --decode-memory-mb allows."
    from clipwise.errors import ClipwiseError

    if isinstance(error, ClipwiseError | OSError):
        return "not_a_video", str(error)
    return "not_a_video", f"the file cannot be decoded ({type(error).__name__})."
