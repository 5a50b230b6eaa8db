"""What the scores of a test result tell: probabilities, calibration, confused classes, the worst mistakes. Plain numpy, no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipwise.engine.evaluate import TestResult


def usable(result: TestResult) -> NDArray[np.bool_]:
    """(N,): scored, and with a known label."""
    scored = result.predictions >= 0
    return scored if result.multi_label else scored & (result.truth >= 0)


def probabilities(result: TestResult) -> NDArray[np.float64]:
    """(N, K): the scores, through a softmax (sigmoids for several labels) where they are logits. NaN where the video failed."""
    scores, known = result.table, result.table[result.predictions >= 0]
    if result.multi_label:
        logits = len(known) and (known.min() < 0 or known.max() > 1)
        return np.asarray(1 / (1 + np.exp(-scores))) if logits else scores
    if len(known) and (known.min() < 0 or abs(known.sum(1) - 1).max() > 1e-2):
        shifted = np.exp(scores - np.nanmax(scores, axis=1, keepdims=True, initial=-np.inf))
        return shifted / shifted.sum(1, keepdims=True)
    return scores


def in_top(result: TestResult, k: int) -> NDArray[np.bool_]:
    """(N,): the true class is among the k best."""
    good, hit = usable(result), np.zeros(len(result.paths), bool)
    if good.any() and not result.multi_label:
        own = result.table[good, result.truth[good]]
        hit[good] = (result.table[good] > own[:, None]).sum(1) < k
    return hit


def label_names(result: TestResult, index: int) -> str:
    """The true class or classes of a video, for people."""
    if result.multi_label:
        return ", ".join(result.names[k] for k in np.flatnonzero(result.truth[index])) or "–"
    label = int(result.truth[index])
    return result.names[label] if label >= 0 else "–"


@dataclass(frozen=True)
class Calibration:
    """Agreement of confidence and accuracy.

    Attributes:
        edges: (B + 1,) of the confidence bins.
        counts, accuracy, confidence: (B,); the means are NaN in an empty bin.
        ece: expected calibration error, the mean distance of confidence and accuracy.
        brier, nll: mean Brier score and negative log-likelihood of the true class.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]
    ece: float
    overall_confidence: float
    overall_accuracy: float
    brier: float
    nll: float


def calibration(table: TestResult, bins: int = 15) -> Calibration | None:
    """Reliability of the best class's probability; None for several labels a video or without usable videos.

    Source: Guo et al., ICML 2017 (ECE with equal bins).
    """
    good = usable(table)
    if table.multi_label or not good.any():
        return None
    p, labels = probabilities(table)[good], table.truth[good]
    best, right = p.max(1), table.correct[good]
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.ceil(best * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.bincount(place, right, bins) / counts
        confidence = np.bincount(place, best, bins) / counts
    gap = np.nan_to_num(abs(accuracy - confidence))
    own = p[np.arange(len(p)), labels]
    return Calibration(
        edges=edges,
        counts=counts,
        accuracy=accuracy,
        confidence=confidence,
        ece=float((gap * counts).sum() / counts.sum()),
        overall_confidence=float(best.mean()),
        overall_accuracy=float(right.mean()),
        brier=float(((p**2).sum(1) - 2 * own + 1).mean()),
        nll=float(-np.log(np.maximum(own, 1e-12)).mean()),
    )


def similarity_order(confusion: NDArray) -> NDArray[np.int64]:
    """An order of the classes that puts those next to each other that are mistaken for one another.

    The Fiedler vector of the symmetrized confusions (spectral seriation: Atkins et al. 1998), within each connected part.
    """
    weight = (confusion + confusion.T).astype(float)
    np.fill_diagonal(weight, 0)
    scale = np.sqrt(np.maximum(confusion.sum(1), 1))
    weight /= scale[:, None] * scale[None]
    weight += 1e-6 * weight.max(initial=1.0)  # keeps separate groups in one piece
    laplacian = np.diag(weight.sum(1)) - weight
    return np.argsort(np.linalg.eigh(laplacian)[1][:, 1] if len(weight) > 2 else np.arange(len(weight)), kind="stable")


def confused_pairs(result: TestResult, limit: int = 20) -> list[tuple[int, int, int, int]]:
    """(i, j, times i was called j, times j was called i), the most confused first."""
    off = result.confusion - np.diag(result.confusion.diagonal())
    both = np.triu(off + off.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:limit]
    pairs = [(int(p) // result.num_classes, int(p) % result.num_classes) for p in order if both.flat[p] > 0]
    return [(i, j, int(off[i, j]), int(off[j, i])) if off[i, j] >= off[j, i] else (j, i, int(off[j, i]), int(off[i, j]))
            for i, j in pairs]  # fmt: skip


def worst_mistakes(result: TestResult, limit: int = 24, per_class: int = 3) -> list[int]:
    """Videos whose wrong class beat the true one by most, at most ``per_class`` of a true class."""
    wrong = np.flatnonzero(usable(result) & ~result.correct)
    if not len(wrong):
        return []
    p = probabilities(result)
    if result.multi_label:
        margin = p[wrong, result.predictions[wrong]] - np.where(result.truth[wrong] > 0, p[wrong], 0).max(1)
        group = result.predictions[wrong]
    else:
        margin = p[wrong, result.predictions[wrong]] - p[wrong, result.truth[wrong]]
        group = result.truth[wrong]
    taken: dict[int, int] = {}
    chosen = []
    for n in np.argsort(-margin, kind="stable"):
        if taken.get(int(group[n]), 0) < per_class:
            taken[int(group[n])] = taken.get(int(group[n]), 0) + 1
            chosen.append(int(wrong[n]))
        if len(chosen) == limit:
            break
    return chosen
