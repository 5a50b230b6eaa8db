"""Segments: what happens from when to when. The one type, the one way from windows' scores to segments, and the files they fill.

``clipwise stream``, ``serve`` and ``localize`` with a recognizer all cut a video into the same windows and give their scores to
``Segmenter`` with the same defaults, so they say the same of the same file.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import ClipwiseError
from clipwise.io.text import csv_text
from clipwise.tasks.average_recall import temporal_iou

SMOOTH, THRESHOLD, RELEASE = 3, 0.5, 0.6
"""Defaults of the segmenter: windows that are averaged, score at which a segment begins, share of it below which it ends."""


@dataclass(frozen=True)
class Segment:
    """A class between two times."""

    start_s: float
    end_s: float
    name: str
    """Of the class; "action" where no recognizer gave one."""
    score: float
    """Mean of the windows' scores; of a proposal, its score times the class's probability where a class is known."""
    index: int | None = None
    """Number of the class, where it is known."""
    proposal_score: float | None = None
    class_score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the scores of proposal and class only where there is a proposal."""
        facts: dict[str, Any] = {"start_s": round(self.start_s, 3), "end_s": round(self.end_s, 3), "class": self.name}
        facts |= {"index": self.index, "score": round(self.score, 5)}
        if self.proposal_score is not None:
            facts["proposal_score"] = round(self.proposal_score, 5)
            facts["class_score"] = None if self.class_score is None else round(self.class_score, 5)
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Segment:
        """Inverse of :meth:`to_dict`."""
        known = {key: facts.get(key) for key in ("index", "proposal_score", "class_score")}
        return cls(facts["start_s"], facts["end_s"], facts["class"], facts["score"], **known)


@dataclass(frozen=True)
class WindowScores:
    """What a model says of one window."""

    start_s: float
    end_s: float
    scores: NDArray[np.floating]
    """(num_classes,) probabilities."""


class Segmenter:
    """Windows' scores to segments: centered mean over ``smooth`` windows, then two thresholds for each class.

    A segment of a class begins where its score reaches ``threshold`` and ends where it falls below ``release``.
    A window stands for the stretch around its middle, half way to its neighbors.

    Args:
        classes: names of the classes; their numbers if not given.
        smooth: windows, made odd.
        threshold, release: in [0, 1], release not above threshold; ``RELEASE`` of it if not given.
        min_s: shorter segments are left out.

    Attributes:
        best: the window and class with the highest smoothed score so far, as a segment; tells what a lower threshold would find.

    Raises:
        ClipwiseError: values outside of this.
    """

    def __init__(
        self,
        classes: Sequence[str] | None = None,
        *,
        smooth: int = SMOOTH,
        threshold: float = THRESHOLD,
        release: float | None = None,
        min_s: float = 0.0,
    ):
        self.release = RELEASE * threshold if release is None else release
        if not 0 < threshold <= 1:
            raise ClipwiseError(f"--threshold {threshold:g}: it is a probability, above 0 and up to 1.")
        if not 0 <= self.release <= threshold:
            raise ClipwiseError(f"--release {self.release:g}: it must lie between 0 and --threshold ({threshold:g}).")
        if smooth < 1:
            raise ClipwiseError(f"--smooth {smooth}: at least 1 window (no smoothing).")
        self.classes, self.half, self.threshold, self.min_s = classes, smooth // 2, threshold, min_s
        self.lag = max(self.half, 1)  # windows to wait before one is judged: its neighbors must be known
        self.recent: deque[WindowScores] = deque(maxlen=self.half + self.lag + 1)
        self.ahead = 0  # windows in ``recent`` that are not judged yet
        self.edge: float | None = None  # up to here segments are settled
        self.open: dict[int, tuple[float, list[float]]] = {}
        self.best: Segment | None = None

    def update(self, window: WindowScores) -> list[Segment]:
        """Take the next window; returns segments that are over."""
        ended: list[Segment] = []
        if self.recent and window.start_s - self.recent[-1].end_s > 1.0:
            ended = self.finish()  # a hole in the source
        self.recent.append(window)
        self.ahead += 1
        if self.ahead > self.lag:
            ended += self._judge(len(self.recent) - 1 - self.lag)
        return ended

    def finish(self) -> list[Segment]:
        """The source is over: judge what is left and close all segments."""
        ended: list[Segment] = []
        while self.ahead:
            ended += self._judge(len(self.recent) - self.ahead)
        for index in sorted(self.open):
            ended += self._close(index, self.edge or 0.0)
        self.recent.clear()
        self.edge = None
        return ended

    def _judge(self, at: int) -> list[Segment]:
        """Decide on the window at this place of ``recent``."""
        self.ahead -= 1
        recent = list(self.recent)
        around = recent[max(0, at - self.half) : at + self.half + 1]
        scores = np.mean([w.scores for w in around], axis=0)
        window = recent[at]
        middle = (window.start_s + window.end_s) / 2
        start = window.start_s if self.edge is None else self.edge
        end = window.end_s
        if at + 1 < len(recent):
            following = recent[at + 1]
            end = (middle + (following.start_s + following.end_s) / 2) / 2
        self.edge = end
        top = int(scores.argmax())
        if self.best is None or scores[top] > self.best.score:
            self.best = self._segment(top, window.start_s, window.end_s, float(scores[top]))
        ended: list[Segment] = []
        for index in [i for i in self.open if scores[i] < self.release]:
            ended += self._close(index, start)
        for index in np.flatnonzero(scores >= self.threshold).tolist():
            self.open.setdefault(index, (start, []))
        for index, (_, seen) in self.open.items():
            seen.append(float(scores[index]))
        return ended

    def _close(self, index: int, end_s: float) -> list[Segment]:
        start_s, seen = self.open.pop(index)
        if end_s - start_s < self.min_s:
            return []
        return [self._segment(index, start_s, end_s, float(np.mean(seen)))]

    def _segment(self, index: int, start_s: float, end_s: float, score: float) -> Segment:
        name = self.classes[index] if self.classes else str(index)
        return Segment(start_s, end_s, name, score, index)


