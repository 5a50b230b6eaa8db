"""Which windows suit a training set.

A proposal network of L positions that looks D positions far finds segments from a few positions up to D. Squeezed into L
positions as a whole, a video with many short segments has them at one or two positions each. So the window follows from the
segments: its half holds (nearly) the longest, a position is no finer than the features, and the shortest still have a few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.data.formats.annotations import AnnotationSet
from clipwise.recipe import LocalizationRecipe

LEAST_POSITIONS, MOST_POSITIONS = 64, 128
LONG, _SHORT = 0.98, 0.1  # quantiles of the segments' lengths that count as the longest and the shortest
_POSITIONS_OF_SHORT = 4
_WHOLE_IS_FINER = 1.5  # videos stay whole where that gives their segments so many times the positions of a window


@dataclass(frozen=True)
class TrainingTimes:
    """Times of a training set, in seconds.

    Attributes:
        videos: (V,) lengths of the videos.
        segments: (G,) lengths of the annotated segments.
        shares: (G,) the same as shares of their videos.
        step: median spacing of the features' positions.
    """

    videos: NDArray[np.float64]
    segments: NDArray[np.float64]
    shares: NDArray[np.float64]
    step: float

    @classmethod
    def of(cls, fractions: Sequence[NDArray], videos_s: Sequence[float], step: float) -> TrainingTimes:
        """
        Args:
            fractions: for each video (G, 2) its segments as shares of it.
            videos_s: for each video its length.
            step: see the class.
        """
        lengths = [np.asarray(f, dtype=np.float64).reshape(-1, 2) @ [-1.0, 1.0] for f in fractions]
        shares = np.concatenate([*lengths, np.zeros(0)])
        seconds = np.concatenate([*(x * s for x, s in zip(lengths, videos_s)), np.zeros(0)])
        return cls(np.asarray(videos_s, dtype=np.float64), seconds, shares, step)


@dataclass(frozen=True)
class WindowChoice:
    """What was chosen.

    Attributes:
        length_s: of a window; None: each video as a whole.
        positions: L.
        why: a sentence for the log.
    """

    length_s: float | None
    positions: int
    why: str


def choose_window(times: TrainingTimes, positions: int | None, overlap: float = 0.5) -> WindowChoice:
    """Windows for a training set.

    Args:
        positions: L; None: also chosen.
        overlap: of two windows; a segment of at most this share of a window lies whole in one of them.
    """
    longest = float(times.videos.max())
    if not len(times.segments):
        return WindowChoice(
            longest, positions or LEAST_POSITIONS, f"no segments; windows of {longest:.4g} s, the longest video."
        )
    long, short = np.quantile(times.segments, (LONG, _SHORT))
    wanted = long / max(overlap, 0.25)
    # a multiple of the features' own spacing: positions then need no interpolation, or an even one
    most = positions or MOST_POSITIONS
    spacing = times.step * max(1, math.ceil(wanted / most / times.step - 1e-6))
    if positions is None:
        spacing = max(spacing, times.step * (short / _POSITIONS_OF_SHORT // times.step))
        count = int(np.clip(8 * math.ceil(wanted / spacing / 8 - 1e-6), LEAST_POSITIONS, MOST_POSITIONS))
    else:
        count = positions
    length = count * spacing
    if length > 0.75 * longest:
        length = longest
        if positions is None:
            count = int(np.clip(round(longest / times.step), LEAST_POSITIONS, MOST_POSITIONS))
    share = float(np.median(times.shares))
    said = f"the median segment is {100 * share:.3g} % of its video = {share * count:.2g} of {count} positions"
    in_window = float(np.median(times.segments)) / length * count
    if share * count > _WHOLE_IS_FINER * in_window:
        return WindowChoice(None, count, f"{said}: each video goes in as a whole (in a window {in_window:.2g}).")
    return WindowChoice(
        float(f"{length:.6g}"), count, f"{said}; windows of {length:.4g} s are used ({in_window:.2g} positions)."
    )


def describe_coarse(times: TrainingTimes) -> str | None:
    """That the features are too far apart for the segments."""
    if not len(times.segments) or (middle := float(np.median(times.segments))) >= times.step:
        return None
    return (
        f"The median segment lasts {middle:.3g} s, less than the {times.step:.3g} s between two features: ends can't be found that closely. "
        f"Extract features at most {middle / 2:.2g} s apart (`clipwise features --stride`)."
    )


def longest_share(times: TrainingTimes, window_s: float | None) -> float:
    """Share of a window (None: of its video) that the longest segments take."""
    if not len(times.segments):
        return 0.0
    shares = times.shares if window_s is None else times.segments / window_s
    return float(np.quantile(shares, LONG).clip(0, 1))


def times_of(recipe: LocalizationRecipe, train_videos: AnnotationSet, step_s: float) -> TrainingTimes:
    """Of annotated videos whose features are ``step_s`` apart."""
    base, videos = recipe.input.time_base, train_videos.videos.values()
    return TrainingTimes.of([v.fractions(base) for v in videos], [v.covered_s(base) for v in videos], step_s)


def settle(
    recipe: LocalizationRecipe, train_videos: AnnotationSet, step_s: float
) -> tuple[LocalizationRecipe, float, list[str]]:
    """The recipe with windows and positions that suit the training videos, where it leaves them open.

    Returns:
        The recipe; the share of a window that the longest segments take; what to tell.
    """
    times, fixed = (
        times_of(recipe, train_videos, step_s),
        None if recipe.temporal_dim == "auto" else recipe.temporal_dim,
    )
    choice = choose_window(times, fixed, recipe.windows.overlap)
    known: dict[str, Any] = {"temporal_dim": choice.positions}
    if recipe.window_s == "auto":  # other rules than linear are for whole videos
        known["window_s"] = choice.length_s if recipe.input.rescale == "linear" else None
    note = f"{choice.why[0].upper()}{choice.why[1:]} Set window_s and temporal_dim to choose otherwise."
    recipe = recipe.model_copy(update=known)
    reach = longest_share(times, None if recipe.window_s == "auto" else recipe.window_s)
    return recipe, reach, [x for x in (describe_coarse(times), note) if x]
