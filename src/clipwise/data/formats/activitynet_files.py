"""ActivityNet's annotations and results as one of the annotation formats; how they are read for training stands in ``annotations``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, load_object, video_name
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.written import write_json
from clipwise.errors import DataError


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """``{"database": …}``, or videos at the top (BSN, MMAction2); durations and segments may be text, or a duration missing."""
    content = load_object(path)
    entries = content.get("database", content)
    collector = Collector(path, options)
    for node in content.get("taxonomy") or []:
        parents = {one.get("parentName") for one in content["taxonomy"] if isinstance(one, dict)}
        if isinstance(node, dict) and node.get("nodeName") and node["nodeName"] not in parents:
            collector.vocabulary.append(str(node["nodeName"]))
    for name, entry in entries.items():
        where = f"video {name!r}"
        if not isinstance(entry, dict) or not isinstance(entry.get("annotations", []), list):
            raise DataError(f"{path}, {where}: an object with a list 'annotations' is expected.")
        seconds = entry.get("duration_second", entry.get("duration"))
        frames = entry.get("duration_frame") or 0
        draft = collector.video(
            name, duration_s=seconds, subset=entry.get("subset"), num_frames=collector.frame(frames, where)
        )
        _add(collector, draft, entry.get("annotations", []), where)
    return collector.result()


def read_results(path: Path, options: FormatOptions) -> AnnotationSet:
    """Results: segments with scores; entries without a segment are classes of the whole video."""
    collector = Collector(path, options)
    for name, rows in load_object(path)["results"].items():
        where = f"video {name!r}"
        if not isinstance(rows, list):
            raise DataError(f"{path}, {where}: a list of results is expected.")
        _add(collector, collector.video(name), rows, where)
    return collector.result()


def _add(collector: Collector, draft: Any, rows: list[Any], where: str) -> None:
    for number, row in enumerate(rows, 1):
        place = f"{where}, entry {number}"
        if not isinstance(row, dict):
            raise DataError(f"{collector.source}, {place}: {row!r} is not an object.")
        segment, label = row.get("segment"), row.get("label", "action")
        if segment is None:
            draft.add_whole(label, row.get("score"), where=place)
        elif isinstance(segment, list) and len(segment) == 2:
            draft.add(*segment, label, row.get("score"), where=place)
        else:
            raise DataError(f"{collector.source}, {place}: segment {segment!r} is not [start, end].")


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """``{"version", "taxonomy", "database"}``; lengths that are not known are looked up in the video files."""
    database = {}
    for name, video in annotations.videos.items():
        duration = video.duration_s
        if math.isnan(duration):
            clock = options.videos.clock(video.path or name)
            duration = (clock and clock.duration_s) or math.nan
        notes: list[dict[str, Any]] = [
            {"segment": segment, "label": label} for segment, label in zip(video.segments.tolist(), video.labels)
        ]
        notes += [{"label": label} for label in video.whole]
        entry: dict[str, Any] = {} if math.isnan(duration) else {"duration": duration}
        database[name] = entry | ({"subset": video.subset} if video.subset else {}) | {"annotations": notes}
    names = list(dict.fromkeys([*annotations.vocabulary, *annotations.classes]))
    taxonomy = [
        {"nodeName": label, "nodeId": i + 1, "parentName": "Root", "parentId": 0} for i, label in enumerate(names)
    ]
    content = {"version": "VERSION 1.3", "taxonomy": taxonomy, "database": database}
    write_json(path, content)
    return [path]


def write_results(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """Results for the evaluation server; what has no score gets 1."""
    results = {}
    for name, video in annotations.videos.items():
        pairs = zip(video.segments.tolist(), video.labels, video.scores or [1.0] * len(video.labels))
        rows: list[dict[str, Any]] = [
            {"label": label, "score": score, "segment": segment} for segment, label, score in pairs
        ]
        rows += [{"label": w, "score": s} for w, s in zip(video.whole, video.whole_scores or [1.0] * len(video.whole))]
        results[video_name(name)] = rows
    content = {"version": "VERSION 1.3", "results": results, "external_data": {"used": False, "details": ""}}
    write_json(path, content)
    return [path]
