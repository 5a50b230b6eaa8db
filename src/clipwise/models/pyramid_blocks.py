"""What ActionFormer and TriDet share: masked convolutions, norms over channels, and heads over a pyramid of time.

A sequence comes padded, with a mask that is 1 where the video has features. Convolutions are masked after they ran, bias
included. The norms come after the mask, so a padded position holds the norm's bias and is seen by the next convolution at the
video's end: the published weights were trained so, and ``padding="published"`` keeps it. OpenTAD's networks mask once more after
norm and activation, do not mask the last convolutions of the heads, and have another epsilon (``padding="opentad"``).

Letters: B batch, C channels, T positions of a level, K classes, P points (the positions of all levels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["published", "opentad"]

PRIOR = 0.01  # probability that a class's bias starts with: most points show no action


class MaskedConv(nn.Conv1d):
    """Convolution that keeps the length (divided by the stride), and whose padding is 0."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """``x`` (B, C, T) -> (B, C', T / stride); ``mask`` (B, 1, T / stride) is that of the output."""
        return super().forward(x) * mask


def masked_conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, bias: bool = False):
    return MaskedConv(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position of (B, C, T)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ConvNormReLU(nn.Module):
    """Masked convolution of kernel 3 without bias, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, padding: Padding):
        super().__init__()
        self.conv = masked_conv(inputs, outputs)
        self.norm = ChannelNorm(outputs, eps=norm_eps(padding))
        self.again = padding == "opentad"

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x, mask)))
        return x * mask if self.again else x


class Embedding(nn.Module):
    """Features -> channels of the pyramid: two convolutions, and where in time each position lies if ``positions`` is set.

    Args:
        positions: length of the table of sinusoids, the longest training sequence; a longer one stretches it. None: no table.
    """

    def __init__(self, inputs: int, width: int, positions: int | None, padding: Padding):
        super().__init__()
        self.layers = nn.ModuleList([ConvNormReLU(inputs, width, padding), ConvNormReLU(width, width, padding)])
        table = sinusoids(positions, width) / width**0.5 if positions else None
        self.register_buffer("table", table, persistent=False)
        self.table: Tensor | None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        if self.table is None:
            return x
        table, length = self.table, x.shape[2]
        if length > table.shape[2]:
            table = F.interpolate(table, length, mode="linear", align_corners=False)
        return x + table[:, :, :length] * mask


def sinusoids(positions: int, width: int) -> Tensor:
    """(1, C, T) sines in even and cosines in odd channels, of wavelengths from 2π to 20,000π (Vaswani et al. 2017)."""
    channel = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(positions, dtype=torch.float64)[:, None] / 10000 ** (2 * (channel // 2) / width)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).T[None].float()


class Residual(nn.Module):
    """What a branch adds: scaled a channel where there is a ``scale``, and left out for whole samples in training.

    Args:
        width: C.
        drop: probability that a sample goes without the branch.
        scaled: learn a factor for each channel, small at first.
    """

    no_weight_decay = ("scale",)

    def __init__(self, width: int, drop: float, scaled: bool = True):
        super().__init__()
        self.drop = drop
        self.scale = nn.Parameter(torch.full((1, width, 1), 1e-4)) if scaled else None

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is not None:
            x = self.scale * x
        if self.drop and self.training:
            x = x * (x.new_empty(len(x), 1, 1).bernoulli_(1 - self.drop) / (1 - self.drop))
        return x


def next_mask(mask: Tensor, stride: int) -> Tensor:
    """The mask of the next level: every second position's."""
    return mask if stride == 1 else mask[:, :, ::stride]


class Head(nn.Module):
    """Two convolutions with norms and a last one with bias, the same for every level."""

    def __init__(self, width: int, hidden: int, outputs: int, padding: Padding, prior: float | None = None):
        super().__init__()
        self.layers = nn.ModuleList([ConvNormReLU(width, hidden, padding), ConvNormReLU(hidden, hidden, padding)])
        self.last = masked_conv(hidden, outputs, bias=True)
        self.masked = padding == "published"
        nn.init.constant_(self.last.bias, 0.0 if prior is None else -math.log((1 - prior) / prior))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return self.last(x, mask if self.masked else torch.ones_like(mask))


class DistanceHead(Head):
    """Head whose outputs are at least 0, with a factor for each level.

    Args:
        levels: of the pyramid.
    """

    no_weight_decay = ("scales",)

    def __init__(self, width: int, hidden: int, outputs: int, padding: Padding, levels: int):
        super().__init__(width, hidden, outputs, padding)
        self.scales = nn.Parameter(torch.ones(levels))

    def level(self, number: int, x: Tensor, mask: Tensor) -> Tensor:
        return F.relu(self.forward(x, mask) * self.scales[number])


class Pyramid(nn.Module):
    """Embedding, blocks and a norm a level: (B, F, T) -> the levels' features and masks, each half as long as the one before.

    Args:
        stem, branch: blocks (x, mask) -> (x, mask) that keep the length, and that halve it.
    """

    def __init__(
        self, embed: Embedding, stem: Sequence[nn.Module], branch: Sequence[nn.Module], width: int, eps: float
    ):
        super().__init__()
        self.embed = embed
        self.stem, self.branch = nn.ModuleList(stem), nn.ModuleList(branch)
        self.norms = nn.ModuleList(ChannelNorm(width, eps=eps) for _ in range(len(branch) + 1))
        for module in self.modules():
            if isinstance(module, nn.Conv1d) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        x = self.embed(x, mask)
        for block in self.stem:
            x, mask = block(x, mask)
        levels, masks = [x], [mask]
        for block in self.branch:
            x, mask = block(x, mask)
            levels.append(x)
            masks.append(mask)
        return [norm(level) for norm, level in zip(self.norms, levels)], masks


def split_mask(x: Tensor) -> tuple[Tensor, Tensor]:
    """A localizer's input (B, F + 1, T) -> features (B, F, T) and mask (B, 1, T) of zeros and ones."""
    return x[:, :-1], (x[:, -1:] > 0).to(x.dtype)


def norm_eps(padding: Padding) -> float:
    """Epsilon of the norms outside the blocks."""
    return 1e-6 if padding == "opentad" else 1e-5
