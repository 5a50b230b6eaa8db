"""From BMN's score maps to ranked proposals in seconds, and to a result file.

All videos of a batch go through every step together: the candidates are picked in one tensor operation, and each step of
soft-NMS keeps one proposal of every video. The code bases differ in which cells are candidates and at which position
an end score is read:

============== ====================== =============== ==========================
convention     candidates             end score of    soft-NMS overlap threshold
============== ====================== =============== ==========================
``paddle``     peaks of both curves   s+d             0.55 .. 0.9
``filled``     paddle's, then the rest s+d            0.55 .. 0.9
``mmaction2``  peaks, inner ones only s+d+1           0.5 .. 0.9
``jjboy``      all                    s+d+1           0.5 .. 0.9
============== ====================== =============== ==========================

Reading the end score one position behind the proposal, MMAction2 and JJBOY can never propose a segment that reaches
the end of the video. The default is therefore ``paddle``, which goes with the labels of the same name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from clipwise.errors import ClipwiseError

Convention = Literal["paddle", "filled", "mmaction2", "jjboy"]
Layout = Literal["duration_start", "start_end"]

_LOW_THRESHOLD = {"paddle": 0.55, "filled": 0.55, "mmaction2": 0.5, "jjboy": 0.5}
_BEHIND = 1e-6  # factor of scores that follow all candidates
_FIRST_ROUND = 512  # candidates a video that soft-NMS looks at first
_LISTS = 16  # of videos that take each step of soft-NMS together; their tables stay in the cache


@dataclasses.dataclass(frozen=True)
class Proposals:
    """Ranked proposals of a batch of videos, best first.

    Attributes:
        segments: (B, K, 2) start and end, in seconds if durations were given, else as fractions of the video.
        scores: (B, K), 0 behind a video's last proposal.
        count: (B,), how many proposals each video has.
    """

    segments: NDArray[np.float64]
    scores: NDArray[np.float64]
    count: NDArray[np.int64]

    def __iter__(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Segments (n, 2) and scores (n,) of each video."""
        for segments, scores, n in zip(self.segments, self.scores, self.count):
            yield segments[:n], scores[:n]


def generate_proposals(
    conf: Tensor | ArrayLike,
    start: Tensor | ArrayLike,
    end: Tensor | ArrayLike,
    durations_s: ArrayLike | None = None,
    *,
    top_k: int = 100,
    convention: Convention = "paddle",
    layout: Layout = "duration_start",
    alpha: float = 0.4,
    low_threshold: float | None = None,
    high_threshold: float = 0.9,
    voting: float | None = None,
    voting_weights: Literal["score_iou", "score"] = "score_iou",
    fused: Literal["all", "map"] = "all",
) -> Proposals:
    """Pick candidates, fuse their scores, and thin them out with soft-NMS.

    A proposal's score is start · end · classification · regression; or, ``fused="map"``, of the last two.

    Args:
        conf: (B, 2, D, L) or (B, 2, L, L), what the model gave.
        start, end: (B, L).
        durations_s: (B,) seconds that the L positions of each video cover; segments are fractions without it.
        top_k: most proposals a video.
        convention: see the module's table.
        layout: order of the map's axes, as in the model.
        alpha, low_threshold, high_threshold: see :class:`SoftNMS`; the low threshold is the convention's by default.
        voting: each proposal becomes the mean of all cells with at least this IoU, weighted by ``voting_weights``. Neighboring cells
            have their say in where it starts and ends, and times are no longer multiples of a position.

    Raises:
        ClipwiseError: shapes that do not fit, NaN scores, an unknown convention or layout.
    """
    conf, start, end = (torch.as_tensor(x).detach() for x in (conf, start, end))
    if convention not in _LOW_THRESHOLD:
        raise ClipwiseError(f"convention was {convention!r}; use one of {', '.join(map(repr, _LOW_THRESHOLD))}")
    if layout not in ("duration_start", "start_end"):
        raise ClipwiseError(f"layout was {layout!r}; use 'duration_start' or 'start_end'")
    batch, length = start.shape if start.dim() == 2 else (-1, -1)
    rows = conf.shape[2] if conf.dim() == 4 else -1
    if conf.shape != (batch, 2, rows, length) or end.shape != start.shape or (layout == "start_end" and rows != length):
        raise ClipwiseError(
            f"conf, start and end have shapes {tuple(conf.shape)}, {tuple(start.shape)}, {tuple(end.shape)}; "
            "(B, 2, D, L), (B, L) and (B, L) are needed"
        )
    durations = None if durations_s is None else np.asarray(durations_s, dtype=np.float64)
    if durations is not None and (durations.shape != (batch,) or not (durations > 0).all()):
        raise ClipwiseError(
            f"durations_s was {durations_s!r}; one positive number of seconds for each of {batch} videos"
        )
    scores, first, last = _candidate_scores(conf, start, end, convention, layout, fused)
    if scores.isnan().any():
        raise ClipwiseError(f"scores of video {int(scores.isnan().any(1).int().argmax())} of the batch are NaN")
    low = _LOW_THRESHOLD[convention] if low_threshold is None else low_threshold
    options = SoftNMS(top_k, alpha, low, high_threshold, "mmaction2" if convention == "mmaction2" else "jjboy")
    found = _soft_nms_by_rank(scores, first, last + 1, length, options)
    if voting is not None:
        from clipwise.tasks.nms import vote_by_cells

        cells = _candidate_scores(conf, start, end, "all", layout, fused)  # candidates or not
        segments = vote_by_cells(found, *cells, length, voting, voting_weights)
        found = Proposals(segments, found.scores, found.count)
    if durations is None:
        return found
    return Proposals(found.segments * durations[:, None, None], found.scores, found.count)


