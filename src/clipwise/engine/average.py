"""An average of a run's weights, which is validated and saved in their place (``ema_decay``)."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """An exponential moving average of weights and statistics.

    Args:
        decay: share of the old average in the new one.
        ramp: the decay rises from 0.1 as (1 + steps) / (10 + steps), so that a short run does not end on its first weights.
    """

    def __init__(self, model: nn.Module, decay: float, ramp: bool = True):
        super().__init__(model, use_buffers=True)
        self.decay, self.ramp = decay, ramp
        if not ramp:  # the first weights count; else the first update would be a copy
            self.n_averaged.fill_(1)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Counters are whole numbers and are copied; of cut tensors, this process's parts move."""
        steps = int(self.n_averaged)  # a number in the host's memory: torch's own update fetches it from the device
        decay = min(self.decay, (1 + steps) / (10 + steps)) if self.ramp else self.decay
        own, new = (
            [getattr(t, "_local_tensor", t).detach() for t in (*m.parameters(), *m.buffers())]
            for m in (self.module, model)
        )
        moving = [steps > 0 and t.is_floating_point() for t in own]
        if any(moving):
            torch._foreach_lerp_(
                list(itertools.compress(own, moving)), list(itertools.compress(new, moving)), 1 - decay
            )
        for average, value, moves in zip(own, new, moving):
            if not moves:
                average.copy_(value)
        self.n_averaged += 1
