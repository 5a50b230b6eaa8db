"""TSM: Temporal Shift Module (Lin et al., ICCV 2019).

* a 2-D ResNet in which each block first moves an eighth of its channels one frame back and an eighth one frame ahead:
  temporal mixing without a single extra multiplication
* the shift stands inside the residual branch ("blockres"), so the shortcut keeps the unshifted frame
* trained and tested on a fixed number of segments; per-frame dropout, scores averaged over the segments
* trained with ``online_shift=True`` it moves channels only from the past into the present (section 4.2): a stream is then
  read frame by frame, and each shift keeps nothing but an eighth of its own last input (``online_tsm``)

Letters: B batch, T segments, C channels, H W space.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.errors import RecipeError
from clipwise.models.non_local import NonLocal
from clipwise.models.recognizer import Recognizer, initialize_backbone, initialize_linear
from clipwise.models.registry import register_model
from clipwise.models.resnet import ResNet, body_settings


class TemporalShift(nn.Module):
    """Move 1/``div`` of the channels one frame towards the past and as many towards the future; zeros fill the ends.

    The zero-padded offline shift of the paper. The first fold brings the *next* frame's channels,
    the second the *previous* frame's; Paddle's operator has them the other way round (``reverse``). ``online`` leaves the
    next frame's channels where they are, so that no frame waits for a later one (section 4.2 of the paper).
    """

    def __init__(self, div: int = 8, *, reverse: bool = False, online: bool = False):
        super().__init__()
        self.div = div
        self.reverse = reverse
        self.online = online

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        fold = x.shape[1] // self.div
        if torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling():  # torch 2.11 says so of both
            return self._shift_maps(x, num_frames, fold)
        # Channels innermost, as in memory: concatenating rows is several times faster than concatenating strided maps.
        rows = x.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames)).flatten(2, 3)  # (B, T, H·W, C)
        padded = F.pad(rows[..., : 2 * fold], (0, 0, 0, 0, 1, 1))  # a frame of zeros before and after
        previous, following = padded[:, :-2], rows if self.online else padded[:, 2:]
        first, second = (previous, following) if self.reverse else (following, previous)
        shifted = torch.cat((first[..., :fold], second[..., fold : 2 * fold], rows[..., 2 * fold :]), dim=3)
        return shifted.unflatten(2, x.shape[2:]).flatten(0, 1).permute(0, 3, 1, 2)

    def _shift_maps(self, x: Tensor, num_frames: int, fold: int) -> Tensor:
        """The same in four axes: runtimes keep maps in blocks of channels, which any other shape makes them unpack."""
        time = torch.arange(x.shape[0], device=x.device).view(-1, 1, 1, 1) % num_frames

        def previous(part: Tensor) -> Tensor:
            return F.pad(part[:-1], (0, 0, 0, 0, 0, 0, 1, 0)) * (time != 0).to(x.dtype)

        def following(part: Tensor) -> Tensor:
            if self.online:
                return part
            return F.pad(part[1:], (0, 0, 0, 0, 0, 0, 0, 1)) * (time != num_frames - 1).to(x.dtype)

        first, second = (previous, following) if self.reverse else (following, previous)
        return torch.cat((first(x[:, :fold]), second(x[:, fold : 2 * fold]), x[:, 2 * fold :]), dim=1)

    def extra_repr(self) -> str:
        return f"div={self.div}, reverse={self.reverse}, online={self.online}"


def make_shift(div: int, *, reverse: bool = False, online: bool = False) -> partial[TemporalShift]:
    """What makes the shift of each block.

    Raises:
        RecipeError: a fraction that is none.
    """
    if not 2 <= div <= 32:  # a ResNet's narrowest blocks have 32 or 64 channels; a fraction of none would shift nothing
        raise RecipeError(
            f"shift_div is {div}; a TSM shifts 1/shift_div of the channels each way: 2 to 32 (8 in the paper). "
            "Without a shift it is a TSN."
        )
    return partial(TemporalShift, div, reverse=reverse, online=online)


@body_settings("shift_place", "shift_downsample", "temporal_pool")
class TSM(Recognizer):
    """Clips (B, C, T, H, W) with T = ``num_segments`` -> logits (B, num_classes). Views' probabilities are averaged.

    Args:
        depth: "18", "34", "50", "101", "152" or "tiny". From 101 on every second block shifts, as published.
        num_classes: number of classes.
        num_segments: T; 8 or 16 in the published models.
        shift_div: 1/``shift_div`` of the channels moves each way.
        reverse_shift: Paddle's direction.
        online_shift: shift from the past only, so that a stream can be read frame by frame (``OnlineTSM``).
        non_local: None, or the pairwise function of five non-local blocks ("embedded_gaussian", "gaussian", "dot_product").
        non_local_sub_sample, non_local_use_scale: see ``NonLocal``; the published models use no scale.
        dropout: on each frame's features.
        fc_std: standard deviation of the classifier's initial weights.
        body: see ``ResNet``.
    """

    def __init__(
        self,
        depth: str = "50",
        *,
        num_classes: int = 400,
        num_segments: int = 8,
        shift_div: int = 8,
        reverse_shift: bool = False,
        online_shift: bool = False,
        non_local: str | None = None,
        non_local_sub_sample: bool = True,
        non_local_use_scale: bool = False,
        dropout: float = 0.5,
        fc_std: float = 0.001,
        **body: Any,
    ):
        shift = make_shift(shift_div, reverse=reverse_shift, online=online_shift)
        attention = partial(
            NonLocal, mode=non_local or "", sub_sample=non_local_sub_sample, use_scale=non_local_use_scale
        )
        backbone = ResNet(depth, shift=shift, attention=attention if non_local else None, **body)
        super().__init__(
            backbone,
            num_classes=num_classes,
            dropout=dropout,
            dropout_per_frame=True,
            fc_std=fc_std,
            num_frames=num_segments,
        )
        self.num_segments = num_segments
        initialize_backbone(backbone, zero_init_residual=False)
        initialize_linear(self.fc, fc_std)

    def online(self, num_frames: int | None = None) -> nn.Module:
        """The twin that takes one frame a step: :class:`clipwise.models.online_tsm.OnlineTSM`."""
        from clipwise.models.online_tsm import OnlineTSM

        return OnlineTSM(self, num_frames)


@register_model
def tsm_tiny(**model_args) -> TSM:
    """TSM on an eight-block net of 32 to 256 channels, for small frames and CPUs."""
    return TSM("tiny", **model_args)


@register_model
def tsm_r18(**model_args) -> TSM:
    """TSM on ResNet-18."""
    return TSM("18", **model_args)


@register_model
def tsm_r50(**model_args) -> TSM:
    """TSM on ResNet-50."""
    return TSM("50", **model_args)


@register_model
def tsm_r101(**model_args) -> TSM:
    """TSM on ResNet-101; every second block shifts."""
    return TSM("101", **model_args)


@register_model
def tsm_r50_nl(**model_args) -> TSM:
    """TSM on ResNet-50 with five non-local blocks, embedded Gaussian without scaling unless told otherwise."""
    return TSM("50", **{"non_local": "embedded_gaussian", **model_args})