def _candidate_scores(
    conf: Tensor, start: Tensor, end: Tensor, convention: str, layout: str, fused: str = "all"
) -> tuple[Tensor, Tensor, Tensor]:
    """Fused scores of all valid cells (B, P), -inf where a cell is not a candidate; first and last position (P,)."""
    length = start.shape[1]
    row = torch.arange(conf.shape[2], device=conf.device)[:, None]
    column = torch.arange(length, device=conf.device)
    if layout == "start_end":
        first, last = row.expand(-1, length), column.expand(length, -1)
    else:
        first, last = column.expand(len(row), -1), column + row
    read_behind = convention in ("mmaction2", "jjboy")
    cell = ((first <= last) & (last + read_behind < length)).flatten().nonzero().squeeze(1)
    first, last = first.flatten()[cell], last.flatten()[cell]
    kind = conf.flatten(2)[:, :, cell]
    # the order of the factors is the references', down to the last bit
    if fused == "map":
        scores = kind[:, 1] * kind[:, 0]
    else:
        scores = start[:, first] * end[:, last + read_behind] * kind[:, 1] * kind[:, 0]
    if convention not in ("jjboy", "all"):
        inner_only = convention == "mmaction2"
        candidate = _boundaries(start, 0, inner_only)[:, first]
        candidate &= _boundaries(end, length - 1, inner_only)[:, last + read_behind]
        # filled: behind all candidates. A video with fewer than 100 proposals gets none at AR@1 by ActivityNet's count.
        scores = torch.where(candidate, scores, scores * _BEHIND if convention == "filled" else -torch.inf)
    return scores, first, last


def _boundaries(curve: Tensor, always: int, inner_only: bool) -> Tensor:
    """Positions above both neighbors or above half of the maximum, and the one that is always taken: (B, L)."""
    padded = torch.nn.functional.pad(curve, (1, 1))
    peak = (curve > padded[:, 2:]) & (curve > padded[:, :-2])
    peak |= curve > 0.5 * curve.amax(dim=1, keepdim=True)
    if inner_only:
        peak[:, [0, -1]] = False
    peak[:, always] = True
    return peak


