"""How often the first guesses are right: top-k, per class, and which classes are mistaken for which.

Everything is numpy in, floats out, and works on a whole result set at once. The figures have the same digits as MMAction2
0.24 and 1.2; NaN scores and labels outside the classes, which MMAction2 counts as plain misses, are refused.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import ClipwiseError


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
        raise ClipwiseError(f"pred is of length {len(pred)} and real of {len(real)}; give one of each per sample")
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


def _indices(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ClipwiseError(f"{name} has shape {array.shape}; a flat list of class indices is needed")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ClipwiseError(f"{name} has dtype {array.dtype}; class indices must be whole numbers")
    return array.astype(np.int64)


def score_matrix(scores: ArrayLike) -> NDArray:
    """(N, num_classes), checked: no row missing, no NaN."""
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
            f"{bad.sum()} of {len(array)} have NaN scores (first: sample {bad.argmax()}); the model has diverged or its input is broken"
        )
    return array


def _scores_and_labels(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray[np.int64]]:
    scores, labels = score_matrix(scores), _indices(labels, "labels")
    if len(scores) != len(labels):
        raise ClipwiseError(f"scores are of length {len(scores)}, labels of {len(labels)}; give one label per sample")
    outside = (labels < 0) | (labels >= scores.shape[1])
    if outside.any():
        first = outside.argmax()
        raise ClipwiseError(f"label {labels[first]} of sample {first} is outside the classes 0..{scores.shape[1] - 1}")
    return scores, labels
