"""Audit a localization data set: annotations and features that do not fit, and which windows suit the segments."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipwise.data.feature_dataset import FeatureStore, find_data
from clipwise.data.formats.annotation_files import read_annotations
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.errors import DataError
from clipwise.io.progress import Progress, silent
from clipwise.models.localizer_rules import takes_any_length
from clipwise.recipe import LocalizationRecipe
from clipwise.tasks.part_choice import choose_part, describe_crowded
from clipwise.tasks.window_choice import TrainingTimes, choose_window, describe_coarse


@dataclass
class LocalizationReport:
    """What an audit found.

    Attributes:
        subsets: for each subset the numbers of videos, segments and classes.
        faults: (video, what is wrong) each.
        statistics: smallest, median and largest of lengths in seconds.
        advice: sentences.
    """

    subsets: dict[str, dict[str, int]]
    faults: list[tuple[str, str]] = field(default_factory=list)
    statistics: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        return {
            "subsets": self.subsets,
            "faults": [{"video": video, "what": what} for video, what in self.faults],
            "statistics": {k: dict(zip(("min", "median", "max"), v)) for k, v in self.statistics.items()},
            "advice": self.advice,
            "seconds": self.seconds,
        }


def check_localization(
    data: str, recipe: LocalizationRecipe, every_file: bool = True, progress: Progress = silent
) -> LocalizationReport:
    """Look at annotations and features.

    Args:
        data: folder with both, or the annotation file.
        recipe: whose keys name the files, and whose windows are spoken of.
        every_file: read all features; else 16 of each subset.

    Raises:
        DataError: nothing to look at, or several candidates.
    """
    started = time.perf_counter()
    place = find_data(data, recipe.features, recipe.annotations)
    everything = read_annotations(place.annotations, recipe.input.video_info)
    store = FeatureStore(place.features, recipe.input.format, channels_first=recipe.input.channels_first)
    names = sorted({v.subset or "all" for v in everything.videos.values()})
    report = LocalizationReport({})
    feat_dim = store.find_feat_dim() if recipe.feat_dim == "auto" else recipe.feat_dim
    for name in names:
        videos = AnnotationSet(
            everything.source, {k: v for k, v in everything.videos.items() if (v.subset or "all") == name}
        )
        counts = {"videos": len(videos), "segments": sum(len(v.segments) for v in videos.videos.values())}
        report.subsets[name] = counts | {"classes": len(videos.classes)}
        report.faults += _annotation_faults(videos)
        positions = _read(videos, store, feat_dim, every_file, report, progress)
        if (name.startswith(recipe.input.train_subset) or name in ("all", recipe.input.train_subset)) and positions:
            _times(videos, positions, recipe, report)
    report.seconds = time.perf_counter() - started
    return report


def _annotation_faults(videos: AnnotationSet) -> list[tuple[str, str]]:
    faults = []
    for name, video in videos.videos.items():
        one = AnnotationSet(videos.source, {name: video})
        try:
            one.checked()
        except DataError as error:
            faults.append((name, str(error).removeprefix(f"{videos.source}: ").partition(". Correct the file")[0]))
    return faults


def _read(
    videos: AnnotationSet,
    store: FeatureStore,
    feat_dim: int,
    every_file: bool,
    report: LocalizationReport,
    progress: Progress,
) -> dict[int, int]:
    """Number of features of the videos that have any."""
    names, positions = list(videos.videos), {}
    store.feat_dim = feat_dim
    chosen = range(len(names)) if every_file else np.unique(np.linspace(0, len(names) - 1, 16).astype(int)).tolist()
    report.faults += [(name, f"no features in {store.source}") for name in names if name not in store]
    for number, index in enumerate(chosen):
        if names[index] in store:
            try:
                positions[index] = len(store.read(names[index]))
            except DataError as error:
                report.faults.append((names[index], str(error)))
        progress(number + 1, len(chosen), names[index])
    return positions


def _times(
    videos: AnnotationSet, positions: dict[int, int], recipe: LocalizationRecipe, report: LocalizationReport
) -> None:
    """Lengths, and the windows that training would use."""
    base, known = recipe.input.time_base, list(videos.videos.values())
    steps = np.array([known[i].covered_s(base) / n for i, n in positions.items()])
    times = TrainingTimes.of(
        [v.fractions(base) for v in known], [v.covered_s(base) for v in known], float(np.median(steps))
    )
    for what, values in (("video_s", times.videos), ("segment_s", times.segments), ("feature_step_s", steps)):
        if len(values):
            low, middle, high = (round(float(x), 4) for x in np.quantile(values, (0, 0.5, 1)))
            report.statistics[what] = (low, middle, high)
    if coarse := describe_coarse(times):
        report.advice.append(coarse)
    fixed = None if recipe.temporal_dim == "auto" else recipe.temporal_dim
    parts = takes_any_length(recipe)
    choice = choose_part(times, fixed) if parts else choose_window(times, fixed, recipe.windows.overlap)
    report.advice.append(f"{choice.why[0].upper()}{choice.why[1:]}")
    if parts and (crowded := describe_crowded(recipe, videos)):
        report.advice.append(crowded)
    if (
        not parts
        and recipe.window_s is None
        and choice.length_s is not None
        and choice.length_s < float(times.videos.max())
    ):
        report.advice.append(
            f"{recipe.name or 'the recipe'} takes videos as a whole; window_s=auto or window_s={choice.length_s:g} cuts them."
        )
    if steps.max() > 2 * steps.min():
        report.advice.append(
            f"features are {steps.min():.3g} to {steps.max():.3g} s apart; extract all videos at one rate (`clipwise features --fps`)."
        )
