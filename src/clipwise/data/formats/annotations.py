"""When what happens in long videos: the one form that annotations of every format have inside.

Names are kept without the leading ``v_`` that files have and ActivityNet's JSON has not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipwise.data.formats.annotation_faults import LATE_S, without_faults
from clipwise.errors import DataError

TimeBase = Literal["duration", "snippets", "strides", "starts"]


@dataclass(frozen=True)
class VideoAnnotation:
    """What is known about one long video.

    Attributes:
        name: without ``v_``.
        duration_s: length of the video; NaN where the file does not say and nobody looked.
        subset: ``training``, ``validation``, … or None.
        segments: (G, 2) start and end in seconds, as the file has them.
        labels: class of each segment.
        num_frames: frames of the video, 0 if unknown.
        feature_frames: frames that the features cover, 0 if unknown.
        scores: of each segment, in files of predictions; else empty.
        whole: labels of the video as a whole.
        whole_scores: of each of these, in files of predictions; else empty.
        path: the video as the annotation file names it.
        fps: frame rate, 0 if unknown.
    """

    name: str
    duration_s: float
    subset: str | None
    segments: NDArray[np.float64]
    labels: tuple[str, ...]
    num_frames: int = 0
    feature_frames: int = 0
    scores: tuple[float, ...] = ()
    whole: tuple[str, ...] = ()
    whole_scores: tuple[float, ...] = ()
    path: str = ""
    fps: float = 0.0

    def covered_s(self, time_base: TimeBase = "duration") -> float:
        """Seconds that the features stand for.

        ``snippets`` corrects the duration by feature_frame / duration_frame, as BSN, JJBOY and MMAction2 do: their
        features end with the last whole snippet of 16 frames.
        """
        if time_base == "snippets" and self.feature_frames and self.num_frames:
            return self.feature_frames / self.num_frames * self.duration_s
        return self.duration_s

    def fractions(self, time_base: TimeBase = "duration") -> NDArray[np.float64]:
        """(G, 2) the segments as shares of what the features cover."""
        return self.segments / self.covered_s(time_base)


@dataclass(frozen=True)
class AnnotationSet:
    """All videos of a file, by name.

    Attributes:
        vocabulary: the classes that the file declares, in its order; empty where it declares none.
        notes: sentences on what was left out while reading.
    """

    source: str
    videos: Mapping[str, VideoAnnotation]
    vocabulary: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def classes(self) -> list[str]:
        """Names of the classes that occur, sorted."""
        return sorted({label for video in self.videos.values() for label in video.labels})

    def has_subset(self, name: str) -> bool:
        """Whether :meth:`subset` finds one."""
        return self._subset_named(name) is not None

    def _subset_named(self, name: str) -> str | None:
        return subset_named(name, {video.subset for video in self.videos.values() if video.subset})

    def subset(self, name: str) -> AnnotationSet:
        """The videos of one subset; ``train`` finds ``training``.

        Raises:
            DataError: no such subset.
        """
        found = self._subset_named(name)
        if found is None:
            there = sorted({video.subset for video in self.videos.values() if video.subset})
            known = (
                f"it has {', '.join(there)}" if there else "no video has a subset; BSN's form needs video_info (CSV)"
            )
            raise DataError(f"{self.source} has no video of subset {name!r}: {known}.")
        return replace(self, videos={n: v for n, v in self.videos.items() if v.subset == found})

    def checked(self, tolerant: bool = False) -> tuple[AnnotationSet, list[str]]:
        """The set if it is sound, for training.

        Args:
            tolerant: leave out segments of no length, keep what runs past the video's end (targets are cut there)
                and videos in which nothing happens, and say how many there were.

        Returns:
            The set, and sentences on what was found.

        Raises:
            DataError: a segment of no length, one that ends after its video, or a video without a segment.
        """
        for video in self.videos.values():
            start, end = video.segments.T
            # a duration that is NaN is neither
            if not len(end) or not (end <= video.duration_s + LATE_S).all() or not (start < end).all():
                return without_faults(self, tolerant)
        return self, []

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """For the metrics: name -> [{"segment", "label"}], segments as the file has them."""
        return {
            name: [{"segment": s, "label": label} for s, label in zip(v.segments.tolist(), v.labels)]
            for name, v in self.videos.items()
        }

    def fingerprint(self) -> str:
        """Changes when names or times change."""
        digest = hashlib.sha256()
        for name, video in self.videos.items():
            digest.update(f"{name} {video.duration_s!r} {video.segments.tolist()}\n".encode())
        return digest.hexdigest()[:16]


def subset_named(name: str, known: Iterable[str]) -> str | None:
    """A subset's own name: this one, or one that it begins or that begins it, in either case (``train``: ``Training``)."""
    there, lower = sorted(known), name.lower()
    near = (s for s in there if s.lower().startswith(lower) or lower.startswith(s.lower()))
    return name if name in there else next(near, None)


def class_names(sets: Iterable[AnnotationSet]) -> list[str]:
    """All classes of several sets, sorted."""
    return sorted({name for each in sets for name in each.classes})
