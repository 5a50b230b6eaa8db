"""What a localization gives: named segments with times in seconds, and the files that they are written to."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.tasks.detection_metrics import temporal_iou


@dataclass(frozen=True)
class NamedSegment:
    """Something that happens, from when to when. ``name`` is "action" where no recognizer gave a class."""

    start_s: float
    end_s: float
    name: str
    score: float
    """Of the proposal, times the class's probability where a class is known."""
    proposal_score: float
    class_score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "class": self.name,
            "score": round(self.score, 5),
            "proposal_score": round(self.proposal_score, 5),
            "class_score": None if self.class_score is None else round(self.class_score, 5),
        }


@dataclass(frozen=True)
class Localization:
    """All that was found in one video.

    Attributes:
        source: what was given.
        duration_s: seconds that the network's positions divide.
        segments: the answer: best first, without near duplicates.
        detections: everything that has a name, for mAP; best first.
        proposals: (n, 3) start, end, score of all proposals, best first.
        start, end: (L,) the network's curves.
    """

    source: str
    duration_s: float
    segments: list[NamedSegment]
    detections: list[NamedSegment]
    proposals: NDArray[np.float64]
    start: NDArray[np.float32] = field(repr=False)
    end: NDArray[np.float32] = field(repr=False)

    @property
    def times_s(self) -> NDArray[np.floating]:
        """(L,) the middle of each position."""
        return (np.arange(len(self.start)) + 0.5) * (self.duration_s / len(self.start))

    @property
    def in_time(self) -> list[NamedSegment]:
        """The segments by their start."""
        return sorted(self.segments, key=lambda s: (s.start_s, s.end_s))

    def to_dict(self, curves: bool = True) -> dict[str, Any]:
        """For JSON."""
        facts: dict[str, Any] = {
            "source": self.source,
            "duration_s": round(self.duration_s, 3),
            "segments": [s.to_dict() for s in self.in_time],
        }
        if curves:
            facts["proposals"] = np.round(self.proposals, 5).tolist()
            facts["curves"] = {
                "time_s": np.round(self.times_s, 4).tolist(),
                "start": np.round(self.start, 5).tolist(),
                "end": np.round(self.end, 5).tolist(),
            }
        return facts

    def activitynet(self) -> list[dict[str, Any]]:
        """The detections as entries of a result file in ActivityNet's form."""
        return [{"segment": [s.start_s, s.end_s], "score": s.score, "label": s.name} for s in self.detections]


def choose_segments(
    detections: Sequence[NamedSegment], count: int, min_score: float, max_overlap: float
) -> list[NamedSegment]:
    """The strongest detections that do not say the same twice, best first.

    Args:
        count: most of them.
        min_score: share of the best score below which nothing is taken.
        max_overlap: largest IoU between two of them, whatever their classes.
    """
    chosen: list[NamedSegment] = []
    for one in sorted(detections, key=lambda s: -s.score):
        if len(chosen) == count or one.score < min_score * detections[0].score:
            break
        if chosen:
            others = np.array([[c.start_s, c.end_s] for c in chosen])
            if np.nanmax(temporal_iou(others, [one.start_s, one.end_s])) > max_overlap:
                continue
        chosen.append(one)
    return chosen


def to_csv(found: Iterable[Localization]) -> str:
    """A row a segment: video, start_s, end_s, class, score."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "start_s", "end_s", "class", "score"])
    for one in found:
        for s in one.in_time:
            writer.writerow([one.source, f"{s.start_s:.3f}", f"{s.end_s:.3f}", s.name, f"{s.score:.5f}"])
    return text.getvalue()


def to_srt(segments: Iterable[NamedSegment]) -> str:
    """Subtitles, one for each segment."""
    blocks = []
    for number, s in enumerate(segments, 1):
        # a blank line ends a subtitle, and some players read tags
        name = " ".join(s.name.split()).replace("<", "‹").replace(">", "›")
        blocks.append(f"{number}\n{_srt_time(s.start_s)} --> {_srt_time(s.end_s)}\n{name} ({s.score:.2f})\n")
    return "\n".join(blocks)


def _srt_time(seconds: float) -> str:
    millis = max(0, round(seconds * 1000))
    return f"{millis // 3_600_000:02}:{millis // 60_000 % 60:02}:{millis // 1000 % 60:02},{millis % 1000:03}"
