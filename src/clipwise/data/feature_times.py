"""Where in time features lie that were taken at a fixed distance of frames, as published features were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clipwise.data.formats.annotations import VideoAnnotation
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

    def video_span(self, count: int, video: VideoAnnotation) -> tuple[float, float]:
        """The same for an annotated video."""
        return self.span(count, video.fps, f"video {video.name!r}")
