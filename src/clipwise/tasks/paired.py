"""Two measurements of the same videos: is the difference more than luck?

A bootstrap over videos only ever needs to know how many videos of each kind a resample holds, so the kinds' counts
are drawn (a multinomial) instead of the videos: exact, and a thousand resamples of 20,000 videos take milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import ClipwiseError


@dataclass(frozen=True)
class Interval:
    """A difference ``b - a`` with its interval."""

    difference: float
    low: float
    high: float
    confidence: float = 0.95

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def accuracy_difference(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of ``mean(b) - mean(a)`` over paired right-or-wrong outcomes.

    Args:
        a, b: (N,) booleans, one pair a video.
        resamples: bootstrap samples.
        confidence: share of the resamples inside the interval.
        seed: of the resampling.

    Raises:
        ClipwiseError: shapes that differ, or no video.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    a, b = _outcomes(a, b)
    gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
    share = np.array([gained, lost, len(a) - gained - lost]) / len(a)
    draws = np.random.default_rng(seed).multinomial(len(a), share, resamples)
    low, high = _percentiles((draws[:, 0] - draws[:, 1]) / len(a), confidence)
    return Interval((gained - lost) / len(a), low, high, confidence)


def class_accuracy_difference(
    a: ArrayLike,
    b: ArrayLike,
    labels: ArrayLike,
    *,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """As :func:`accuracy_difference`, for the mean over classes of the accuracy within each class.

    Args:
        a, b: (N,) booleans.
        labels: (N,) class indices; classes without a video are left out.
    """
    a, b = _outcomes(a, b)
    classes, where = np.unique(np.asarray(labels), return_inverse=True)
    # kinds of videos: class x (both or neither, b alone, a alone)
    kind = where * 3 + np.where(b & ~a, 1, np.where(a & ~b, 2, 0))
    counts = np.bincount(kind, minlength=3 * len(classes)).reshape(-1, 3)
    rng = np.random.default_rng(seed)
    values = []
    for part in np.array_split(np.arange(resamples), max(1, resamples * counts.size // 2**22)):
        draws = rng.multinomial(len(a), counts.ravel() / len(a), len(part)).reshape(len(part), -1, 3)
        total = draws.sum(2)
        gain = np.divide(draws[..., 1] - draws[..., 2], total, out=np.zeros(total.shape), where=total > 0)
        values.append(gain.sum(1) / (total > 0).sum(1))
    low, high = _percentiles(np.concatenate(values), confidence)
    return Interval(float(((counts[:, 1] - counts[:, 2]) / counts.sum(1)).mean()), low, high, confidence)


def sign_test(gained: int, lost: int) -> float:
    """Exact two-sided p-value that ``gained`` and ``lost`` come from a fair coin (McNemar's exact test).

    Source: McNemar 1947; the binomial form, which holds for small counts too.
    """
    n, k = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    i = np.arange(k + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    tail = log_factorial[n] - log_factorial[i] - log_factorial[n - i] - n * math.log(2)
    return float(min(1.0, 2 * np.exp(tail).sum()))


def wilson_interval(right: ArrayLike, total: ArrayLike, confidence: float = 0.95) -> tuple[NDArray, NDArray]:
    """Interval of a share, honest for few videos.

    Source: Wilson 1927.
    """
    from statistics import NormalDist

    right, total = np.asarray(right, float), np.asarray(total, float)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = right / total
        center = (share + z * z / (2 * total)) / (1 + z * z / total)
        half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)


def _outcomes(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = np.asarray(a, bool), np.asarray(b, bool)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ClipwiseError(
            f"paired outcomes of shapes {first.shape} and {second.shape}; give one right-or-wrong a video, for the same videos"
        )
    return first, second


def _percentiles(values: NDArray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
