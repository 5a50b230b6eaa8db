"""Exactly the frames that are asked for, from any video, as fast as the machine can.

``open_video`` gives a reader; every reader speaks the same small protocol, and returns the same frames for the same numbers:
frame ``i`` is the ``i``-th picture that a plain decode from the start of the file would give.

Rotation: phones write upright video as lying pictures with a rotation tag. The tag is honored (as players, OpenCV and decord do),
so heights, widths and frames are those a viewer sees; ``rotate=False`` gives the stored pictures. Sample aspect ratios are ignored.
With several video streams the first that is not a cover picture is read. Time stamps count from the first frame.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import av
import numpy as np

from clipwise.errors import DecodeError

Transform = Callable[[np.ndarray], Any]
Backend = Literal["auto", "pyav", "torchcodec"]


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

    _size: tuple[int, int]

    @property
    def height(self) -> int:
        return self._size[0]

    @property
    def width(self) -> int:
        return self._size[1]

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
        sink = FrameSink(wanted, transform)
        self._read(np.unique(wanted), sink)
        return sink.result(self.name)

    def iterate(self, start: int = 0, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """Streams ``(index, frame)`` for ``start, start + step, …`` with bounded memory; each frame is the caller's to keep."""
        for index in range(start, self.num_frames, step):
            yield index, self.frames([index])[0]

    @abstractmethod
    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
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


class FrameSink:
    """Collects frames as they come: transforms each once, and puts it wherever it was asked for."""

    def __init__(self, wanted: np.ndarray, transform: Transform | None):
        self.wanted, self.transform = wanted, transform
        self.missing: set[int] = set(wanted.tolist())
        self.out: np.ndarray | None = None

    def __call__(self, index: int, frame: np.ndarray) -> None:
        if index not in self.missing:
            return
        value = frame if self.transform is None else np.asarray(self.transform(frame))
        if self.out is None:
            self.out = np.empty((len(self.wanted), *value.shape), value.dtype)
        for place in np.flatnonzero(self.wanted == index):
            self.out[place] = value
        self.missing.discard(index)

    def result(self, name: str) -> np.ndarray:
        if self.missing or self.out is None:
            raise DecodeError(f"{name}: frame {min(self.missing)} cannot be decoded")
        return self.out


def open_video(source: Any, *, backend: Backend = "auto", timeout_s: float | None = None, rotate: bool = True,
               device: Any = None) -> VideoReader:  # fmt: skip
    """Opens a video for reading frames by number.

    Args:
        source: a path, a URL, the bytes of a file, a binary file object, or an array (T, H, W, C) uint8.
        backend: ``"auto"`` and ``"pyav"`` read with PyAV; ``"torchcodec"`` needs the extra ``codec``.
        timeout_s: limit in seconds for opening and for each call of ``frames``; None: no limit.
        rotate: honor the rotation tag (see the head of this module).
        device: where TorchCodec decodes, for instance an accelerator with a hardware decoder; only for that back-end.

    Raises:
        DecodeError: the source cannot be opened, or holds no frame that can be decoded.
        MissingExtraError: the back-end is not installed.
    """
    if isinstance(source, np.ndarray):
        from clipwise.video.backends import ArrayReader

        return ArrayReader(source)
    if backend == "torchcodec":
        from clipwise.video.backends import TorchCodecReader

        return TorchCodecReader(source, timeout_s=timeout_s, rotate=rotate, device=device)
    if backend not in ("auto", "pyav"):
        raise DecodeError(f"there is no decoder {backend!r}; choose auto, pyav or torchcodec")
    if device is not None:
        raise DecodeError(f"device={device!r} works only with backend='torchcodec'; PyAV decodes on the CPU")
    from clipwise.video.pyav_reader import PyAVReader

    return PyAVReader(source, timeout_s=timeout_s, rotate=rotate)


def open_frames(
    folder: str | os.PathLike,
    *,
    num_frames: int | None = None,
    modality: str = "rgb",
    template: str | None = None,
    start_index: int | None = 1,
    offset: int = 0,
    fps: float = 0.0,
) -> VideoReader:
    """Opens a folder of frames; see :class:`clipwise.video.backends.FrameFolderReader` for the arguments.

    Raises:
        DecodeError: there is no such folder, or no frame in it that fits the template.
    """
    from clipwise.video.backends import FrameFolderReader

    return FrameFolderReader(
        folder,
        num_frames=num_frames,
        modality=modality,
        template=template,
        start_index=start_index,
        offset=offset,
        fps=fps,
    )


# ---- what a source is, and what is wrong with it ---------------------------------------------------------------------------------------


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
