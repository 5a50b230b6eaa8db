"""Average precision of samples that may have several labels, with MMAction2's digits (see ``accuracy.py``)."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import ClipwiseError
from clipwise.tasks.accuracy import score_matrix


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


def _scores_and_multi_hot(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray]:
    scores = score_matrix(scores)
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
