"""TriDet: temporal action detection with relative boundary modeling (Shi et al., CVPR 2023).

As ActionFormer, one stage over a pyramid of points, but

- its blocks (SGP) have no attention: two depthwise convolutions of different reach, a gate, and a gate of the whole sequence's
  mean, which keep positions apart where attention makes them alike;
- a boundary is not one number: each point gives a distribution over the positions (bins) before and behind it, which two
  further heads, the likelihood of a start and of an end at every position, take part in; its mean is the boundary;
- how well a point's segment fits weighs its classification in training.

The mean over time and the group norm run over padded positions too, so results depend on the padded length: videos of
different length do not go through together in evaluation, and ``temporal_dim`` belongs to the weights.

Letters: B batch, F feature dimension, T positions of a level, C channels, K classes, P points of all levels, N bins.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.errors import ClipwiseError
from clipwise.models.contract import InputSpec, Stage
from clipwise.models.point_rules import PointRules
from clipwise.models.pyramid_blocks import (
    PRIOR,
    ChannelNorm,
    DistanceHead,
    Embedding,
    Head,
    Padding,
    Pyramid,
    Residual,
    next_mask,
    norm_eps,
    split_mask,
)
from clipwise.models.registry import register_model
from clipwise.tasks.point_targets import PointTargets, iou_of_distances

__all__ = ["TriDet", "TriDetRules", "tridet"]


class TriDet(nn.Module):
    """Classes, boundary bins and boundary likelihoods of all points of a feature sequence.

    Args:
        feat_dim: F.
        num_classes: K.
        temporal_dim: T of the longest training sequence; shorter ones are padded to it.
        width: C.
        head_width: channels of the heads; C if not given.
        mlp_width: hidden channels of the blocks' MLP.
        num_levels: of the pyramid.
        num_stem: blocks below it.
        window: kernel of the near convolution of the branch's blocks (the stem's is 1).
        reach: the far convolution's kernel is (window + 1) times this, made odd.
        num_bins: N, distances 0 .. N in strides of the level.
        positions: whether sinusoids tell where in the video a position lies.
        drop_path: probability that a sample skips a residual branch of the branch's blocks in training.
        input_noise: standard deviation of noise on the features in training.
        conv_std: of the depthwise convolutions' first weights.
        padding: how padded positions are treated; see ``clipwise.models.pyramid_blocks``.
    """

    task = "localization"
    class_outputs = ("classes.last", "starts.last", "ends.last")

    def __init__(
        self,
        feat_dim: int = 2048,
        num_classes: int = 20,
        temporal_dim: int = 2304,
        width: int = 512,
        head_width: int | None = None,
        mlp_width: int = 768,
        num_levels: int = 6,
        num_stem: int = 2,
        window: int = 1,
        reach: float = 5,
        num_bins: int = 16,
        positions: bool = False,
        drop_path: float = 0.1,
        input_noise: float = 0.0,
        conv_std: float = 0.0,
        padding: Padding = "published",
    ):
        super().__init__()
        if width % GROUPS:
            raise ClipwiseError(f"width was {width}; it must be a multiple of {GROUPS}, the groups of the norms")
        if window < 1 or not window % 2:
            raise ClipwiseError(f"window was {window}; it must be odd")
        if padding not in ("published", "opentad"):
            raise ClipwiseError(f"padding was {padding!r}; use 'published' or 'opentad'")
        self.feat_dim, self.temporal_dim, self.num_levels, self.padding = feat_dim, temporal_dim, num_levels, padding
        self.num_bins, self.input_noise = num_bins, input_noise

        def block(window: int, stride: int, drop: float) -> SGPBlock:
            return SGPBlock(width, mlp_width, window, reach, stride, drop, conv_std)

        self.backbone = Pyramid(
            Embedding(feat_dim, width, temporal_dim if positions else None, padding),
            [block(1, 1, 0.0) for _ in range(num_stem)],
            [block(window, 2, drop_path) for _ in range(num_levels - 1)],
            width,
            norm_eps(padding),
        )
        hidden = head_width or width
        self.classes = Head(width, hidden, num_classes, padding, PRIOR)
        self.starts = Head(width, hidden, num_classes, padding, PRIOR)
        self.ends = Head(width, hidden, num_classes, padding, PRIOR)
        self.bins = DistanceHead(width, hidden, 2 * (num_bins + 1), padding, num_levels)
        self.register_buffer("loss_norm", torch.zeros(()))  # the rules' running number of positive points

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score all points.

        Args:
            x: (B, F + 1, T), the last channel 1 where the video has features and 0 in the padding.

        Returns:
            logits (B, K, P); bins (B, 2 (N + 1), P), those to the left first; likelihoods of a start and of an end at each
            point's position (B, K, P), before any softmax; level after level.
        """
        features, mask = split_mask(x)
        if self.training and self.input_noise:
            features = features + self.input_noise * torch.randn_like(features)
        levels, masks = self.backbone(features, mask)
        pairs = list(zip(levels, masks))
        logits = [self.classes(*pair) for pair in pairs]
        bins = [self.bins.level(i, *pair) for i, pair in enumerate(pairs)]
        # detached: the boundaries are read off the features, and do not shape them
        starts = [self.starts(level.detach(), mask) for level, mask in pairs]
        ends = [self.ends(level.detach(), mask) for level, mask in pairs]
        return torch.cat(logits, 2), torch.cat(bins, 2), torch.cat(starts, 2), torch.cat(ends, 2)

    def input_spec(self) -> InputSpec:
        """Features and mask; other lengths will do as well."""
        return InputSpec("features", (self.feat_dim + 1, self.temporal_dim))

    def stages(self) -> list[Stage]:
        """The embedding, the blocks one by one, and the heads."""
        body = self.backbone
        blocks = [Stage(f"block {i}", (block,)) for i, block in enumerate([*body.stem, *body.branch])]
        heads = (body.norms, self.classes, self.starts, self.ends, self.bins)
        return [Stage("embed", (body.embed,)), *blocks, Stage("head", heads)]

    def blocks(self) -> list[nn.Module]:
        return [*self.backbone.stem, *self.backbone.branch]


