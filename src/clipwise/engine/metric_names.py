"""Metrics that a user names: whether they exist, and fit the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipwise.errors import ClipwiseError, RecipeError
from clipwise.io.names import did_you_mean
from clipwise.tasks.metrics import BUILT_IN, METRICS, by_name


def check_metrics(names: Sequence[str], multi_label: bool, num_classes: int = 0) -> None:
    """Refuse metrics that are not there, or not for such labels.

    Args:
        names: metrics.
        multi_label: whether a video has several labels.
        num_classes: if given, a metric of the user's is tried on perfect scores of that many classes, before hours of testing.
    """
    for name in names:
        if name in BUILT_IN:
            several = "average_precision" in name
        else:
            try:
                several = bool(METRICS.find(name).options.get("multi_label"))
            except RecipeError as error:
                known = [*BUILT_IN, *METRICS.names()]
                if name in known:  # an installed package announces it, and cannot give it
                    raise
                more = f" {error}" if ":" in name else ""
                near = did_you_mean(name, known)
                raise ClipwiseError(f"metric {name!r} is not known{near}; known: {', '.join(known)}.{more}") from None
        if multi_label != several:
            kind = "several labels a video" if multi_label else "one label a video"
            raise ClipwiseError(f"the data has {kind}, which {', '.join(names)} can't measure.")
        if num_classes and name not in BUILT_IN:
            perfect = np.eye(num_classes, dtype=np.float32)
            by_name(name)(perfect, perfect if multi_label else np.arange(num_classes))
