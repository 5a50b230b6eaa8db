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

from clipwise.tasks.average_recall import temporal_iou

ALPHA, LOW, HIGH = 0.4, 0.55, 0.9  # soft-NMS between windows, where nothing else is given


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
    alpha: float = ALPHA,
    low: float = LOW,
    high: float = HIGH,
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
    parts: list[tuple[NDArray, ...]] = []
    for number in range(len(starts)):
        found = None if labels is None else labels[number]
        own = own_segments(segments_s[number], scores[number], found, number, starts, length_s, covered_s)
        parts.append((*own, np.full(len(own[0]), number)))
    boxes, values, names, window = (np.concatenate(column) for column in zip(*parts))
    kept = _soft_nms_between(
        boxes, values, names, window, starts, length_s, (alpha, low, high), len(values) if most is None else most
    )
    return Merged(boxes[kept], values[kept], None if labels is None else names[kept])


def own_segments(
    segments_s: NDArray,
    scores: NDArray,
    labels: NDArray | None,
    number: int,
    starts: NDArray[np.float64],
    length_s: float,
    covered_s: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray]:
    """The segments whose nearest window is the given one: on the video's clock, with scores and class numbers (0 if there are none)."""
    before = (starts[number] + starts[number - 1] + length_s) / 2 if number else -np.inf
    after = (starts[number + 1] + starts[number] + length_s) / 2 if number + 1 < len(starts) else np.inf
    shifted = np.asarray(segments_s, np.float64).reshape(-1, 2) + starts[number]
    middle, cut = shifted.mean(1), shifted.clip(0, covered_s)
    own = (middle >= before) & (middle < after) & (cut[:, 1] > cut[:, 0])
    names = np.zeros(len(own), np.int64) if labels is None else np.asarray(labels)
    return cut[own], np.asarray(scores, np.float64)[own], names[own]


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
