"""Clips whose shape changes during training: which shape, batch and learning rate factor at which part of a run.

Source: Wu, Girshick, He, Feichtenhofer, Krähenbühl: A Multigrid Method for Efficiently Training Video Models, CVPR 2020 (sections 3 and 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipwise.recipe.recognition_keys import RecognitionRecipe

HALF_AREA = 0.5**0.5
LONG_CYCLE = ((0.25, HALF_AREA), (0.5, HALF_AREA), (0.5, 1.0), (1.0, 1.0))  # shares of frames and of a side
SHORT_CYCLE = (0.5, HALF_AREA, 1.0)  # shares of a side; of the long cycle's where that is smaller
SMALLEST_SIDE = 16  # as of the recipe's sizes


@dataclass(frozen=True)
class ClipShape:
    """A clip's shape.

    Attributes:
        frames: of a clip, or segments.
        size: (width, height).
        batch: factor of the recipe's batch size.
    """

    frames: int
    size: tuple[int, int]
    batch: int


@dataclass(frozen=True)
class ShapeStage:
    """A part of a run.

    Attributes:
        start, end: as shares of the run's steps.
        shapes: taken in turn, one a step.
        lr: factor of the learning rate.
    """

    start: float
    end: float
    shapes: tuple[ClipShape, ...]
    lr: float

    def __str__(self) -> str:
        return " / ".join(f"{s.frames} frames at {s.size[0]}x{s.size[1]} px, batch x{s.batch}" for s in self.shapes) + (
            f", learning rate x{self.lr:g}" if self.lr != 1 else ""
        )


def shape_stages(recipe: RecognitionRecipe) -> list[ShapeStage]:
    """The parts of a run, from its first step to its last; one of the recipe's own shape without ``multigrid.shapes``."""
    keys = recipe.multigrid
    frames, size = recipe.num_segments or recipe.clip_len, _pair(recipe.crop_size)
    short = SHORT_CYCLE if keys.shapes in ("short", "long_short") else (1.0,)
    stages = []
    for start, end, t, (width, height) in _parts(recipe, frames, size):
        shapes = []
        for share in short:
            side = tuple(min(_side(full, share), own) for full, own in zip(size, (width, height)))
            shapes.append(ClipShape(t, side, _batch_factor(recipe, frames, size, t, side)))  # type: ignore[arg-type]
        factor = _batch_factor(recipe, frames, size, t, (width, height))
        lr = {"linear": float(factor), "sqrt": math.sqrt(factor), "none": 1.0}[keys.lr_scaling]
        stages.append(ShapeStage(start, end, tuple(shapes), lr))
    return stages


def check_shapes(recipe: RecognitionRecipe) -> None:
    """Raise ValueError, which becomes a line of the recipe's problems, for keys that contradict each other."""
    keys, augment = recipe.multigrid, recipe.augment
    if recipe.batch_size % augment.repeat:
        raise ValueError(
            f"batch_size ({recipe.batch_size}) must be a multiple of augment.repeat ({augment.repeat}): a batch holds batch_size / repeat videos"
        )
    if keys.shapes is None:
        return
    if recipe.crop_size is None:
        raise ValueError("multigrid.shapes needs crop_size: the size of whole clips")
    if augment.resize is None and augment.crop in ("random", "center"):
        raise ValueError(
            f"multigrid.shapes needs augment.resize with augment.crop: {augment.crop}, or small clips would show less of the frame"
        )
    if keys.shapes == "progressive":
        if not keys.frames and not keys.sizes:
            raise ValueError(
                "multigrid.shapes: progressive needs multigrid.frames or multigrid.sizes, as in {0: 112, 20: 224}"
            )
        late = [epoch for epoch in (*keys.frames, *keys.sizes) if epoch >= recipe.epochs]
        if late:
            raise ValueError(
                f"multigrid: the run ends after epoch {recipe.epochs}, so nothing can change at {late[0]:g}"
            )
        frames, (width, height) = recipe.num_segments or recipe.clip_len, _pair(recipe.crop_size)
        for epoch, count in keys.frames.items():
            if count > frames:
                raise ValueError(f"multigrid.frames: {count} at epoch {epoch:g} is more than the recipe's {frames}")
        for epoch, size in keys.sizes.items():
            if size is None or _pair(size)[0] > width or _pair(size)[1] > height:
                raise ValueError(
                    f"multigrid.sizes: {size} at epoch {epoch:g} is larger than crop_size {recipe.crop_size}"
                )
            if augment.crop == "multi_scale" and not isinstance(size, int):
                raise ValueError("multigrid.sizes: augment.crop: multi_scale cuts squares; give one number for a size")


def mean_batch_factor(recipe: RecognitionRecipe) -> float:
    """How many times fewer steps a run takes than with the recipe's own batch size."""
    return sum((s.end - s.start) * sum(x.batch for x in s.shapes) / len(s.shapes) for s in shape_stages(recipe))


def batches_per_epoch(recipe: RecognitionRecipe, samples: int, processes: int) -> int:
    """Batches of an epoch, which is an equal share of the run: in all its epochs each video is seen once an epoch on average.

    A whole number of steps, so that all batches of a step have one shape.
    """
    step = recipe.batch_size * processes * recipe.accumulate * mean_batch_factor(recipe)
    return math.ceil(samples / step) * recipe.accumulate


def _parts(
    recipe: RecognitionRecipe, frames: int, size: tuple[int, int]
) -> Iterator[tuple[float, float, int, tuple[int, int]]]:
    """(start, end, frames, size) of each stage."""
    keys, epochs = recipe.multigrid, recipe.epochs
    if keys.shapes == "progressive":
        marks = sorted({0.0, *keys.frames, *keys.sizes})
        for start, end in pairwise([*marks, float(epochs)]):
            t = max(((e, n) for e, n in keys.frames.items() if e <= start), default=(0, frames))[1]
            last = max((e for e in keys.sizes if e <= start), default=None)
            yield start / epochs, end / epochs, t, size if last is None else _pair(keys.sizes[last])
        return
    if keys.shapes not in ("long", "long_short"):
        yield 0.0, 1.0, frames, size
        return
    # One cycle in each stage of a stepwise learning rate but the last, which trains on whole clips.
    steps = [m for m in recipe.schedule.milestones if m < epochs] if recipe.lr_schedule == "step" else []
    bounds = [0.0, *steps] if steps else [epochs * i / keys.cycles for i in range(keys.cycles + 1)]
    for start, end in pairwise(bounds):
        for i, (part, side) in enumerate(LONG_CYCLE):
            width, height = (_side(full, side) for full in size)
            first, last = (start + (end - start) * j / len(LONG_CYCLE) for j in (i, i + 1))
            yield first / epochs, last / epochs, max(1, round(frames * part)), (width, height)
    if steps:
        yield bounds[-1] / epochs, 1.0, frames, size


def _batch_factor(recipe: RecognitionRecipe, frames: int, size: tuple[int, int], t: int, side: tuple[int, int]) -> int:
    """So many times more of the smaller clips cost as much as the recipe's batch; whole, so that norms can split it."""
    if not recipe.multigrid.grow_batch:
        return 1
    return max(1, round(frames * size[0] * size[1] / (t * side[0] * side[1])))


def _side(full: int, share: float) -> int:
    return max(SMALLEST_SIDE, round(full * share))


def _pair(size: int | tuple[int, int] | None) -> tuple[int, int]:
    assert size is not None  # the recipe's checks have seen to it
    return (size, size) if isinstance(size, int) else size
