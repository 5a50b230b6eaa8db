"""What a recognizer's recipe feeds its network, without any data."""

from __future__ import annotations

from typing import Any

from clipwise.engine.task import InputPlan
from clipwise.models.recipe_model import model_args


def clip_plan(recipe: Any, num_classes: int | None = None) -> InputPlan:
    """Clips of the recipe's sizes, see :meth:`clipwise.engine.task.Task.plan`."""
    classes = num_classes or recipe.num_classes or recipe.published.num_classes or 400
    channels = model_args(recipe, classes).get("in_channels", 3)
    test, frames = recipe.test, recipe.num_segments or recipe.clip_len
    (h, w), (train_h, train_w) = (
        (side, side) if isinstance(side, int) else side[::-1]
        for side in (test.crop_size or 224, recipe.crop_size or 224)
    )
    return InputPlan(
        view=(channels, test.num_segments or frames, h, w),
        train=(channels, frames, train_h, train_w),
        views={"center": 1, "three": 3, "ten": 10}[test.crop] * test.num_clips * (2 if test.twice_sample else 1),
        num_classes=classes,
    )
