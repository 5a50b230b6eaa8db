"""What every source of frames offers: a file, a folder of images, an array.

Frame ``i`` is the ``i``-th frame that a plain decode from the start of the file would give, whatever the container's marks say.

Rotation: phones write upright video as lying frames with a rotation tag. The tag is honored (as players, OpenCV and decord do), so
heights, widths and frames are those a viewer sees; ``rotate=False`` gives the stored frames. Sample aspect ratios are ignored. With
several video streams the first that is not a cover image is read. Time stamps count from the first frame.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from clipwise.errors import DecodeError

Transform = Callable[[np.ndarray], Any]


class VideoReader(ABC):
    """Frames by number.

    >>> with clipwise.video.open("video.mp4") as video:
    ...     video[[3, 70]].shape, len(video), video.fps
    ((2, 256, 340, 3), 300, 29.97)

    Attributes:
        name: path, or what stands for it in messages.
        num_frames: frames that can be read, whatever the file's header says.
        fps: average frames per second, 0.0 where unknown.
        height, width: of the frames that are returned.
        channels: 3 for RGB, 2 for optical flow (x, y).
        damage: what is wrong with the source, or None. Set when the file is opened where its packets show it, else as soon as the
            decoder reports an error on the way to a frame that was asked for; from then on frames come from a plain decode from the
            start, and ``num_frames`` says how many it gives.
        header_frames: number of frames that the container claims, 0 where it claims none.
    """

    name: str
    num_frames: int
    fps: float
    channels: int = 3
    damage: str | None = None
    header_frames: int = 0

    _size: tuple[int, int]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.num_frames} frames, {self.width} × {self.height})"

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
            transform: called with each frame, (H, W, C) uint8, as soon as it is decoded, not necessarily in order and, unless the
                file turns out to be damaged on the way, once for each distinct frame; crop and resize belong here, so that memory
                never holds T full frames. The array it gets may have padded rows, is valid only during the call and must not be
                written to.

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

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, wanted: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """``reader[7]`` is a frame (H, W, C), ``reader[[3, 70]]`` and ``reader[10:20:2]`` are frames (T, H, W, C)."""
        if isinstance(wanted, slice):
            return self.frames(range(*wanted.indices(self.num_frames)))
        if isinstance(wanted, Sequence | np.ndarray) and np.ndim(wanted):
            return self.frames(wanted)
        try:
            index = operator.index(wanted)  # type: ignore[arg-type]
        except TypeError as error:
            raise DecodeError(f"{self.name}: a frame number is a whole number, not {wanted!r}") from error
        return self.frames([index + self.num_frames if -self.num_frames <= index < 0 else index])[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (frame for _, frame in self.iterate())

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
        if not self.num_frames:
            return f"{self.name}: no frame of it can be decoded{because}"
        return f"{self.name}: there is no frame {index}; {self.num_frames} frames can be decoded, 0 to {self.num_frames - 1}{because}"


class FrameSink:
    """Collects frames as they come: transforms each once, and puts it wherever it was asked for."""

    def __init__(self, wanted: np.ndarray, transform: Transform | None):
        self.wanted, self.transform = wanted, transform
        self.out: np.ndarray | None = None
        self.restart()

    def restart(self) -> None:
        """Forgets what has come: it was read by marks that proved false."""
        self.missing: set[int] = set(self.wanted.tolist())

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
