"""Non-maximum suppression of segments: greedy, of one video's candidates, hard or soft, class by class or all together.

The best candidate is kept and lowers the scores of those that overlap it, again and again:

========= =============================================== ==================================================
method    factor of an overlapping candidate               candidates below ``min_score``
========= =============================================== ==================================================
gaussian  exp(-IoU² / sigma) (soft-NMS; ActionFormer's)     leave once the first of their class is kept
linear    1 - IoU from ``threshold`` on                     as above
vanilla   0 from ``threshold`` on                           as above
hard      0 from ``threshold`` on                           never take part (nor those at it)
========= =============================================== ==================================================

Decay only reaches candidates of the same class, and only lowers scores. So the best ``top_k`` of all classes are found by
keeping the best of all candidates ``top_k`` times, and each step computes overlaps within one class only. Where scores stay or go
(``vanilla``, ``hard``), the order is known from the start: candidates come a few hundred at a time and meet all that were kept before.
BSN's and BMN's rule, in float64 and with a threshold that grows with the kept segment, is in ``clipwise.tasks.proposals`` for a list and
in ``clipwise.tasks.window_merge`` between the windows of a video.

Source: Bodla et al. 2017; Zhang et al. 2022 (ActionFormer), whose compiled function works in float32, as this one does.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import ClipwiseError

Method = Literal["gaussian", "linear", "vanilla", "hard"]
Voting = Literal["score_iou", "score"]

_BLOCK = 256  # candidates that meet the kept ones together
_EPSILON = np.float32(1e-6)  # added to every length, so that two empty segments have an IoU


class Kept(NamedTuple):
    """What remains, best first.

    Attributes:
        indices: (k,) which candidates.
        segments: (k, 2) theirs, or what the vote made of them.
        scores: (k,) after the decay.
    """

    indices: NDArray[np.int64]
    segments: NDArray[np.float64]
    scores: NDArray[np.float64]


def nms(
    segments: ArrayLike,
    scores: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    method: Method = "gaussian",
    sigma: float = 0.5,
    threshold: float = 0.5,
    min_score: float = 0.001,
    top_k: int | None = None,
    voting: float | None = None,
    voting_weights: Voting = "score_iou",
) -> Kept:
    """Keep the best segments of a video.

    Args:
        segments: (n, 2), in any unit.
        scores: (n,).
        labels: (n,) classes that do not touch each other; None: all candidates are of one class.
        method: see the module's table.
        sigma: width of the Gaussian.
        threshold: IoU from which ``linear``, ``vanilla`` and ``hard`` act.
        min_score: see the module's table.
        top_k: most segments kept, all classes together.
        voting: each kept segment becomes the weighted mean of the candidates of its class with at least this IoU; None: it stays.
        voting_weights: "score_iou" (ActionFormer) or the "score" alone (TriDet, OpenTAD), before any decay.

    Raises:
        ClipwiseError: shapes that do not fit, NaN, or an unknown method.
    """
    boxes, values = np.asarray(segments, np.float32).reshape(-1, 2), np.asarray(scores, np.float32)
    if values.shape != (len(boxes),):
        raise ClipwiseError(f"segments {boxes.shape} and scores {values.shape} do not fit; (n, 2) and (n,) do")
    if method not in ("gaussian", "linear", "vanilla", "hard"):
        raise ClipwiseError(f"method was {method!r}; use 'gaussian', 'linear', 'vanilla' or 'hard'")
    if np.isnan(values).any() or np.isnan(boxes).any():
        raise ClipwiseError("segments or scores hold NaN")
    classes = np.zeros(len(values), np.int64) if labels is None else np.asarray(labels)
    order = np.argsort(classes, kind="stable")  # classes become slices, candidates keep their order in them
    left, right = np.ascontiguousarray(boxes[order, 0]), np.ascontiguousarray(boxes[order, 1])
    _, first, members = np.unique(classes[order], return_index=True, return_counts=True)
    group = np.repeat(np.arange(len(first)), members)
    spans = [slice(a, a + n) for a, n in zip(first.tolist(), members.tolist())]
    most = len(values) if top_k is None else min(top_k, len(values))
    if method in ("vanilla", "hard"):
        place, kept = _in_order(left, right, values[order], group, method, threshold, min_score, most)
    else:
        place, kept = _greedy(left, right, values[order], group, spans, method, sigma, min_score, most, threshold)
    index = order[place]
    found = boxes[index]
    if voting is not None and len(index):
        found = vote(found, classes[index], boxes, values, classes, voting, voting_weights)
    return Kept(index, found.astype(np.float64), kept.astype(np.float64))


def _greedy(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    scores: NDArray[np.float32],
    group: NDArray[np.int64],
    spans: list[slice],
    method: str,
    sigma: float,
    min_score: float,
    most: int,
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Places of the kept ones and their scores; candidates of a class lie in one slice."""
    work, floor = scores.copy(), np.float32(min_score)
    length = right - left + _EPSILON
    place, kept = np.zeros(most, np.int64), np.zeros(most, np.float32)
    count = 0
    while count < most:
        best = int(work.argmax())
        score = work[best]
        if score == -np.inf:
            break
        place[count], kept[count] = best, score
        count += 1
        span = spans[group[best]]
        rest = work[span]
        inter = np.minimum(right[span], right[best])
        inter -= np.maximum(left[span], left[best])
        np.maximum(inter, 0, out=inter)
        union = length[span] + length[best]
        union -= inter
        inter /= union  # IoU
        if method == "gaussian":
            inter *= inter
            inter /= np.float32(-sigma)
            rest *= np.exp(inter, out=inter)
        else:
            np.multiply(rest, 1 - inter, out=rest, where=(inter >= threshold) & (rest > -np.inf))
        rest[rest < floor] = -np.inf
        work[best] = -np.inf
    return place[:count], kept[:count]


