"""Annotations as lists of clips for a recognizer, and lists as annotations."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.data.formats.annotation_kinds import KINDS, kind_name, read_kind, together
from clipwise.data.formats.annotation_parts import FormatOptions, VideoFinder, plain_path, video_name
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.data.labels import ClassIndex
from clipwise.data.videolist import ListBuilder, VideoList, natural_key
from clipwise.errors import ClipwiseWarning, DataError
from clipwise.io.text import plural


def is_annotation_format(name: str) -> bool:
    """Whether a name is one of the table of annotation formats."""
    try:
        return kind_name(name) in KINDS
    except DataError:
        return False


def read_annotated(
    path: Path,
    kind: str,
    *,
    root: str | Path | None,
    classes: Sequence[str] | None,
    num_classes: int | None,
    multi_label: bool,
    subset: str | None,
    **reading: Any,
) -> VideoList:
    """The clips of an annotation file, or of a folder of them.

    Args:
        reading: ``fps``, ``layer`` and ``config`` of :class:`FormatOptions`.
    """
    beside = path if path.is_dir() else path.parent
    options = FormatOptions(videos=VideoFinder(root, beside), classes=classes, strict=False, **reading)
    annotations = read_kind(path, kind, options)
    if subset is not None:
        annotations = annotations.subset(subset)
    return list_of(annotations, options, root=root, num_classes=num_classes, multi_label=multi_label)


def list_of(
    annotations: AnnotationSet,
    options: FormatOptions,
    *,
    root: str | Path | None,
    num_classes: int | None = None,
    multi_label: bool = False,
) -> VideoList:
    """The list of clips for a recognizer: the segments, or where there are none the whole videos.

    Classes are ``options.classes``, else the declared ones, else the labels in natural order. With ``multi_label`` equal segments with
    different labels are one entry.
    """
    for note in annotations.notes:
        warnings.warn(note, ClipwiseWarning, stacklevel=2)
    used = {label for v in annotations.videos.values() for label in (*v.labels, *v.whole)}
    segmented = any(len(v.segments) for v in annotations.videos.values())
    if segmented and any(v.whole for v in annotations.videos.values()):
        used = {label for v in annotations.videos.values() for label in v.labels}
        say = f"{annotations.source}: it has segments and labels of whole videos; the segments are taken."
        warnings.warn(say, ClipwiseWarning, stacklevel=2)
    names = list(options.classes or annotations.vocabulary)
    if not used <= set(names):
        names = sorted(used, key=natural_key)
    index = ClassIndex(names or None, num_classes, annotations.source)
    builder = ListBuilder("video", annotations.source)
    folder = str(root) if root is not None else str(_folder_of(annotations.source))
    without = 0
    for number, video in enumerate(annotations.videos.values(), 1):
        entry = _entry(video, options, folder)
        rows: dict[tuple[float, float] | None, list[str]] = {}
        for (start, end), label in zip(video.segments.tolist(), video.labels):
            rows.setdefault((start, end), []).append(label)
        if not segmented:
            rows[None] = list(video.whole)
        if not rows:
            without += 1
        for span, labels in rows.items():
            indices = sorted({index.resolve(label, number) for label in labels})
            if multi_label or len(indices) < 2 or span is None:
                builder.add(entry, indices, span_s=span)
            else:  # one clip a class, as overlapping segments with different times are
                for one in indices:
                    builder.add(entry, [one], span_s=span)
    if without:
        say = f"{annotations.source}: {plural(without, 'video has no segment and is', 'videos have no segment and are')} left out."
        warnings.warn(say, ClipwiseWarning, stacklevel=2)
    if not len(builder):
        raise DataError(f"{annotations.source}: there is no labeled segment or video in it.")
    return builder.build(root=folder, multi_label=multi_label, classes=index.names or None, num_classes=index.limit)


def _folder_of(source: str) -> Path:
    return Path(source) if Path(source).is_dir() else Path(source).parent


def _entry(video: VideoAnnotation, options: FormatOptions, folder: str) -> str:
    """A video's path in a list: below the folder if it lies there."""
    name = video.path or video.name
    found = options.videos.find(name)
    if found is None:
        return plain_path(name)
    absolute, base = os.path.abspath(found), os.path.join(os.path.abspath(folder), "")
    return os.path.relpath(absolute, base) if absolute.startswith(base) else absolute


def annotations_of_list(videos: VideoList, source: str) -> AnnotationSet:
    """A list of clips as annotations."""
    found: dict[str, VideoAnnotation] = {}
    for i in range(len(videos)):
        path, name, span = videos.path(i), video_name(videos.entry(i)), videos.span(i)
        labels: list[str] = []
        if videos.many_labels is not None:
            labels = [videos.class_name(int(label)) for label in videos.many_labels[i]]
        elif (label := videos.label(i)) is not None:
            labels = [videos.class_name(int(label))]
        segments = np.array([span] * len(labels) if span else [], np.float64).reshape(-1, 2)
        one = VideoAnnotation(
            name,
            math.nan,
            None,
            segments,
            tuple(labels) if span else (),
            whole=() if span else tuple(labels),
            path=path,
        )
        if name in found and found[name].path != path:
            name, one = path, replace(one, name=path)
        found[name] = together(found[name], one, source) if name in found else one
    return AnnotationSet(source, found, tuple(videos.classes or ()))
