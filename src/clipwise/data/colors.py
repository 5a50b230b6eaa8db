"""Color arithmetic on tensors: gray, and hue as OpenCV's 8-bit HSV has it."""

import torch


def gray(pixels: torch.Tensor) -> torch.Tensor:
    """float (..., 3) -> (..., 1), with the weights of MMAction2's ColorJitter."""
    return 0.2989 * pixels[..., 0:1] + 0.587 * pixels[..., 1:2] + 0.114 * pixels[..., 2:3]


def rotate_hue(pixels: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the colors of each clip.

    Args:
        pixels: float (N, ..., W, 3) in 0 to 255; values are clipped and cut to integers first.
        turns: integers (N,), in half degrees of the color circle (180 make a full turn).

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


def _rgb_to_hsv(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """int32 (..., 3) -> hue 0 to 179, saturation and value 0 to 255, int32 (...)."""
    red, green, blue = pixels.unbind(-1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    saturation = (spread * _reciprocal(255 * 4096, value)).add_(2048).bitwise_right_shift_(12)
    sector = torch.where(value == green, (blue - red).add_(spread, alpha=2), (red - green).add_(spread, alpha=4))
    sector = torch.where(value == red, green - blue, sector)
    hue = (sector * _reciprocal(180 * 4096 // 6, spread)).add_(2048).bitwise_right_shift_(12)
    return hue.add_(hue < 0, alpha=180), saturation, value


def _reciprocal(numerator: int, numbers: torch.Tensor) -> torch.Tensor:
    """OpenCV's tables of rounded quotients, numerator / n, for n from 1 to 255 (single precision suffices; 0 is unused)."""
    # A tensor as numerator makes it one true division; a plain number would become a rounded reciprocal, multiplied.
    return (torch.tensor(float(numerator)) / numbers.to(torch.float32).clamp_(min=1)).round_().to(torch.int32)


def _hsv_to_rgb(hue: torch.Tensor, saturation: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Integers (..., W) in, float32 integers (..., W, 3) out; float32 arithmetic between, as OpenCV."""
    position = hue.to(torch.float32) * (6.0 / 180.0)  # 0 to 6 around the circle
    level = value.to(torch.float32) * (1 / 255.0)
    # OpenCV's vector code rounds 1 - depth * x once (fused multiply-add): double precision gives the same.
    depth = (saturation.to(torch.float32) * (1 / 255.0)).to(widest(hue.device))
    # How far each color falls from ``level`` towards its minimum: 0 near its place on the circle, 1 far from it.
    falls = (
        torch.minimum(position - 1, 5 - position),
        torch.maximum(1 - position, position - 3),
        torch.maximum(3 - position, position - 5),
    )
    colors = torch.stack([level * (1 - depth * fall.clamp_(0, 1)).to(torch.float32) for fall in falls], -1).mul_(255)
    # OpenCV's vector code cuts to integers; the rest of a row behind the last 32 pixels is rounded.
    whole = colors.shape[-2] // 32 * 32
    colors[..., :whole, :].floor_()
    colors[..., whole:, :].round_()
    return colors
