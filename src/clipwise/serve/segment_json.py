"""Segments: what happens from when to when; as JSON and as subtitles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Segment:
    """A class between two times in seconds."""

    start_s: float
    end_s: float
    score: float
    index: int | None
    """Number of the class; None if the served model has no class of that name."""
    name: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "class": self.name,
            "index": self.index,
            "score": round(self.score, 5),
        }


def segments_from_windows(
    edges: np.ndarray, scores: np.ndarray, threshold: float = 0.4, *, release: float = 0.7, single: bool = True
) -> list[Segment]:
    """Runs of windows in which a class is seen.

    A run holds windows with at least ``release * threshold`` and at least one with ``threshold`` (hysteresis, so
    that a score that trembles about the threshold gives one segment). Its score is the mean of its windows.

    Args:
        edges: (W + 1,) times at which one window's reign ends and the next one's begins.
        scores: (W, num_classes).
        single: only the best class of a window counts; False where several labels may hold at once.

    Returns:
        Sorted by start; without names.
    """
    seen = scores >= threshold * release
    if single:
        seen &= np.arange(scores.shape[1]) == scores.argmax(1)[:, None]
    segments = []
    for index in np.flatnonzero((seen & (scores >= threshold)).any(0)):
        steps = np.diff(np.concatenate([[0], seen[:, index].astype(np.int8), [0]]))
        for first, after in zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)):
            run = scores[first:after, index]
            if run.max() >= threshold:
                segments.append(Segment(float(edges[first]), float(edges[after]), float(run.mean()), int(index)))
    return sorted(segments, key=lambda s: (s.start_s, s.end_s))


def to_srt(segments: Iterable[Mapping[str, Any]]) -> str:
    """Subtitles of segments as in the JSON answer (start_s, end_s, class, score)."""
    blocks = []
    for number, segment in enumerate(segments, 1):
        # A blank line ends a subtitle, and some players read tags.
        name = " ".join(str(segment["class"]).split()).replace("<", "‹").replace(">", "›")
        times = f"{_srt_time(segment['start_s'])} --> {_srt_time(segment['end_s'])}"
        blocks.append(f"{number}\n{times}\n{name} ({segment['score']:.0%})\n")
    return "\n".join(blocks)


def _srt_time(seconds: float) -> str:
    millis = max(0, round(seconds * 1000))
    return f"{millis // 3_600_000:02}:{millis // 60_000 % 60:02}:{millis // 1000 % 60:02},{millis % 1000:03}"
