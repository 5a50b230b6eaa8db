"""Opens whatever holds frames, and random access to video files with PyAV.

See :mod:`clipwise.video.reader` for what every reader promises.
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from clipwise.errors import DecodeError
from clipwise.video.bitstream import may_be_rotated
from clipwise.video.packets import (
    TABLES,
    DecoderMessages,
    PacketTable,
    SurpriseError,
    Watch,
    demux,
    index_path,
    scan_packets,
)
from clipwise.video.reader import FrameSink, Transform, VideoReader

__all__ = ["Backend", "FrameSink", "PyAVReader", "Transform", "VideoReader", "open_video"]

Backend = Literal["auto", "pyav", "torchcodec"]

# Decoders that can be told packet by packet not to decode a frame that no other frame needs. AV1's must not be told so.
SKIPS_NON_REFERENCE = frozenset({"h264", "hevc", "mpeg4", "mpeg2video"})


def open_video(source: Any, *, backend: Backend = "auto", timeout_s: float | None = None, rotate: bool = True,
               device: Any = None, verify: bool = False) -> VideoReader:  # fmt: skip
    """Open a video for reading frames by number.

    Args:
        source: a path, a URL, the bytes of a file, a binary file object, or an array (T, H, W, C) uint8.
        backend: ``"auto"`` and ``"pyav"`` read with PyAV; ``"torchcodec"`` needs the extra ``codec``.
        timeout_s: limit in seconds for opening and for each call of ``frames``; None: no limit.
        rotate: honor the rotation tag (see :mod:`clipwise.video.reader`).
        device: where TorchCodec decodes, for instance an accelerator with a hardware decoder; only for that back-end.
        verify: decode the whole file once, so that all damage is known that the decoder reports, and ``num_frames`` is sure; only for
            PyAV.

    Raises:
        DecodeError: the source cannot be opened, or holds no frame that can be decoded.
        MissingExtraError: the back-end is not installed.
    """
    if isinstance(source, np.ndarray):
        from clipwise.video.backends import ArrayReader

        return ArrayReader(source)
    if backend == "torchcodec":
        from clipwise.video.torchcodec_reader import TorchCodecReader

        return TorchCodecReader(PyAVReader(source, timeout_s=timeout_s, rotate=rotate), source, device)
    if backend not in ("auto", "pyav"):
        raise DecodeError(f"there is no decoder {backend!r}; choose auto, pyav or torchcodec")
    if device is not None:
        raise DecodeError(f"device={device!r} works only with backend='torchcodec'; PyAV decodes on the CPU")
    return PyAVReader(source, timeout_s=timeout_s, rotate=rotate, verify=verify)


class PyAVReader(VideoReader):
    """Reads a video file with PyAV (FFmpeg inside), the default.

    Seeks to the last keyframe before a wanted frame, does not decode frames that nobody needs, and takes a frame only under the time
    stamp that the packet table gives it. Whatever does not fit the table, and every error that the decoder reports, makes it decode
    the file from its start, once to count the frames and then to read them.
    """

    def __init__(self, source: str | os.PathLike | bytes | io.IOBase, *, timeout_s: float | None = None, rotate: bool = True,
                 verify: bool = False):  # fmt: skip
        """Arguments as in :func:`open_video`; ``source``: a path, a URL, the bytes of a file, or a binary file object that can seek."""
        self._source, self.name = name_source(source)
        self._timeout_s, self.rotate = timeout_s, rotate
        self._reformat = VideoReformatter().reformat
        self.container: Any = None
        self.concealed: set[int] = set()
        self.start_clock()
        self.open()
        try:
            self._load_table(verify)
        except BaseException:
            self.close()
            raise

    # ---- opening -------------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Reopen the file at its start."""
        self.close()
        source = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        if isinstance(source, io.IOBase):
            source.seek(0)
        timeout = None if self._timeout_s is None else (self._timeout_s, self._timeout_s)
        try:
            self.container = av.open(source, timeout=timeout, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError, EOFError) as error:
            from clipwise.video.diagnose import why_not_opened

            raise DecodeError(f"{self.name}: {why_not_opened(self._source, error, self._timeout_s)}") from error
        streams = [s for s in self.container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams or streams[0].codec_context is None:
            from clipwise.video.diagnose import why_no_video

            what = why_no_video(self.container, bool(streams))
            self.close()
            raise DecodeError(f"{self.name}: {what}")
        self.stream = streams[0]
        self._codec = self.stream.codec_context
        self._codec.thread_count = 1  # one decoder thread costs the least CPU time; loaders run many processes
        self._codec.thread_type = "NONE"
        # A stream may change its frame size half-way: all frames get the size that the header names.
        self._stored_size = (self._codec.width, self._codec.height)
        self.fresh = True
        self._packets: list[Any] = []  # all of them, or none
        self._starts: dict[int, int] = {}  # time stamp of a keyframe -> its place among them

    def _load_table(self, verify: bool) -> None:
        path = self.local_path
        self._key = key = TABLES.key(path) if path is not None else None
        table = TABLES.get(key) if key is not None else None
        if table is None and key is not None and index_path(os.path.dirname(key[0])) is not None:
            from clipwise.video.packet_index import find_table

            table = find_table(key)
        scanned = table is None
        if table is None:
            try:
                with DecoderMessages() as said:  # the demuxer's, here
                    table = scan_packets(self.container, self.stream, self._packets)
            except (av.error.FFmpegError, OSError) as error:
                why = getattr(error, "strerror", None) or error
                raise DecodeError(f"{self.name}: cannot be read to its end: {why}") from error
            if any("ended prematurely" in text for _, _, text in said):  # Matroska breaks off with a whole packet
                table = replace(table, damage=table.damage or "the file ends too early: a part of it is missing")
            self.fresh = False
            self._starts = {packet.pts: at for at, packet in enumerate(self._packets) if packet.is_keyframe}
            if may_be_rotated(self._source if path is None else path, self.container.format.name):
                from clipwise.video.pyav_sequential import first_rotation

                table = replace(table, rotation=first_rotation(self))
        self.fps = float(self.stream.average_rate or self.stream.guessed_rate or 0)
        self.header_frames = self.stream.frames
        uncertain = scanned and (table.damage is not None or table.doubt is not None)
        self.use_table(table, keep=scanned and not uncertain and not verify)
        if verify or uncertain:
            self._count(None)
        if not len(self.table):
            raise DecodeError(f"{self.name}: has a video stream, but no frame of it can be decoded")

    def use_table(self, table: PacketTable, keep: bool = False) -> None:
        """Reads by ``table`` from now on; ``keep``: so does every later reader of this file."""
        self.table = table
        if keep and self._key is not None:
            TABLES.put(self._key, table)
        self.num_frames, self.damage = len(table), table.damage
        width, height = self._stored_size
        self._size = (width, height) if self.rotate and table.rotation % 180 else (height, width)

    def _count(self, surprise: Exception | None) -> None:
        from clipwise.video.pyav_sequential import count_by_decoding

        count_by_decoding(self, surprise)

    # ---- what the file says --------------------------------------------------------------------------------------------------

    @property
    def local_path(self) -> str | None:
        """The path of the file, None for bytes, file objects and URLs."""
        source = self._source
        return source.removeprefix("file:") if isinstance(source, str) and source.startswith("file:") else None

    @property
    def codec(self) -> str:
        return self._codec.name

    @property
    def skips(self) -> bool:
        """The decoder can leave out frames that no other frame needs."""
        return self._codec.name in SKIPS_NON_REFERENCE

    @property
    def rate(self) -> Fraction:
        """Average frames per second as a fraction; 25 where unknown."""
        return Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of the table's time stamps, where the table is ``timed``."""
        return Fraction(self.stream.time_base)

    @property
    def rotation(self) -> int:
        """Degrees, anticlockwise, by which the container says the frames are to be turned; a multiple of 90."""
        return self.table.rotation

    @property
    def keyframes(self) -> np.ndarray:
        """(k,) numbers of the frames at which decoding can start."""
        return self.table.keyframe_indices() if self.table.timed else np.zeros(1, np.int64)

    @property
    def duration_s(self) -> float:
        pts = self.table.pts
        if not self.table.timed or len(pts) < 2:
            return super().duration_s
        span = float((pts[-1] - pts[0]) * self.stream.time_base)
        return span * len(pts) / (len(pts) - 1)

    def pts_s(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        if not self.table.timed:
            return super().pts_s(indices)
        return (self.table.pts[self._check_indices(indices)] - self.table.pts[0]) * float(self.stream.time_base)

    # ---- reading -------------------------------------------------------------------------------------------------------------

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        self.start_clock()
        if self.table.seekable:
            try:
                self._read_by_seeking(indices, sink)
                return
            except (SurpriseError, av.error.FFmpegError) as error:
                self.check_clock(error)
                self._count(error)
                sink.restart()
                self._check_indices(indices)
        from clipwise.video.pyav_sequential import read_from_start

        read_from_start(self, sink)

    def _read_by_seeking(self, indices: np.ndarray, sink: FrameSink) -> None:
        stamps = self.table.pts[indices]
        keys = self.table.key_before(stamps).tolist()
        number = dict(zip(stamps.tolist(), indices.tolist()))  # time stamp -> frame number, of frames still to come
        wanted = list(number)
        done = 0
        packets: Any = None
        packet: Any = None
        skips, skipping = self.skips, False
        with DecoderMessages() as messages:
            while done < len(wanted):
                key = keys[done]
                end = done
                while end < len(wanted) and keys[end] == key:
                    end += 1
                unsent = {pts for pts in wanted[done:end] if pts in number}
                # Else the last group's decoding has just arrived at this keyframe.
                if packet is None or packet.pts != key:
                    packets, packet = self.seek(key, wanted[done])
                    watch = Watch(packet.pts, messages)
                while unsent:
                    self.check_clock()
                    needed = packet.pts in number or not packet.size
                    if skips and skipping == needed:
                        self._codec.skip_frame = "DEFAULT" if needed else "NONREF"
                        skipping = not needed
                    for frame in watch(packet.decode(), packet.pts):
                        if frame.pts in number:
                            sink(number.pop(frame.pts), self.upright(frame))
                    unsent.discard(packet.pts)
                    packet = next(packets, None)
                    if packet is None:
                        break
                done = end
                if done < len(wanted) and packet is not None and packet.pts == keys[done]:
                    continue
                if packet is not None:  # every wanted packet is in: empty the decoder rather than feed it more
                    for frame in watch(self._codec.decode(None), None):
                        if frame.pts in number:
                            sink(number.pop(frame.pts), self.upright(frame))
                    packet = None
                if any(pts in number for pts in wanted[:done]):
                    raise SurpriseError("the decoder gave no frame for a packet")
        if skipping:
            self._codec.skip_frame = "DEFAULT"

    def seek(self, key: int, wanted: int):
        """Packets from the keyframe ``key`` (or an earlier one) on, and the first of them."""
        if key in self._starts:
            self._codec.flush_buffers()
            packets = iter(self._packets[self._starts[key] :])
            return packets, next(packets)
        self.fresh = False
        for target in (key, wanted, key):
            self.container.seek(target, stream=self.stream)
            packets = demux(self.container, self.stream)
            packet = next(packets)
            if packet.pts == key:
                break
        if packet.pts is None or packet.pts > key:
            raise SurpriseError(f"seeking to {key} led to {packet.pts}")
        return packets, packet

    def iterate(self, start: int = 0, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """See :meth:`VideoReader.iterate`. Uses a file handle of its own, so ``frames`` may be called in between."""
        from clipwise.video.pyav_sequential import iterate

        return iterate(self, start, step)

    def decoded_frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Streams ``(index, frame)`` as FFmpeg decodes them: unconverted, not turned. For transcoding."""
        from clipwise.video.pyav_sequential import decoded_frames

        return decoded_frames(self)

    def upright(self, frame: av.VideoFrame) -> np.ndarray:
        """A decoded frame as (H, W, 3) uint8 RGB, turned upright; a view into FFmpeg's memory with padded rows."""
        rgb = self._reformat(frame, *self._stored_size, "rgb24", threads=1)
        plane: Any = rgb.planes[0]
        array = np.ndarray((rgb.height, rgb.width, 3), np.uint8, buffer=plane, strides=(plane.line_size, 3, 1))
        if self.rotate and self.table.rotation:
            array = np.rot90(array, self.table.rotation // 90)
        return array

    # ---- clock ---------------------------------------------------------------------------------------------------------------

    def start_clock(self) -> None:
        self._deadline = float("inf") if self._timeout_s is None else time.monotonic() + self._timeout_s

    def check_clock(self, error: Exception | None = None) -> None:
        if time.monotonic() > self._deadline or isinstance(error, av.error.ExitError):
            raise DecodeError(f"{self.name}: decoding took longer than {self._timeout_s} s") from error

    def close(self) -> None:
        if self.container is not None:
            self.container.close()
            self.container = None


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
        except (OSError, ValueError):
            status = None
        if status is None or not stat.S_ISREG(status.st_mode) or not status.st_size:
            from clipwise.video.diagnose import why_not_a_file

            raise DecodeError(f"{path}: {why_not_a_file(path)}")
        return f"file:{path}", path  # without the prefix FFmpeg takes 'a:b.mp4' for a protocol
    if hasattr(source, "read") and hasattr(source, "seek"):
        return source, str(getattr(source, "name", f"<{type(source).__name__}>"))
    raise DecodeError(f"a video is given as a path, bytes or a file that can seek, not as {type(source).__name__}")
