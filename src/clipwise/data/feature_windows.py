"""Windows of a fixed time over feature sequences: a long video is looked at in pieces that overlap.

A network of L fixed positions sees only so much detail. Squeezed into L positions as a whole, a long video loses it; in
windows of ``length_s`` seconds a position stands for the same time in every video, however long. Videos shorter than a window
are followed by zeros.

Letters: n positions of a video, L positions of a window, F feature dimension, G annotated segments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipwise.data.rescale import rescale_features


@dataclass(frozen=True)
class TimeWindows:
    """How long videos are cut.

    Attributes:
        length_s: seconds of a window.
        overlap: share of a window that the next one sees as well.
        min_inside: smallest share of a segment that must lie in a window for it to be learned there.
        background: most windows without a segment in training, as a share of those with one.
        least: fewest windows of a training epoch; where there are fewer, each comes several times, shifted elsewhere.
    """

    length_s: float
    overlap: float = 0.5
    min_inside: float = 0.75
    background: float = 0.5
    least: int = 0

    @property
    def stride_s(self) -> float:
        """Seconds from the start of a window to that of the next."""
        return self.length_s * (1 - self.overlap)

    def starts(self, covered_s: float) -> NDArray[np.float64]:
        """Starts in seconds: every stride, the last window ends with the video. One window if the video is not longer."""
        spare = covered_s - self.length_s
        if spare <= 1e-9 * self.length_s:
            return np.zeros(1)
        count = int(np.ceil(spare / self.stride_s - 1e-9))
        return np.append(np.arange(count) * self.stride_s, spare)

    def inside(
        self, segments_s: NDArray[np.float64], start_s: float, length_s: float | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What a window has to learn.

        Args:
            segments_s: (G, 2) annotated starts and ends in the video.
            start_s, length_s: of the window, whose length is ``self.length_s`` if not given.

        Returns:
            (k, 2) segments of which at least ``min_inside`` lies in the window, cut to it, as shares of it; and (k,) which they are.
        """
        segments = np.asarray(segments_s, dtype=np.float64).reshape(-1, 2)
        length = length_s or self.length_s
        cut = segments.clip(start_s, start_s + length)
        whole = segments[:, 1] - segments[:, 0]
        kept = np.flatnonzero((whole > 0) & (cut[:, 1] - cut[:, 0] >= self.min_inside * whole - 1e-9))
        return (cut[kept] - start_s) / length, kept

    def joined(self, curves: NDArray, covered_s: float) -> NDArray:
        """Curves of a whole video from those of its windows: at each moment those of the window whose middle is nearest.

        Args:
            curves: (W, C, L).

        Returns:
            (C, positions of the whole video).
        """
        step = self.length_s / curves.shape[2]
        middle = (np.arange(max(1, round(covered_s / step))) + 0.5) * step
        starts = self.starts(covered_s)
        of = np.searchsorted((starts[1:] + starts[:-1] + self.length_s) / 2, middle, side="right")
        at = np.clip(((middle - starts[of]) / step).astype(int), 0, curves.shape[2] - 1)
        return curves[of, :, at].T


def cut_window(
    values: NDArray, covered_s: float, start_s: float, length_s: float, positions: int | None
) -> tuple[NDArray[np.float32], float, float]:
    """The features of a window.

    Args:
        values: (n, F) of the whole video, which divide ``covered_s`` seconds.
        positions: L; None keeps the video's own positions.

    Returns:
        (L, F), zeros where a position's middle lies behind the video's end; the window's start and length in seconds. Without L,
        or where L positions are as fine as the features, the start is moved to the nearest whole position.
    """
    n, step = len(values), covered_s / len(values)
    if positions is None:
        count = min(n, max(1, round(length_s / step)))
        first = int(np.clip(round(start_s / step), 0, n - count))
        return np.asarray(values[first : first + count], dtype=np.float32), first * step, count * step
    low, high = start_s / step, (start_s + length_s) / step
    if abs(high - low - positions) < 1e-4:  # as fine as the features: they are taken as they are
        first = int(np.clip(round(low), 0, max(0, n - 1)))
        out = np.zeros((positions, values.shape[1]), dtype=np.float32)
        part = values[first : first + positions]
        out[: len(part)] = part
        return out, first * step, length_s
    # a few positions more on either side than the interpolation reads, so that the work does not grow with the video
    first, last = min(max(0, int(low) - 2), n - 1), min(n, int(np.ceil(high)) + 2)
    out = rescale_features(np.asarray(values[first:last]), positions, "linear", span=(low - first, high - first))
    middle = start_s + (np.arange(positions) + 0.5) * (length_s / positions)
    out[middle > covered_s] = 0
    return out, start_s, length_s