def _soft_nms_by_rank(scores: Tensor, first: Tensor, stop: Tensor, length: int, options: SoftNMS) -> Proposals:
    """Soft-NMS that looks at the best candidates first, and at more only where that could change the result.

    Decay only lowers scores: once the last kept score is at least the highest score that was left out, the rest cannot
    matter. Videos where it is not are done again with four times as many candidates.
    """
    batch, total = scores.shape
    left, right = (x.cpu().numpy() / length for x in (first, stop))
    result = Proposals(
        np.zeros((batch, options.top_k, 2)), np.zeros((batch, options.top_k)), np.zeros(batch, dtype=np.int64)
    )
    todo, size = np.arange(batch), _FIRST_ROUND
    while len(todo):
        size = min(size, total)
        chosen = scores if len(todo) == batch else scores[torch.from_numpy(todo).to(scores.device)]
        top, place = chosen.topk(min(size + 1, total), dim=1)
        values, at = top[:, :size].double().cpu().numpy(), place[:, :size].cpu().numpy()
        found = Proposals(*lockstep_soft_nms(left[at], right[at], values, options))
        if size == total:
            done = np.ones(len(todo), dtype=bool)
        else:
            next_best = top[:, size].double().cpu().numpy()
            full = found.count == options.top_k
            done = np.isneginf(next_best) | (full & (found.scores[:, -1] >= next_best))
        kept = todo[done]
        result.segments[kept], result.scores[kept] = found.segments[done], found.scores[done]
        result.count[kept] = found.count[done]
        todo, size = todo[~done], size * 4
    return result


class SoftNMS(NamedTuple):
    """Settings of :func:`lockstep_soft_nms`, the Gaussian soft-NMS of BSN and BMN.

    The best segment multiplies by exp(-IoU² / alpha) the score of every other one whose IoU with it is above
    low + (high - low) · width, width being the best one's share of the video.

    Attributes:
        top_k: most segments kept of a list.
        alpha: width of the Gaussian.
        low, high: threshold for segments of no width and for those as wide as the video.
        overlap: "jjboy" or "mmaction2", whose order of additions in the IoU; ties at the threshold are common when all
            times are multiples of 1/L, and the last bit decides them.
    """

    top_k: int
    alpha: float
    low: float
    high: float
    overlap: str


def lockstep_soft_nms(
    left: NDArray, right: NDArray, scores: NDArray, options: SoftNMS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Soft-NMS of many lists together.

    # differs: JJBOY's and Paddle's loops stop when a single candidate is left and lose it. Here it is kept.

    Args:
        left, right: (B, n) shares of the video.
        scores: (B, n) falling in each row; -inf marks an empty place.

    Returns:
        segments (B, K, 2), scores (B, K), and how many of them each list has (B,).
    """
    parts = [
        _lockstep(left[i : i + _LISTS], right[i : i + _LISTS], scores[i : i + _LISTS], options)
        for i in range(0, max(len(scores), 1), _LISTS)
    ]
    segments, kept, count = (np.concatenate(column) for column in zip(*parts))
    return segments, kept, count


def _lockstep(left: NDArray, right: NDArray, scores: NDArray, options: SoftNMS) -> tuple[NDArray, NDArray, NDArray]:
    batch = len(scores)
    segments, kept = np.zeros((batch, options.top_k, 2)), np.zeros((batch, options.top_k))
    count = (scores > -np.inf).sum(axis=1).clip(max=options.top_k)
    work = scores.copy()  # -inf once kept
    width = right - left
    rows = np.arange(batch)
    inter, other = np.empty_like(work), np.empty_like(work)
    for k in range(count.max(initial=0)):
        best = work.argmax(axis=1)
        l, r, w = left[rows, best], right[rows, best], width[rows, best]
        alive = k < count
        kept[alive, k], segments[alive, k] = work[rows, best][alive], np.stack([l, r], axis=1)[alive]
        work[rows, best] = -np.inf
        l, r, w = l[:, None], r[:, None], w[:, None]
        np.minimum(right, r, out=inter)
        inter -= np.maximum(left, l, out=other)
        np.maximum(inter, 0, out=inter)
        if options.overlap == "mmaction2":
            np.subtract(w, inter, out=other)
            other += right
            other -= left
        else:
            np.subtract(width, inter, out=other)
            other += r
            other -= l
        with np.errstate(invalid="ignore", divide="ignore"):
            inter /= other  # IoU
        close = np.flatnonzero(inter > options.low + (options.high - options.low) * w)
        work.ravel()[close] *= np.exp(-np.square(inter.ravel()[close]) / options.alpha)
    return segments, kept, count.astype(np.int64)
