"""Metrics that a user names: whether they exist, and fit the labels."""

from __future__ import annotations

from collections.abc import Sequence

from clipwise.errors import ClipwiseError, RecipeError
from clipwise.io.names import did_you_mean
from clipwise.tasks.metrics import BUILT_IN, METRICS


def check_metrics(names: Sequence[str], multi_label: bool) -> None:
    """Refuse metrics that are not there, or not for such labels.

    Args:
        names: metrics.
        multi_label: whether a video has several labels.
    """
    for name in names:
        if name in BUILT_IN:
            several = "average_precision" in name
        else:
            try:
                several = bool(METRICS.find(name).options.get("multi_label"))
            except RecipeError as error:
                known = [*BUILT_IN, *METRICS.names()]
                more = f" {error}" if ":" in name else ""
                near = did_you_mean(name, known)
                raise ClipwiseError(f"metric {name!r} is not known{near}; known: {', '.join(known)}.{more}") from None
        if multi_label != several:
            kind = "several labels a video" if multi_label else "one label a video"
            raise ClipwiseError(f"the data has {kind}, which {', '.join(names)} can't measure.")
