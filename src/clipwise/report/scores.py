"""Test results as arrays: predictions, classes, confusions. Plain numpy, no model.

``ScoreTable.of(result)`` takes the object that ``clipwise test`` makes, ``comparison.read_result(path)`` the JSON that it
wrote; reports and ``clipwise compare`` work on either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.tasks import metrics


@dataclass
class ScoreTable:
    """Scores of a list of videos.

    Attributes:
        paths: N files.
        scores: (N, K); NaN where the video failed.
        labels: (N,) class indices, -1 where unknown; or (N, K) multi-hot.
        classes: K names; numbers where the list had none.
        failures: path -> reason.
        metrics: as measured.
        seconds: for the whole list, 0 if unknown.
        video_seconds: (N,) or None.
    """

    paths: list[str]
    scores: NDArray[np.float64]
    labels: NDArray
    classes: list[str]
    failures: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    video_seconds: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, result: Any) -> ScoreTable:
        """From a ``TestResult`` (or anything with its fields)."""
        if isinstance(result, ScoreTable):
            return result
        rows = [np.asarray(s, np.float64) for s in result.scores]
        width = max((r.shape[-1] for r in rows), default=1)
        scores = np.stack([one_row(r, width) for r in rows]) if rows else np.empty((0, width))
        labels = as_labels(result.labels, width)
        return cls(
            paths=[str(p) for p in result.paths],
            scores=scores,
            labels=labels,
            classes=class_names(result.classes, width),
            failures=dict(result.failures),
            metrics={k: float(v) for k, v in result.metrics.items()},
            seconds=float(result.seconds),
            video_seconds=np.asarray(result.video_seconds, float) if len(result.video_seconds) else None,
        )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_classes(self) -> int:
        return self.scores.shape[1]

    @property
    def multi_label(self) -> bool:
        return self.labels.ndim == 2

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """(N,)"""
        return np.asarray(np.isnan(self.scores).any(1))

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """(N,): scored, and with one known label."""
        known = ~self.failed
        if not self.multi_label:
            known &= self.labels >= 0
        return known

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) best class, -1 where the video failed."""
        best = np.where(self.failed[:, None], 0.0, self.scores).argmax(1)
        return np.where(self.failed, -1, best)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,): the best class is (one of) the true one(s); failed videos are wrong."""
        if self.multi_label:
            hit = np.take_along_axis(self.labels, np.maximum(self.predictions, 0)[:, None], 1)[:, 0] > 0
            return hit & ~self.failed
        return (self.predictions == self.labels) & self.usable

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, K): the scores, through a softmax (sigmoids for several labels) where they are logits. NaN where the video failed."""
        known = self.scores[~self.failed]
        if self.multi_label:
            logits = len(known) and (known.min() < 0 or known.max() > 1)
            return np.asarray(1 / (1 + np.exp(-self.scores))) if logits else self.scores
        if len(known) and (known.min() < 0 or abs(known.sum(1) - 1).max() > 1e-2):
            shifted = np.exp(self.scores - np.nanmax(self.scores, axis=1, keepdims=True, initial=-np.inf))
            return shifted / shifted.sum(1, keepdims=True)
        return self.scores

    def in_top(self, k: int) -> NDArray[np.bool_]:
        """(N,): the true class is among the k best."""
        good = self.usable
        hit = np.zeros(len(self), bool)
        if good.any() and not self.multi_label:
            own = self.scores[good, self.labels[good]]
            hit[good] = (self.scores[good] > own[:, None]).sum(1) < k
        return hit

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K) counts, truth in rows, over the usable videos of a single-label list."""
        if self.multi_label or not self.usable.any():
            return np.zeros((self.num_classes, self.num_classes), np.int64)
        return metrics.confusion_matrix(
            self.predictions[self.usable], self.labels[self.usable], num_classes=self.num_classes
        ).astype(np.int64)

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """(K,) videos a class, the failed ones included."""
        if self.multi_label:
            return self.labels.sum(0).astype(np.int64)
        return np.bincount(self.labels[self.labels >= 0], minlength=self.num_classes)

    @cached_property
    def class_accuracy(self) -> NDArray[np.float64]:
        """(K,) accuracy within each class (average precision for several labels a video); NaN without videos."""
        if self.multi_label:
            good = ~self.failed
            values = np.full(self.num_classes, np.nan)
            for k in np.flatnonzero(self.labels[good].any(0)):
                values[k] = metrics.mean_average_precision(self.scores[good][:, [k]], self.labels[good][:, [k]])
            return values
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.bincount(self.labels[self.correct], minlength=self.num_classes) / self.class_counts

    def label_names(self, index: int) -> str:
        """The true class or classes of a video, for people."""
        if self.multi_label:
            return ", ".join(self.classes[k] for k in np.flatnonzero(self.labels[index])) or "–"
        label = int(self.labels[index])
        return self.classes[label] if label >= 0 else "–"


def one_row(scores: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    if scores.ndim == 1 and len(scores) == width:
        return scores
    if np.isnan(scores).any():
        return np.full(width, np.nan)
    # the views' logits were kept: their shares are averaged, as the default protocol does
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return (shares / shares.sum(-1, keepdims=True)).mean(0)


def as_labels(labels: Sequence[Any], width: int) -> NDArray:
    if any(np.ndim(label) > 0 for label in labels):
        return np.stack([np.zeros(width) if label is None else np.asarray(label) for label in labels]).astype(np.int64)
    return np.array([-1 if label is None else int(label) for label in labels], np.int64)


def class_names(classes: Sequence[str] | None, width: int) -> list[str]:
    names = [str(c) for c in classes or []][:width]
    return names + [str(k) for k in range(len(names), width)]
