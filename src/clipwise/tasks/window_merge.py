"""What was found in overlapping windows of a video, as one list.

A segment belongs to the window whose middle is nearest to its own: there it is seen with most of what surrounds it, and a
segment that an edge cuts off is left to the neighbor. Of what remains, segments of different windows that overlap weaken each
other by Gaussian soft-NMS, class by class where there are classes; within a window that has been done before.

Each step looks at the neighboring windows only, so time and memory grow with the number of windows, not with its square.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipwise.tasks.detection_metrics import temporal_iou


class Merged(NamedTuple):
    """Segments of a whole video, best first: (n, 2) in seconds, (n,) scores, (n,) class numbers or None."""

    segments_s: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64] | None


def merge_windows(
    segments_s: Sequence[NDArray],
    scores: Sequence[NDArray],
    labels: Sequence[NDArray] | None,
    starts_s: Sequence[float],
    length_s: float,
    covered_s: float,
    *,
    alpha: float = 0.4,
    low: float = 0.55,
    high: float = 0.9,
    most: int | None = None,
) -> Merged:
    """One list for a video.

    Args:
        segments_s: (n, 2) of each window, in seconds from its start.
        scores: (n,) of each window.
        labels: (n,) class numbers of each window; None if there are none.
        starts_s: where the windows begin, ascending.
        length_s: of a window.
        covered_s: of the video; segments are cut at its end.
        alpha: width of the Gaussian.
        low, high: IoU above which a segment weakens another, for segments of no length and for those as long as a window.
        most: segments that are kept; all if not given.
    """
    starts = np.asarray(starts_s, dtype=np.float64)
    edges = np.concatenate([[-np.inf], (starts[1:] + starts[:-1] + length_s) / 2, [np.inf]])
    parts: list[tuple[NDArray, ...]] = []
    for number, start in enumerate(starts):
        shifted = np.asarray(segments_s[number], dtype=np.float64).reshape(-1, 2) + start
        middle, cut = shifted.mean(1), shifted.clip(0, covered_s)
        own = (middle >= edges[number]) & (middle < edges[number + 1]) & (cut[:, 1] > cut[:, 0])
        names = np.zeros(len(own), np.int64) if labels is None else np.asarray(labels[number])
        values = np.asarray(scores[number], dtype=np.float64)
        parts.append((cut[own], values[own], names[own], np.full(own.sum(), number)))
    boxes, values, names, window = (np.concatenate(column) for column in zip(*parts))
    kept = _soft_nms_between(
        boxes, values, names, window, starts, length_s, (alpha, low, high), len(values) if most is None else most
    )
    return Merged(boxes[kept], values[kept], None if labels is None else names[kept])


def _soft_nms_between(
    boxes: NDArray,
    scores: NDArray,
    labels: NDArray,
    window: NDArray,
    starts: NDArray,
    length_s: float,
    rule: tuple[float, float, float],
    most: int,
) -> NDArray[np.int64]:
    """Order of the kept ones by falling score; ``scores`` are weakened in place."""
    alpha, low, high = rule
    edge = np.searchsorted(window, np.arange(len(starts) + 1))  # candidates stand window by window
    queue = [(-score, i) for i, score in enumerate(scores.tolist())]
    heapq.heapify(queue)
    alive = np.ones(len(scores), dtype=bool)
    kept: list[int] = []
    while queue and len(kept) < most:
        score, i = heapq.heappop(queue)
        if -score > scores[i]:  # weakened since it was put in
            heapq.heappush(queue, (-scores[i], i))
            continue
        kept.append(i)
        alive[i] = False
        # a window's segments lie within it, so only windows that reach this segment hold any that overlap it
        first = edge[np.searchsorted(starts, boxes[i, 0] - length_s)]
        last = edge[np.searchsorted(starts, boxes[i, 1], side="right")]
        near = slice(int(first), int(last))
        iou = temporal_iou(boxes[near], boxes[i])
        width = (boxes[i, 1] - boxes[i, 0]) / length_s
        close = alive[near] & (window[near] != window[i]) & (labels[near] == labels[i])
        close &= iou > low + (high - low) * min(width, 1)
        scores[near] = np.where(close, scores[near] * np.exp(-np.square(iou) / alpha), scores[near])
    return np.array(kept, dtype=np.int64)
