"""The one window reader: clips of stretches of a long video, each frame decoded once, in bounded memory.

A video is looked at as a grid of frames at a constant rate (``FrameGrid``). Where its frames follow each other evenly the grid is
the frames themselves; where they do not, position p is the frame that is shown p / rate seconds after the first one. Windows are
counted in positions, so times in seconds are right at any frame rate. What a window shows the network is what ``ClipSpec`` cuts
from a video of that length.

Letters: W windows, V views, T frames, H W space, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.transforms import ClipPlan
from clipwise.errors import DataError
from clipwise.video.even_rate import uneven_times
from clipwise.video.reader import VideoReader

DEFAULT_WINDOW_S = 3.0
"""Longest window of models whose frames spread over a whole video (TSN, TSM) and so have no length of their own."""


@dataclass(frozen=True)
class Window:
    """A stretch of a video.

    Attributes:
        start_s, end_s: seconds from the first frame; NaN where the frame rate is unknown.
        frames: frame numbers that the network sees, as ``ClipSpec.indices`` lays them out.
    """

    start_s: float
    end_s: float
    frames: NDArray[np.int64]


class FrameGrid:
    """A video at a constant rate.

    Args:
        reader: the video.
        rate: positions per second; the video's own if not given.
        assumed: rate of a video that does not know its own.

    Attributes:
        rate: positions per second, 0.0 where the video's is unknown.
        length: positions of the whole video, at least 1.
    """

    def __init__(self, reader: VideoReader, rate: float | None = None, assumed: float = 0.0):
        if rate and not reader.fps:
            raise DataError(
                f"{reader.name}: its frame rate is not known, so frames can't be counted at {rate:g} per second."
            )
        self.rate, self._last = rate or reader.fps or assumed, reader.num_frames - 1
        self._ratio = self.rate / reader.fps if rate else 1.0
        self.length = max(1, round(reader.num_frames * self._ratio))
        self._stamps = uneven_times(reader)
        if self._stamps is not None:
            end_s = max(reader.duration_s, float(self._stamps[-1] + np.median(np.diff(self._stamps))))
            self.length = max(1, round(end_s * self.rate))

    def frames(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Frame numbers at positions; before the first and behind the last position that frame is repeated."""
        wanted = np.clip(np.asarray(positions, dtype=np.int64), 0, self.length - 1)
        if self._stamps is not None:
            return np.maximum(np.searchsorted(self._stamps, wanted / self.rate + 1e-6, side="right") - 1, 0)
        if self._ratio != 1:
            wanted = (wanted / self._ratio + 0.5).astype(np.int64)
        return np.minimum(wanted, self._last)

    def window(self, spec: ClipSpec, start: int, length: int) -> Window:
        """What ``spec`` cuts from ``length`` positions from ``start`` on; they may reach beyond the video."""
        local = spec.indices(length, np.random.default_rng(0), self.rate)
        seconds = (start / self.rate, (start + length) / self.rate) if self.rate else (np.nan, np.nan)
        return Window(*seconds, self.frames(start + local))

    def span(self, start_s: float, end_s: float) -> tuple[int, int]:
        """The first position and the number of positions (at least 1) that a span in seconds touches."""
        first = int(np.clip(np.floor(start_s * self.rate), 0, self.length - 1))
        return first, int(np.clip(np.ceil(end_s * self.rate), first + 1, self.length)) - first


def window_length(spec: ClipSpec, rate: float, window_s: float | None = None, duration_s: float | None = None) -> int:
    """Positions of a window.

    Args:
        window_s: seconds. If not given, what one clip spans; for models whose frames spread over a whole video
            ``DEFAULT_WINDOW_S``, or a sixth of a shorter video, so that what happens in it is told apart.
        duration_s: of the video, where it is known.
    """
    if window_s is not None:
        return max(1, round(window_s * rate))
    if spec.num_segments:
        seconds = min(DEFAULT_WINDOW_S, max(duration_s / 6, 0.4)) if duration_s else DEFAULT_WINDOW_S
        return 64 if spec.sampling == "dense" else max(spec.num_segments, round(seconds * rate))
    span = spec.clip_len * spec.frame_interval
    return max(1, round(span * rate / spec.target_fps) if spec.target_fps else span)


