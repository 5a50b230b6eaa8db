"""Feature sequences of any length as L positions, in one tensor operation.

``linear`` gives each of the L equal parts of the video the mean of the linearly interpolated sequence over it: exact, so nothing
is skipped however long the video. Rules of published code are in ``clipwise.data.rescale_published``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import ClipwiseError
from clipwise.io.text import plural

Rescale = Literal["linear", "bsn", "pool", "max_pool", "roi_align", "none"]
RULES = ("linear", "bsn", "pool", "max_pool", "roi_align", "none")


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
        rule: "linear", "bsn", "pool", "max_pool" or "roi_align"; "none" returns the sequence.
        seconds_per_position: spacing, only for ``bsn``, whose distance of 1e-4 from the ends is in seconds.
        span: start and end of what the L positions divide, in units of the spacing; (0, n) if not given. Only ``linear``.

    Returns:
        float32 (L, F).
    """
    if rule not in RULES:
        raise ClipwiseError(f"rescale was {rule!r}; use one of {', '.join(RULES)}.")
    if positions < 1 and rule != "none":
        raise ClipwiseError(f"features can't be rescaled to {plural(positions, 'position')}; at least 1 is needed.")
    values = np.asarray(features, dtype=np.float64)
    if rule == "none":
        return values.astype(np.float32)
    n = len(values)
    if n == 1 and rule != "roi_align":
        return np.repeat(values, positions, axis=0).astype(np.float32)
    if rule == "linear":
        start, end = span or (0.0, float(n))
        edges = np.linspace(start, end, positions + 1) - 0.5
        integral = _integral(values, edges)
        return (np.diff(integral, axis=0) / ((end - start) / positions)).astype(np.float32)
    from clipwise.data.rescale_published import rescale_published

    return rescale_published(values, positions, rule, seconds_per_position)


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
