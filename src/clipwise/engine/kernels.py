"""What a run sets and does on accelerators only: kernels and precision, layouts, numbers fetched without waiting."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def choose_kernels(*, tf32: bool, deterministic: bool) -> None:
    """Set what decides an NVIDIA device's kernels: trials of convolutions for shapes that stay, and fp32's precision."""
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")


def keep_channels_last(model: nn.Module) -> None:
    """Store the kernels of 2-D convolutions as the maps lie in memory, else each call would turn them."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def start_fetch(value: torch.Tensor) -> Callable[[], float]:
    """Start copying a number to the host; the function returned waits for that copy, and not for what the device is told later."""
    module = torch.get_device_module(value.device)
    if not hasattr(module, "Event"):
        return value.item
    number = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    number.copy_(value, non_blocking=True)
    copied = module.Event()
    copied.record()

    def fetch() -> float:
        copied.synchronize()
        return number.item()

    return fetch
