"""Report of what is wrong with detections: error types, sensitivity, missed actions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from clipwise.report.bar_chart import bar_chart
from clipwise.report.page import Language, Section, write_page
from clipwise.report.result_report import video_timeline
from clipwise.tasks.detection_errors import ERROR_TYPES, Bucket, DetectionErrors

_COLORS = (2, 6, 0, 3, 4, 7)  # of the error types
_UNITS = {"coverage": "% of the video", "length": "seconds", "instances": "actions of the class in the video"}
_BUCKETS = {
    "activitynet": "Buckets are those that DETAD has for ActivityNet videos.",
    "thumos": "Buckets are those that DETAD has for THUMOS14 videos.",
    "quintiles": "Each bar stands for about a fifth of the actions.",
}
_MISSED = "Actions that no prediction finds at a normalized precision above 5%; dashed: of all."


def detection_report(
    results: Mapping[str, DetectionErrors],
    folder: str | Path,
    *,
    title: str,
    buckets: str = "activitynet",
    played: Sequence[Mapping[str, Any]] = (),
    language: Language = "en",
) -> Path:
    """``index.html`` in a folder for the error analysis of one or more result files.

    Args:
        results: file -> its analysis.
        title: what it was measured against.
        buckets: how actions were sorted.
        played: videos to play over their segments: ``video``, ``file`` and ``duration_s``, ``truth`` and ``segments``
            (``class``, ``start_s``, ``end_s``, of found ones ``score``).
    """
    sections = []
    tiles = []
    alike = f"Normalized mAP of actions that are alike; dashed: of all. {_BUCKETS[buckets]}"
    for n, (file, errors) in enumerate(results.items()):
        name = Path(file).name
        of = f": {name}" if len(results) > 1 else ""
        tiles += _tiles(errors, name)
        sections += [
            _profile_section(errors, n, of),
            _bucket_section(
                errors, (f"sensitivity-{n}", f"Sensitivity{of}", alike), "normalized mAP", 0, "normalized_map"
            ),
            _bucket_section(errors, (f"missed-{n}", f"Missed actions{of}", _MISSED), "missed", 4, "missed"),
            _table_section(errors, n, of),
        ]
    if played:
        sections.append(_videos_section(played, Path(folder)))
    return write_page(
        Path(folder) / "index.html", title, sections, kind="Errors of detections", tiles=tiles, language=language
    )


def _videos_section(played: Sequence[Mapping[str, Any]], folder: Path) -> Section:
    """Videos over their timelines; the page refers to their files."""
    colors: dict[str, int] = {}
    shown = []
    for video in played:
        relative = os.path.relpath(video["file"], folder).replace(os.sep, "/")
        shown.append(video_timeline({**video, "address": quote(relative)}, colors))
    note = "The videos in which the largest share of actions is missed, with the best predictions, as many as twice the actions. A click on a row goes there."
    return Section("videos", "Videos", "timelines", {"videos": shown}, note)


def _tiles(errors: DetectionErrors, name: str) -> list[tuple[str, str, str]]:
    worst = max(errors.gain, key=errors.gain.__getitem__)
    overlaps = f"tIoU {errors.tiou.min():.2f} … {errors.tiou.max():.2f}"
    return [
        (f"mAP: {name}", f"{errors.mean_ap:.2%}", overlaps),
        ("normalized mAP", f"{errors.normalized_map:.2%}", "classes of equal size"),
        ("actions missed", f"{errors.missed:.2%}", "of all actions"),
        ("costliest error", worst, f"{errors.gain[worst] * 100:+.2f} points without it"),
    ]


def _profile_section(errors: DetectionErrors, number: int, of: str) -> Section:
    """Types among the best predictions, and what each type costs."""
    there = np.flatnonzero(errors.counts.sum(1))
    shares = errors.profile[there]
    stacks = {kind: (_COLORS[n], shares[:, n].tolist()) for n, kind in enumerate(ERROR_TYPES)}
    labels = [f"{n + 1}G" for n in there]
    charts = [
        bar_chart(
            "types of predictions", labels, stacks, x_label="a class's best G predictions, its next G, …", y_max=1.0
        ),
        bar_chart(
            "normalized mAP gained without an error type",
            list(errors.gain),
            {"gain": (1, list(errors.gain.values()))},
            x_label="removed from the best 10G",
        ),
    ]
    note = "G is the number of actions of a class. Correct class and place, but the action is taken: double detection; overlap of 0.1 up to the threshold: localization, with another class confusion."
    return Section(f"profile-{number}", f"False positives{of}", "charts", {"charts": charts}, note)


def _bucket_section(
    errors: DetectionErrors,
    section: tuple[str, str, str],
    bars: str,
    color: int,
    figure: Literal["normalized_map", "missed"],
) -> Section:
    """One chart for each trait of actions: a figure of the actions alike in it, and (dashed) of all.

    Args:
        section: anchor, title and note.
        bars: the figure's name.
    """
    anchor, title, note = section
    charts = [
        bar_chart(
            kind,
            [_range(kind, b) for b in found],
            {bars: (color, [getattr(b, figure) for b in found])},
            x_label=_UNITS[kind],
            y_max=1.0,
            reference=getattr(errors, figure),
        )
        for kind, found in errors.sensitivity.items()
    ]
    return Section(anchor, title, "charts", {"charts": charts}, note)


def _table_section(errors: DetectionErrors, number: int, of: str) -> Section:
    """The figures of both."""
    rows = [
        (kind, _range(kind, b), b.actions, *(f"{v:.2%}" for v in (b.mean_ap, b.normalized_map, b.missed)))
        for kind, found in errors.sensitivity.items()
        for b in found
    ]
    head = ("", "range", "actions", "mAP", "normalized mAP", "missed")
    return Section.table(f"figures-{number}", f"Figures{of}", head, rows, numeric=(2, 3, 4, 5), keep=())


def _range(kind: str, bucket: Bucket) -> str:
    low, high = (v * 100 if kind == "coverage" else v for v in (bucket.low, bucket.high))
    if np.isinf(high):
        return f"> {low:.3g}"
    if kind == "instances" and low + 1 == high:
        return f"{high:.3g}"
    return f"{low + 1:.3g}–{high:.3g}" if kind == "instances" else f"{low:.3g}–{high:.3g}"
