"""One ResNet body for TSN, TSM and SlowOnly (He et al., CVPR 2016; stride on the 3×3 convolution).

The three papers differ only in how a block mixes time:

* TSN: not at all; TSM: a ``shift`` moves channels by one frame before the first convolution;
  SlowOnly: the first convolution of late stages spans three frames (``TemporalConv``)
* activations stay folded, (B·T, C, H, W): every frame is an image for the spatial convolutions. A temporal operation
  views the same memory as (B, C, T, H·W), so that a (3, 1) 2-D kernel runs along time; with channels last no copy is made
* parameter names and shapes are torchvision's (an inflated kernel has a third extent), so ImageNet weights load by name

Letters: B batch, T frames, C channels, H W space.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.errors import RecipeError
from clipwise.models.recompute import recompute_forward

# name -> (block, blocks of the four stages, channels of the stem and of the four stages before expansion)
DEPTHS = {
    "18": ("basic", (2, 2, 2, 2), (64, 64, 128, 256, 512)),
    "34": ("basic", (3, 4, 6, 3), (64, 64, 128, 256, 512)),
    "50": ("bottleneck", (3, 4, 6, 3), (64, 64, 128, 256, 512)),
    "101": ("bottleneck", (3, 4, 23, 3), (64, 64, 128, 256, 512)),
    "152": ("bottleneck", (3, 8, 36, 3), (64, 64, 128, 256, 512)),
    "tiny": ("basic", (2, 2, 2, 2), (32, 32, 64, 128, 256)),
}
EXPANSION = {"basic": 1, "bottleneck": 4}  # of a block's output over its inner width
# Where the papers put non-local blocks: stage index -> block indices.
NON_LOCAL_BLOCKS = {1: (0, 2), 2: (0, 2, 4)}
# What every model on this body lets a recipe set of it.
COMMON_SETTINGS = ("in_channels", "partial_bn", "norm_eval", "frozen_stages", "grad_checkpointing", "drop_path")
Model = TypeVar("Model", bound=Callable[..., Any])


def to_time(x: Tensor, num_frames: int) -> Tensor:
    """(B·T, C, H, W) -> (B, C, T, H·W): a view, whether channels come first or last in memory."""
    return x.unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(3)


def from_time(x: Tensor, height: int, width: int) -> Tensor:
    """(B, C, T, H·W) -> (B·T, C, H, W)."""
    return x.unflatten(3, (height, width)).transpose(1, 2).flatten(0, 1)


class SpatialConv(nn.Conv2d):
    """(1, k, k) convolution: each frame by itself. Weight (O, I, k, k)."""

    def forward(self, x: Tensor, num_frames: int) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class TemporalConv(nn.Conv2d):
    """(k, 1, 1) convolution along time. Weight (O, I, k, 1)."""

    def forward(self, x: Tensor, num_frames: int) -> Tensor:  # type: ignore[override]
        return from_time(super().forward(to_time(x, num_frames)), x.shape[2], x.shape[3])


class SpaceTimeConv(nn.Conv3d):
    """(k, k, k) convolution. Weight (O, I, k, k, k)."""

    def forward(self, x: Tensor, num_frames: int) -> Tensor:  # type: ignore[override]
        x = super().forward(x.unflatten(0, (-1, num_frames)).transpose(1, 2))  # (B, C, T, H, W)
        return x.transpose(1, 2).flatten(0, 1)


def conv(in_channels: int, out_channels: int, *, space: int, time: int = 1, stride: int = 1) -> nn.Module:
    """Bias-free convolution over ``space`` pixels squared and ``time`` frames, padded to keep the size at stride 1."""
    pad_s, pad_t = space // 2, time // 2
    if time == 1:
        return SpatialConv(in_channels, out_channels, space, stride, pad_s, bias=False)
    if space == 1 and stride == 1:
        return TemporalConv(in_channels, out_channels, (time, 1), padding=(pad_t, 0), bias=False)
    pad = (pad_t, pad_s, pad_s)
    return SpaceTimeConv(in_channels, out_channels, (time, space, space), (1, stride, stride), pad, bias=False)


class Block(nn.Module):
    """A residual block: two 3×3 convolutions ("basic", ResNet-18/34), or 1×1, 3×3, 1×1 ("bottleneck", ResNet-50 and deeper).

    Inflated in the style "3x1x1", the first convolution spans three frames; in the style "3x3x3" those of 3×3 do.

    differs: MMAction2 inflates both of a basic block whatever the style; its files are read with ``inflate_style="3x3x3"``.

    Args:
        kind: "basic" or "bottleneck".
        in_channels: channels of the input.
        channels: the stage's width before expansion.
        stride: spatial stride.
        inflate: None, or the style.
        drop_path: probability of skipping the residual branch for a clip while training.
        shift: (x, num_frames) -> x, the temporal shift, or None.
        shift_place: "blockres" shifts the input of the first convolution only; "block" shifts the shortcut too.
        shift_downsample: let the shortcut's projection see the shifted input, as TPN's own code does.
    """

    def __init__(
        self,
        kind: str,
        in_channels: int,
        channels: int,
        stride: int,
        inflate: str | None,
        drop_path: float,
        *,
        shift: nn.Module | None,
        shift_place: str,
        shift_downsample: bool,
    ):
        super().__init__()
        first, of_3x3 = (3 if inflate else 1), (3 if inflate == "3x3x3" else 1)
        out_channels = channels * EXPANSION[kind]
        self.conv3: nn.Module | None = None
        if kind == "basic":
            self.conv1 = conv(in_channels, channels, space=3, time=first, stride=stride)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = conv(channels, channels, space=3, time=of_3x3)
            self.bn2 = nn.BatchNorm2d(channels)
        else:
            self.conv1 = conv(in_channels, channels, space=1, time=3 if inflate == "3x1x1" else 1)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = conv(channels, channels, space=3, time=of_3x3, stride=stride)
            self.bn2 = nn.BatchNorm2d(channels)
            self.conv3 = conv(channels, out_channels, space=1)
            self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out_channels))
        self.shift, self.shift_place, self.shift_downsample = shift, shift_place, shift_downsample
        self.drop_path = drop_path
        self.non_local: nn.Module | None = None

    @property
    def closing_norm(self) -> nn.BatchNorm2d:
        """The norm at the end of the residual branch."""
        return self.bn2 if self.conv3 is None else self.bn3

    def residual(self, x: Tensor, num_frames: int) -> Tensor:
        """The branch up to the sum."""
        x = F.relu(self.bn1(self.conv1(x, num_frames)))
        x = self.bn2(self.conv2(x, num_frames))
        return x if self.conv3 is None else self.bn3(self.conv3(F.relu(x), num_frames))

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        shifted = x if self.shift is None else self.shift(x, num_frames)
        if self.shift_place == "block":
            x = shifted
        branch = self.residual(shifted, num_frames)
        if self.downsample is not None:
            x = self.downsample(shifted if self.shift_downsample else x)
        if self.drop_path and self.training:
            branch = branch * self._keep_mask(branch, num_frames)
        x = F.relu(x + branch)
        return x if self.non_local is None else self.non_local(x, num_frames)

    def _keep_mask(self, x: Tensor, num_frames: int) -> Tensor:
        """One draw a clip (not a frame), scaled to keep the expectation: (B·T, 1, 1, 1)."""
        keep = 1.0 - self.drop_path
        mask = torch.empty(x.shape[0] // num_frames, device=x.device, dtype=x.dtype).bernoulli_(keep) / keep
        return mask.repeat_interleave(num_frames).view(-1, 1, 1, 1)


class ResNet(nn.Module):
    """The body: clips in, feature maps of one or more stages out, frames folded into the batch.

    Args:
        depth: a key of ``DEPTHS`` ("18", "50", "101", "tiny", …).
        in_channels: 3 for RGB; 2 or 10 for optical flow.
        is_3d: a body of the 3-D family (SlowOnly); only told to the converters, the computation follows from ``inflate``.
        inflate: for each stage, whether its blocks convolve over time (SlowOnly: (0, 0, 1, 1)).
        inflate_style: "3x1x1" (published models) or "3x3x3".
        shift: makes the temporal shift of a block (TSM).
        shift_place: "blockres", or "block" (the shortcut sees the shifted frames too).
        shift_downsample: the shortcut's projections see the shifted frames; needed for checkpoints of TPN's own code.
        attention: channels -> a block that follows those of ``NON_LOCAL_BLOCKS``.
        temporal_pool: halve T before the second stage by max pooling over three frames (TSM).
        with_pool1: spatial max pooling after the stem; off for small frames.
        with_pool2: halve T after the first stage by max pooling over two frames (SlowOnly).
        partial_bn: freeze all norms but the first (TSN's remedy against overfitting; MMAction2's recipes do not use it).
        norm_eval: keep running statistics fixed while training.
        frozen_stages: -1 none, 0 the stem, i the stem and the first i stages.
        grad_checkpointing: recompute blocks in the backward pass; less memory, more time.
        drop_path: stochastic depth of the last block; earlier blocks less, linearly.
        out_stages: which stages' maps are returned.
    """

    def __init__(
        self,
        depth: str,
        in_channels: int = 3,
        *,
        is_3d: bool = False,
        inflate: Sequence[int] = (0, 0, 0, 0),
        inflate_style: str = "3x1x1",
        shift: Callable[[], nn.Module] | None = None,
        shift_place: str = "blockres",
        shift_downsample: bool = False,
        attention: Callable[[int], nn.Module] | None = None,
        temporal_pool: bool = False,
        with_pool1: bool = True,
        with_pool2: bool = False,
        partial_bn: bool = False,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        grad_checkpointing: bool = False,
        drop_path: float = 0.0,
        out_stages: Sequence[int] = (3,),
    ):
        super().__init__()
        _check("inflate_style", inflate_style, ("3x1x1", "3x3x3"))
        _check("shift_place", shift_place, ("blockres", "block"))
        _check("frozen_stages", frozen_stages, range(-1, 5))
        if len(inflate) != 4:
            raise RecipeError(
                f"inflate: {inflate!r} is of length {len(inflate)}; give one 0 or 1 for each of the 4 stages"
            )
        if not 0.0 <= drop_path < 1.0:
            raise RecipeError(f"drop_path: {drop_path} is not a probability in [0, 1)")
        kind, num_blocks, (stem, *widths) = DEPTHS[depth]

        self.depth, self.in_channels, self.out_stages = depth, in_channels, tuple(out_stages)
        self.is_3d, self.shift_place, self.shift_downsample = is_3d, shift_place, shift_downsample
        self.with_pool1, self.with_pool2, self.temporal_pool = with_pool1, with_pool2, temporal_pool
        self.partial_bn, self.norm_eval, self.frozen_stages = partial_bn, norm_eval, frozen_stages
        self.stage_channels = tuple(width * EXPANSION[kind] for width in widths)

        self.conv1 = nn.Conv2d(in_channels, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        # ResNet-101 and deeper shift every second block only (TSM's published models).
        shift_every = 2 if num_blocks[2] >= 23 else 1
        depth_total = sum(num_blocks) - 1
        drop_rates = (drop_path * i / depth_total for i in range(depth_total + 1))
        channels = stem
        for stage, (count, width) in enumerate(zip(num_blocks, widths)):
            blocks = nn.ModuleList()
            for i in range(count):
                block = Block(
                    kind,
                    channels,
                    width,
                    2 if stage > 0 and i == 0 else 1,
                    inflate_style if inflate[stage] else None,
                    next(drop_rates),
                    shift=shift() if shift and i % shift_every == 0 else None,
                    shift_place=shift_place,
                    shift_downsample=shift_downsample,
                )
                channels = self.stage_channels[stage]
                if attention and i in NON_LOCAL_BLOCKS.get(stage, ()):
                    block.non_local = attention(channels)
                if grad_checkpointing:
                    recompute_forward(block)
                blocks.append(block)
            self.add_module(f"layer{stage + 1}", blocks)
        for module in (*self._frozen_modules(), *self._frozen_norms()):
            module.requires_grad_(False)

    def stages(self) -> list[nn.ModuleList]:
        """layer1 … layer4."""
        return [self.get_submodule(f"layer{i}") for i in (1, 2, 3, 4)]  # type: ignore[misc]

    def forward(self, clips: Tensor) -> tuple[list[Tensor], int]:
        """Feature maps of ``out_stages``.

        Args:
            clips: (B, C, T, H, W).

        Returns:
            The maps, each (B·T', C_stage, H', W'), and T' (T, or about T/2 after temporal pooling).
        """
        num_frames = clips.shape[2]
        x = clips.transpose(1, 2).flatten(0, 1)  # (B·T, C, H, W)
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.bn1(self.conv1(x)))
        if self.with_pool1:
            x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage, blocks in enumerate(self.stages()):
            if stage == 1 and self.with_pool2:
                x, num_frames = _pool_time(x, num_frames, kernel=2, padding=0)
            if stage == 1 and self.temporal_pool:
                x, num_frames = _pool_time(x, num_frames, kernel=3, padding=1)
            for block in blocks:
                x = block(x, num_frames)
            if stage in self.out_stages:
                maps.append(x)
        return maps, num_frames

    def train(self, mode: bool = True) -> "ResNet":
        """As always, but norms that a setting holds fixed stay in eval mode."""
        super().train(mode)
        if mode:
            held = _norms(self) if self.norm_eval else [*self._frozen_norms(), *_norms(*self._frozen_modules())]
            for norm in held:
                norm.eval()
        return self

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.conv1, self.bn1, *self.stages()[: self.frozen_stages]]

    def _frozen_norms(self) -> list[nn.BatchNorm2d]:
        return _norms(self)[1:] if self.partial_bn else []


def body_settings(*names: str) -> Callable[[Model], Model]:
    """Decorator of a class or function whose ``**body`` goes to :class:`ResNet`: its signature names what a recipe may set of it.

    Args:
        names: settings of ``ResNet`` besides ``COMMON_SETTINGS``.
    """

    def decorate(model: Model) -> Model:
        own, body = inspect.signature(model), inspect.signature(ResNet).parameters
        passed = [body[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in (*COMMON_SETTINGS, *names)]
        model.__signature__ = own.replace(parameters=[*list(own.parameters.values())[:-1], *passed])  # type: ignore[attr-defined]
        return model

    return decorate


def _pool_time(x: Tensor, num_frames: int, *, kernel: int, padding: int) -> tuple[Tensor, int]:
    t = F.max_pool2d(to_time(x, num_frames), (kernel, 1), (2, 1), (padding, 0))
    return from_time(t, x.shape[2], x.shape[3]), t.shape[2]


def _norms(*modules: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for module in modules for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def _check(name: str, value: object, allowed: Sequence) -> None:
    if value not in allowed:
        raise RecipeError(f"{name}: {value!r} is not allowed; choose one of {', '.join(map(str, allowed))}")
