"""Sizes of resized frames by the rules of others: (height, width, short side) -> (height, width)."""

from __future__ import annotations

from clipwise.data.crops import Size


def size_by_rule(rule: str, height: int, width: int, short_side: int) -> Size:
    """The size that ``paddle_4x3``, ``short_side_floor`` or ``torchvision`` gives."""
    return paddle_size(height, width, short_side) if rule == "paddle_4x3" else floor_size(height, width, short_side)


def floor_size(height: int, width: int, short_side: int) -> Size:
    """Keep the aspect ratio; what lies behind the point of the long side falls away (torchvision, transformers)."""
    long_side = int(short_side * max(height, width) / min(height, width))
    return (long_side, short_side) if width <= height else (short_side, long_side)


def paddle_size(height: int, width: int, short_side: int) -> Size:
    """PaddleCV's group_scale: stretch to 4:3, unless the short side fits already (specification A3)."""
    if min(height, width) == short_side:
        return height, width
    long_side = int(short_side * 4.0 / 3.0)
    return (long_side, short_side) if width < height else (short_side, long_side)
