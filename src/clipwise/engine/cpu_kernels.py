"""What training of a large network does otherwise on a CPU: it keeps its memory, and computes some convolutions as products.

Memory changes no bit of the result. Products differ from convolutions in the order of a sum; in fp32 only TPN's largest become some.
"""

from __future__ import annotations

import ctypes
import sys
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.recipe import Recipe

_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h
_MANY, _VERY_MANY, _MANY_IN_FP32 = 2**19, 3 * 2**20, 2**22
"""Weights from which on their gradient, and from which on everything, is faster as a product; and the latter for fp32."""
_FEW = 1024
"""Pixels of a whole batch up to which it is."""


def prepare_training(model: nn.Module, recipe: Recipe) -> None:
    """Set what pays for this network."""
    keep_memory()
    if not recipe.compile:
        use_products(model, recipe.amp == "bf16")


def keep_memory() -> bool:
    """Let this process keep the memory that tensors free; True if the system's library (glibc) can.

    Else large tensors come fresh from the system in each step, which zeroes every page of them first (TPN: 200,000 pages a step).
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def use_products(model: nn.Module, bf16: bool) -> None:
    """Compute convolutions of many weights and few pixels as matrix products.

    oneDNN turns such weights and their gradient into a layout of its own in each call, and its kernels for 7×7 maps reach half of
    a product's speed. The weights are stored channels last, as products read them.
    """
    for conv in model.modules():
        if not isinstance(conv, nn.Conv2d) or conv.groups > 1 or not _is_plain(conv):
            continue
        if conv.weight.numel() >= (_MANY if bf16 else _MANY_IN_FP32) and (bf16 or max(conv.kernel_size) > 1):
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
            conv._conv_forward = MethodType(_forward, conv)  # type: ignore[method-assign]


def _is_plain(conv: nn.Conv2d) -> bool:
    return (
        conv.bias is None
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and (max(conv.kernel_size) > 1 or conv.padding == (0, 0))
    )


def _forward(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In place of ``Conv2d._conv_forward``."""
    size = [(x.shape[2 + i] + 2 * int(conv.padding[i]) - conv.kernel_size[i]) // conv.stride[i] + 1 for i in (0, 1)]
    bf16 = torch.is_autocast_enabled("cpu")
    if len(x) * size[0] * size[1] > _FEW or (not bf16 and weight.numel() < _MANY_IN_FP32):
        return nn.Conv2d._conv_forward(conv, x, weight, bias)
    if bf16:
        x, weight = x.bfloat16(), weight.bfloat16()
    return _Product.apply(x, weight, conv.stride, conv.padding, size)


class _Product(torch.autograd.Function):
    """Convolution whose parts are matrix products where these are faster: (N, I, H, W), (O, I, k, l) -> (N, O, h, w)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Any, padding: Any, size: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.size = stride, padding, size
        if not _all_products(weight):
            return F.conv2d(x, weight, None, stride, padding)
        rows = _windows(x, weight, stride, padding, size) @ _matrix(weight).t()
        return rows.view(len(x), *size, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        stride, padding, size = ctx.stride, ctx.padding, ctx.size
        rows = grad.permute(0, 2, 3, 1).reshape(-1, len(weight))
        grad_x = grad_weight = None
        if ctx.needs_input_grad[1]:
            product = rows.t() @ _windows(x, weight, stride, padding, size)
            height, width = weight.shape[2:]
            grad_weight = product.view(len(weight), height, width, -1).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0]:
            if _all_products(weight):
                grad_x = _sum_windows(rows @ _matrix(weight), x, weight, stride, padding, size)
            else:
                grad_x = torch.ops.aten.convolution_backward(
                    grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (True, False, False)
                )[0]
        return grad_x, grad_weight, None, None, None


def _all_products(weight: Tensor) -> bool:
    return weight[0, 0].numel() == 1 or weight.numel() >= _VERY_MANY


def _matrix(weight: Tensor) -> Tensor:
    """(O, I, k, l) -> (O, k·l·I), a view of channels-last memory."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _windows(x: Tensor, weight: Tensor, stride: Any, padding: Any, size: list[int]) -> Tensor:
    """What each output pixel reads: (N, I, H, W) -> (N·h·w, k·l·I)."""
    maps = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0])).contiguous()
    n, _, width, channels = maps.shape
    steps = (maps[0].numel(), stride[0] * width * channels, stride[1] * channels, width * channels, channels, 1)
    return maps.as_strided((n, *size, *weight.shape[2:], channels), steps).reshape(n * size[0] * size[1], -1)


def _sum_windows(rows: Tensor, x: Tensor, weight: Tensor, stride: Any, padding: Any, size: list[int]) -> Tensor:
    """Inverse of :func:`_windows`, with sums where windows overlap."""
    n, channels, height, width = x.shape
    tall, wide = weight.shape[2:]
    if tall == wide == 1 and tuple(stride) == (1, 1):
        return rows.view(n, height, width, channels).permute(0, 3, 1, 2)
    parts = rows.view(n, *size, tall, wide, channels)
    dtype = torch.promote_types(rows.dtype, torch.float32)
    maps = torch.zeros(n, height + 2 * padding[0], width + 2 * padding[1], channels, dtype=dtype)
    for i in range(tall):
        for j in range(wide):
            maps[:, i :: stride[0], j :: stride[1]][:, : size[0], : size[1]] += parts[:, :, :, i, j]
    inner = maps[:, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    return inner.to(rows.dtype).permute(0, 3, 1, 2)
