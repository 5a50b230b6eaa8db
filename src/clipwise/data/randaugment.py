"""RandAugment for clips: every clip gets its own few operations, the same for all its frames."""

import numpy as np
import torch
import torch.nn.functional as F

from clipwise.data.colors import gray
from clipwise.data.sampling import Rng, draw_integers

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
_GEOMETRIC = frozenset(("rotate", "shear_x", "shear_y", "translate_x", "translate_y"))
_FILL = 128.0


def rand_augment(frames: torch.Tensor, num_ops: int, magnitude: float, rng: Rng) -> torch.Tensor:
    """Apply ``num_ops`` random operations to each clip.

    Args:
        frames: uint8 (N, T, H, W, 3).
        num_ops: operations a clip, drawn with replacement.
        magnitude: strength, 0 to 10; the direction of shears, shifts, turns and blends is drawn a clip.

    Returns:
        uint8, same shape. What comes in from outside the frame is middle gray.

    Source: Cubuk et al. 2020, with the strengths of the paper's code: turn up to 30 degrees, shear 0.3, shift 0.45 of the
    side, blend factors 0.1 to 1.9, posterize to 4 bits, solarize from 0. ``# differs:`` contrast stretch, equalization and
    mean gray are taken over the clip rather than the frame, which would flicker.
    """
    pixels = frames.to(torch.float32)
    for _ in range(num_ops):
        drawn = np.asarray(draw_integers(rng, 0, len(OPERATIONS), len(frames)))
        signs = np.where(rng.random(len(frames)) < 0.5, -1.0, 1.0)
        result = pixels.clone()
        for number in np.unique(drawn):
            name = OPERATIONS[number]
            chosen = np.flatnonzero(drawn == number)
            if name == "identity":
                continue
            index = torch.as_tensor(chosen, device=frames.device)
            strength = torch.as_tensor(signs[chosen], dtype=torch.float32, device=frames.device) * (magnitude / 10)
            result[index] = apply_operation(name, pixels[index], strength)
        pixels = result
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def apply_operation(name: str, pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """One operation on float (N, T, H, W, 3) in 0 to 255; ``strength`` (N,) from -1 to 1."""
    if name in _GEOMETRIC:
        return _warp(name, pixels, strength)
    wide = strength.reshape(-1, 1, 1, 1, 1)
    if name == "solarize":
        return torch.where(pixels >= 255 * (1 - wide.abs()), 255 - pixels, pixels)
    if name == "posterize":
        step = torch.exp2((4 * wide.abs()).round())
        return (pixels / step).floor() * step
    if name == "autocontrast":
        low, high = pixels.amin((1, 2, 3), keepdim=True), pixels.amax((1, 2, 3), keepdim=True)
        return torch.where(high > low, (pixels - low) * (255 / (high - low).clamp(min=1)), pixels).clamp(max=255)
    if name == "equalize":
        return _equalize(pixels)
    # Blends with a degenerate image: factor 0 is that image, 1 the original.
    factor = 1 + 0.9 * wide
    if name == "brightness":
        degenerate = torch.zeros_like(pixels)
    elif name == "contrast":
        degenerate = gray(pixels).mean((1, 2, 3), keepdim=True)
    elif name == "color":
        degenerate = gray(pixels)
    else:
        degenerate = _smooth(pixels)
    return (degenerate + factor * (pixels - degenerate)).clamp(0, 255)


def _equalize(pixels: torch.Tensor) -> torch.Tensor:
    """Spread each color of each clip so that all levels are used alike often (Pillow's rule for the table)."""
    clips = pixels.shape[0]
    levels = pixels.round().clamp(0, 255).long().reshape(clips, -1, 3).transpose(1, 2).reshape(clips * 3, -1)
    counts = torch.zeros(clips * 3, 256, dtype=torch.int64, device=pixels.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    used = counts > 0
    last = counts.gather(1, 255 - used.flip(1).to(torch.int8).argmax(1, keepdim=True))
    step = (counts.sum(1, keepdim=True) - last) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where((step > 0) & (used.sum(1, keepdim=True) > 1), table, torch.arange(256, device=pixels.device))
    mapped = table.gather(1, levels).reshape(clips, 3, -1).transpose(1, 2)
    return mapped.reshape(pixels.shape).to(torch.float32)


def _smooth(pixels: torch.Tensor) -> torch.Tensor:
    """Pillow's SMOOTH filter on every frame; the border stays."""
    clips, length, height, width, colors = pixels.shape
    planes = pixels.permute(0, 1, 4, 2, 3).reshape(-1, 1, height, width)
    kernel = torch.ones(1, 1, 3, 3, device=pixels.device)
    kernel[0, 0, 1, 1] = 5
    smooth = planes.clone()
    if height > 2 and width > 2:
        smooth[..., 1:-1, 1:-1] = F.conv2d(planes, kernel / 13)
    return smooth.reshape(clips, length, colors, height, width).permute(0, 1, 3, 4, 2)


def _warp(name: str, pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Turn, shear or shift about the middle; ``strength`` is that of the result's map back into the source."""
    clips, length, height, width, colors = pixels.shape
    # From target to source positions in pixels about the middle: [[a, b, c], [d, e, f]].
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    angle = strength * (30 / 180 * np.pi)
    shear, shift_x, shift_y = 0.3 * strength, 0.45 * width * strength, 0.45 * height * strength
    rows = {
        "rotate": (angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero),
        "shear_x": (one, shear, zero, zero, one, zero),
        "shear_y": (one, zero, zero, shear, one, zero),
        "translate_x": (one, zero, shift_x, zero, one, zero),
        "translate_y": (one, zero, zero, zero, one, shift_y),
    }[name]
    a, b, c, d, e, f = rows
    # affine_grid counts in half sides; off the diagonal the aspect ratio enters.
    theta = torch.stack(
        [
            torch.stack([a, b * height / width, c * 2 / width], -1),
            torch.stack([d * width / height, e, f * 2 / height], -1),
        ],
        1,
    )
    planes = pixels.permute(0, 1, 4, 2, 3).reshape(clips, length * colors, height, width)
    grid = F.affine_grid(theta, [clips, length * colors, height, width], align_corners=False)
    moved = F.grid_sample(planes - _FILL, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + _FILL
    return moved.reshape(clips, length, colors, height, width).permute(0, 1, 3, 4, 2)
