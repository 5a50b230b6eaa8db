"""What a device can do at most: its rate of matrix products in one precision, measured."""

from __future__ import annotations

import time

import torch

from clipwise.analyze.measure import synchronize


def matmul_peak(device: torch.device, precision: str, *, size: int | None = None, runs: int = 10) -> float:
    """TFLOP/s of one large square matrix product, of random numbers (zeros cost less power and run faster).

    Args:
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
        size: rows and columns; 8192 on an accelerator, 1024 on a CPU if not given.
        runs: products of one measurement; the best of three counts.
    """
    size = size or (1024 if device.type == "cpu" else 8192)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    before = torch.get_float32_matmul_precision()
    if device.type != "cpu":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        a, b = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
        for _ in range(3):
            a @ b
        best = 0.0
        for _ in range(3):
            synchronize(device)
            began = time.perf_counter()
            for _ in range(runs):
                a @ b
            synchronize(device)
            best = max(best, runs * 2 * size**3 / (time.perf_counter() - began) / 1e12)
    finally:
        if device.type != "cpu":
            torch.set_float32_matmul_precision(before)
    return best
