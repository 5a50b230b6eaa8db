"""Random access to video files with PyAV; see :mod:`clipwise.video.decode` for what every reader promises."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from clipwise.errors import DecodeError
from clipwise.video.decode import FrameSink, VideoReader, local_path, name_source, reason, why_not_opened
from clipwise.video.packets import TABLES, PacketTable, find_table, may_be_rotated, scan_packets

# FFmpeg would write to stderr from inside worker processes; errors come as exceptions anyway.
av.logging.set_level(None)

# Decoders that can be told packet by packet not to decode a frame that no other frame needs. AV1's must not be told so.
SKIPS_NON_REFERENCE = frozenset({"h264", "hevc", "mpeg4", "mpeg2video"})


class SurpriseError(Exception):
    """The file does not behave as its packet table says."""


class PyAVReader(VideoReader):
    """Reads a video file with PyAV (FFmpeg inside), the default.

    Seeks to the last keyframe before a wanted frame, does not decode frames that nobody needs, and takes a frame only under the time
    stamp that the packet table gives it. Whatever does not fit the table makes it decode from the start of the file and count.
    """

    def __init__(self, source: str | os.PathLike | bytes | io.IOBase, *, timeout_s: float | None = None, rotate: bool = True,
                 verify: bool = False):  # fmt: skip
        """
        Args:
            source: a path, a URL, the bytes of a file, or a binary file object that can seek.
            timeout_s: limit for opening and for each call of ``frames``; None: no limit.
            rotate: honor the rotation tag.
            verify: decode the whole file once, so that ``num_frames`` is sure even where the damage shows only in decoding.
        """
        self._source, self.name = name_source(source)
        self._timeout_s, self._rotate = timeout_s, rotate
        self._reformat = VideoReformatter().reformat
        self._container: Any = None
        self.concealed: set[int] = set()
        self._start_clock()
        self._open()
        try:
            self._load_table(verify)
        except BaseException:
            self.close()
            raise

    # ---- opening -------------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self.close()
        source = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        if isinstance(source, io.IOBase):
            source.seek(0)
        timeout = None if self._timeout_s is None else (self._timeout_s, self._timeout_s)
        try:
            self._container = av.open(source, timeout=timeout)
        except (av.error.FFmpegError, OSError, ValueError, EOFError) as error:
            raise DecodeError(f"{self.name}: {why_not_opened(self._source, error, self._timeout_s)}") from error
        streams = [s for s in self._container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams or streams[0].codec_context is None:
            kinds = ", ".join(sorted({s.type for s in self._container.streams})) or "nothing"
            what = (
                f"has no video stream, only {kinds}"
                if not streams
                else "holds video of a kind that FFmpeg cannot decode"
            )
            self.close()
            raise DecodeError(f"{self.name}: {what}")
        self._stream = streams[0]
        self._codec = self._stream.codec_context
        self._codec.thread_count = 1  # one decoder thread costs the least CPU time; loaders run many processes
        self._codec.thread_type = "NONE"
        # A stream may change its picture size half-way: all frames get the size that the header names.
        self._stored_size = (self._codec.width, self._codec.height)
        self._fresh = True
        self._packets: list[Any] = []  # all of them, or none
        self._starts: dict[int, int] = {}  # time stamp of a keyframe -> its place among them

    def _load_table(self, verify: bool) -> None:
        path = local_path(self._source)
        key = TABLES.key(path) if path is not None else None
        table = TABLES.get(key) or find_table(key) if key is not None else None
        if table is None:
            try:
                table = scan_packets(self._container, self._stream, self._packets)
            except (av.error.FFmpegError, OSError) as error:
                raise DecodeError(f"{self.name}: cannot be read to its end: {reason(error)}") from error
            self._fresh = False
            self._starts = {packet.pts: at for at, packet in enumerate(self._packets) if packet.is_keyframe}
            if may_be_rotated(self._source if path is None else path, self._container.format.name):
                table = replace(table, rotation=self._first_rotation())
            verify = verify or table.damage is not None
            if not verify and key is not None:
                TABLES.put(key, table)
        self._key = key
        self._use_table(table)
        stream = self._stream
        self.fps = float(stream.average_rate or stream.guessed_rate or 0)
        self.header_frames = stream.frames
        if verify:
            self._count_by_decoding()
        if not len(self.table):
            raise DecodeError(f"{self.name}: has a video stream, but no frame of it can be decoded")

    def _first_rotation(self) -> int:
        angles: list[int] = []

        def take(frame) -> bool:
            angles.append(round(frame.rotation / 90) * 90)
            return True

        self._decode_on(take)
        return angles[0] if angles else 0

    def _use_table(self, table: PacketTable, keep: bool = False) -> None:
        self.table = table
        if keep and self._key is not None:
            TABLES.put(self._key, table)
        self.num_frames, self.damage = len(table), table.damage
        width, height = self._stored_size
        self._size = (width, height) if self._rotate and table.rotation % 180 else (height, width)

    def _count_by_decoding(self) -> None:
        """Replaces the packets' table by what a decode from the start gives."""
        pts: list[int | None] = []

        def take(frame) -> None:
            if frame.is_corrupt:
                self.concealed.add(len(pts))
            pts.append(frame.pts)

        error = self._decode_on(take)
        damage = self.table.damage
        if error is not None:
            damage = f"after frame {len(pts) - 1}: {reason(error)}" + (f"; {damage}" if damage else "")
        if damage is None and self.concealed:
            damage = f"{len(self.concealed)} frames have errors that the decoder has covered up, the first is {min(self.concealed)}"
        stamps = np.asarray([-1 if p is None else p for p in pts], dtype=np.int64)
        same = len(stamps) == len(self.table) and bool((stamps == self.table.pts).all())
        # In a damaged file the pictures depend on where decoding began: only a decode from the start is the truth.
        seekable, timed = self.table.seekable and same and damage is None, self.table.timed
        if not same and damage is None and len(stamps) < len(self.table):
            damage = f"{len(self.table)} packets give only {len(stamps)} frames"
        if len(stamps) > 1 and not (np.diff(stamps) > 0).all():
            stamps, seekable, timed = np.arange(len(stamps)), False, False
        self._use_table(replace(self.table, pts=stamps, timed=timed, seekable=seekable, damage=damage), keep=True)

    # ---- what the file says --------------------------------------------------------------------------------------------------

    @property
    def codec(self) -> str:
        return self._codec.name

    @property
    def plain_colors(self) -> bool:
        """8 bits a sample and even sides: FFmpeg's converters all give the same RGB for such pictures."""
        pixels = self._codec.format
        return pixels is not None and pixels.components[0].bits <= 8 and not any(side % 2 for side in self._stored_size)

    @property
    def rate(self) -> Fraction:
        """Average frames per second as a fraction; 25 where unknown."""
        return Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of the table's time stamps, where the table is ``timed``."""
        return Fraction(self._stream.time_base)

    @property
    def rotation(self) -> int:
        """Degrees, anticlockwise, by which the container says the frames are to be turned; a multiple of 90."""
        return self.table.rotation

    @property
    def keyframes(self) -> np.ndarray:
        """(k,) numbers of the frames at which decoding can start."""
        if self.table.timed:
            return self.table.keyframe_indices()
        return np.zeros(1, np.int64)

    @property
    def duration_s(self) -> float:
        pts = self.table.pts
        if not self.table.timed or len(pts) < 2:
            return super().duration_s
        span = float((pts[-1] - pts[0]) * self._stream.time_base)
        return span * len(pts) / (len(pts) - 1)

    def pts_s(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        if not self.table.timed:
            return super().pts_s(indices)
        return (self.table.pts[self._check_indices(indices)] - self.table.pts[0]) * float(self._stream.time_base)

    # ---- reading -------------------------------------------------------------------------------------------------------------

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        self._start_clock()
        if self.table.seekable:
            try:
                self._read_by_seeking(indices, sink)
                return
            except (SurpriseError, av.error.FFmpegError) as error:
                self._check_clock(error)
                self._use_table(replace(self.table, seekable=False), keep=True)
        self._read_from_start(sink)

    def _read_by_seeking(self, indices: np.ndarray, sink: FrameSink) -> None:
        stamps = self.table.pts[indices]
        keys = self.table.key_before(stamps).tolist()
        number = dict(zip(stamps.tolist(), indices.tolist()))  # time stamp -> frame number, of frames still to come
        wanted = list(number)

        def take(frame) -> None:
            if frame.pts in number:
                if frame.is_corrupt:
                    raise SurpriseError(f"frame {number[frame.pts]} is damaged")
                sink(number.pop(frame.pts), self.upright(frame))

        done = 0
        packets: Any = None
        packet: Any = None
        skips = self._codec.name in SKIPS_NON_REFERENCE
        skipping = False
        while done < len(wanted):
            key = keys[done]
            end = done
            while end < len(wanted) and keys[end] == key:
                end += 1
            unsent = {pts for pts in wanted[done:end] if pts in number}
            if packet is None or packet.pts != key:  # else the last group's decoding has just arrived at this keyframe
                packets, packet = self._seek(key, wanted[done])
            while unsent:
                self._check_clock()
                needed = packet.pts in number or not packet.size
                if skips and skipping == needed:
                    self._codec.skip_frame = "DEFAULT" if needed else "NONREF"
                    skipping = not needed
                for frame in packet.decode():
                    take(frame)
                unsent.discard(packet.pts)
                packet = next(packets, None)
                if packet is None:
                    break
            done = end
            if done < len(wanted) and packet is not None and packet.pts == keys[done]:
                continue
            if packet is not None:  # every wanted packet is in: empty the decoder rather than feed it more
                for frame in self._codec.decode(None):
                    take(frame)
                packet = None
            if any(pts in number for pts in wanted[:done]):
                raise SurpriseError("the decoder gave no frame for a packet")
        if skipping:
            self._codec.skip_frame = "DEFAULT"

    def _seek(self, key: int, wanted: int):
        """Packets from the keyframe ``key`` (or an earlier one) on, and the first of them."""
        if key in self._starts:
            self._codec.flush_buffers()
            packets = iter(self._packets[self._starts[key] :])
            return packets, next(packets)
        self._fresh = False
        for target in (key, wanted, key):
            self._container.seek(target, stream=self._stream)
            packets = self._container.demux(self._stream)
            packet = next(packets)
            if packet.pts == key:
                break
        if packet.pts is None or packet.pts > key:
            raise SurpriseError(f"seeking to {key} led to {packet.pts}")
        return packets, packet

    def _read_from_start(self, sink: FrameSink) -> None:
        count = 0
        last = max(sink.missing, default=-1)

        def take(frame) -> bool:
            nonlocal count
            if count in sink.missing:
                if frame.is_corrupt:
                    self.concealed.add(count)
                sink(count, self.upright(frame))
            count += 1
            return count > last

        error = self._decode_on(take)
        if sink.missing:
            frame = min(sink.missing)
            why = reason(error) if error is not None else f"the file ends after {count} frames, not {self.num_frames}"
            damage = self.damage or f"after frame {count - 1}: {why}"
            self._use_table(replace(self.table, pts=self.table.pts[:count], seekable=False, damage=damage), keep=True)
            raise DecodeError(
                f"{self.name}: frame {frame} cannot be decoded; decoding broke off after {count} frames: {why}"
            ) from error

    def _decode_on(self, take: Callable[[Any], Any]) -> Exception | None:
        """Decodes from the start until ``take`` returns True; the error that ended it early, or None."""
        if not self._fresh:
            self._open()
        self._fresh = False
        try:
            for packet in self._container.demux(self._stream):
                self._check_clock()
                for frame in packet.decode():
                    if take(frame):
                        return None
        except av.error.FFmpegError as error:
            self._check_clock(error)
            return error
        return None

    def iterate(self, start: int = 0, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """See :meth:`VideoReader.iterate`. Uses a file handle of its own, so ``frames`` may be called in between."""
        from clipwise.video.pyav_stream import iterate

        return iterate(self, start, step)

    def pictures(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Streams ``(index, frame)`` as FFmpeg decodes them: unconverted, not turned. For transcoding."""
        from clipwise.video.pyav_stream import pictures

        return pictures(self)

    def upright(self, frame: av.VideoFrame) -> np.ndarray:
        """A decoded picture as (H, W, 3) uint8 RGB, turned upright; a view into FFmpeg's memory with padded rows."""
        rgb = self._reformat(frame, *self._stored_size, "rgb24", threads=1)
        plane: Any = rgb.planes[0]
        array = np.ndarray((rgb.height, rgb.width, 3), np.uint8, buffer=plane, strides=(plane.line_size, 3, 1))
        if self._rotate and self.table.rotation:
            array = np.rot90(array, self.table.rotation // 90)
        return array

    # ---- clock ---------------------------------------------------------------------------------------------------------------

    def _start_clock(self) -> None:
        self._deadline = float("inf") if self._timeout_s is None else time.monotonic() + self._timeout_s

    def _check_clock(self, error: Exception | None = None) -> None:
        if time.monotonic() > self._deadline or isinstance(error, av.error.ExitError):
            raise DecodeError(f"{self.name}: decoding took longer than {self._timeout_s} s") from error

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None
