"""Sizes and boxes of resizing and cropping: pure functions on integers, exact to MMAction2 0.24.1 and 1.2.0.

A box is (left, top, right, bottom) in pixels, right and bottom excluded. Sizes are (height, width). Every random
function takes its generator; golden boxes of the peer are replayed in tests/unit/test_transforms.py.
"""

from collections.abc import Sequence

import numpy as np

from clipwise.data.sampling import Rng, draw_integers
from clipwise.errors import DataError, RecipeError

Box = tuple[int, int, int, int]
Size = tuple[int, int]


def short_side_size(height: int, width: int, short_side: int) -> Size:
    """Keep the aspect ratio, short side exactly ``short_side``."""
    factor = short_side / min(height, width)
    return int(height * factor + 0.5), int(width * factor + 0.5)


def fit_size(height: int, width: int, long_side: int, short_side: int) -> Size:
    """Keep the aspect ratio, as large as fits within ``long_side`` x ``short_side`` (either way round)."""
    factor = min(long_side / max(height, width), short_side / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def paddle_size(height: int, width: int, short_side: int) -> Size:
    """PaddleCV's group_scale: stretch to 4:3, unless the short side fits already (specification A3)."""
    if min(height, width) == short_side:
        return height, width
    long_side = int(short_side * 4.0 / 3.0)
    return (long_side, short_side) if width < height else (short_side, long_side)


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

    Of ten candidates the first that fits is taken; else the largest centerd square.

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
        raise RecipeError(f"num_fixed_crops is {num_fixed_crops}; allowed are 5 and 13.")
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


def random_crop_box(height: int, width: int, rng: Rng, *, size: int | Size) -> Box:
    """A square of ``size`` pixels, or a (height, width) box, anywhere (the last position is never drawn, as in MMAction2)."""
    h, w = (size, size) if isinstance(size, int) else size
    _check_fits(height, width, h, w)
    top = int(draw_integers(rng, 0, height - h)) if height > h else 0
    left = int(draw_integers(rng, 0, width - w)) if width > w else 0
    return _box(left, top, w, h)


def center_crop_box(height: int, width: int, *, size: Size, round_half: bool = False) -> Box:
    """The middle; an odd rest goes to the right and below.

    Args:
        size: (height, width) of the crop.
        round_half: Paddle's rounding of half a pixel (to the even neighbor) instead of down.
    """
    _check_fits(height, width, *size)
    halve = (lambda rest: round(rest / 2)) if round_half else (lambda rest: rest // 2)
    return _box(halve(width - size[1]), halve(height - size[0]), size[1], size[0])


def three_crop_boxes(height: int, width: int, *, size: int) -> list[Box]:
    """Left, right, middle of a wide image (top, bottom, middle of a tall one); one side must equal ``size``."""
    if size not in (height, width) or min(height, width) < size:
        raise DataError(
            f"Three crops of {size} need an image with one side of {size} pixels and the other no smaller; "
            f"this one is {height} x {width}. Resize its short side to {size} first."
        )
    step_x, step_y = (width - size) // 2, (height - size) // 2
    return [_box(k * step_x, k * step_y, size, size) for k in (0, 2, 1)]


def ten_crop_boxes(height: int, width: int, *, size: int) -> tuple[list[Box], list[bool]]:
    """Corners and center, each followed by its mirror image: ten boxes and whether each is mirrored."""
    _check_fits(height, width, size, size)
    step_x, step_y = (width - size) // 4, (height - size) // 4
    places = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
    boxes = [_box(column * step_x, row * step_y, size, size) for column, row in places]
    return [box for box in boxes for _ in range(2)], [False, True] * 5


def _box(left: int, top: int, width: int, height: int) -> Box:
    return left, top, left + width, top + height


def _check_fits(height: int, width: int, crop_height: int, crop_width: int) -> None:
    if crop_height > height or crop_width > width:
        raise DataError(
            f"A crop of {crop_height} x {crop_width} does not fit into a frame of {height} x {width}. "
            f"Resize first, for instance to a short side of {max(crop_height, crop_width)}."
        )
