"""TPN: Temporal Pyramid Network (Yang et al., CVPR 2020), a neck between a video backbone and its classifier.

* the last two stages' maps are brought to one spatial size, then to their own tempo by pooling over time
* a top-down and a bottom-up path exchange the levels; both results are fused to one map
* an auxiliary classifier on the lower level helps training and is not run otherwise

Letters: B batch, T frames, C channels, H W space. Maps are folded, (B·T, C, H, W), as in ``resnet``.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.errors import RecipeError
from clipwise.models.recognizer import Recognizer, initialize_backbone, initialize_linear, pool_frames
from clipwise.models.registry import register_model
from clipwise.models.resnet import ResNet, TemporalConv, body_settings, from_time, to_time
from clipwise.models.tsm import make_shift


class ConvNorm(nn.Module):
    """Bias-free 2-D convolution on every frame, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class TemporalModulation(nn.Module):
    """Three-frame convolution, then maximum over ``scale`` frames: T -> ceil(T / scale)."""

    def __init__(self, in_channels: int, out_channels: int, scale: int, *, groups: int):
        super().__init__()
        self.scale = scale
        self.conv = TemporalConv(in_channels, out_channels, (3, 1), padding=(1, 0), groups=groups, bias=False)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        return pool_time(self.conv(x, num_frames), num_frames, self.scale)


class LevelFusion(nn.Module):
    """Grouped 1×1 convolution on each level, concatenation, 1×1 convolution."""

    def __init__(self, channels: int, out_channels: int, strides: Sequence[int]):
        super().__init__()
        self.strides = tuple(strides)
        self.levels = nn.ModuleList(ConvNorm(channels, channels, 1, groups=32) for _ in strides)
        self.fusion = ConvNorm(channels * len(self.strides), out_channels, 1)

    def forward(self, maps: Sequence[Tensor], num_frames: Sequence[int]) -> Tensor:
        pooled = [pool_time(x, t, stride) for x, t, stride in zip(maps, num_frames, self.strides)]
        return self.fusion(torch.cat([level(x) for level, x in zip(self.levels, pooled)], dim=1))


