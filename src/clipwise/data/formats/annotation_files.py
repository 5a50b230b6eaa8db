"""Annotation files of any kind, read for training, evaluation and conversion.

Read here are the forms in which ActivityNet goes around:

=============== ==============================================================================================
form            looks like
=============== ==============================================================================================
ActivityNet     ``{"database": {id: {"duration", "subset", "annotations": [{"segment": [s, e], "label"}]}}}``
BSN, MMAction2  ``{"v_id": {"duration_second", "duration_frame", "feature_frame", "annotations"}}``; the subsets
                stand in a table beside it (``video_info_new.csv``)
Paddle          as BSN's, with ``subset`` in each entry
=============== ==============================================================================================

Files of annotation tools and other data sets (``clipwise.data.formats.annotation_kinds``) and lists of videos become the same.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.data.formats.annotation_faults import fault_of
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.errors import DataError
from clipwise.io.parse import parse_json


def read_annotations(
    path: str | os.PathLike,
    video_info: str | os.PathLike | None = None,
    *,
    videos: str | os.PathLike | None = None,
    fps: float | None = None,
    layer: str | None = None,
    config: str | None = None,
    tolerant: bool = False,
) -> AnnotationSet:
    """Read annotations in any of the forms of the module's table, of a tool, or of another data set.

    Args:
        path: the file, or a folder of files of one format.
        video_info: BSN's CSV with the columns video and subset (and duration); found by itself if it lies beside the file.
        videos: folder of the videos, whose frame rates and lengths are asked for where the annotations lack them.
        fps, layer, config: of :class:`clipwise.data.formats.annotation_parts.FormatOptions`.
        tolerant: leave out impossible segments (no length, or beyond the video).

    Raises:
        DataError: no such file, another form, a time that is not a number; the message names file and video.
    """
    path = Path(path)
    content = None
    if path.suffix.lower() in (".json", "") and not path.is_dir():
        try:
            content = parse_json(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise DataError(f"annotation file {path} does not exist.") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is not a JSON file: {error}.") from None
    entries = content.get("database", content) if isinstance(content, dict) else None
    if path.suffix.lower() not in (".json", "") or path.is_dir() or _is_foreign(content, entries):
        from clipwise.data.formats.annotation_parts import FormatOptions, VideoFinder
        from clipwise.data.formats.annotation_tables import read_any, with_table

        finder = VideoFinder(None if videos is None else Path(videos), path if path.is_dir() else path.parent)
        options = FormatOptions(videos=finder, strict=not tolerant, fps=fps, layer=layer, config=config)
        return with_table(read_any(path, options=options), path, video_info)
    if not isinstance(content, dict) or not isinstance(entries, dict) or not entries:
        raise DataError(f"{path} holds no annotations: videos by name, or a 'database' of them, are expected.")
    table: dict[str, dict[str, str]] = {}
    if "database" not in content and not any(isinstance(e, dict) and "subset" in e for e in entries.values()):
        from clipwise.data.formats.annotation_tables import read_table

        table = read_table(path, video_info)
    subsets = {name: row["subset"] for name, row in table.items()}
    found = {}
    for given, entry in entries.items():
        name = given.removeprefix("v_")
        if name in found:
            raise DataError(f"{path}: video {name!r} is listed twice (with and without v_).")
        found[name] = _video(name, entry, subsets, path)
    return AnnotationSet(str(path), found)


def _is_foreign(content: Any, entries: Any) -> bool:
    """Whether JSON is of another form, or ActivityNet's with durations that are text or missing."""
    if isinstance(content, list) or not isinstance(entries, dict):
        return isinstance(content, list) and bool(content)
    durations = [e.get("duration_second", e.get("duration")) for e in entries.values() if isinstance(e, dict)]
    if "database" in content:
        return any(d is None or isinstance(d, str) for d in durations)
    known = any(
        isinstance(e, dict) and ("duration_second" in e or isinstance(e.get("annotations"), list))
        for e in entries.values()
    )
    if known or not durations:
        return False
    from clipwise.data.formats.detect import detect_json

    return detect_json(content) not in ("json", "activitynet")


def annotations_of(database: Mapping[str, Any], source: str = "database") -> AnnotationSet:
    """The same from a ``database`` in memory, for instance of ``clipwise.prepare.synthetic.make_long_videos``."""
    return AnnotationSet(
        source, {n.removeprefix("v_"): _video(n.removeprefix("v_"), e, {}, source) for n, e in database.items()}
    )


def _video(name: str, entry: Any, subsets: Mapping[str, str], path: Any) -> VideoAnnotation:
    if not isinstance(entry, dict):
        raise DataError(
            f"{path}: video {name!r} is {type(entry).__name__}; a dictionary with its annotations is expected."
        )
    seconds = next((entry[key] for key in ("duration_second", "duration") if key in entry), None)
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds) or seconds <= 0:
        raise DataError(f"{path}: video {name!r} has duration {seconds!r}; a positive number of seconds is needed.")
    actions = entry.get("annotations", [])
    try:
        segments = np.array([a["segment"] for a in actions], dtype=np.float64).reshape(-1, 2)
        labels = tuple(str(a.get("label", "action")) for a in actions)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(
            f'{path}: the annotations of video {name!r} must be a list of {{"segment": [start, end], "label": name}}.'
        ) from None
    if not np.isfinite(segments).all() or (segments[:, 1] < segments[:, 0]).any() or (segments < 0).any():
        raise DataError(f"{path}: a segment of video {name!r} {fault_of(segments)}: {segments.tolist()}.")
    try:
        num_frames, feature_frames = (int(entry.get(key) or 0) for key in ("duration_frame", "feature_frame"))
        fps = float(entry.get("fps") or (num_frames or int(entry.get("frame") or 0)) / seconds)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: duration_frame, feature_frame and fps of video {name!r} must be numbers.") from None
    return VideoAnnotation(
        name=name,
        duration_s=float(seconds),
        subset=entry.get("subset", subsets.get(name)),
        segments=segments,
        labels=labels,
        num_frames=num_frames,
        feature_frames=feature_frames,
        fps=fps if math.isfinite(fps) else 0.0,
    )
