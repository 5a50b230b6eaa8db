"""Exactly the frames that are asked for, from any video, as fast as the machine can.

``open_video`` gives a reader; every reader speaks the same small protocol, and returns the same frames for the same numbers:
frame ``i`` is the ``i``-th picture that a plain decode from the start of the file would give.

Rotation: phones write upright video as lying pictures with a rotation tag. The tag is honoured (as players, OpenCV and decord do),
so heights, widths and frames are those a viewer sees; ``rotate=False`` gives the stored pictures. Sample aspect ratios are ignored.
With several video streams the first that is not a cover picture is read. Time stamps count from the first frame.
"""

from __future__ import annotations

import io
import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from clipwise.data.packets import TABLES, PacketTable, scan_packets
from clipwise.errors import DecodeError

av.logging.set_level(
    None
)  # FFmpeg would write to stderr from inside worker processes; errors come as exceptions anyway

Transform = Callable[[np.ndarray], Any]
Backend = Literal["auto", "pyav", "torchcodec"]

# Decoders that can be told packet by packet not to decode a frame that no other frame needs. AV1's must not be told so.
SKIPS_NON_REFERENCE = frozenset({"h264", "hevc", "mpeg4", "mpeg2video"})


class VideoReader(ABC):
    """What every source of frames offers.

    Attributes:
        name: path, or what stands for it in messages.
        num_frames: frames that really can be read, whatever the file's header says.
        fps: average frames per second, 0.0 where unknown.
        height, width: of the frames that are returned.
        channels: 3 for RGB, 2 for optical flow (x, y).
        damage: what is wrong with the source, or None; the frames before the damage are still read.
        header_frames: number of frames that the container claims, 0 where it claims none.
    """

    name: str
    num_frames: int
    fps: float
    channels: int = 3
    damage: str | None = None
    header_frames: int = 0

    @property
    @abstractmethod
    def height(self) -> int: ...

    @property
    @abstractmethod
    def width(self) -> int: ...

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last; 0.0 where the frame rate is unknown."""
        return self.num_frames / self.fps if self.fps else 0.0

    def pts_s(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """(T,) frame numbers -> (T,) float64 seconds since the first frame; NaN where the frame rate is unknown."""
        wanted = self._check_indices(indices)
        return wanted / self.fps if self.fps else np.full(len(wanted), np.nan)

    def frames(self, indices: Sequence[int] | np.ndarray, transform: Transform | None = None) -> np.ndarray:
        """Reads frames in any order, repeated numbers allowed.

        Args:
            indices: (T,) frame numbers, 0-based.
            transform: called with each frame, (H, W, C) uint8, as soon as it is decoded, once for each distinct frame and not
                necessarily in order; crop and resize belong here, so that memory never holds T full frames. The array it gets
                may have padded rows, is valid only during the call and must not be written to.

        Returns:
            (T, H, W, C) uint8, or (T, …) of what ``transform`` returned.

        Raises:
            DecodeError: names the source, the frame and the reason.
        """
        wanted = self._check_indices(indices)
        if not len(wanted):
            return np.empty((0, self.height, self.width, self.channels), np.uint8)
        unique, where = np.unique(wanted, return_inverse=True)
        places: list[list[int]] = [[] for _ in unique]
        for place, number in enumerate(where.tolist()):
            places[number].append(place)
        sink = _Sink(unique, places, len(wanted), transform)
        self._read(unique, sink)
        return sink.result(self.name)

    def iterate(self, start: int = 0, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """Streams ``(index, frame)`` for ``start, start + step, …`` with bounded memory; each frame is the caller's to keep."""
        for index in range(start, self.num_frames, step):
            yield index, self.frames([index])[0]

    @abstractmethod
    def _read(self, indices: np.ndarray, sink: _Sink) -> None:
        """Hands each of ``indices`` (sorted, distinct) to ``sink(index, frame)``."""

    def close(self) -> None:  # noqa: B027 - nothing to free in most readers
        """Frees the file. A closed reader cannot be used again."""

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _check_indices(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        wanted = np.asarray(indices)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise DecodeError(f"{self.name}: frame numbers must be a flat list of whole numbers, not {indices!r}")
        wanted = wanted.astype(np.int64)
        outside = wanted[(wanted < 0) | (wanted >= self.num_frames)]
        if len(outside):
            raise DecodeError(self._missing(int(outside[0])))
        return wanted

    def _missing(self, index: int) -> str:
        because = f" ({self.damage})" if self.damage else ""
        return f"{self.name}: there is no frame {index}; {self.num_frames} frames can be decoded, 0 to {self.num_frames - 1}{because}"


class _Sink:
    """Collects frames as they come: transforms each once, and puts it wherever it was asked for."""

    def __init__(self, indices: np.ndarray, places: list[list[int]], total: int, transform: Transform | None):
        self.places = dict(zip(indices.tolist(), places))
        self.missing = set(self.places)
        self.total, self.transform = total, transform
        self.out: np.ndarray | None = None

    def __call__(self, index: int, frame: np.ndarray) -> None:
        if index not in self.missing:
            return
        value = frame if self.transform is None else np.asarray(self.transform(frame))
        if self.out is None:
            self.out = np.empty((self.total, *value.shape), value.dtype)
        for place in self.places[index]:
            self.out[place] = value
        self.missing.discard(index)

    def result(self, name: str) -> np.ndarray:
        if self.missing or self.out is None:
            raise DecodeError(f"{name}: frame {min(self.missing)} cannot be decoded")
        return self.out


class _SurpriseError(Exception):
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
            rotate: honour the rotation tag.
            verify: decode the whole file once, so that ``num_frames`` is sure even where the damage shows only in decoding.
        """
        self._source, self.name = _named_source(source)
        self._timeout_s, self._rotate = timeout_s, rotate
        self._reformat = VideoReformatter().reformat
        self._rotation: int | None = None
        self._container: Any = None
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
            raise DecodeError(f"{self.name}: {self._why_not_opened(error)}") from error
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
        self._fresh = True

    def _load_table(self, verify: bool) -> None:
        key = TABLES.key(self._path) if self._path is not None else None
        table = TABLES.get(key) if key is not None else None
        if table is None:
            try:
                table = scan_packets(self._container, self._stream)
            except (av.error.FFmpegError, OSError) as error:
                raise DecodeError(f"{self.name}: cannot be read to its end: {_reason(error)}") from error
            self._fresh = False
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
        if not len(self._table):
            raise DecodeError(f"{self.name}: has a video stream, but no frame of it can be decoded")

    def _use_table(self, table: PacketTable) -> None:
        self._table = table
        self.num_frames, self.damage = len(table), table.damage

    def _count_by_decoding(self) -> None:
        """Replaces the packets' table by what a decode from the start gives."""
        pts: list[int | None] = []
        error = self._decode_on(lambda frame: pts.append(frame.pts))
        damage = self._table.damage
        if error is not None:
            damage = f"after frame {len(pts) - 1}: {_reason(error)}" + (f"; {damage}" if damage else "")
        stamps = np.asarray([-1 if p is None else p for p in pts], dtype=np.int64)
        same = len(stamps) == len(self._table) and bool((stamps == self._table.pts).all())
        # In a damaged file the pictures depend on where decoding began: only a decode from the start is the truth.
        seekable = self._table.seekable and same and damage is None
        if not same and damage is None and len(stamps) < len(self._table):
            damage = f"{len(self._table)} packets give only {len(stamps)} frames"
        if len(stamps) > 1 and not (np.diff(stamps) > 0).all():
            stamps, seekable = np.arange(len(stamps)), False
        self._use_table(replace(self._table, pts=stamps, seekable=seekable, damage=damage))
        if self._key is not None:
            TABLES.put(self._key, self._table)

    def _why_not_opened(self, error: Exception) -> str:
        head = b""
        try:
            if isinstance(self._source, bytes):
                head = self._source[:4096]
            elif self._path is not None:
                with open(self._path, "rb") as file:
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
            return f"opening took longer than {self._timeout_s} s"
        return f"is not a video that FFmpeg can read: {_reason(error)}"

    # ---- what the file says --------------------------------------------------------------------------------------------------

    @property
    def _path(self) -> str | None:
        return (
            self._source.removeprefix("file:")
            if isinstance(self._source, str) and self._source.startswith("file:")
            else None
        )

    @property
    def codec(self) -> str:
        return self._codec.name

    @property
    def rotation(self) -> int:
        """Degrees of the rotation tag, a multiple of 90; found by decoding the first frame."""
        if self._rotation is None:
            self._decode_on(lambda frame: True)
        return self._rotation or 0

    @property
    def height(self) -> int:
        return self._codec.width if self._turned() else self._codec.height

    @property
    def width(self) -> int:
        return self._codec.height if self._turned() else self._codec.width

    def _turned(self) -> bool:
        return self._rotate and self.rotation % 180 != 0

    @property
    def keyframes(self) -> np.ndarray:
        """(k,) numbers of the frames at which decoding can start."""
        if self._table.seekable:
            return self._table.keyframe_indices()
        return np.zeros(1, np.int64)

    @property
    def duration_s(self) -> float:
        pts = self._table.pts
        if not self._table.seekable or len(pts) < 2:
            return super().duration_s
        span = float((pts[-1] - pts[0]) * self._stream.time_base)
        return span * len(pts) / (len(pts) - 1)

    def pts_s(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        if not self._table.seekable:
            return super().pts_s(indices)
        return (self._table.pts[self._check_indices(indices)] - self._table.pts[0]) * float(self._stream.time_base)

    # ---- reading -------------------------------------------------------------------------------------------------------------

    def _read(self, indices: np.ndarray, sink: _Sink) -> None:
        self._start_clock()
        if self._table.seekable:
            try:
                self._read_by_seeking(indices, sink)
                return
            except (_SurpriseError, av.error.FFmpegError) as error:
                self._check_clock(error)
        self._read_from_start(sink)

    def _read_by_seeking(self, indices: np.ndarray, sink: _Sink) -> None:
        stamps = self._table.pts[indices]
        keys = self._table.key_before(stamps).tolist()
        number = dict(zip(stamps.tolist(), indices.tolist()))  # time stamp -> frame number, of frames still to come
        wanted = list(number)

        def take(frame) -> None:
            if frame.pts in number:
                if frame.is_corrupt:
                    raise _SurpriseError(f"frame {number[frame.pts]} is damaged")
                sink(number.pop(frame.pts), self._to_array(frame))

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
                raise _SurpriseError("the decoder gave no frame for a packet")
        if skipping:
            self._codec.skip_frame = "DEFAULT"

    def _seek(self, key: int, wanted: int):
        """Packets from the keyframe ``key`` (or an earlier one) on, and the first of them."""
        self._fresh = False
        for target in (key, wanted, key):
            self._container.seek(target, stream=self._stream)
            packets = self._container.demux(self._stream)
            packet = next(packets)
            if packet.pts == key:
                break
        if packet.pts is None or packet.pts > key:
            raise _SurpriseError(f"seeking to {key} led to {packet.pts}")
        return packets, packet

    def _read_from_start(self, sink: _Sink) -> None:
        count = 0
        last = max(sink.missing, default=-1)

        def take(frame) -> bool:
            nonlocal count
            if count in sink.missing:
                sink(count, self._to_array(frame))
            count += 1
            return count > last

        error = self._decode_on(take)
        if sink.missing:
            frame = min(sink.missing)
            why = _reason(error) if error is not None else f"the file ends after {count} frames, not {self.num_frames}"
            damage = self.damage or f"after frame {count - 1}: {why}"
            self._use_table(replace(self._table, pts=self._table.pts[:count], seekable=False, damage=damage))
            if self._key is not None:
                TABLES.put(self._key, self._table)
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
                    if self._rotation is None:
                        self._rotation = frame.rotation
                    if take(frame):
                        return None
        except av.error.FFmpegError as error:
            self._check_clock(error)
            return error
        return None

    def iterate(self, start: int = 0, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """See :meth:`VideoReader.iterate`. Uses a file handle of its own, so ``frames`` may be called in between."""
        if step < 1 or start < 0:
            raise DecodeError(f"{self.name}: start must be 0 or more and step 1 or more, not {start} and {step}")
        with self._twin() as twin:
            expected = start
            if twin._table.seekable and start < self.num_frames:
                try:
                    for index, array in twin._stream_by_pts(start, step):
                        yield index, array
                        expected = index + step
                except (_SurpriseError, av.error.FFmpegError) as error:
                    twin._check_clock(error)
                else:
                    return
            yield from twin._stream_by_count(expected, step)

    def _twin(self) -> PyAVReader:
        twin = PyAVReader.__new__(PyAVReader)
        twin.__dict__.update(self.__dict__)
        twin._container = None
        twin._reformat = VideoReformatter().reformat
        if isinstance(self._source, io.IOBase):
            position = self._source.tell()
            self._source.seek(0)
            twin._source = self._source.read()
            self._source.seek(position)
        twin._start_clock()
        twin._open()
        return twin

    def _stream_by_pts(self, start: int, step: int) -> Iterator[tuple[int, np.ndarray]]:
        stamps = self._table.pts[start::step].tolist()
        wanted = set(stamps)
        packets, packet = self._seek(int(self._table.key_before(self._table.pts[start : start + 1])[0]), stamps[0])
        skips = step > 1 and self._codec.name in SKIPS_NON_REFERENCE
        at = 0
        while packet is not None and at < len(stamps):
            self._start_clock()
            if skips:
                self._codec.skip_frame = "DEFAULT" if packet.pts in wanted or not packet.size else "NONREF"
            for frame in packet.decode():
                if frame.pts in wanted and frame.pts >= stamps[0]:
                    if at >= len(stamps) or frame.pts != stamps[at] or frame.is_corrupt:
                        raise _SurpriseError("a frame is missing")
                    yield start + at * step, self._to_array(frame).copy()
                    at += 1
            packet = next(packets, None)
        if at < len(stamps):
            raise _SurpriseError("the file ends early")

    def _stream_by_count(self, start: int, step: int) -> Iterator[tuple[int, np.ndarray]]:
        if start >= self.num_frames:
            return
        if not self._fresh:
            self._open()
        self._fresh = False
        count = 0
        try:
            for packet in self._container.demux(self._stream):
                self._start_clock()
                for frame in packet.decode():
                    if count >= start and (count - start) % step == 0:
                        yield count, self._to_array(frame).copy()
                    count += 1
                    if count >= self.num_frames:
                        return
        except av.error.FFmpegError as error:
            raise DecodeError(f"{self.name}: frame {count} cannot be decoded: {_reason(error)}") from error
        if count < self.num_frames:
            raise DecodeError(
                f"{self.name}: frame {count} cannot be decoded: the file ends after {count} frames, not {self.num_frames}"
            )

    def _to_array(self, frame) -> np.ndarray:
        """A decoded picture as (H, W, 3) uint8 RGB, turned upright; a view into FFmpeg's memory with padded rows."""
        # A stream may change its picture size half-way: all frames get the size that the header names.
        rgb = self._reformat(frame, self._codec.width, self._codec.height, "rgb24", threads=1)
        plane: Any = rgb.planes[0]
        array = np.ndarray((rgb.height, rgb.width, 3), np.uint8, buffer=plane, strides=(plane.line_size, 3, 1))
        if self._rotate and frame.rotation:
            array = np.rot90(array, round(frame.rotation / 90))
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


def _named_source(source: Any) -> tuple[Any, str]:
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


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)


def open_video(source: Any, *, backend: Backend = "auto", timeout_s: float | None = None, rotate: bool = True,
               device: Any = None) -> VideoReader:  # fmt: skip
    """Opens a video for reading frames by number.

    Args:
        source: a path, a URL, the bytes of a file, a binary file object, or an array (T, H, W, C) uint8.
        backend: ``"auto"`` and ``"pyav"`` read with PyAV; ``"torchcodec"`` needs the extra ``codec``.
        timeout_s: limit in seconds for opening and for each call of ``frames``; None: no limit.
        rotate: honour the rotation tag (see the head of this module).
        device: where TorchCodec decodes, for instance an accelerator with a hardware decoder; only for that back-end.

    Raises:
        DecodeError: the source cannot be opened, or holds no frame that can be decoded.
        MissingExtraError: the back-end is not installed.
    """
    if isinstance(source, np.ndarray):
        from clipwise.data.backends import ArrayReader

        return ArrayReader(source)
    if backend == "torchcodec":
        from clipwise.data.backends import TorchCodecReader

        return TorchCodecReader(source, timeout_s=timeout_s, rotate=rotate, device=device)
    if backend not in ("auto", "pyav"):
        raise DecodeError(f"there is no decoder {backend!r}; choose auto, pyav or torchcodec")
    if device is not None:
        raise DecodeError(f"device={device!r} works only with backend='torchcodec'; PyAV decodes on the CPU")
    return PyAVReader(source, timeout_s=timeout_s, rotate=rotate)