class Pyramid(nn.Module):
    """The neck: maps of stages 3 and 4 -> one map.

    Args:
        in_channels: channels of the two maps (1024 and 2048 for ResNet-50).
        mid_channels: channels of a pyramid level.
        fusion_channels: channels after each of the two paths.
        out_channels: channels of the result.
        scales: over how many frames each level is pooled; the first must divide the second.
        flow: "cascade": the bottom-up path starts from what the top-down path made. It is what the published models
            compute (in TPN's own code because a list is aliased); "parallel" starts it from the untouched levels,
            as the paper draws it.

    Raises:
        RecipeError: unknown flow, or scales that do not divide.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (1024, 2048),
        *,
        mid_channels: int = 1024,
        fusion_channels: int = 2048,
        out_channels: int = 2048,
        scales: Sequence[int] = (8, 8),
        flow: str = "cascade",
    ):
        super().__init__()
        if flow not in ("cascade", "parallel"):
            raise RecipeError(f"flow: {flow!r} is not allowed; choose 'cascade' (published models) or 'parallel'")
        if len(scales) != 2 or min(scales) < 1 or scales[1] % scales[0]:
            raise RecipeError(
                f"temporal_scales: {list(scales)} is not allowed; give two numbers, the first dividing the second"
            )
        low, high = in_channels
        self.flow = flow
        self.ratio = scales[1] // scales[0]
        self.spatial = ConvNorm(low, high, 3, stride=2)
        self.temporal = nn.ModuleList(TemporalModulation(high, mid_channels, s, groups=32) for s in scales)
        self.down = TemporalModulation(mid_channels, mid_channels, self.ratio, groups=1)
        self.top_down = LevelFusion(mid_channels, fusion_channels, (self.ratio, 1))
        self.bottom_up = LevelFusion(mid_channels, fusion_channels, (self.ratio, 1))
        self.fusion = ConvNorm(2 * fusion_channels, out_channels, 1)

    def forward(self, low: Tensor, high: Tensor, num_frames: int) -> tuple[Tensor, int]:
        """(B·T, C3, H, W), (B·T, C4, H/2, W/2), T -> (B·T', out_channels, H/2, W/2), T'."""
        levels = [op(x, num_frames) for op, x in zip(self.temporal, (self.spatial(low), high))]
        t = [math.ceil(num_frames / op.scale) for op in self.temporal]  # type: ignore[operator]

        upper = levels[1]
        lower = levels[0] + repeat_time(upper, t[1], self.ratio)
        top_down = self.top_down((lower, upper), t)

        if self.flow == "parallel":
            lower = levels[0]
        upper = upper + self.down(lower, t[0])
        bottom_up = self.bottom_up((lower, upper), t)
        return self.fusion(torch.cat((top_down, bottom_up), dim=1)), t[1]


class AuxiliaryHead(nn.Module):
    """Classifier on the lower level, for the training loss only."""

    def __init__(self, in_channels: int, num_classes: int, dropout: float):
        super().__init__()
        self.conv = ConvNorm(in_channels, 2 * in_channels, 3, stride=2)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * in_channels, num_classes)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        return self.fc(self.dropout(pool_frames(self.conv(x), num_frames).mean(1)))


class TPN(Recognizer):
    """A video backbone with the temporal pyramid: clips (B, C, T, H, W) -> logits (B, num_classes).

    In train mode ``forward`` returns ``(logits, aux_logits)``, both (B, num_classes), and the training loss is
    ``loss(logits) + aux_weight * loss(aux_logits)``. In eval mode it returns the logits alone. With ``aux_weight=0`` there is
    no auxiliary head, no attribute ``aux_weight``, and the logits alone in both modes. Views' probabilities are averaged.

    differs: MMAction2's fully convolutional test path classifies with a copy of the classifier that is made once and
    never refreshed; here the classifier itself is used (tests/contract/test_models.py: resetting the classifier).

    Args:
        backbone: a ResNet with ``out_stages=(2, 3)``.
        num_classes: number of classes.
        num_segments: T that the backbone needs (TSM), or None.
        flow, temporal_scales: see ``Pyramid``.
        aux_weight: weight of the auxiliary loss.
        dropout: before both classifiers.
        fc_std: standard deviation of the classifiers' initial weights.
    """

    def __init__(
        self,
        backbone: ResNet,
        num_classes: int,
        num_segments: int | None,
        flow: str,
        temporal_scales: Sequence[int],
        aux_weight: float,
        dropout: float,
        fc_std: float,
        *,
        zero_init_residual: bool,
    ):
        low, high = backbone.stage_channels[2:]
        super().__init__(
            backbone, num_classes=num_classes, dropout=dropout, fc_std=fc_std, num_frames=num_segments or 8
        )
        self.num_segments = num_segments
        self.neck = Pyramid(
            (low, high),
            mid_channels=low,
            fusion_channels=high,
            out_channels=high,
            scales=temporal_scales,
            flow=flow,
        )
        self.aux_head: AuxiliaryHead | None = None
        if aux_weight:
            self.aux_weight = aux_weight
            self.aux_head = AuxiliaryHead(low, num_classes, dropout)
        initialize_backbone(backbone, zero_init_residual=zero_init_residual)
        initialize_neck(self.neck)
        initialize_linear(self.fc, fc_std)
        if self.aux_head is not None:
            initialize_neck(self.aux_head)
            initialize_linear(self.aux_head.fc, fc_std)

    def feature_maps(self, clips: Tensor) -> tuple[Tensor, int]:
        self._check_clips(clips)
        (low, high), num_frames = self.backbone(clips)
        return self.neck(low, high, num_frames)

    def forward(self, clips: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        self._check_clips(clips)
        (low, high), num_frames = self.backbone(clips)
        logits = self.classify(*self.neck(low, high, num_frames))
        if self.training and self.aux_head is not None:
            return logits, self.aux_head(low, num_frames)
        return logits

    def reset_classifier(self, num_classes: int) -> None:
        super().reset_classifier(num_classes)
        if self.aux_head is not None:
            self.aux_head.fc = self._new_linear(self.aux_head.fc, num_classes)


def initialize_neck(module: nn.Module) -> None:
    """Xavier uniform for all convolutions, as MMAction2 and TPN's own code do."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.xavier_uniform_(conv.weight)


def pool_time(x: Tensor, num_frames: int, scale: int) -> Tensor:
    """Maximum over groups of ``scale`` frames; a last incomplete group counts."""
    if scale == 1:
        return x
    pooled = F.max_pool2d(to_time(x, num_frames), (scale, 1), ceil_mode=True)
    return from_time(pooled, x.shape[2], x.shape[3])


def repeat_time(x: Tensor, num_frames: int, ratio: int) -> Tensor:
    """Every frame ``ratio`` times (nearest upsampling)."""
    if ratio == 1:
        return x
    return x.unflatten(0, (-1, num_frames)).repeat_interleave(ratio, dim=1).flatten(0, 1)


@body_settings("inflate_style", "with_pool1")
def _tpn_slowonly(
    depth: str,
    *,
    num_classes: int = 400,
    flow: str = "cascade",
    temporal_scales: Sequence[int] = (8, 8),
    aux_weight: float = 0.5,
    dropout: float = 0.5,
    fc_std: float = 0.01,
    inflate: Sequence[int] = (0, 0, 1, 1),
    **body: Any,
) -> TPN:
    backbone = ResNet(depth, is_3d=True, inflate=inflate, out_stages=(2, 3), **body)
    return TPN(backbone, num_classes, None, flow, temporal_scales, aux_weight, dropout, fc_std, zero_init_residual=True)


@body_settings("shift_place", "shift_downsample")
def _tpn_tsm(
    depth: str,
    *,
    num_classes: int = 174,
    num_segments: int = 8,
    flow: str = "cascade",
    temporal_scales: Sequence[int] = (8, 8),
    aux_weight: float = 0.5,
    dropout: float = 0.5,
    fc_std: float = 0.01,
    shift_div: int = 8,
    reverse_shift: bool = False,
    **body: Any,
) -> TPN:
    backbone = ResNet(depth, shift=make_shift(shift_div, reverse=reverse_shift), out_stages=(2, 3), **body)
    return TPN(
        backbone,
        num_classes,
        num_segments,
        flow,
        temporal_scales,
        aux_weight,
        dropout,
        fc_std,
        zero_init_residual=False,
    )


@register_model(settings=_tpn_slowonly)
def tpn_slowonly_tiny(**model_args) -> TPN:
    """TPN on an eight-block SlowOnly net, for small frames and CPUs."""
    return _tpn_slowonly("tiny", **model_args)


@register_model(settings=_tpn_slowonly)
def tpn_slowonly_r50(**model_args) -> TPN:
    """TPN on SlowOnly ResNet-50."""
    return _tpn_slowonly("50", **model_args)


@register_model(settings=_tpn_slowonly)
def tpn_slowonly_r101(**model_args) -> TPN:
    """TPN on SlowOnly ResNet-101."""
    return _tpn_slowonly("101", **model_args)


@register_model(settings=_tpn_tsm)
def tpn_tsm_tiny(**model_args) -> TPN:
    """TPN on an eight-block TSM net, for small frames and CPUs."""
    return _tpn_tsm("tiny", **model_args)


@register_model(settings=_tpn_tsm)
def tpn_tsm_r50(**model_args) -> TPN:
    """TPN on TSM ResNet-50. For checkpoints of TPN's own code set ``shift_downsample=True``."""
    return _tpn_tsm("50", **model_args)
