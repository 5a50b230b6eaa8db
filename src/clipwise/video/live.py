"""Frames of a file, a stream or a camera, one after the other, without ever holding more than a few.

A file is read as fast as its reader wants. A live source runs on by itself: a thread takes its frames, and if they
are not fetched in time the oldest are dropped, so that what is seen stays recent and memory bounded.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from clipwise.errors import ClipwiseError, DecodeError, WorkError
from clipwise.video.packets import demux

LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "srt", "mms")
CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_QUEUE = 32  # frames of a live source that may wait


@dataclass
class TimedFrame:
    """A frame and when it was shown."""

    time_s: float
    """Seconds since the source's first frame, never falling."""
    frame: av.VideoFrame

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8, turned upright as the rotation tag says."""
        array = self.frame.to_ndarray(format="rgb24")
        turns = round(self.frame.rotation / 90)
        return np.rot90(array, turns) if turns else array


class Source:
    """A file, an address or a camera as an iterator of frames; iterate once, or use :meth:`close`.

    Args:
        source: path, address (``http://…``, ``rtsp://…``), or a camera's number.
        format: FFmpeg's input format, where it can't be known (``v4l2``, ``avfoundation``, ``lavfi``, …).
        live: drop frames rather than fall behind; None: cameras and rtsp, rtmp, udp, srt addresses.
        timeout_s: for opening, and for the next data to come.
        reconnect: how often a live source or an address that breaks is opened again.
        say: told about breaks and reconnections.

    Raises:
        DecodeError: it can't be opened (when the first frame is asked for).
    """

    def __init__(
        self,
        source: str | os.PathLike | int,
        *,
        format: str | None = None,
        live: bool | None = None,
        timeout_s: float = 10.0,
        reconnect: int = 0,
        say: Callable[[str], None] = lambda line: None,
    ):
        name, camera = str(source), False
        if name.isdigit() and not os.path.exists(name):
            name, format, camera = _camera(int(name), format)
        scheme = name.partition("://")[0].lower() if "://" in name else ""
        self.name, self.format, self.scheme = name, format, scheme
        self.live = (camera or scheme in LIVE_SCHEMES) if live is None else live
        self.timeout_s, self.say = timeout_s, say
        self.reconnect = reconnect if self.live or scheme else 0
        self.dropped = 0
        """Frames of a live source that nobody fetched in time."""
        self.damaged = 0
        """Packets that could not be decoded."""
        self.fps = 0.0
        """Frames a second as the source says, 0.0 where it does not; known once the first frame is there."""
        self.duration_s: float | None = None
        """As the source says, None for endless ones."""
        self._stop = threading.Event()

    def __iter__(self) -> Iterator[TimedFrame]:
        frames = self._unbroken()
        return self._threaded(frames) if self.live else frames

    def close(self) -> None:
        """End a live source's thread."""
        self._stop.set()

    def _open(self) -> av.container.InputContainer:
        options = {"rtsp_transport": "tcp"} if self.scheme.startswith("rtsp") else {}
        if self.scheme in ("http", "https") and self.reconnect:
            options |= {"reconnect": "1", "reconnect_on_network_error": "1", "reconnect_delay_max": "2"}
        limit = (self.timeout_s, self.timeout_s) if self.scheme else None
        try:
            return av.open(self.name, format=self.format, options=options, timeout=limit, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise DecodeError(f"{self.name} can't be opened: {_reason(error, self.timeout_s)}") from error

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Frames of one connection."""
        with self._open() as container:
            streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            if not streams:
                raise DecodeError(f"{self.name} has no video stream.")
            stream = streams[0]
            # Frame threads: a long file is read by one process, not by many loaders; a live one must not be delayed.
            stream.thread_type = "SLICE" if self.live else "AUTO"
            self.fps = float(stream.average_rate or stream.guessed_rate or 0.0)
            self.duration_s = float(container.duration / av.time_base) if container.duration else None
            try:
                for packet in demux(container, stream):
                    if self._stop.is_set():
                        return
                    try:
                        yield from packet.decode()
                    except av.error.InvalidDataError:
                        self.damaged += 1
            except (av.error.FFmpegError, OSError):
                for frame in stream.decode(None):  # what the decoder still holds was received before the break
                    frame.time_base = stream.time_base
                    yield frame
                raise

    def _is_end(self, error: Exception) -> bool:
        """FFmpeg calls the end of an HTTP stream that announced no length an input error."""
        return (
            self.scheme in ("http", "https") and self.duration_s is None and getattr(error, "errno", None) == errno.EIO
        )

    def _unbroken(self) -> Iterator[TimedFrame]:
        """Frames over all connections, with time stamps that never fall."""
        left, offset, last = self.reconnect, 0.0, 0.0
        while True:
            first: float | None = None
            count, began = 0, time.monotonic()
            error: Exception | None = None
            try:
                for frame in self._decode():
                    stamp = frame.time if frame.time is not None else count / (self.fps or 25.0)
                    first = stamp if first is None else first
                    now = stamp - first + offset
                    if now < last:  # time stamps that start over, as in files that were joined
                        offset += last - now + 1.0 / (self.fps or 25.0)
                        now = stamp - first + offset
                    count, last = count + 1, now
                    yield TimedFrame(now, frame)
            except (DecodeError, av.error.FFmpegError, OSError) as problem:
                error = None if count and self._is_end(problem) else problem
            if self._stop.is_set() or (error is None and not self.live):
                return
            what = str(error) if isinstance(error, DecodeError) else None
            what = what or f"{self.name} {'broke off' if error else 'ended'} after {last:.1f} s"
            if error is not None and not isinstance(error, DecodeError):
                what += f": {_reason(error, self.timeout_s)}"
            if left <= 0:
                if error is None:
                    return
                if isinstance(error, DecodeError) and not last:
                    raise error
                raise WorkError(what) from error
            left = left - 1 if not count else self.reconnect - 1
            pause = min(2.0 ** (self.reconnect - left - 1), 10.0)
            self.say(f"{what}; opening it again in {pause:g} s ({left} more tries)")
            if self._stop.wait(pause):
                return
            offset = last + (time.monotonic() - began if not count else pause)

    def _threaded(self, frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
        waiting: queue.Queue[TimedFrame | BaseException | None] = queue.Queue()

        def read() -> None:
            end: BaseException | None = None
            try:
                for frame in frames:
                    if waiting.qsize() >= _QUEUE:
                        with contextlib.suppress(queue.Empty):
                            waiting.get_nowait()
                            self.dropped += 1
                    waiting.put(frame)
            except BaseException as error:  # handed to the reader of the frames
                end = error
            waiting.put(end)

        thread = threading.Thread(target=read, name=f"read {self.name}", daemon=True)
        thread.start()
        try:
            while True:
                item = waiting.get()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.close()


def resample(frames: Iterator[TimedFrame], fps: float) -> Iterator[TimedFrame]:
    """Frames at a constant rate: the first one at or after each tick; over a short gap the one before it stays on.

    A gap of more than a second is not filled: the ticks go on behind it.
    """
    tick, before = 0, None
    for frame in frames:
        due = math.floor(frame.time_s * fps + 1e-6)  # the last tick that has come
        if due - tick > fps:
            tick = due
        while tick <= due:
            shown = frame if tick == due or before is None else before
            yield TimedFrame(tick / fps, shown.frame)
            tick += 1
        before = frame


def _camera(number: int, format: str | None) -> tuple[str, str, bool]:
    """FFmpeg's name and format of a camera."""
    format = format or CAMERA_FORMATS.get(sys.platform)
    if format is None:
        raise ClipwiseError(f"cameras can't be opened on {sys.platform}; give a file or an address.")
    if format not in av.formats_available and not any(format in f.split(",") for f in av.formats_available):
        raise ClipwiseError(f"this build of PyAV can't open cameras (format {format}); give a file or an address.")
    if format == "v4l2":
        return f"/dev/video{number}", format, True
    if format == "dshow":
        raise ClipwiseError("on Windows give the camera's name: --format dshow 'video=NAME'.")
    return str(number), format, True


def _reason(error: BaseException, timeout_s: float) -> str:
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {timeout_s:g} s"
    text: Any = getattr(error, "strerror", None) or error
    return str(text)