def find_segments(
    windows: Iterable[WindowScores],
    classes: Sequence[str] | None = None,
    *,
    say: Callable[[Segment], None] = lambda _: None,
    **options: Any,
) -> list[Segment]:
    """All segments of a video's windows, by their start; ``say`` gets each as soon as it is over, ``options`` are of :class:`Segmenter`."""
    segmenter = Segmenter(classes, **options)
    found: list[Segment] = []
    for ended in itertools.chain(map(segmenter.update, windows), (segmenter.finish() for _ in (0,))):
        for segment in ended:
            say(segment)
        found += ended
    return sorted(found, key=lambda s: (s.start_s, s.end_s, s.index or 0))


@dataclass(frozen=True)
class Localization:
    """All that was found in one video.

    Attributes:
        source: what was given.
        duration_s: seconds that the network's positions divide.
        segments: the answer: best first, without near duplicates.
        detections: everything that has a name, for mAP; best first.
        proposals: (n, 3) start, end, score of all proposals, best first.
        start, end: (L,) the network's curves; empty if it has none.
    """

    source: str
    duration_s: float
    segments: list[Segment]
    detections: list[Segment]
    proposals: NDArray[np.float64]
    start: NDArray[np.float32] = field(repr=False)
    end: NDArray[np.float32] = field(repr=False)
    damage: str | None = None
    """What is wrong with the video, whose readable part was looked at."""
    note: str | None = None
    """Why the video is far outside of what the network was trained on."""

    @property
    def times_s(self) -> NDArray[np.floating]:
        """(L,) the middle of each position."""
        return (np.arange(len(self.start)) + 0.5) * (self.duration_s / max(len(self.start), 1))

    @property
    def in_time(self) -> list[Segment]:
        """The segments by their start."""
        return sorted(self.segments, key=lambda s: (s.start_s, s.end_s))

    def to_dict(self, curves: bool = True) -> dict[str, Any]:
        """For JSON."""
        facts: dict[str, Any] = {
            "source": self.source,
            "duration_s": round(self.duration_s, 3),
            "segments": [s.to_dict() for s in self.in_time],
        }
        if self.damage:
            facts["damage"] = self.damage
        if self.note:
            facts["note"] = self.note
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


def choose_segments(detections: Sequence[Segment], count: int, min_score: float, max_overlap: float) -> list[Segment]:
    """The strongest detections that do not say the same twice, best first.

    Args:
        count: most of them.
        min_score: share of the best score below which nothing is taken.
        max_overlap: largest IoU between two of them, whatever their classes.
    """
    chosen: list[Segment] = []
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
    rows = [
        (one.source, f"{s.start_s:.3f}", f"{s.end_s:.3f}", s.name, f"{s.score:.5f}")
        for one in found
        for s in one.in_time
    ]
    return csv_text([("video", "start_s", "end_s", "class", "score"), *rows])


def to_srt(segments: Iterable[Segment]) -> str:
    """Subtitles, one for each segment."""
    return "\n".join(srt_block(number, segment) for number, segment in enumerate(segments, 1))


def srt_block(number: int, segment: Segment) -> str:
    """One subtitle; an empty line belongs between two."""
    # a blank line ends a subtitle, and some players read tags
    name = " ".join(segment.name.split()).replace("<", "‹").replace(">", "›")
    times = f"{_srt_time(segment.start_s)} --> {_srt_time(segment.end_s)}"
    return f"{number}\n{times}\n{name} ({segment.score:.2f})\n"


def _srt_time(seconds: float) -> str:
    millis = max(0, round(seconds * 1000))
    return f"{millis // 3_600_000:02}:{millis // 60_000 % 60:02}:{millis // 1000 % 60:02},{millis % 1000:03}"
