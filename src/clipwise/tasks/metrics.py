"""Numbers that say how good predictions are: recognition here, proposals and detections re-exported.

Everything is numpy in, floats out, and works on a whole result set at once. The recognition metrics give the
same digits as MMAction2 0.24 and 1.2; they refuse NaN scores and labels outside the classes, which MMAction2
counts as plain misses.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import ClipwiseError
from clipwise.tasks.detection_metrics import (
    ACTIVITYNET_TIOU,
    THUMOS_TIOU,
    AverageRecall,
    DetectionMAP,
    average_recall_at_avg_proposals,
    detection_map,
    temporal_iop,
    temporal_iou,
    thumos_map,
)

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


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, topk: int | Sequence[int] = (1, 5)) -> list[float]:
    """Share of samples whose label is among the k highest scores, one value per k.

    Equal scores are ranked as numpy's default sort leaves them, which is what MMAction2 does; among ties
    that order can depend on the CPU. With k above the number of classes every sample counts, as in MMAction2.

    Args:
        scores: (N, num_classes).
        labels: (N,) class indices.
        topk: one k or several, each at least 1.

    Raises:
        ClipwiseError: shapes that do not fit, no sample, NaN scores, a label outside the classes, k < 1.
    """
    scores, labels = _scores_and_labels(scores, labels)
    ks = [topk] if isinstance(topk, int | np.integer) else list(topk)
    if not ks or any(k < 1 for k in ks):
        raise ClipwiseError(f"topk was {topk!r}; it must be one or more whole numbers of at least 1, such as (1, 5)")
    order = np.argsort(scores, axis=1)[:, ::-1]
    rank = (order == labels[:, None]).argmax(axis=1)
    return [float((rank < k).sum() / len(rank)) for k in ks]


def confusion_matrix(
    pred: ArrayLike,
    real: ArrayLike,
    normalize: Literal["true", "pred", "all"] | None = None,
    num_classes: int | None = None,
) -> NDArray:
    """Count how often class i (row, the truth) was predicted as class j (column).

    Args:
        pred: (N,) predicted class indices.
        real: (N,) true class indices.
        normalize: None for counts (int64); "true" divides rows, "pred" columns, "all" everything by its sum.
            Empty rows or columns stay 0.
        num_classes: side of the matrix. Without it the matrix has one row per class that occurs in ``pred``
            or ``real``, in ascending order, as in MMAction2.

    Raises:
        ClipwiseError: unequal lengths, no sample, values that are not whole or outside ``num_classes``.
    """
    pred, real = _indices(pred, "pred"), _indices(real, "real")
    if len(pred) != len(real):
        raise ClipwiseError(f"pred has {len(pred)} entries and real has {len(real)}; give one of each per sample")
    if not len(real):
        raise ClipwiseError("pred and real are empty; a confusion matrix needs at least one sample")
    if normalize not in (None, "true", "pred", "all"):
        raise ClipwiseError(f"normalize was {normalize!r}; use 'true', 'pred', 'all' or None")
    if num_classes is None:
        classes, places = np.unique(np.concatenate([pred, real]), return_inverse=True)
        side, pred, real = len(classes), places[: len(pred)], places[len(pred) :]
    else:
        side = num_classes
        for name, values in (("pred", pred), ("real", real)):
            if values.min() < 0 or values.max() >= side:
                raise ClipwiseError(
                    f"{name} holds classes {values.min()}..{values.max()}, but num_classes={side} allows 0..{side - 1}"
                )
    counts = np.bincount(real * side + pred, minlength=side * side).reshape(side, side)
    if normalize is None:
        return counts
    total = {"true": counts.sum(1, keepdims=True), "pred": counts.sum(0, keepdims=True), "all": counts.sum()}[normalize]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(counts / total)


def mean_class_accuracy(scores: ArrayLike, labels: ArrayLike, *, skip_absent: bool = False) -> float:
    """Top-1 accuracy of each class, averaged over classes.

    Classes that occur neither as label nor as prediction are left out. A class that is predicted but never
    true counts as 0, as in MMAction2, unless ``skip_absent`` leaves it out as well.

    Args:
        scores: (N, num_classes).
        labels: (N,) class indices.
        skip_absent: average only over classes that occur among the labels.

    Raises:
        ClipwiseError: as :func:`top_k_accuracy`.
    """
    scores, labels = _scores_and_labels(scores, labels)
    counts = confusion_matrix(scores.argmax(axis=1), labels).astype(np.float64)
    per_class, hits = counts.sum(axis=1), counts.diagonal()
    if skip_absent:
        hits, per_class = hits[per_class > 0], per_class[per_class > 0]
    return float(np.mean(np.divide(hits, per_class, out=np.zeros_like(hits), where=per_class > 0)))


def mean_average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision of each class over the samples, averaged over classes with a positive (multi-label).

    Args:
        scores: (N, num_classes).
        labels: (N, num_classes), 1 where the class is true, else 0.

    Returns:
        The mean, or NaN if no class has a positive sample.

    Raises:
        ClipwiseError: shapes that do not fit, no sample, NaN in the scores, labels other than 0 and 1.
    """
    scores, labels = _scores_and_multi_hot(scores, labels)
    return _mean_where_defined(_average_precision(scores.T, labels.T))


