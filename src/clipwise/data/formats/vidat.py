"""Vidat: a JSON file per video. Times are those of extracted frames, at ``video.fps`` of the file, which is the tool's own rate.

``end`` is the time of the last marked frame, so the segment reaches to the frame after it: ``end + 1 / fps``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, files_for, load_object, video_of
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.written import write_whole
from clipwise.errors import DataError

_VERSION = "2.1.0"
_RATE = 10.0  # Vidat's own default


def matches(content: Any) -> bool:
    """Whether JSON is an annotation of Vidat.

    Raises:
        DataError: it is a configuration only.
    """
    if not isinstance(content, dict):
        return False
    if "actionLabelData" in content and "annotation" not in content:
        raise DataError("this is a configuration of Vidat, which names the labels; its annotation file is expected.")
    inner = content.get("annotation")
    return isinstance(inner, dict) and "actionAnnotationList" in inner


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read one file."""
    content = load_object(path)
    collector = Collector(path, options)
    annotation = content["annotation"]
    video, actions = annotation.get("video") or {}, annotation.get("actionAnnotationList") or []
    if not isinstance(video, dict) or not isinstance(actions, list):
        raise DataError(f"{path}: 'video' must be an object and 'actionAnnotationList' a list.")
    kinds = (content.get("config") or {}).get("actionLabelData") or []
    names = {str(one.get("id")): str(one.get("name")) for one in kinds if isinstance(one, dict)}
    used = {str(one.get("action")) for one in actions if isinstance(one, dict)}
    collector.vocabulary = [name for key, name in names.items() if key != "0" or key in used]
    source = str(video.get("src") or "")
    name = path.stem if not source or source.startswith("blob:") else source
    rate = collector.number(video.get("fps") or 0, "video.fps")
    draft = collector.video(name, duration_s=video.get("duration"))
    for number, one in enumerate(actions, 1):
        where = f"action {number}"
        if not isinstance(one, dict):
            raise DataError(f"{path}, {where}: {type(one).__name__} where an object is expected.")
        if one.get("start") is None or one.get("end") is None:
            collector.leave_out("actions that were not ended", where)
            continue
        label = names.get(str(one.get("action")))
        if label is None:
            raise DataError(
                f"{path}, {where}: its configuration has no action {one.get('action')!r} (known: {', '.join(names)})."
            )
        if rate <= 0:
            raise DataError(f"{path}: video.fps is {video.get('fps')!r}, so the length of a marked frame is unknown.")
        start, end = (collector.number(one[key], where) for key in ("start", "end"))
        if end >= start:
            end += 1 / rate
            if draft.duration_s == draft.duration_s and start < draft.duration_s:
                end = min(end, max(draft.duration_s, float(one["end"])))
        draft.add(start, round(end, 6), label, where=where)
    return collector.result()


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """A file per video: ``path`` for one, else a folder. Times are rounded to frames of ``options.fps``, 10 if not given."""
    videos = list(annotations.videos.values())
    targets = files_for(videos, path, lambda v: Path(v.name).name)
    labels = list(dict.fromkeys([*annotations.vocabulary, *annotations.classes]))
    rate = options.fps or _RATE
    kinds = [{"id": i, "name": name, "color": "#0000FF", "objects": [0]} for i, name in enumerate(["default", *labels])]
    for video, target in zip(videos, targets):
        duration = (
            video.duration_s if math.isfinite(video.duration_s) else float(max(video.segments[:, 1], default=0.0))
        )
        actions = []
        for (start, end), label in zip(video.segments.tolist(), video.labels):
            first = math.floor(start * rate + 0.5)
            last = max(first, math.floor(end * rate + 0.5) - 1)
            actions.append({"start": round(first / rate, 3), "end": round(last / rate, 3), "action": 1 + labels.index(label),
                            "object": 0, "color": "#0000FF", "description": ""})  # fmt: skip
        facts = {"src": video_of(video, options), "fps": rate, "frames": math.floor(duration * rate), "duration": duration,
                 "height": 0, "width": 0}  # fmt: skip
        found = options.videos.find(video_of(video, options))
        if found is not None:
            from clipwise.video.decode import open_video

            with open_video(found) as reader:
                facts |= {"height": reader.height, "width": reader.width}
        annotation = {"video": facts, "keyframeList": [0], "objectAnnotationListMap": {}, "regionAnnotationListMap": {},
                      "skeletonAnnotationListMap": {}, "actionAnnotationList": actions}  # fmt: skip
        config = {
            "objectLabelData": [{"id": 0, "name": "default", "color": "#00FF00"}],
            "actionLabelData": kinds,
            "skeletonTypeData": [],
        }
        text = json.dumps(
            {"version": _VERSION, "annotation": annotation, "config": config}, ensure_ascii=False, indent=1
        )
        write_whole(target, text + "\n")
    return targets
