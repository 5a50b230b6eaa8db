"""Rules by which published code rescales features; arguments as in :mod:`clipwise.data.rescale`.

========== =============================================================================================================
rule       each of the L equal parts of the video gets
========== =============================================================================================================
bsn        the mean of 3 interpolated points, both ends of the part included, on the axis of corrected seconds; zeros where
           the part lies before the first or behind the last snippet's center (``csv_mean_100``; BSN's ``data_process``)
pool       the mean of 3 interpolated points at 0, 1/3 and 2/3 of the part, on the axis of snippet numbers (MMAction2's
           ``activitynet_feature_postprocessing``)
max_pool   their maximum (the same script's option)
========== =============================================================================================================
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_INSET = 1e-4  # how far the scripts keep off the two outermost points


def rescale_published(values: NDArray, positions: int, rule: str, seconds_per_position: float) -> NDArray[np.float32]:
    """(n, F), n > 1 -> (L, F) by ``bsn``, ``pool`` or ``max_pool``."""
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
