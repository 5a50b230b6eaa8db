"""A TSM that reads a stream frame by frame (section 4.2 of the paper, see :mod:`clipwise.models.tsm`).

Letters: B batch, C channels, H W space.
"""

import copy
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from clipwise.errors import ClipwiseError


class CachedShift(nn.Module):
    """The online shift with the previous frame's channels at hand: (B, C, H, W) -> the same shape."""

    def __init__(self, shift: Any):
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
        ClipwiseError: the model was trained with the two-sided shift, or mixes time elsewhere too.
    """

    def __init__(self, model: Any, num_frames: int | None = None):
        super().__init__()
        blocks: list[Any] = model.blocks()
        if not all(block.shift.online for block in blocks if block.shift is not None):
            raise ClipwiseError(
                "this TSM was trained with a shift that looks ahead, so it can't run frame by frame. "
                "Train it with model_args.online_shift=true, or stream it in windows (without --online)."
            )
        if model.backbone.temporal_pool or any(block.non_local is not None for block in blocks):
            raise ClipwiseError(
                "temporal_pool and non-local blocks need the whole clip; a model with them can't run frame by frame."
            )
        self.model = copy.deepcopy(model).eval()
        self.model.num_segments = None  # a step has one frame
        for block in self.model.blocks():
            if block.shift is not None:
                block.shift = CachedShift(block.shift)
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
