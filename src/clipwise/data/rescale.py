"""Feature sequences of any length as L positions, in one tensor operation each.

========== =============================================================================================================
rule       each of the L equal parts of the video gets
========== =============================================================================================================
linear     the mean of the linearly interpolated sequence over the part (exact, so nothing is skipped however long the video)
bsn        the mean of 3 interpolated points, both ends of the part included, on the axis of corrected seconds; zeros where
           the part lies before the first or behind the last snippet's center (``csv_mean_100``; BSN's ``data_process``)
pool       the mean of 3 interpolated points at 0, 1/3 and 2/3 of the part, on the axis of snippet numbers (MMAction2's
           ``activitynet_feature_postprocessing``)
max_pool   their maximum (the same script's option)
========== =============================================================================================================
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import ClipwiseError

Rescale = Literal["linear", "bsn", "pool", "max_pool", "none"]
RULES = ("linear", "bsn", "pool", "max_pool", "none")
_INSET = 1e-4  # how far the scripts keep off the two outermost points


def rescale_features(
    features: NDArray,
    positions: int,
    rule: Rescale = "linear",
    *,
    seconds_per_position: float = 1.0,
    span: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Rescale a sequence.

    Args:
        features: (n, F); entry k stands for the time k + 0.5 in units of its own spacing.
        positions: L.
        rule: see the module's table; "none" returns the sequence.
        seconds_per_position: spacing, only for ``bsn``, whose distance of 1e-4 from the ends is in seconds.
        span: start and end of what the L positions divide, in units of the spacing; (0, n) if not given. Only ``linear``.

    Returns:
        float32 (L, F).
    """
    if rule not in RULES:
        raise ClipwiseError(f"rescale was {rule!r}; use one of {', '.join(RULES)}.")
    if positions < 1 and rule != "none":
        raise ClipwiseError(f"features can't be rescaled to {positions} positions; at least 1 is needed.")
    values = np.asarray(features, dtype=np.float64)
    if rule == "none":
        return values.astype(np.float32)
    n = len(values)
    if n == 1:
        return np.repeat(values, positions, axis=0).astype(np.float32)
    if rule == "linear":
        start, end = span or (0.0, float(n))
        edges = np.linspace(start, end, positions + 1) - 0.5
        integral = _integral(values, edges)
        return (np.diff(integral, axis=0) / ((end - start) / positions)).astype(np.float32)
    if rule == "bsn":
        return _bsn(values, positions, seconds_per_position)
    edges = np.linspace(_INSET, n - 1 - _INSET, positions + 1)
    points = edges[:-1, None] + np.diff(edges)[:, None] * np.arange(3) / 3
    sampled = _interpolate(values, points)
    pooled = sampled.max(axis=1) if rule == "max_pool" else sampled.mean(axis=1)
    return pooled.astype(np.float32)


def _interpolate(values: NDArray, at: NDArray) -> NDArray:
    """Values between entries: (n, F) at any shape of positions in [0, n - 1] -> (*shape, F)."""
    low = np.clip(np.floor(at).astype(np.int64), 0, len(values) - 2)
    share = (at - low)[..., None]
    return values[low] * (1 - share) + values[low + 1] * share


def _integral(values: NDArray, at: NDArray) -> NDArray:
    """Integral from 0 to ``at`` of the linear interpolation, which holds its end values outside: (L,) -> (L, F)."""
    n = len(values)
    whole = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum((values[1:] + values[:-1]) / 2, axis=0)])
    inside = np.clip(at, 0, n - 1)
    low = np.minimum(inside.astype(np.int64), n - 2)
    share = (inside - low)[:, None]
    here = values[low]
    part = whole[low] + share * (here + 0.5 * share * (values[low + 1] - here))
    return part + np.minimum(at, 0)[:, None] * values[0] + np.maximum(at - (n - 1), 0)[:, None] * values[-1]


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
