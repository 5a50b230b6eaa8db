"""How much of a video a network for any length is shown at a time in training."""

from __future__ import annotations

import math

import numpy as np

from clipwise.data.formats.annotations import AnnotationSet
from clipwise.recipe import LocalizationRecipe
from clipwise.tasks.window_choice import LONG, TrainingTimes, WindowChoice, describe_coarse, times_of

LEAST, MOST = 96, 2304  # positions


def choose_part(times: TrainingTimes, positions: int | None) -> WindowChoice:
    """Positions that training shows of a video at a time, of a network that then takes whole videos of any length.

    Actions of which no part holds the whole are never learned: their ends lie outside.

    Args:
        positions: as given; None: chosen, half as many again as (nearly) the longest segment takes.
    """
    if not len(times.segments):
        return WindowChoice(None, positions or LEAST, f"no segments; {positions or LEAST} positions at a time.")
    long_s = float(np.quantile(times.segments, LONG))
    count = positions
    if count is None:
        whole = math.ceil(float(times.videos.max()) / times.step / 32) * 32
        count = int(np.clip(min(32 * math.ceil(1.5 * long_s / times.step / 32), whole), LEAST, MOST))
    said = f"segments last up to {long_s:.3g} s = {long_s / times.step:.3g} positions; training sees {count} at a time"
    if long_s / times.step <= count:
        return WindowChoice(None, count, f"{said}.")
    remedy = "temporal_dim=auto" if long_s / times.step <= MOST else "features further apart or input.rescale=linear"
    return WindowChoice(None, count, f"{said}, so the longest are never seen whole and can't be learned: use {remedy}.")


def settle(
    recipe: LocalizationRecipe, train_videos: AnnotationSet, step_s: float
) -> tuple[LocalizationRecipe, float, list[str]]:
    """As :func:`clipwise.tasks.window_choice.settle`, for a network that takes any length."""
    times = times_of(recipe, train_videos, step_s)
    chosen = "auto" in (recipe.window_s, recipe.temporal_dim)
    choice = choose_part(times, None if recipe.temporal_dim == "auto" else recipe.temporal_dim)
    notes = [note] if (note := describe_coarse(times)) else []
    if chosen or "never" in choice.why:
        more = " Set temporal_dim to choose otherwise." if chosen else ""
        notes.append(f"{choice.why[0].upper()}{choice.why[1:]}{more}")
    notes += [note] if (note := describe_crowded(recipe, train_videos)) else []
    return recipe.model_copy(update={"temporal_dim": choice.positions, "window_s": None}), 0.0, notes


def describe_crowded(recipe: LocalizationRecipe, train_videos: AnnotationSet) -> str | None:
    """What to do about training videos with more segments than are kept of each video; None where there are none."""
    most = max((len(video.segments) for video in train_videos.videos.values()), default=0)
    if recipe.nms.max_proposals >= most:
        return None
    return (
        f"A training video has {most} segments; nms.max_proposals={recipe.nms.max_proposals} keeps fewer of each video: "
        f"set nms.max_proposals={2 * most}."
    )
