"""ActionFormer: localizing moments of actions with transformers (Zhang, Wu, Li, ECCV 2022).

One stage from features to named segments, without proposals or anchors:

- a transformer whose attention reaches a few positions only, and whose every further block halves the sequence: a pyramid
  in which short actions live at the bottom and long ones at the top;
- every position of every level is a point that says, for each class, whether it lies in an action, and how far the action's
  start and end are;
- two small convolutional heads, the same on all levels, and soft-NMS.

Letters: B batch, F feature dimension, T positions of a level, C channels, h heads, K classes, P points of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.errors import ClipwiseError
from clipwise.io.text import plural
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
    masked_conv,
    next_mask,
    norm_eps,
    split_mask,
)
from clipwise.models.registry import register_model

__all__ = ["ActionFormer", "ActionFormerRules", "actionformer"]


class ActionFormer(nn.Module):
    """Classes and distances of all points of a feature sequence.

    Args:
        feat_dim: F.
        num_classes: K.
        temporal_dim: T of the longest training sequence; shorter ones are padded to it.
        width: C.
        head_width: channels of the heads; C if not given.
        num_levels: of the pyramid.
        num_stem: blocks below it.
        num_heads: h.
        window: positions that one attends to, itself in the middle; one number, or one a level; below 2: all of them.
        positions: whether sinusoids tell where in the video a position lies.
        drop_path: probability that a sample skips a residual branch in training.
        feature_dropout: share of the features' channels that a training sample does without (OpenTAD's recipes).
        padding: how padded positions are treated; see ``clipwise.models.pyramid_blocks``.
    """

    task = "localization"
    class_outputs = ("classes.last",)

    def __init__(
        self,
        feat_dim: int = 2048,
        num_classes: int = 20,
        temporal_dim: int = 2304,
        width: int = 512,
        head_width: int | None = None,
        num_levels: int = 6,
        num_stem: int = 2,
        num_heads: int = 4,
        window: int | Sequence[int] = 19,
        positions: bool = False,
        drop_path: float = 0.1,
        feature_dropout: float = 0.0,
        padding: Padding = "published",
    ):
        super().__init__()
        windows = level_windows(window, num_levels)
        if width % num_heads:
            raise ClipwiseError(f"width was {width}; it must be a multiple of num_heads ({num_heads})")
        if padding not in ("published", "opentad"):
            raise ClipwiseError(f"padding was {padding!r}; use 'published' or 'opentad'")
        self.feat_dim, self.temporal_dim, self.num_levels, self.padding = feat_dim, temporal_dim, num_levels, padding
        self.feature_dropout = feature_dropout
        self.backbone = Pyramid(
            Embedding(feat_dim, width, temporal_dim if positions else None, padding),
            [TransformerBlock(width, num_heads, windows[0], 1, drop_path) for _ in range(num_stem)],
            [TransformerBlock(width, num_heads, w, 2, drop_path) for w in windows[1:]],
            width,
            norm_eps(padding),
        )
        hidden = head_width or width
        self.classes = Head(width, hidden, num_classes, padding, PRIOR)
        self.distances = DistanceHead(width, hidden, 2, padding, num_levels)
        self.register_buffer("loss_norm", torch.zeros(()))  # the rules' running number of positive points

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Score all points.

        Args:
            x: (B, F + 1, T), the last channel 1 where the video has features and 0 in the padding.

        Returns:
            logits (B, K, P) and distances (B, 2, P) to start and end in strides of the level; level after level.
        """
        features, mask = split_mask(x)
        if self.feature_dropout:
            features = F.dropout1d(features, self.feature_dropout, self.training)
        levels, masks = self.backbone(features, mask)
        logits = [self.classes(level, mask) for level, mask in zip(levels, masks)]
        distances = [self.distances.level(i, *level) for i, level in enumerate(zip(levels, masks))]
        return torch.cat(logits, 2), torch.cat(distances, 2)

    def input_spec(self) -> InputSpec:
        """Features and mask; other lengths will do as well."""
        return InputSpec("features", (self.feat_dim + 1, self.temporal_dim))

    def stages(self) -> list[Stage]:
        """The embedding, the blocks one by one, and the heads."""
        body = self.backbone
        blocks = [Stage(f"block {i}", (block,)) for i, block in enumerate([*body.stem, *body.branch])]
        return [Stage("embed", (body.embed,)), *blocks, Stage("head", (body.norms, self.classes, self.distances))]

    def blocks(self) -> list[nn.Module]:
        return [*self.backbone.stem, *self.backbone.branch]