def window_stride(length: int, rate: float, stride_s: float | None = None) -> int:
    """Positions from a window to the next: half a window if none is given."""
    return max(1, length // 2 if stride_s is None else round(stride_s * rate))


def window_protocol(spec: ClipSpec, num_clips: int = 1) -> ClipSpec:
    """How a window is looked at, from how a whole video is: the same crops, but (unless more are given) one clip."""
    return replace(spec, num_clips=num_clips, twice_sample=False)


def sliding_windows(
    reader: VideoReader,
    spec: ClipSpec,
    *,
    window_s: float | None = None,
    stride_s: float | None = None,
    fps: float | None = None,
    max_windows: int | None = None,
) -> list[Window]:
    """Overlapping windows over a whole video; the last one ends with it. A shorter video is one window.

    Args:
        window_s, stride_s: see :func:`window_length` and :func:`window_stride`.
        fps: rate at which frames are looked at; the video's own if not given.
        max_windows: of a long video; the stride grows so that there are no more.
    """
    grid = FrameGrid(reader, fps, assumed=25.0)
    length = min(window_length(spec, grid.rate, window_s, grid.length / grid.rate), grid.length)
    stride = window_stride(length, grid.rate, stride_s)
    if max_windows:
        stride = max(stride, -(-(grid.length - length) // max(1, max_windows - 1)))
    return [grid.window(spec, start, length) for start in sliding_starts(grid.length, length, stride).tolist()]


def sliding_starts(length: int, window: int, stride: int) -> NDArray[np.int64]:
    """Where windows begin: every ``stride`` positions, and a last one that ends with the video. One window if it is shorter."""
    starts = np.arange(0, max(1, length - window + 1), stride)
    if starts[-1] + window < length:
        starts = np.append(starts, length - window)
    return starts


def read_windows(
    reader: VideoReader, spec: ClipSpec, windows: Sequence[Window]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Clips of windows as soon as their last frame is decoded; frames are kept as long as an open window needs them.

    Args:
        windows: in any order.

    Yields:
        The window's place in ``windows`` and its clip, uint8 (V, T, H, W, C). In the order of their last frames, which for windows
        that slide is their own.

    Raises:
        DecodeError: a frame can't be decoded.
    """
    if not windows:
        return
    plan = spec.transform.draw(reader.height, reader.width, np.random.default_rng(0))
    last = np.array([w.frames.max() for w in windows])
    order = np.argsort(last, kind="stable")
    # The first frame that a window or any later one needs: what lies before may be forgotten.
    firsts = np.minimum.accumulate(np.array([windows[k].frames.min() for k in order])[::-1])[::-1]
    kept: dict[int, NDArray[np.uint8]] = {}
    done = 0
    for index, frame in frames_in_order(reader, np.unique(np.concatenate([w.frames.ravel() for w in windows])), plan):
        kept[index] = frame
        while done < len(order) and last[order[done]] <= index:
            number = int(order[done])
            wanted = windows[number].frames
            yield number, spec.to_views(np.stack([kept[i] for i in wanted.ravel().tolist()]), wanted.shape)
            done += 1
            first = int(firsts[done]) if done < len(order) else index + 1
            for old in [i for i in kept if i < first]:
                del kept[old]


def batches(clips: Iterator[tuple[int, NDArray]], size: int) -> Iterator[tuple[list[int], list[NDArray]]]:
    """``(places, clips)`` of at most ``size`` windows."""
    places: list[int] = []
    some: list[NDArray] = []
    for place, clip in clips:
        places.append(place)
        some.append(clip)
        if len(some) == size:
            yield places, some
            places, some = [], []
    if some:
        yield places, some


def frames_in_order(reader: VideoReader, needed: NDArray, plan: ClipPlan) -> Iterator[tuple[int, NDArray]]:
    """(index, transformed frame) for sorted ``needed``: streaming where most frames are wanted, else a few dozen at a time."""
    if len(needed) * 4 >= reader.num_frames:
        at = 0
        for index, frame in reader.iterate(int(needed[0])):
            if index == needed[at]:
                yield index, plan.apply(frame)
                at += 1
                if at == len(needed):
                    return
        return
    for part in np.array_split(needed, -(-len(needed) // 64)):
        yield from zip(part.tolist(), reader.frames(part, transform=plan.apply))
