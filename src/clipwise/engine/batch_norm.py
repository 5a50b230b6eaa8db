"""Batch norm's statistics: over the batches of all processes, and as plain averages over many training batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from clipwise.data.loader import make_loader, prefetch
from clipwise.data.transforms import normalize_clips
from clipwise.engine.device import autocast

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def measure_statistics(task: Any) -> None:
    """Recompute the statistics of a recognition run's model on its first training clips (``val.precise_bn_samples``)."""
    recipe = task.recipe
    sampler = getattr(task.sampler, "whole_clips", task.sampler)
    sampler.set_position(0)
    batches = min(len(sampler), max(1, recipe.val.precise_bn_samples // recipe.batch_size))
    loader = make_loader(task.dataset, batch_sampler=sampler, num_workers=recipe.num_workers, persistent=False)
    clips = (
        normalize_clips(batch["frames"].flatten(0, 1), task.spec.mean, task.spec.std)
        for batch in itertools.islice(prefetch(loader, task.device), batches)
    )

    def forward(clips: torch.Tensor) -> None:
        with autocast(task.device, recipe.amp):
            task.model(clips)

    precise_bn(task.model, clips, forward)


@torch.no_grad()
def precise_bn(model: nn.Module, batches: Iterable[torch.Tensor], forward: Callable[[torch.Tensor], object]) -> int:
    """Recompute running mean and variance.

    Args:
        model: its batch norm layers in training mode (frozen ones stay) are measured.
        batches: clips.
        forward: runs the model on one batch.

    Returns:
        How many batches were used.

    Source: MMAction2's PreciseBNHook: momentum 1 in each batch, then the mean over the batches.
    """
    model.train()
    layers = [
        m
        for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training and m.track_running_stats
    ]
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    sums = [[torch.zeros_like(layer.running_mean), torch.zeros_like(layer.running_var)] for layer in layers]  # type: ignore[arg-type]
    count = 0
    try:
        for layer in layers:
            layer.momentum = 1.0
        for clips in batches:
            forward(clips)
            count += 1
            for layer, (mean, var) in zip(layers, sums):
                mean += layer.running_mean  # type: ignore[arg-type]
                var += layer.running_var  # type: ignore[arg-type]
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
    for layer, (mean, var) in zip(layers, sums):
        if count:
            layer.running_mean.copy_(mean / count)  # type: ignore[union-attr]
            layer.running_var.copy_(var / count)  # type: ignore[union-attr]
    return count


def join_batch_norms(model: nn.Module) -> None:
    """Let the model's batch norms in training mode measure over the batches of all processes together."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = JointBatchNorm2d


class JointBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose mean and variance are those of all processes' batches, of whatever sizes.

    differs: ``torch.nn.SyncBatchNorm`` refuses CPU tensors, and is no ``BatchNorm2d``, by which the models know the norms
    that a setting holds fixed.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and type; computed in float32."""
        if not self.training:
            return super().forward(x)
        values, channels = x.float(), x.shape[1]
        count = values.numel() // channels
        variance, mean = torch.var_mean(values, (0, 2, 3), correction=0)
        # Counted from the running mean, which all processes share: far from zero a difference of squares loses digits.
        near = self.running_mean.detach().clone() if self.running_mean is not None else torch.zeros_like(mean)
        own = torch.cat([mean - near, variance + (mean - near).square(), mean.new_ones(1)]) * count
        total = _over_processes(own)
        offset, square = (total[:-1] / total[-1]).split(channels)
        mean, variance = near + offset, (square - offset.square()).clamp_min(0)
        if self.track_running_stats:
            with torch.no_grad():
                momentum = 0.1 if self.momentum is None else self.momentum
                unbiased = variance * (total[-1] / (total[-1] - 1))
                self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
                self.running_var.lerp_(unbiased, momentum)  # type: ignore[union-attr]
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


@torch.compiler.disable  # the collective is not part of a graph
def _over_processes(own: Tensor) -> Tensor:
    return _Sum.apply(own)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total
