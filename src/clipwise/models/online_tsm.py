"""TSM one frame at a time (Lin et al., ICCV 2019, section 4.2): for cameras and streams.

* a TSM that was trained with ``online_shift=True`` moves channels only from the past into the present
* so each shift needs nothing but an eighth of its own last input: a few hundred kB are kept, and one frame is computed
  where the offline network computes a whole clip
* from a fresh state, the mean of the scores of T frames is exactly what the offline network says of these T frames

Letters: B streams side by side, C channels, H W space.
"""

import copy
from collections import deque

import torch
from torch import Tensor, nn

from clipwise.errors import ClipwiseError
from clipwise.models.temporal_shift import TemporalShift
from clipwise.models.tsm import TSM


class CachedShift(nn.Module):
    """The online shift with the previous frame's channels at hand: (B, C, H, W) -> the same shape."""

    def __init__(self, shift: TemporalShift):
        super().__init__()
        self.div, self.reverse = shift.div, shift.reverse
        self.past: Tensor | None = None

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        fold = x.shape[1] // self.div
        first = 0 if self.reverse else fold  # the channels that the offline shift takes from the previous frame
        present = x[:, first : first + fold]
        past = torch.zeros_like(present) if self.past is None else self.past
        self.past = present.detach().clone()
        return torch.cat([x[:, :first], past, x[:, first + fold :]], dim=1)


class OnlineTSM(nn.Module):
    """A trained TSM that takes one frame a step and keeps the state between steps.

    Args:
        model: TSM made with ``online_shift=True``; it is copied and not changed.
        num_frames: frames whose scores are averaged; the model's ``num_segments`` if not given.

    Raises:
        ClipwiseError: the model is no TSM, was trained with the two-sided shift, or mixes time elsewhere too.
    """

    def __init__(self, model: nn.Module, num_frames: int | None = None):
        super().__init__()
        if not isinstance(model, TSM):
            raise ClipwiseError(
                f"{type(model).__name__} can't run frame by frame; only TSM trained with model_args.online_shift=true can."
            )
        shifts = [m for m in model.modules() if isinstance(m, TemporalShift)]
        if not all(shift.online for shift in shifts):
            raise ClipwiseError(
                "this TSM was trained with a shift that looks ahead, so it can't run frame by frame. "
                "Train it with model_args.online_shift=true, or stream it in windows (without --online)."
            )
        if model.backbone.temporal_pool or any(
            block.non_local for block in model.backbone.modules() if hasattr(block, "non_local")
        ):
            raise ClipwiseError(
                "temporal_pool and non-local blocks need the whole clip; a model with them can't run frame by frame."
            )
        self.model = copy.deepcopy(model).eval()
        self.model.num_segments = None  # a step has one frame
        for block in self.model.modules():
            shift = getattr(block, "shift", None)
            if isinstance(shift, TemporalShift):
                block.shift = CachedShift(shift)
        self.num_frames = num_frames or model.num_segments or 8
        self.recent: deque[Tensor] = deque(maxlen=self.num_frames)

    def reset(self) -> None:
        """Forget the stream: the next frame is a first one."""
        for module in self.modules():
            if isinstance(module, CachedShift):
                module.past = None
        self.recent.clear()

    @torch.inference_mode()
    def step(self, frames: Tensor) -> Tensor:
        """One new frame of each stream.

        Args:
            frames: float, normalized, (B, C, H, W).

        Returns:
            (B, num_classes): scores of these frames alone, which know of earlier ones through the shift.
        """
        scores = self.model(frames[:, :, None])
        self.recent.append(scores)
        return scores

    def forward(self, frames: Tensor) -> Tensor:
        """:meth:`step`, then the mean over the last ``num_frames`` steps: (B, C, H, W) -> (B, num_classes)."""
        self.step(frames)
        return torch.stack(tuple(self.recent)).mean(0)
