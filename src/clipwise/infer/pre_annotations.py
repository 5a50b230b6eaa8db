"""What models say as annotations, for review in a tool: segments of ``localize``, classes of ``predict``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipwise.data.formats.annotation_parts import FormatOptions, VideoFinder, video_name
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation

if TYPE_CHECKING:
    from clipwise.data.formats.annotation_convert import Conversion
    from clipwise.infer.predictor import Prediction
    from clipwise.infer.segments import Localization

_SURE = 0.5  # probability from which a label of several is given


def localized(found: Iterable[tuple[str, Localization]]) -> AnnotationSet:
    """The segments of (video, what was found in it), with their scores."""
    videos: dict[str, VideoAnnotation] = {}
    for path, one in found:
        segments = one.in_time
        name = _free(video_name(path), path, videos)
        videos[name] = VideoAnnotation(
            name,
            one.duration_s,
            None,
            np.array([(s.start_s, s.end_s) for s in segments], np.float64).reshape(-1, 2),
            tuple(s.name for s in segments),
            scores=tuple(s.score for s in segments),
            path=path,
        )
    return AnnotationSet("predictions", videos)


def predicted(predictions: Iterable[Prediction], multi_label: bool = False) -> AnnotationSet:
    """The best class of each video; of a model for several labels all that are more likely than not."""
    videos: dict[str, VideoAnnotation] = {}
    classes: list[str] = []
    for one in predictions:
        top = one.top(len(one.scores))
        chosen = [pair for pair in top if pair[1] >= _SURE] if multi_label else top[:1]
        name = _free(video_name(one.source), one.source, videos)
        videos[name] = VideoAnnotation(
            name,
            one.duration_s or float("nan"),
            None,
            np.zeros((0, 2)),
            (),
            num_frames=one.num_frames,
            whole=tuple(label for label, _ in chosen),
            whole_scores=tuple(score for _, score in chosen),
            path=one.source,
        )
        classes = classes or list(one.classes or ())
    return AnnotationSet("predictions", videos, tuple(classes))


def _free(name: str, path: str, taken: dict[str, VideoAnnotation]) -> str:
    return path if name in taken else name


def write_pre_annotations(
    annotations: AnnotationSet,
    target: str | Path,
    format: str,
    *,
    fps: float | None = None,
    config: str | Path | None = None,
) -> Conversion:
    """Write what was found for a tool, and say what its format could not hold.

    Args:
        target: a file, or a folder for formats of a file per video.
        format: a name of ``clipwise.data.formats.annotation_kinds``.
        fps: frames per second that a format counts; for Label Studio the declared rate. Default: each video's own.
        config: Label Studio's labeling configuration, whose names and labels the result must fit.

    Raises:
        DataError: an unknown format, labels that the configuration lacks, or a frame rate that is not known.
    """
    from clipwise.data.formats.annotation_convert import write_kind

    return write_kind(annotations, format, target, FormatOptions(fps=fps, videos=VideoFinder(), config=config))