class TransformerBlock(nn.Module):
    """Attention and MLP with norms in front: (B, C, T) -> (B, C, T / stride)."""

    def __init__(self, width: int, num_heads: int, window: int, stride: int, drop_path: float):
        super().__init__()
        self.stride = stride
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.attention = Attention(width, num_heads, window, stride)
        self.skip = nn.MaxPool1d(3, 2, 1) if stride > 1 else nn.Identity()
        self.mlp = nn.Sequential(nn.Conv1d(width, 4 * width, 1), nn.GELU(), nn.Conv1d(4 * width, width, 1))
        self.residual1 = Residual(width, drop_path)
        self.residual2 = Residual(width, drop_path)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        mask = next_mask(mask, self.stride)
        x = self.skip(x) * mask + self.residual1(self.attention(self.norm1(x), mask))
        return x + self.residual2(self.mlp(self.norm2(x)) * mask), mask


class Attention(nn.Module):
    """Multi-head attention of each position to the ``window`` around it, behind depthwise convolutions that may halve the sequence."""

    def __init__(self, width: int, num_heads: int, window: int, stride: int):
        super().__init__()
        self.heads, self.reach = num_heads, window // 2 if window > 1 else None
        self.query, self.key, self.value = (Projection(width, stride) for _ in range(3))
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (  # (B, h, T, d)
            project(x, mask).unflatten(1, (self.heads, -1)).transpose(2, 3)
            for project in (self.query, self.key, self.value)
        )
        query = query * query.shape[-1] ** -0.5
        closed = (
            mask[:, :, None] - 1
        ) * 1e4  # (B, 1, 1, T): 0 for keys of the video, far below any score in the padding
        if self.reach is None:
            mixed = torch.softmax(query @ key.transpose(2, 3) + closed, dim=-1) @ value
        else:
            mixed = band_attention(query, key, value, closed, self.reach)
        return self.out(mixed.transpose(2, 3).flatten(1, 2)) * mask


class Projection(nn.Module):
    """To queries, keys or values: a depthwise convolution that may halve the sequence, a norm, and a linear layer."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.conv = masked_conv(width, width, 3, stride, groups=width)
        self.norm = ChannelNorm(width)
        self.linear = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(self.norm(self.conv(x, mask)))


def band_attention(query: Tensor, key: Tensor, value: Tensor, closed: Tensor, half: int) -> Tensor:
    """Attention to keys at most ``half`` positions away, in time and memory linear in T.

    Queries are taken in blocks of 2 ``half``; each block sees its own keys and ``half`` on either side, of which a band is open.

    Args:
        query, key, value: (B, h, T, d).
        closed: (B, 1, 1, T), added to the scores of each key.
    """
    length, block = query.shape[2], 2 * half
    spare = -length % block
    query = F.pad(query, (0, 0, 0, spare)).unflatten(2, (-1, block))  # (B, h, blocks, block, d)
    key, value = (
        F.pad(t, (0, 0, half, half + spare)).unfold(2, 2 * block, block) for t in (key, value)
    )  # (B, h, blocks, d, 2 block)
    closed = F.pad(closed, (half, half + spare), value=-1e4).unfold(3, 2 * block, block)[:, :, 0, :, None]
    place = torch.arange(2 * block, device=query.device)
    reach = place - place[:block, None]  # of key j from query i: 0 .. 2 half is inside the window
    outside = (reach < 0) | (reach > 2 * half)
    scores = (query @ key + closed).masked_fill(outside, -1e4)
    mixed = torch.softmax(scores, dim=-1) @ value.transpose(3, 4)
    return mixed.flatten(2, 3)[:, :, :length]


def level_windows(window: int | Sequence[int], num_levels: int) -> list[int]:
    """One window a level."""
    windows = [int(window)] * num_levels if isinstance(window, int) else [int(w) for w in window]
    if len(windows) != num_levels:
        raise ClipwiseError(
            f"window has {plural(len(windows), 'number')}; give one, or one for each of the {plural(num_levels, 'level')}"
        )
    return windows


class ActionFormerRules(PointRules):
    """How an ActionFormer is trained and read; see :class:`~clipwise.models.point_rules.PointRules`."""

    network = ActionFormer

    def multiple(self) -> int:
        windows = level_windows(self.settings["window"], self.num_levels)
        return max(2**i * (2 * (w // 2) if w > 1 else 1) for i, w in enumerate(windows))


@register_model(task="localization", rules=ActionFormerRules)
def actionformer(feat_dim: int = 2048, num_classes: int = 20, temporal_dim: int = 2304, **model_args) -> ActionFormer:
    """ActionFormer; the defaults are THUMOS14's with I3D features."""
    return ActionFormer(feat_dim, num_classes, temporal_dim, **model_args)
