"""What the points of a pyramid are to say, and the losses: ActionFormer's and TriDet's.

Point i of level l stands at position i · 2^l of the sequence. A segment belongs to the points of its middle whose level has
the right reach; where several do, the shortest one gives the distances.

Letters: P points of all levels, K classes, G annotated segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SAME_LENGTH = 1e-3  # segments whose lengths differ by less share a point, each with its class


@dataclass(frozen=True)
class Points:
    """The points of a pyramid over a sequence.

    Attributes:
        position: (P,) on the sequence.
        stride: (P,) of the point's level, which is also the unit of its distances.
        low, high: (P,) larger distance of the segments that the point may stand for.
    """

    position: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, length: int, ranges: Sequence[Sequence[float]]) -> Points:
        """Points over a sequence of ``length`` positions, one level for each of the ``ranges``."""
        sizes = level_sizes(length, len(ranges))
        stride = torch.tensor([2**level for level in range(len(ranges))], dtype=torch.float64)
        count = torch.tensor(sizes)
        position = torch.cat([torch.arange(size, dtype=torch.float64) * 2**level for level, size in enumerate(sizes)])
        low, high = (torch.tensor([float(r[i]) for r in ranges], dtype=torch.float64) for i in (0, 1))
        return cls(position, *(t.repeat_interleave(count) for t in (stride, low, high)))

    def valid(self, positions: int) -> Tensor:
        """(P,) whether a point stands on one of the video's positions, not in the padding."""
        return self.position < positions


def level_sizes(length: int, num_levels: int) -> list[int]:
    """Points of each level: every further one has half of them, rounded up."""
    sizes = [length]
    for _ in range(num_levels - 1):
        sizes.append(-(-sizes[-1] // 2))
    return sizes


@dataclass(frozen=True)
class PointTargets:
    """What is right for each point of a video.

    Attributes:
        classes: (P, K) booleans; a point without any stands for nothing.
        distances: (P, 2) to start and end in strides, of meaning where there is a class.
    """

    classes: Tensor
    distances: Tensor


def point_targets(points: Points, segments: Tensor, labels: Tensor, num_classes: int, radius: float) -> PointTargets:
    """Assign segments to points.

    Args:
        segments: (G, 2) on the sequence; they may reach beyond it.
        labels: (G,).
        radius: of the middle that counts, in strides.
    """
    count = len(points.position)
    if not len(segments):
        return PointTargets(torch.zeros(count, num_classes, dtype=torch.bool), points.position.new_zeros(count, 2))
    position, stride = points.position[:, None], points.stride[:, None]
    start, end = segments.double().T
    left, right = position - start, end - position  # (P, G)
    middle = (start + end) / 2
    inside = position > torch.maximum(middle - radius * stride, start)
    inside &= position < torch.minimum(middle + radius * stride, end)
    reach = torch.maximum(left, right)
    inside &= (reach >= points.low[:, None]) & (reach <= points.high[:, None])
    length = torch.where(inside, end - start, torch.inf)
    shortest, which = length.min(1)
    chosen = inside & (length <= shortest[:, None] + _SAME_LENGTH)
    one_hot = torch.nn.functional.one_hot(labels.long(), num_classes)
    classes = (chosen.double() @ one_hot.double()) > 0
    distances = torch.stack([left, right], 2)[torch.arange(count), which] / stride
    return PointTargets(classes, distances)


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss of each element (Lin et al. 2017), for targets between 0 and 1 as well."""
    probability = torch.sigmoid(logits)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    right = probability * targets + (1 - probability) * (1 - targets)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * (1 - right) ** gamma * entropy


def iou_of_distances(found: Tensor, wanted: Tensor) -> Tensor:
    """IoU of segments around the same points, given by (n, 2) distances to start and end."""
    return _overlap(found, wanted)[0]


def distance_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - DIoU (Zheng et al. 2020) in one dimension, of segments around the same points: (n, 2) each -> (n,)."""
    iou, hull = _overlap(found, wanted)
    between = (found[:, 1] - found[:, 0] - wanted[:, 1] + wanted[:, 0]) / 2  # of the middles
    return 1 - iou + (between / hull) ** 2


def _overlap(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """IoU, and the length of what encloses both."""
    inter = torch.minimum(found, wanted).sum(1)
    union = found.sum(1) + wanted.sum(1) - inter
    hull = torch.maximum(found, wanted).sum(1)
    return inter / union.clamp(min=1e-8), hull.clamp(min=1e-8)
