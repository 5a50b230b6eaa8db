"""Numbers that say how good predictions are: the door to those of recognition, proposals and detections."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import ClipwiseError
from clipwise.io.code_promises import promised
from clipwise.io.plugins import Registry
from clipwise.io.text import plural
from clipwise.tasks.accuracy import confusion_matrix, mean_class_accuracy, top_k_accuracy
from clipwise.tasks.average_precision import mean_average_precision, mmit_mean_average_precision
from clipwise.tasks.average_recall import (
    ACTIVITYNET_TIOU,
    AverageRecall,
    average_recall_at_avg_proposals,
    temporal_iou,
)
from clipwise.tasks.detection_metrics import THUMOS_TIOU, DetectionMAP, detection_map, temporal_iop, thumos_map

__all__ = [
    "ACTIVITYNET_TIOU",
    "THUMOS_TIOU",
    "AverageRecall",
    "DetectionMAP",
    "average_recall_at_avg_proposals",
    "confusion_matrix",
    "detection_map",
    "mean_average_precision",
    "mean_class_accuracy",
    "mmit_mean_average_precision",
    "temporal_iop",
    "temporal_iou",
    "thumos_map",
    "top_k_accuracy",
    "weighted_score",
]


def weighted_score(score_sets: Sequence[ArrayLike], weights: Sequence[float]) -> NDArray:
    """Weighted sum of several models' scores (late fusion, as MMAction2's ``get_weighted_score``).

    Args:
        score_sets: arrays of one shape (N, num_classes), one per model.
        weights: one number per model.

    Raises:
        ClipwiseError: counts or shapes that differ.
    """
    if not len(score_sets) or len(score_sets) != len(weights):
        raise ClipwiseError(
            f"got {plural(len(score_sets), 'score set')} and {plural(len(weights), 'weight')}; give one weight per set"
        )
    arrays = [np.asarray(s) for s in score_sets]
    if len({a.shape for a in arrays}) > 1:
        raise ClipwiseError(f"score sets of different shapes {[a.shape for a in arrays]} cannot be added")
    return np.sum([weight * array for weight, array in zip(weights, arrays)], axis=0)


BUILT_IN = (
    "top_k_accuracy",
    "mean_class_accuracy",
    "mean_average_precision",
    "mmit_mean_average_precision",
)  # as MMAction2's --eval calls them
METRICS = Registry("metric", "clipwise.metrics")
register_metric = METRICS.register
"""Decorator: a function ``(scores (N, num_classes), labels) -> float`` is a metric of its name (``--eval``); with
``multi_label=True`` one for (N, num_classes) labels of 0 and 1."""


def by_name(name: str) -> Callable[..., Any]:
    """The metric of a name, ours or a registered one.

    Raises:
        RecipeError: unknown, or not to be called as metrics are.
    """
    if name in BUILT_IN:
        return globals()[name]
    return promised(METRICS.find(name), "metric", "scores, labels", "one number", lambda value, *_: _is_number(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (hasattr(value, "dtype") and value.ndim == 0)
