"""Where in time features lie that were taken at a fixed distance of frames, as published features were."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.data.formats.annotations import AnnotationSet
from clipwise.errors import DataError

Placed = tuple[list[float], list[float], list[NDArray[np.float64]]]


def feature_times(recipe: Any) -> FeatureStrides | PartStarts | None:
    """Where a recipe's features lie; None where positions divide the time base evenly, each standing for the middle of its part."""
    given = recipe.input
    if given.time_base == "starts":
        return PartStarts(recipe.temporal_dim)
    if given.time_base == "strides":
        return FeatureStrides(given.stride, given.clip_frames or given.stride, given.feature_fps)
    return None


@dataclass(frozen=True)
class PartStarts:
    """``positions`` that divide the video, each of which stands for the start of its part."""

    positions: int

    def span(self, count: int, fps: float | None, where: str, duration_s: float) -> tuple[float, float]:
        """Second at which they begin if each stood for its part's middle, and the seconds that they divide."""
        return -duration_s / self.positions / 2, duration_s

    def place(self, annotations: AnnotationSet, store: Any) -> Placed:
        """As :meth:`FeatureStrides.place`."""
        return _placed(annotations, [self.span(0, None, name, v.duration_s) for name, v in annotations.videos.items()])


@dataclass(frozen=True)
class FeatureStrides:
    """A feature every ``stride`` frames, each of ``clip_frames`` frames, the first clip beginning with the video.

    Attributes:
        fps: frame rate at which all features were made; None: each video's own.
    """

    stride: int
    clip_frames: int
    fps: float | None = None

    def span(self, count: int, fps: float | None, where: str, duration_s: float = 0.0) -> tuple[float, float]:
        """Second at which ``count`` features begin, and the seconds that they divide; a feature stands for its clip's middle.

        Raises:
            DataError: the frame rate is not known.
        """
        rate = self.fps or fps
        if not rate:
            raise DataError(
                f"{where}: the frame rate is not known, which input.time_base=strides needs. Annotations tell it by 'fps', or by "
                "'duration_frame' beside the duration; else set input.feature_fps."
            )
        return (self.clip_frames - self.stride) / 2 / rate, count * self.stride / rate

    def place(self, annotations: AnnotationSet, store: Any) -> Placed:
        """For each video the second at which its features begin, the seconds that they divide, and its segments as shares of these.

        Args:
            store: a ``FeatureStore``, which is asked for the rate of a video whose annotations don't tell it.
        """
        spans = []
        for name, video in annotations.videos.items():
            rate = video.fps or store.facts(name).get("fps")
            spans.append(self.span(_count(store, name), rate, f"video {name!r}"))
        return _placed(annotations, spans)


def _placed(annotations: AnnotationSet, spans: list[tuple[float, float]]) -> Placed:
    segments = [(v.segments - first) / covered for v, (first, covered) in zip(annotations.videos.values(), spans)]
    return [first for first, _ in spans], [covered for _, covered in spans], segments


def _count(store: Any, name: str) -> int:
    """Positions of a video, without reading its features where the file's head tells."""
    key = name.removeprefix("v_")
    if not store.channels_first:
        if key in store.rows:
            return store.many.count(store.rows[key])
        path = store.files.get(key)
        if path is not None and path.suffix == ".npy":
            with contextlib.suppress(ValueError, OSError, EOFError):  # reading it says what is wrong
                return len(np.load(path, mmap_mode="r", allow_pickle=False))
    return len(store.read(name))
