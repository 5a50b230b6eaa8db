"""What is settled while the windows of a long video still come: segments that no later window can change.

:func:`clipwise.tasks.window_merge.merge_windows` keeps the best candidate again and again, and lowers those of other windows that
overlap it; :func:`clipwise.infer.segments.choose_segments` then takes the best that do not overlap. What still comes lies behind
the start of the next window, so a candidate that ends before it is only at the mercy of known ones. It is settled once none of these
can come before it: one that is open itself may end up anywhere below the score that it has for certain.

What is given early is the whole answer and perhaps more: the answer's limits (so many segments, none weaker than a share of the best) are
known at the end only. They cut off the weakest, so an early segment belongs to the answer if and only if its score reaches the
answer's weakest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipwise.tasks.average_recall import temporal_iou
from clipwise.tasks.window_merge import ALPHA, HIGH, LOW, own_segments


class Settled(NamedTuple):
    """A segment that stays."""

    start_s: float
    end_s: float
    score: float
    label: int


class WindowStream:
    """Takes the windows of one video in their order and gives back what is settled.

    Args:
        starts_s: of all windows.
        length_s: of a window.
        covered_s: of the video.
        alpha, low, high: rule of :func:`~clipwise.tasks.window_merge.merge_windows`.
        min_score: weakest segment, as a share of the best one so far.
        max_overlap: largest IoU of two segments.
    """

    def __init__(
        self,
        starts_s: NDArray[np.float64],
        length_s: float,
        covered_s: float,
        *,
        alpha: float = ALPHA,
        low: float = LOW,
        high: float = HIGH,
        min_score: float = 0.2,
        max_overlap: float = 0.4,
    ):
        self.starts, self.length_s, self.covered_s = np.asarray(starts_s, np.float64), length_s, covered_s
        self.rule, self.min_score, self.max_overlap = (alpha, low, high), min_score, max_overlap
        self.count, self.best = 0, 0.0
        # candidates that are not settled: start, end, score; window and class
        self.boxes: NDArray[np.float64] = np.zeros((0, 2))
        self.scores: NDArray[np.float64] = np.zeros(0)
        self.kinds: NDArray[np.int64] = np.zeros((0, 2), np.int64)
        self.final: list[Settled] = []  # after the merge, before the choice; best first
        self.chosen: list[Settled] = []  # that what is to come may still overlap

    def add(self, segments_s: NDArray, scores: NDArray, labels: NDArray | None) -> Iterator[Settled]:
        """Take the next window (times from its start)."""
        number = self.count
        self.count += 1
        own = own_segments(segments_s, scores, labels, number, self.starts, self.length_s, self.covered_s)
        self.boxes, self.scores = np.concatenate([self.boxes, own[0]]), np.concatenate([self.scores, own[1]])
        self.kinds = np.concatenate([self.kinds, np.column_stack([np.full(len(own[2]), number), own[2]])])
        border = self.starts[self.count] if self.count < len(self.starts) else np.inf
        self._merge(border)
        yield from self._choose(border)

    def _merge(self, border: float) -> None:
        """The merge as far as it is known; candidates that are sure of their score and place leave."""
        alpha, low, high = self.rule
        work, most = self.scores.copy(), self.scores  # by all that is known; by what is settled, so no more than that
        alive, leaving = np.ones(len(work), bool), np.zeros(len(work), bool)
        for _ in range(len(work)):
            i = int(np.where(alive, work, -np.inf).argmax())
            alive[i] = False
            iou = temporal_iou(self.boxes, self.boxes[i])
            width = (self.boxes[i, 1] - self.boxes[i, 0]) / self.length_s
            same = (self.kinds[:, 0] != self.kinds[i, 0]) & (self.kinds[:, 1] == self.kinds[i, 1])
            near = alive & same & (iou > low + (high - low) * min(width, 1))
            # one that overlaps, and could come first, would weaken this one: not only above this one's own threshold
            rivals = alive & same & (iou > low) & (most > work[i])
            settled = self.boxes[i, 1] <= border and most[i] == work[i] and not rivals.any()
            factor = np.exp(-np.square(iou[near]) / alpha)
            work[near] *= factor
            if settled:
                most[near] *= factor
                leaving[i] = True
        for i in np.flatnonzero(leaving).tolist():
            a, b = self.boxes[i].tolist()
            self.final.append(Settled(a, b, float(work[i]), int(self.kinds[i, 1])))
            self.best = max(self.best, float(work[i]))
        self.boxes, self.scores, self.kinds = self.boxes[~leaving], most[~leaving], self.kinds[~leaving]
        weakest = self.min_score * self.best  # what is below can't be an answer, and comes after all that can
        strong = self.scores >= weakest
        self.boxes, self.scores, self.kinds = self.boxes[strong], self.scores[strong], self.kinds[strong]
        self.final = sorted((one for one in self.final if one.score >= weakest), key=lambda s: -s.score)

    def _choose(self, border: float) -> Iterator[Settled]:
        """Of the merged ones those that can be said; what is known not to be an answer leaves, too."""
        waiting: list[Settled] = []
        for one in self.final:
            span = [one.start_s, one.end_s]
            if _overlaps(self.chosen, span, self.max_overlap):
                continue
            rivals = (self.scores > one.score) & (temporal_iou(self.boxes, span) > self.max_overlap)
            if rivals.any() or _overlaps(waiting, span, self.max_overlap):
                waiting.append(one)
                continue
            self.chosen.append(one)
            yield one
        self.final = waiting
        open_from = min([border, *self.boxes[:, 0].tolist(), *(one.start_s for one in waiting)])
        self.chosen = [one for one in self.chosen if one.end_s > open_from]


def _overlaps(others: list[Settled], span: list[float], most: float) -> bool:
    if not others:
        return False
    return bool(np.nanmax(temporal_iou([[o.start_s, o.end_s] for o in others], span)) > most)
