"""Where in time features lie that were taken at a fixed distance of frames, as published features were."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.data.formats.annotations import AnnotationSet
from clipwise.errors import DataError


@dataclass(frozen=True)
class FeatureStrides:
    """A feature every ``stride`` frames, each of ``clip_frames`` frames, the first clip beginning with the video.

    Attributes:
        fps: frame rate at which all features were made; None: each video's own.
    """

    stride: int
    clip_frames: int
    fps: float | None = None

    @classmethod
    def of(cls, settings: Any) -> FeatureStrides | None:
        """Those of a recipe's group ``input``; None unless its time base is ``strides``."""
        if settings.time_base != "strides":
            return None
        return cls(settings.stride, settings.clip_frames or settings.stride, settings.feature_fps)

    def span(self, count: int, fps: float | None, where: str) -> tuple[float, float]:
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

    def place(
        self, annotations: AnnotationSet, store: Any
    ) -> tuple[list[float], list[float], list[NDArray[np.float64]]]:
        """For each video the second at which its features begin, the seconds that they divide, and its segments as shares of these.

        Args:
            store: a ``FeatureStore``, which is asked for the rate of a video whose annotations don't tell it.
        """
        first_s, covered_s, segments = [], [], []
        for name, video in annotations.videos.items():
            rate = video.fps or store.facts(name).get("fps")
            first, covered = self.span(_count(store, name), rate, f"video {name!r}")
            first_s.append(first)
            covered_s.append(covered)
            segments.append((video.segments - first) / covered)
        return first_s, covered_s, segments


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
