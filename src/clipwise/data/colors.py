"""Colour arithmetic on tensors: gray, and hue as OpenCV's 8-bit HSV has it."""

from functools import lru_cache

import numpy as np
import torch


def gray(pixels: torch.Tensor) -> torch.Tensor:
    """float (..., 3) -> (..., 1), with the weights of MMAction2's ColorJitter."""
    return 0.2989 * pixels[..., 0:1] + 0.587 * pixels[..., 1:2] + 0.114 * pixels[..., 2:3]


def rotate_hue(pixels: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the colours of each clip.

    Args:
        pixels: float (N, ..., W, 3) in 0 to 255; values are clipped and cut to integers first.
        turns: integers (N,), in half degrees of the colour circle (180 make a full turn).

    Returns:
        float32, same shape, integers.

    Source: OpenCV cvtColor RGB2HSV and HSV2RGB on 8-bit images, bit for bit on the golden rows.
    """
    hue, saturation, value = _rgb_to_hsv(pixels.clamp(0, 255).to(torch.int32))
    hue = torch.remainder(hue + turns.reshape((-1,) + (1,) * (hue.ndim - 1)), 180)
    return _hsv_to_rgb(hue, saturation, value)


def widest(device: torch.device) -> torch.dtype:
    """Double precision, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


@lru_cache(maxsize=8)
def _division_tables(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Fixed-point (12 bits) 255 / v and 180 / (6 d) for v, d from 0 to 255; entry 0 is 0."""
    numbers = np.arange(1, 256)
    tables = [np.concatenate([[0], np.rint(factor / numbers)]) for factor in (255 * 4096.0, 180 * 4096.0 / 6)]
    saturation, hue = (torch.as_tensor(table.astype(np.int32), device=device) for table in tables)
    return saturation, hue


def _rgb_to_hsv(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """int32 (..., 3) -> hue 0 to 179, saturation and value 0 to 255, int32 (...)."""
    red, green, blue = pixels.unbind(-1)
    value = pixels.amax(-1)
    spread = value - pixels.amin(-1)
    for_saturation, for_hue = _division_tables(pixels.device)
    saturation = (spread * for_saturation[value] + 2048) >> 12
    sector = torch.where(
        value == red, green - blue, torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    )
    hue = (sector * for_hue[spread] + 2048) >> 12
    return torch.where(hue < 0, hue + 180, hue), saturation, value


def _hsv_to_rgb(hue: torch.Tensor, saturation: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Integers (..., W) in, float32 integers (..., W, 3) out; float32 arithmetic between, as OpenCV."""
    position = hue.to(torch.float32) * (6.0 / 180.0)
    level = value.to(torch.float32) * (1 / 255.0)
    depth = saturation.to(torch.float32) * (1 / 255.0)
    sector = position.floor()
    part = position - sector
    low = level * (1 - depth)
    # OpenCV's vector code rounds 1 - depth * x once (fused multiply-add): double precision gives the same.
    wide = depth.to(widest(depth.device))
    falling = level * (1 - wide * part).to(torch.float32)
    rising = level * (1 - wide * (1 - part)).to(torch.float32)
    table = torch.stack([level, low, falling, rising], -1)
    # Which of these four red, green and blue take in each sixth of the circle.
    places = torch.tensor(
        [[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]], device=hue.device, dtype=torch.int64
    )
    colors = table.gather(-1, places[sector.long() % 6])
    colors *= 255
    # OpenCV's vector code cuts to integers; the rest of a row behind the last 32 pixels is rounded.
    whole = colors.shape[-2] // 32 * 32
    colors[..., :whole, :].floor_()
    colors[..., whole:, :].round_()
    return colors