def mmit_mean_average_precision(
    scores: ArrayLike, labels: ArrayLike, *, empty: Literal["skip", "nan"] = "skip"
) -> float:
    """Average precision of each sample over the classes, averaged over samples (Multi-Moments in Time's mAP).

    Args:
        scores: (N, num_classes).
        labels: (N, num_classes), 1 where the class is true, else 0.
        empty: what to do with a sample without any true class: leave it out, or "nan" (the result is NaN,
            which is what MMAction2 gives).

    Raises:
        ClipwiseError: as :func:`mean_average_precision`.
    """
    scores, labels = _scores_and_multi_hot(scores, labels)
    if empty not in ("skip", "nan"):
        raise ClipwiseError(f"empty was {empty!r}; use 'skip' or 'nan'")
    precision = _average_precision(scores, labels)
    # differs: MMAction2 returns NaN for the whole set when a single sample has no true class
    return _mean_where_defined(precision) if empty == "skip" else float(np.mean(precision))


def weighted_score(score_sets: Sequence[ArrayLike], weights: Sequence[float]) -> NDArray:
    """Weighted sum of several models' scores (late fusion, as MMAction2's ``get_weighted_score``).

    Args:
        score_sets: arrays of one shape (N, num_classes), one per model.
        weights: one number per model.

    Raises:
        ClipwiseError: counts or shapes that differ.
    """
    if not len(score_sets) or len(score_sets) != len(weights):
        raise ClipwiseError(f"got {len(score_sets)} score sets and {len(weights)} weights; give one weight per set")
    arrays = [np.asarray(s) for s in score_sets]
    if len({a.shape for a in arrays}) > 1:
        raise ClipwiseError(f"score sets of different shapes {[a.shape for a in arrays]} cannot be added")
    return np.sum([weight * array for weight, array in zip(weights, arrays)], axis=0)


def _average_precision(scores: NDArray, truth: NDArray) -> NDArray[np.float64]:
    """Area under each row's precision-recall steps, equal scores taken together; NaN for a row without truth.

    Args:
        scores, truth: (R, n).
    """
    order = np.argsort(scores, axis=1, kind="stable")[:, ::-1]
    scores, truth = np.take_along_axis(scores, order, 1), np.take_along_axis(truth, order, 1)
    hits = truth.cumsum(axis=1, dtype=np.float64)
    precision = hits / np.arange(1, scores.shape[1] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / hits[:, -1:]
    last_of_tie = np.ones(scores.shape, bool)
    last_of_tie[:, :-1] = scores[:, :-1] != scores[:, 1:]
    # recall gained since the previous distinct score: a running maximum carries that recall over the ties
    previous = np.zeros_like(recall)
    previous[:, 1:] = np.maximum.accumulate(np.where(last_of_tie, recall, 0), axis=1)[:, :-1]
    return np.where(last_of_tie, (recall - previous) * precision, 0).sum(axis=1) + np.where(hits[:, -1], 0, np.nan)


def _mean_where_defined(values: NDArray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _indices(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ClipwiseError(f"{name} has shape {array.shape}; a flat list of class indices is needed")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ClipwiseError(f"{name} has dtype {array.dtype}; class indices must be whole numbers")
    return array.astype(np.int64)


def _score_matrix(scores: ArrayLike) -> NDArray:
    try:
        array = np.asarray(scores)
    except ValueError:
        raise ClipwiseError("scores have rows of different lengths; every sample needs one score per class") from None
    if array.ndim != 2 or 0 in array.shape:
        raise ClipwiseError(
            f"scores have shape {array.shape}; (num_samples, num_classes) with at least one of each is needed"
        )
    bad = np.isnan(array).any(axis=1)
    if bad.any():
        raise ClipwiseError(
            f"{bad.sum()} of {len(array)} samples have NaN scores (first: sample {bad.argmax()}); "
            "the model has diverged or its input is broken"
        )
    return array


def _scores_and_labels(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray[np.int64]]:
    scores, labels = _score_matrix(scores), _indices(labels, "labels")
    if len(scores) != len(labels):
        raise ClipwiseError(f"got scores of {len(scores)} samples and {len(labels)} labels; give one label per sample")
    outside = (labels < 0) | (labels >= scores.shape[1])
    if outside.any():
        raise ClipwiseError(
            f"label {labels[outside.argmax()]} of sample {outside.argmax()} is outside the "
            f"{scores.shape[1]} classes 0..{scores.shape[1] - 1} ({outside.sum()} such labels)"
        )
    return scores, labels


def _scores_and_multi_hot(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray]:
    scores = _score_matrix(scores)
    try:
        labels = np.asarray(labels)
    except ValueError:
        raise ClipwiseError("labels have rows of different lengths; give one 0 or 1 per class and sample") from None
    if labels.shape != scores.shape:
        raise ClipwiseError(
            f"scores have shape {scores.shape} and labels {labels.shape}; both must be (N, num_classes)"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ClipwiseError("labels of a multi-label metric must be 0 or 1 for each class")
    return scores, labels
