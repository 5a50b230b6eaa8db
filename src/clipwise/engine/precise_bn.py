"""Batch norm statistics as plain averages over many training batches, instead of a decaying one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn


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
