"""Segments and videos that training can't use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError

if TYPE_CHECKING:
    from clipwise.data.formats.annotations import AnnotationSet

LATE_S = 0.05  # an end this far behind the video's is rounding


def without_faults(annotations: AnnotationSet, tolerant: bool) -> tuple[AnnotationSet, list[str]]:
    """See :meth:`AnnotationSet.checked`."""
    found: dict[str, list[str]] = {}
    videos = {}
    for name, video in annotations.videos.items():
        if np.isnan(video.duration_s):
            raise DataError(
                f"{annotations.source}: video {name!r} has no duration; give it there or in input.video_info."
            )
        length = video.segments[:, 1] - video.segments[:, 0]
        for i in np.flatnonzero(length <= 0):
            found.setdefault("no length", []).append(f"{name}: segment {video.segments[i].tolist()} has no length")
        for i in np.flatnonzero(video.segments[:, 1] > video.duration_s + LATE_S):
            found.setdefault("late", []).append(
                f"{name}: segment {video.segments[i].tolist()} ends after the video, which has {video.duration_s:g} s"
            )
        if not len(video.segments):
            found.setdefault("empty", []).append(f"{name}: no segment, nothing happens in this video")
        if (length <= 0).any():
            keep = length > 0
            labels = tuple(label for label, k in zip(video.labels, keep) if k)
            scores = tuple(score for score, k in zip(video.scores, keep) if k)
            video = replace(video, segments=video.segments[keep], labels=labels, scores=scores)
        videos[name] = video
    if found and not tolerant:
        lines = [
            f"{each[0]}" + (f" (and {len(each) - 1} more like it)" if len(each) > 1 else "") for each in found.values()
        ]
        raise DataError(
            f"{annotations.source}: {'; '.join(lines)}. Correct the file, or set input.tolerant=true: segments of no length are then left "
            "out, late ends cut, and videos without a segment taken as background."
        )
    done = {
        "no length": "segments of no length left out",
        "late": "segments cut at the video's end",
        "empty": "videos without a segment taken as background",
    }
    notes = [f"{annotations.source}: {len(each)} {done[kind]}, the first: {each[0]}" for kind, each in found.items()]
    return replace(annotations, videos=videos), notes


def fault_of(segments: NDArray[np.float64]) -> str:
    """What is wrong with times (G, 2) of which some can't be."""
    if not np.isfinite(segments).all():
        return "has a time that is NaN or infinite"
    return "ends before it starts" if (segments[:, 1] < segments[:, 0]).any() else "starts before the video"
