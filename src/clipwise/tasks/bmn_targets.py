"""What BMN is trained on: label maps and losses, for a whole batch at once.

The code bases agree on the network but not on labels and losses. Each one's convention can be chosen by name:

============== =========================== ======================================================================
convention     boundary label i covers     losses
============== =========================== ======================================================================
``paddle``     [i, i+1]/L                  eps 1e-6; cells without overlap are sampled as low-IoU cells
``mmaction2``  [i-0.5, i+1.5]/L            eps 1e-5; class balance limited to 1.05..21
``jjboy``      [i-0.5, i+0.5]/L            eps 1e-6 (also the Ascend port)
``opentad``    [i, i+1]/L, rounded down    no eps; as paddle, classes weighted by their counts
============== =========================== ======================================================================

Labels default to ``paddle``, the authors' own: position i then stands for the same stretch of video in the features
(center (i+0.5)/L), in the curves and in the map, so that the end of a proposal can be read at its last position and
proposals may reach the end of the video. The losses default to ``mmaction2``'s, whose limit on the class balance keeps
the few cells above 0.9 from ruling the gradient; with the labels of ``paddle`` it gave the best AUC of five combinations
tried (docs/en/bmn_speed.md, one seed each).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipwise.errors import ClipwiseError, DataError

Convention = Literal["paddle", "mmaction2", "jjboy", "opentad"]
Layout = Literal["duration_start", "start_end"]

_BOUNDARY_ANCHOR = {
    "paddle": (0.0, 1.0),
    "opentad": (0.0, 1.0),
    "mmaction2": (-0.5, 1.5),
    "jjboy": (-0.5, 0.5),
}
_BOUNDARY_WIDTH = 3.0  # the stretch around a boundary that counts as boundary, in positions


class BMNTargets(NamedTuple):
    """Labels of a batch.

    Attributes:
        iou: (B, D, L), or (B, L, L) with layout "start_end"; the best overlap with an action, 0 in invalid cells.
        start, end: (B, L), how much of each position's stretch lies near a start or an end.
    """

    iou: Tensor
    start: Tensor
    end: Tensor

    def to(self, *args: Any, **kwargs: Any) -> "BMNTargets":
        return BMNTargets(*(x.to(*args, **kwargs) for x in self))


def valid_mask(
    temporal_dim: int, max_duration: int | None = None, layout: Layout = "duration_start", device: Any = None
) -> Tensor:
    """(D, L) or (L, L), True for proposals that end within the video."""
    row = torch.arange(max_duration or temporal_dim, device=device)[:, None]
    column = torch.arange(temporal_dim, device=device)
    return row <= column if layout == "start_end" else row + column < temporal_dim


def bmn_targets(
    segments: Sequence[Any],
    temporal_dim: int = 100,
    max_duration: int | None = None,
    convention: Convention = "paddle",
    layout: Layout = "duration_start",
    device: Any = None,
) -> BMNTargets:
    """Label maps of a batch of videos.

    Args:
        segments: for each video the (G, 2) starts and ends of its actions as fractions of the video; may be empty.
            Ends beyond the video are cut off, and what is then shorter than 1e-6 of the video is left out.
        temporal_dim, max_duration: L and D (L if not given).
        convention: whose boundary labels, see the module's table. The IoU map is the same in all.
        layout: order of the map's axes, as in the model.
        device: where to compute and return the labels; the CPU by default.

    Returns:
        float32 labels. IoU is computed in float64 first, as the references do with numpy.

    Raises:
        DataError: a segment that is not a pair, not finite, or ends before it starts.
    """
    _check_convention(convention)
    depth = temporal_dim if max_duration is None else max_duration
    boxes, video = _flatten_segments(segments, device)
    batch = len(segments)

    edge = torch.arange(temporal_dim + 1, dtype=torch.float64, device=boxes.device) / temporal_dim
    rows = torch.arange(temporal_dim if layout == "start_end" else depth, device=boxes.device)[:, None]
    columns = torch.arange(temporal_dim, device=boxes.device)
    first, last = (rows, columns) if layout == "start_end" else (columns, columns + rows)
    valid = (first <= last) & (last < temporal_dim) & (last - first < depth)
    low, high = edge[:-1][first].expand_as(valid), edge[1:][last.clamp(max=temporal_dim - 1)].expand_as(valid)
    low, high = low[valid], high[valid]  # (P,)

    inter = (torch.minimum(high, boxes[:, 1:]) - torch.maximum(low, boxes[:, :1])).clamp_(min=0)
    iou = inter / (high - low + boxes[:, 1:] - boxes[:, :1] - inter)  # (G, P)
    cells = _best_of_each_video(iou, video, batch)
    iou_map = torch.zeros(batch, *valid.shape, device=boxes.device)
    iou_map[:, valid] = cells.float()

    left, right = _BOUNDARY_ANCHOR[convention]
    anchors = torch.stack([columns + left, columns + right]).double() / temporal_dim
    curves = []
    for boundary in (boxes[:, :1], boxes[:, 1:]):
        near = (
            boundary - 0.5 * _BOUNDARY_WIDTH / temporal_dim,
            boundary + 0.5 * _BOUNDARY_WIDTH / temporal_dim,
        )
        inter = (torch.minimum(anchors[1], near[1]) - torch.maximum(anchors[0], near[0])).clamp_(min=0)
        curve = _best_of_each_video(inter / (anchors[1] - anchors[0]), video, batch)
        # OpenTAD stores these labels as integers; the nudge keeps 1 - 1e-16 a whole 1
        curves.append(((curve + 1e-9).floor() if convention == "opentad" else curve).float())
    return BMNTargets(iou_map, *curves)


def _best_of_each_video(values: Tensor, video: Tensor, batch: int) -> Tensor:
    """Maximum over the rows of each video, 0 for a video without rows: (G, n) -> (B, n)."""
    best = values.new_zeros(batch, values.shape[1])
    return best.scatter_reduce_(0, video[:, None].expand_as(values), values, "amax")


def _flatten_segments(segments: Sequence[Any], device: Any) -> tuple[Tensor, Tensor]:
    """All segments of the batch below each other (G, 2), and the video each belongs to (G,)."""
    arrays = []
    for i, given in enumerate(segments):
        array = np.asarray(given, dtype=np.float64)
        array = array.reshape(0, 2) if array.size == 0 else array
        if array.ndim != 2 or array.shape[1] != 2:
            raise DataError(f"segments of sample {i} have shape {array.shape}; pairs of start and end are needed")
        if not np.isfinite(array).all():
            raise DataError(f"segments of sample {i} hold NaN or infinite times: {array.tolist()}")
        if (array[:, 1] < array[:, 0]).any():
            raise DataError(f"a segment of sample {i} ends before it starts: {array.tolist()}")
        array = array.clip(0, 1)
        arrays.append(array[array[:, 1] - array[:, 0] > 1e-6])
    video = np.repeat(np.arange(len(arrays)), [len(a) for a in arrays])
    flat = np.concatenate(arrays) if arrays else np.zeros((0, 2))
    return torch.as_tensor(flat, device=device), torch.as_tensor(video, device=device)


@dataclasses.dataclass(frozen=True)
class LossRule:
    """How one code base computes BMN's losses.

    Attributes:
        eps: added inside the logarithms.
        balance_limits: bounds of (all / positive) entries in the class balance.
        sample_zero: cells without any overlap may be drawn as low-IoU cells.
        shared_noise: one random map for the whole batch.
    """

    eps: float
    balance_limits: tuple[float, float] = (1.0, math.inf)
    sample_zero: bool = False
    shared_noise: bool = False


LOSS_RULES: dict[Convention, LossRule] = {
    "paddle": LossRule(eps=1e-6, sample_zero=True, shared_noise=True),
    "mmaction2": LossRule(eps=1e-5, balance_limits=(1.05, 21.0)),
    "jjboy": LossRule(eps=1e-6),
    "opentad": LossRule(eps=0.0, sample_zero=True),
}


def bmn_loss(
    conf: Tensor,
    start: Tensor,
    end: Tensor,
    targets: BMNTargets,
    convention: Convention | LossRule = "mmaction2",
    layout: Layout = "duration_start",
    reg_weight: float = 10.0,
    cls_weight: float = 1.0,
    boundary_threshold: float = 0.5,
    cls_threshold: float = 0.9,
    reg_thresholds: tuple[float, float] = (0.7, 0.3),
    noise: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """BMN's training loss, finite for every batch.

    # differs: in the references a batch without a positive, without a negative, without a cell of high IoU or without
    # one of middle or low IoU gives NaN or lets invalid cells in (one of 50 ActivityNet videos at batch size 1).
    # Here counts are at least one; a batch without high-IoU cells regresses all its valid cells, as OpenTAD does;
    # middle and low cells are drawn only among themselves. Where the references are finite, the values are theirs.

    Args:
        conf: (B, 2, D, L) or (B, 2, L, L) probabilities: regressed IoU, classification.
        start, end: (B, L) probabilities.
        targets: of :func:`bmn_targets` with the same layout.
        convention: whose rule; or a :class:`LossRule`.
        layout: order of the map's axes.
        reg_weight, cls_weight: factors of the two map losses; the boundary loss has 1.
        boundary_threshold: labels above it are positive boundaries.
        cls_threshold: IoU above it is a positive cell.
        reg_thresholds: IoU above the first is high, above the second middle, else low. As many middle and low cells
            as there are high ones are drawn on average.
        noise: two (B, D, L) maps of numbers in [0, 1) in place of random ones, for the middle and the low cells.
        generator: source of the random maps.

    Returns:
        "loss" (to call backward on) and its parts before weighting, "tem", "pem_reg", "pem_cls".
    """
    rule = convention
    if not isinstance(rule, LossRule):
        _check_convention(rule)
        rule = LOSS_RULES[rule]
    if conf.shape[2:] != targets.iou.shape[1:] or start.shape != targets.start.shape:
        raise ClipwiseError(
            f"predictions of shapes {tuple(conf.shape)} and {tuple(start.shape)} do not fit labels of shapes "
            f"{tuple(targets.iou.shape)} and {tuple(targets.start.shape)}"
        )
    with torch.autocast(conf.device.type, enabled=False):
        conf, start, end = (x if x.dtype == torch.float64 else x.float() for x in (conf, start, end))
        valid = valid_mask(targets.iou.shape[2], targets.iou.shape[1], layout, conf.device)
        everywhere = torch.ones_like(targets.start, dtype=torch.bool)
        tem = _balanced_cross_entropy(start, targets.start > boundary_threshold, everywhere, rule)
        tem = tem + _balanced_cross_entropy(end, targets.end > boundary_threshold, everywhere, rule)
        cells = valid.expand_as(targets.iou)
        cls = _balanced_cross_entropy(conf[:, 1], (targets.iou > cls_threshold) & cells, cells, rule)
        weight = _regression_weight(targets.iou, cells, reg_thresholds, rule, noise, generator).to(conf.dtype)
        reg = 0.5 * (weight * (conf[:, 0] - targets.iou).square()).sum() / weight.sum()
    return {"loss": tem + reg_weight * reg + cls_weight * cls, "tem": tem, "pem_reg": reg, "pem_cls": cls}


def _balanced_cross_entropy(prob: Tensor, positive: Tensor, counted: Tensor, rule: LossRule) -> Tensor:
    """Cross entropy in which positives and negatives weigh the same (up to the rule's limits)."""
    num_positive = positive.sum().clamp(min=1).to(prob.dtype)
    num_entries = counted.sum().to(prob.dtype)
    low, high = rule.balance_limits
    ratio = (num_entries / num_positive).clamp(low, high)
    # without a negative, ratio - 1 is 0 and so is the sum that its weight would multiply
    negative_weight = 0.5 * ratio / (ratio - 1).clamp(min=0.5 / num_entries)
    tiny = torch.finfo(prob.dtype).tiny  # without an eps: keeps log(0) and its gradient finite
    log_positive = (prob + rule.eps).clamp(min=tiny).log()
    log_negative = (1 - prob + rule.eps).clamp(min=tiny).log()
    per_cell = torch.where(positive, 0.5 * ratio * log_positive, negative_weight * log_negative)
    return -torch.where(counted, per_cell, 0).sum() / num_entries


def _regression_weight(
    iou: Tensor,
    cells: Tensor,
    thresholds: tuple[float, float],
    rule: LossRule,
    noise: tuple[Tensor, Tensor] | None,
    generator: torch.Generator | None,
) -> Tensor:
    """1 for the cells whose IoU is regressed: all high ones, and about as many middle and low ones."""
    high = (iou > thresholds[0]) & cells
    middle = (iou <= thresholds[0]) & (iou > thresholds[1]) & cells
    low = (iou <= thresholds[1]) & cells
    if not rule.sample_zero:
        low &= iou > 0
    if noise is None:
        shape = iou.shape[1:] if rule.shared_noise else iou.shape
        noise = tuple(torch.rand(shape, device=iou.device, generator=generator) for _ in range(2))  # type: ignore
    num_high = high.sum()
    kept = high
    for kind, draw in zip((middle, low), noise):  # type: ignore[arg-type]
        kept = kept | (kind & (draw > 1 - num_high / kind.sum().clamp(min=1)))
    return torch.where(num_high > 0, kept, cells)


def _check_convention(convention: str) -> None:
    if convention not in LOSS_RULES:
        raise ClipwiseError(f"convention was {convention!r}; use one of {', '.join(map(repr, LOSS_RULES))}")
