"""Rules by which published code rescales features; arguments as in :mod:`clipwise.data.rescale`.

========== =============================================================================================================
rule       each of the L equal parts of the video gets
========== =============================================================================================================
bsn        the mean of 3 interpolated points, both ends of the part included, on the axis of corrected seconds; zeros where
           the part lies before the first or behind the last snippet's center (``csv_mean_100``; BSN's ``data_process``)
pool       the mean of 3 interpolated points at 0, 1/3 and 2/3 of the part, on the axis of snippet numbers (MMAction2's
           ``activitynet_feature_postprocessing``)
max_pool   their maximum (the same script's option)
roi_align  the mean of ceil(n / L) interpolated points in the middles of its equal parts, which is torchvision's RoI align of the
           whole sequence; the features rounded to half precision first, and n too (OpenTAD's ``torchvision_align``)
========== =============================================================================================================
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_INSET = 1e-4  # how far the scripts keep off the two outermost points


def rescale_published(values: NDArray, positions: int, rule: str, seconds_per_position: float) -> NDArray[np.float32]:
    """(n, F) -> (L, F) by a rule of the table; n > 1, but for ``roi_align``."""
    if rule == "roi_align":
        return _roi_align(values, positions)
    if rule == "bsn":
        return _bsn(values, positions, seconds_per_position)
    edges = np.linspace(_INSET, len(values) - 1 - _INSET, positions + 1)
    points = edges[:-1, None] + np.diff(edges)[:, None] * np.arange(3) / 3
    sampled = _interpolate(values, points)
    pooled = sampled.max(axis=1) if rule == "max_pool" else sampled.mean(axis=1)
    return pooled.astype(np.float32)


def _interpolate(values: NDArray, at: NDArray) -> NDArray:
    """Values between entries: (n, F) at any shape of positions in [0, n - 1] -> (*shape, F)."""
    low = np.clip(np.floor(at).astype(np.int64), 0, len(values) - 2)
    share = (at - low)[..., None]
    return values[low] * (1 - share) + values[low + 1] * share


def _bsn(values: NDArray, positions: int, step_s: float) -> NDArray[np.float32]:
    n = len(values)
    first, last = 0.5 * step_s, (n - 0.5) * step_s
    edges = np.arange(positions + 1) / positions * (n * step_s)
    low, high = np.maximum(first + _INSET, edges[:-1]), np.minimum(last - _INSET, edges[1:])
    points = low[:, None] + (high - low)[:, None] * np.arange(3) / 2
    outside = (high < first) | (low > last)
    # where high < low by less than the inset the script samples backwards, still inside
    mean = _interpolate(values, np.clip(points / step_s - 0.5, 0, n - 1)).mean(axis=1)
    mean[outside] = 0
    return mean.astype(np.float32)


def _roi_align(values: NDArray, positions: int) -> NDArray[np.float32]:
    values = np.concatenate([values, values[-1:]]).astype(np.float16).astype(np.float64)  # one more, never weighed
    n = len(values) - 1
    part = float(np.float16(n)) / positions
    points = max(1, math.ceil(part))
    at = (np.arange(positions)[:, None] + (np.arange(points) + 0.5) / points) * part - 0.5
    sampled = _interpolate(values, at.clip(0, n - 1))
    sampled[at > n] = 0  # beyond the end, where half precision took 2,051 positions for 2,052
    return sampled.mean(axis=1).astype(np.float32)
