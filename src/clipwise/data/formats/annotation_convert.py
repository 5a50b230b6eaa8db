"""Write annotations in any format, read them back, and say what was lost; and the lengths of videos that a format does not have."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.data.formats.annotation_kinds import KINDS, kind_name, load_function, merge, read_file
from clipwise.data.formats.annotation_parts import FormatOptions
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.errors import ClipwiseWarning, DataError
from clipwise.io.text import plural


@dataclass(frozen=True)
class Conversion:
    """What was written, and what the format could not hold."""

    format: str
    written: list[Path]
    videos: int
    segments: int
    whole: int
    lost: list[str]
    notes: list[str]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"format": self.format, "written": [str(p) for p in self.written], "videos": self.videos, "segments": self.segments,
                "whole_video_labels": self.whole, "lost": self.lost, "notes": self.notes}  # fmt: skip


def write_kind(annotations: AnnotationSet, kind: str, target: str | Path, options: FormatOptions) -> Conversion:
    """Write annotations in a format, read them back, and say what did not survive.

    Args:
        target: a file; a folder for formats of a file per video or a class.

    Raises:
        DataError: an unknown format; a frame rate that a format of frames needs is not known.
    """
    kind, target = kind_name(kind, writing=True), Path(target)
    if not annotations.videos:
        raise DataError(f"{annotations.source}: there is no video to write.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not (KINDS[kind].many or _is_per_video(kind)):
        raise DataError(
            f"{target} is a folder; {KINDS[kind].title} is one file, such as {target / ('annotations' + KINDS[kind].suffixes[0])}."
        )
    given, notes = annotations, list(annotations.notes)
    if kind == "kinetics-json" and not any(v.whole for v in annotations.videos.values()):
        raise DataError(
            f"{annotations.source}: Kinetics' JSON holds labels of whole videos, and there are none; its segments can't be written."
        )
    if not KINDS[kind].whole and any(v.whole for v in annotations.videos.values()):
        given = _stretched(annotations, options)
        notes.append("labels of whole videos are written as segments of their full length")
    written: list[Path] = load_function(KINDS[kind].writer)(given, target, options)
    kept = _read_back(written, target, kind, options)
    count = sum(len(v.segments) for v in annotations.videos.values())
    whole = sum(len(v.whole) for v in annotations.videos.values())
    return Conversion(kind, written, len(annotations.videos), count, whole, losses(given, kept), notes)


def _stretched(annotations: AnnotationSet, options: FormatOptions) -> AnnotationSet:
    """Labels of whole videos as segments from 0 to the end."""
    known = with_durations(
        replace(annotations, videos={n: v for n, v in annotations.videos.items() if v.whole}), options
    )
    videos = dict(annotations.videos)
    for name, video in known.videos.items():
        full = np.array([[0.0, video.duration_s]] * len(video.whole))
        scored = len(video.scores) == len(video.labels) and len(video.whole_scores) == len(video.whole)
        videos[name] = replace(video, segments=np.concatenate([video.segments, full]), labels=(*video.labels, *video.whole), whole=(),
                               scores=(*video.scores, *video.whole_scores) if scored else (), whole_scores=())  # fmt: skip
    return replace(annotations, videos=videos)


def _is_per_video(kind: str) -> bool:
    return kind in ("cvat", "cvat-tracks", "elan", "x-anylabeling", "vidat")


def _read_back(written: list[Path], target: Path, kind: str, options: FormatOptions) -> AnnotationSet:
    lenient = replace(options, strict=False, classes=None, layer=None)
    if kind == "mstcn":
        return read_file(target, kind, lenient)
    own = [path for path in written if path.suffix.lower() in KINDS[kind].suffixes and path.name != "data.json"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClipwiseWarning)
        return merge(str(target), [read_file(path, kind, lenient) for path in own])


def losses(before: AnnotationSet, after: AnnotationSet) -> list[str]:
    """Sentences on what one set has and the other has not."""
    lost, moved, lengths, gone, scores, whole, durations, subsets = [], [], [], 0, 0, 0, 0, 0
    changed: set[str] = set()
    absent = [name for name in before.videos if name not in after.videos]
    for name, video in before.videos.items():
        other = after.videos.get(name) or VideoAnnotation(name, math.nan, None, np.zeros((0, 2)), ())
        pairs, left = _pair(video, other)
        gone += left
        moved += [m for i, j in pairs if (m := float(np.abs(video.segments[i] - other.segments[j]).max())) > 1e-9]
        changed |= {video.labels[i] for i, j in pairs if video.labels[i] != other.labels[j]}
        scores += len(video.scores) + len(video.whole_scores) - len(other.scores) - len(other.whole_scores)
        whole += len(set(video.whole) - set(other.whole))
        if (off := abs(video.duration_s - other.duration_s)) > 1e-9:  # no number is
            lengths.append(off)
        durations += not math.isnan(video.duration_s) and math.isnan(other.duration_s)
        subsets += video.subset is not None and video.subset != other.subset
    total = sum(len(v.segments) for v in before.videos.values())
    empty = sum(not len(before.videos[name].segments) and not before.videos[name].whole for name in absent)
    for count, sentence in (
        (len(absent) - empty, "{} videos"),
        (empty, "{} videos in which nothing happens"),
        (
            gone,
            f"{{}} of {plural(total, 'segment')} (merged with others of their label, overlapping, or not expressible)",
        ),
        (whole, "{} labels of whole videos"),
        (scores, "{} scores"),
        (durations, "the length of {} videos"),
        (subsets, "the subset of {} videos"),
        (len(changed), "the spelling of {} labels" + (f", such as {min(changed)!r}" if changed else "")),
        (
            len(set(before.vocabulary) - set(after.vocabulary) - set(after.classes)),
            "{} declared classes without an example",
        ),
    ):
        if count > 0:
            text = sentence.format(count)
            lost.append(text.replace("videos", "video") if count == 1 and not text.startswith("1 labels") else text)
    if moved:
        lost.append(f"the times of {len(moved)} of {plural(total, 'segment')} are rounded, by up to {max(moved):.4g} s")
    if lengths:
        whose = plural(len(lengths), "video is", "videos are")
        lost.append(f"the length of {whose} rounded, by up to {max(lengths):.4g} s")
    return lost


def _pair(a: VideoAnnotation, b: VideoAnnotation) -> tuple[list[tuple[int, int]], int]:
    """Segments that are the same but for rounding and spelling of labels, and how many have no such counterpart."""

    def alike(label: str) -> str:
        return label.replace("_", " ").lower()

    free = set(range(len(b.segments)))
    pairs = []
    for i, segment in enumerate(a.segments):
        same = [j for j in free if alike(b.labels[j]) == alike(a.labels[i])]
        if same:
            best = min(same, key=lambda j: float(np.abs(b.segments[j] - segment).max()))
            if np.abs(b.segments[best] - segment).max() <= max(0.5, 0.5 * float(segment[1] - segment[0])):
                free.remove(best)
                pairs.append((i, best))
    return pairs, len(a.segments) - len(pairs)


def with_durations(
    annotations: AnnotationSet, options: FormatOptions, known: Callable[[str], dict[str, Any]] = lambda name: {}
) -> AnnotationSet:
    """Fill in lengths of videos that the annotations do not have: from ``known`` (features' own notes), else from the video files.

    Raises:
        DataError: a length that nobody knows.
    """
    videos, missing = dict(annotations.videos), []
    for name, video in annotations.videos.items():
        if not math.isnan(video.duration_s):
            continue
        seconds = known(name).get("duration_s")
        if not seconds and (clock := options.videos.clock(video.path or name)):
            seconds = clock.duration_s
        if seconds:
            videos[name] = replace(video, duration_s=float(seconds))
        else:
            missing.append(name)
    if missing:
        raise DataError(
            f"{annotations.source}: the length of {len(missing)} of {plural(len(videos), 'video')} is not known, the first: {missing[0]}. Give the folder "
            "of the videos (input.videos), a table with the columns video and duration (input.video_info), or features of `clipwise features`, "
            "which note it."
        )
    return replace(annotations, videos=videos)
