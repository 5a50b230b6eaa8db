"""The papers' crops: of random area, of several scales, three and ten views. Exact to MMAction2 0.24.1 and 1.2.0.

Pure functions on integers; plain ones (short side, random, center) are in :mod:`clipwise.data.transforms`. A box is (left, top, right, bottom) in pixels, right and bottom excluded. Sizes are (height, width). Every random
function takes its generator; golden boxes of the peer are replayed in tests/unit/test_transforms.py.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from clipwise.data.sampling import Rng, draw_integers
from clipwise.errors import DataError, RecipeError

Box = tuple[int, int, int, int]
Size = tuple[int, int]


def draw_boxes(transform: Any, height: int, width: int, rng: Rng | None) -> list[Box]:
    """The boxes of a ``ClipTransform``'s crop in a frame of this size."""
    side: int = transform.crop_size
    if transform.crop == "three":
        return three_crop_boxes(height, width, size=side)
    if transform.crop == "ten":
        return ten_crop_boxes(height, width, size=side)
    assert rng is not None  # draw() has seen to it
    if transform.crop == "random_resized":
        return [
            random_resized_crop_box(
                height, width, rng, area_range=transform.area_range, aspect_range=transform.aspect_range
            )
        ]
    return [
        multi_scale_crop_box(
            height,
            width,
            rng,
            input_size=side,
            scales=transform.scales,
            max_scale_gap=transform.max_scale_gap,
            num_fixed_crops=transform.num_fixed_crops,
        )
    ]


def box_in_source(box: Box, source: Size, resized: Size) -> Box:
    """A box of the resized frame in the pixels of the frame that it was resized from."""
    scale_y, scale_x = source[0] / resized[0], source[1] / resized[1]
    left, top = min(round(box[0] * scale_x), source[1] - 1), min(round(box[1] * scale_y), source[0] - 1)
    right = min(max(round(box[2] * scale_x), left + 1), source[1])
    return left, top, right, min(max(round(box[3] * scale_y), top + 1), source[0])


def random_resized_crop_box(
    height: int,
    width: int,
    rng: Rng,
    *,
    area_range: tuple[float, float] = (0.08, 1.0),
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
    position_rng: Rng | None = None,
) -> Box:
    """A box of random area (fraction of the image) and random width/height ratio (log-uniform).

    Of ten candidates the first that fits is taken; else the largest centered square.

    Args:
        position_rng: draws the position; MMAction2 uses Python's generator there and numpy's for the sizes.
    """
    low, high = np.log(aspect_range[0]), np.log(aspect_range[1])
    ratios = np.exp(rng.uniform(low, high, 10))
    areas = rng.uniform(*area_range, 10) * (height * width)
    widths = np.round(np.sqrt(areas * ratios)).astype(int)
    heights = np.round(np.sqrt(areas / ratios)).astype(int)
    fitting = np.flatnonzero((widths <= width) & (heights <= height))
    if len(fitting) == 0:
        side = min(height, width)
        return _box((width - side) // 2, (height - side) // 2, side, side)
    box_w, box_h = int(widths[fitting[0]]), int(heights[fitting[0]])
    where = position_rng or rng
    left = int(draw_integers(where, 0, width - box_w + 1))
    return _box(left, int(draw_integers(where, 0, height - box_h + 1)), box_w, box_h)


def multi_scale_crop_box(
    height: int,
    width: int,
    rng: Rng,
    *,
    input_size: int,
    scales: Sequence[float] = (1, 0.875, 0.75, 0.66),
    max_scale_gap: int = 1,
    num_fixed_crops: int = 5,
) -> Box:
    """TSN's corner cropping: sides from a few scales of the short side, positions from a fixed grid.

    Args:
        input_size: a side within two pixels of it snaps to it.
        max_scale_gap: how many steps of ``scales`` width and height may differ.
        num_fixed_crops: 5 (corners and center) or 13 (also edge middles and quarter points).
    """
    if num_fixed_crops not in (5, 13):
        raise RecipeError(f"num_fixed_crops is {num_fixed_crops}; allowed: 5 and 13.")
    sides = [int(min(height, width) * scale) for scale in scales]
    pairs = [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= max_scale_gap]
    # differs: MMAction2 snaps to input_size beyond the border of an image that is a pixel or two smaller, and crops less than it
    # says; here the box stays inside (tests/unit/test_transforms.py).
    box_w, box_h = (
        input_size if abs(side - input_size) < 3 and input_size <= limit else side
        for side, limit in zip(pairs[int(draw_integers(rng, 0, len(pairs)))], (width, height))
    )
    # Columns and rows in quarters of the free space: four corners, center | edge middles, quarter points.
    grid = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
    if num_fixed_crops == 13:
        grid += [(0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
    column, row = grid[int(draw_integers(rng, 0, len(grid)))]
    return _box(column * ((width - box_w) // 4), row * ((height - box_h) // 4), box_w, box_h)


def three_crop_boxes(height: int, width: int, *, size: int) -> list[Box]:
    """Left, right, middle of a wide image (top, bottom, middle of a tall one); one side must equal ``size``."""
    if size not in (height, width) or min(height, width) < size:
        raise DataError(
            f"Three crops of {size} need an image with one side of {size} pixels and the other no smaller; "
            f"this one is {height} x {width}. Resize its short side to {size} first."
        )
    step_x, step_y = (width - size) // 2, (height - size) // 2
    return [_box(k * step_x, k * step_y, size, size) for k in (0, 2, 1)]


def ten_crop_boxes(height: int, width: int, *, size: int) -> list[Box]:
    """Corners and center, each twice: the second of a pair is to be mirrored."""
    if size > min(height, width):
        raise DataError(misfit(height, width, size, size))
    step_x, step_y = (width - size) // 4, (height - size) // 4
    places = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
    return [_box(column * step_x, row * step_y, size, size) for column, row in places for _ in range(2)]


def misfit(height: int, width: int, crop_height: int, crop_width: int) -> str:
    """What to say of a crop that is larger than the frame."""
    return (
        f"A crop of {crop_height} x {crop_width} does not fit into a frame of {height} x {width}. "
        f"Resize first, for instance to a short side of {max(crop_height, crop_width)}."
    )


def _box(left: int, top: int, width: int, height: int) -> Box:
    return left, top, left + width, top + height
