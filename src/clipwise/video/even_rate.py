"""Videos of a variable frame rate as videos of an even one, so that whatever counts frames counts time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipwise.video.reader import FrameSink, Transform, VideoReader


def uneven_times(reader: VideoReader) -> np.ndarray | None:
    """(n,) seconds from the first frame, where frames do not follow each other evenly; None where they do, or nobody knows.

    Time stamps within half a frame of an even rate count as even, for containers round them and cameras tremble; a header's rate may be
    off by a frame or so at the end, since it counts the last frame as it likes.
    """
    count = reader.num_frames
    if not reader.fps or count < 2:
        return None
    times = reader.pts_s(np.arange(count))
    if not (np.isfinite(times).all() and times[-1] > 0):
        return None
    step = times[-1] / (count - 1)
    off_even = np.abs(times - step * np.arange(count)).max() / step
    off_header = abs(times[-1] * reader.fps - (count - 1))
    return times if off_even >= 0.5 or off_header >= 1.5 else None


def at_even_rate(reader: VideoReader) -> VideoReader:
    """``reader`` itself where its frames follow each other evenly, else its frames by their time stamps, at its average rate."""
    times = uneven_times(reader)
    return reader if times is None else EvenReader(reader, times, reader.duration_s)


class EvenReader(VideoReader):
    """Another reader's frames at an even rate: frame ``i`` is what is on the screen in the middle of the ``i``-th tick."""

    def __init__(self, video: VideoReader, times_s: np.ndarray, duration_s: float):
        """
        Args:
            video: whose frames are shown; it stays the caller's to close, unless this reader is closed.
            times_s: (n,) when each of its frames appears, in seconds since the first, rising.
            duration_s: when the last one goes.
        """
        self.video = video
        self.name, self.channels = video.name, video.channels
        self.header_frames, self._size = video.header_frames, (video.height, video.width)
        self.num_frames = len(times_s)
        self.fps = len(times_s) / duration_s
        ticks = (np.arange(self.num_frames) + 0.5) / self.fps
        self.shown = np.maximum(np.searchsorted(times_s, ticks, side="right") - 1, 0)

    @property
    def damage(self) -> str | None:  # type: ignore[override]
        return self.video.damage

    def frames(self, indices, transform: Transform | None = None) -> np.ndarray:
        return self.video.frames(self.shown[self._check_indices(indices)], transform)

    def iterate(self, start: int = 0, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        ticks = range(start, self.num_frames, step)
        if not ticks:
            return
        at = 0
        for index, frame in self.video.iterate(int(self.shown[start])):
            while at < len(ticks) and self.shown[ticks[at]] == index:
                yield ticks[at], frame
                at += 1
            if at == len(ticks):
                return

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        raise NotImplementedError("frames() is overridden")

    def close(self) -> None:
        self.video.close()


class FlowOf(VideoReader):
    """The flow frames of a video, at the times of the video's own frames."""

    def __init__(self, video: VideoReader, flow: VideoReader):
        self.video, self.flow = video, flow
        self.name, self.channels, self.fps = flow.name, flow.channels, video.fps
        self.num_frames = min(video.num_frames, flow.num_frames)
        self._size = (flow.height, flow.width)

    @property
    def duration_s(self) -> float:
        return self.video.duration_s

    def pts_s(self, indices) -> np.ndarray:
        return self.video.pts_s(self._check_indices(indices))

    def frames(self, indices, transform: Transform | None = None) -> np.ndarray:
        return self.flow.frames(self._check_indices(indices), transform)

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        raise NotImplementedError("frames() is overridden")

    def close(self) -> None:
        self.flow.close()