def _in_order(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    scores: NDArray[np.float32],
    group: NDArray[np.int64],
    method: str,
    threshold: float,
    min_score: float,
    most: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As ``_greedy`` where an overlap removes: each candidate stays unless a better one of its class that stayed overlaps it."""
    floor = np.float32(min_score)
    order = np.argsort(-scores, kind="stable")
    if method == "hard":
        order = order[scores[order] > floor]
    else:  # the best of a class stays, however weak
        first = np.zeros(len(order), bool)
        first[np.unique(group[order], return_index=True)[1]] = True
        order = order[(first | (scores[order] >= floor)) & (scores[order] > -np.inf)]
    kept = np.zeros(0, np.int64)
    for at in range(0, len(order), _BLOCK):
        some = order[at : at + _BLOCK]
        some = some[~_overlapping(left, right, group, some, kept, threshold).any(1)]
        removes = _overlapping(left, right, group, some, some, threshold)
        open_, stays = np.ones(len(some), bool), []
        for i in range(len(some)):
            if open_[i]:
                stays.append(i)
                open_ &= ~removes[i]
        kept = np.concatenate([kept, some[stays]])
        if len(kept) >= most:
            break
    return kept[:most], scores[kept[:most]]


def _overlapping(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    group: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.bool_]:
    """(rows, columns) which candidates of the same class overlap enough."""
    inter = np.minimum(right[rows, None], right[columns])
    inter -= np.maximum(left[rows, None], left[columns])
    np.maximum(inter, 0, out=inter)
    length = right - left + _EPSILON
    union = length[rows, None] + length[columns]
    union -= inter
    inter /= union  # IoU
    return (inter >= threshold) & (group[rows, None] == group[columns])


def vote(
    kept: NDArray[np.float32],
    kept_classes: NDArray,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    classes: NDArray,
    threshold: float,
    weights: Voting = "score_iou",
) -> NDArray[np.float32]:
    """Kept segments (k, 2) -> means of the candidates that overlap them; a few dozen at a time, for thousands of candidates."""
    length = boxes[:, 1] - boxes[:, 0]
    voted = np.empty_like(kept)
    for start in range(0, len(kept), 64):
        some = kept[start : start + 64]
        inter = np.minimum(some[:, None, 1], boxes[:, 1]) - np.maximum(some[:, None, 0], boxes[:, 0])
        inter = np.maximum(inter, 0)
        union = (some[:, 1] - some[:, 0])[:, None] + length - inter
        iou = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
        share = np.where(iou >= threshold, scores, np.float32(0))
        if weights == "score_iou":
            share *= iou
        share[kept_classes[start : start + 64, None] != classes] = 0
        total = share.sum(1, keepdims=True)
        mean = (share / np.where(total > 0, total, 1)) @ boxes
        voted[start : start + 64] = np.where(total > 0, mean, some)  # one without a length has no IoU with itself
    return voted


def vote_by_cells(
    found: Any, values: Any, first: Any, last: Any, length: int, threshold: float, weights: Voting
) -> NDArray[np.float64]:
    """Segments of ``clipwise.tasks.proposals`` whose times are means over all cells of a BMN's map.

    Args:
        found: ``Proposals`` of B videos, as shares of them.
        values: tensor (B, P), the cells' scores.
        first, last: tensors (P,), their positions.
        length: L positions.
        threshold, weights: ``voting`` and ``voting_weights`` of :func:`nms`.

    Returns:
        (B, K, 2).
    """
    cells = (np.stack([first.cpu().numpy(), last.cpu().numpy() + 1], 1) / length).astype(np.float32)
    one_class = np.zeros(len(cells), np.int64)
    segments = found.segments.copy()
    for row, n in enumerate(found.count):
        own = found.segments[row, :n].astype(np.float32)
        scores = values[row].float().cpu().numpy()
        segments[row, :n] = vote(own, one_class[:n], cells, scores, one_class, threshold, weights)
    return segments