GROUPS = 16  # of the norm in front of each MLP


class SGPBlock(nn.Module):
    """Scalable-granularity perception: (B, C, T) -> (B, C, T / stride). Only the skip is masked."""

    def __init__(
        self, width: int, mlp_width: int, window: int, reach: float, stride: int, drop_path: float, conv_std: float
    ):
        super().__init__()
        self.stride = stride
        far = round((window + 1) * reach)
        far += far % 2 == 0
        self.skip = nn.MaxPool1d(3, 2, 1) if stride > 1 else nn.Identity()
        self.norm, self.group_norm = ChannelNorm(width), nn.GroupNorm(GROUPS, width)
        self.point, self.mean_gate = Depthwise(width, 1, conv_std), Depthwise(width, 1, conv_std)
        self.near, self.far = Depthwise(width, window, conv_std), Depthwise(width, far, conv_std)
        self.gate = Depthwise(width, window, conv_std)
        self.mlp = nn.Sequential(nn.Conv1d(width, mlp_width, 1), nn.GELU(), nn.Conv1d(mlp_width, width, 1))
        self.residual1 = Residual(width, drop_path, scaled=drop_path > 0)
        self.residual2 = Residual(width, drop_path, scaled=drop_path > 0)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        mask = next_mask(mask, self.stride)
        x = self.skip(x)
        z = self.norm(x)
        instant = self.point(z) * F.relu(self.mean_gate(z.mean(2, keepdim=True)))
        windowed = (self.near(z) + self.far(z)) * self.gate(z)
        x = x * mask + self.residual1(instant + windowed + z)
        return x + self.residual2(self.mlp(self.group_norm(x))), mask


class Depthwise(nn.Conv1d):
    """Convolution of each channel by itself."""

    def __init__(self, width: int, kernel: int, std: float):
        super().__init__(width, width, kernel, padding=kernel // 2, groups=width)
        nn.init.normal_(self.weight, 0, std)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1,):  # a factor a channel, for which CPUs' convolutions loop over the channels
            return x * self.weight[:, 0] + self.bias[:, None]  # type: ignore[index]
        return super().forward(x)


def boundary_distances(bins: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Means of the boundaries' distributions.

    Args:
        bins: (n, 2, N + 1) of points, left and right.
        starts, ends: (n, N + 1) likelihoods at the positions point - N .. point, and point .. point + N.

    Returns:
        (n, 2) distances in strides of the level.
    """
    count = bins.shape[2] - 1
    steps = torch.arange(count + 1, device=bins.device, dtype=bins.dtype)
    left = torch.softmax(starts + bins[:, 0], 1) @ (count - steps)
    right = torch.softmax(ends + bins[:, 1], 1) @ steps
    return torch.stack([left, right], 1)


class TriDetRules(PointRules):
    """How a TriDet is trained and read; see :class:`~clipwise.models.point_rules.PointRules`."""

    network = TriDet
    output_names: tuple[str, ...] = ("logits", "bins", "starts", "ends")

    def multiple(self) -> int:
        window = self.settings["window"]
        return 2 ** (self.num_levels - 1) * (window if window > 1 else 1)

    def distances(self, outputs: Any, row: int, points: Tensor, classes: Tensor) -> Tensor:
        """(n, 2) distances of points for a class each, in strides of their level."""
        _, bins, starts, ends = outputs
        count = self.settings["num_bins"]
        level = self.level_of(bins.shape[2]).to(points.device)[points]
        first, size = self.level_bounds(bins.shape[2])
        first, size = first.to(points.device)[level, None], size.to(points.device)[level, None]
        steps = torch.arange(count + 1, device=points.device)

        def at(values: Tensor, place: Tensor) -> Tensor:  # 0 outside of the level
            inside = (place >= first) & (place < first + size)
            return values[row, classes[:, None], place.clamp(0, values.shape[2] - 1)] * inside

        return boundary_distances(
            bins[row, :, points].T.unflatten(1, (2, count + 1)),
            at(starts, points[:, None] - count + steps),
            at(ends, points[:, None] + steps),
        )

    def positives(self, outputs: Any, row: int, targets: PointTargets) -> tuple[Tensor, Tensor, Tensor]:
        """Points and classes that are to be found, pair by pair, and their true distances."""
        points, classes = targets.classes.nonzero(as_tuple=True)
        return points, classes, targets.distances[points]

    def focal_weights(self, found: Tensor, wanted: Tensor) -> Tensor | None:
        """IoU of the pairs to a power. # differs: IoUs below 1e-8, whose gradient is infinite, count as that."""
        return iou_of_distances(found, wanted).clamp(min=1e-8) ** self.recipe.points.iou_power  # type: ignore[union-attr]


@register_model(task="localization", rules=TriDetRules)
def tridet(feat_dim: int = 2048, num_classes: int = 20, temporal_dim: int = 2304, **model_args) -> TriDet:
    """TriDet; the defaults are THUMOS14's with I3D features."""
    return TriDet(feat_dim, num_classes, temporal_dim, **model_args)
