"""X-AnyLabeling's video classifier: a JSON side-car a video. Milliseconds count; the frame numbers follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipwise.data.formats.annotation_parts import (
    Collector,
    FormatOptions,
    files_for,
    load_object,
    plain_path,
    video_of,
)
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.written import write_json
from clipwise.errors import DataError


def matches(content: Any) -> bool:
    """Whether JSON is a side-car of the video classifier.

    Raises:
        DataError: it is one of the image tools of the same family.
    """
    if not isinstance(content, dict):
        return False
    if "shapes" in content and {"imagePath", "imageData", "flags"} & set(content):
        raise DataError("this is a side-car of an image (labelme, X-AnyLabeling); segments of videos are expected.")
    return content.get("type") == "video_classification" and isinstance(content.get("segments"), list)


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read one side-car."""
    content = load_object(path)
    collector = Collector(path, options)
    labels = content.get("labels") or []
    collector.vocabulary = [str(label) for label in labels] if isinstance(labels, list) else []
    name = content.get("video") or path.stem
    milliseconds = content.get("duration_ms")
    draft = collector.video(
        name, duration_s=None if not milliseconds else collector.number(milliseconds, "duration_ms") / 1000
    )
    if Path(plain_path(str(name))).stem != path.stem:
        collector.note("side-cars named other than their video", f"video {name!r}")
    for number, one in enumerate(content["segments"], 1):
        where = f"segment {number}"
        if isinstance(one, dict) and {"start_frame", "end_frame"} <= set(one) and "start_ms" not in one:
            rate = collector.number(content.get("fps") or options.fps or 0, "fps")
            if rate <= 0:
                raise DataError(
                    f"{path}, {where}: it has frames only, and fps is missing. Give it: --fps or lists.fps."
                )
            begin, stop = (collector.frame(one[key], where) for key in ("start_frame", "end_frame"))
            draft.add(begin / rate, stop / rate, one.get("label"), where=where)
            continue
        if not isinstance(one, dict) or "start_ms" not in one or "end_ms" not in one:
            raise DataError(f"{path}, {where}: start_ms, end_ms and label are expected.")
        start, end = (collector.number(one[key], where) / 1000 for key in ("start_ms", "end_ms"))
        draft.add(start, end, one.get("label"), where=where)
    return collector.result()


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """A side-car a video: ``path`` for one video, else a folder of them, each named after its video."""
    videos = list(annotations.videos.values())
    targets = files_for(videos, path, lambda v: Path(video_of(v, options)).stem)
    labels = list(dict.fromkeys([*annotations.vocabulary, *annotations.classes]))
    for video, target in zip(videos, targets):
        name = video_of(video, options)
        fps, width, height, duration = 0.0, 0, 0, video.duration_s
        if found := options.videos.find(name):
            from clipwise.video.decode import open_video

            with open_video(found) as reader:
                fps, width, height, duration = float(reader.fps), reader.width, reader.height, reader.duration_s
        fps = options.fps or fps
        segments = []
        for i, ((start, end), label) in enumerate(zip(video.segments.tolist(), video.labels)):
            first = round(1000 * start)
            last = max(first + 1, round(1000 * end))
            frames = (round(first / 1000 * fps), round(last / 1000 * fps))
            segments.append({"id": f"s{i}", "label": label, "start_ms": first, "end_ms": last, "start_frame": frames[0],
                             "end_frame": frames[1], "description": ""})  # fmt: skip
        content = {
            "version": "1.0.0",
            "type": "video_classification",
            "video": Path(name).name,
            "fps": fps,
            "duration_ms": round(1000 * duration) if duration == duration else 0,
            "width": width,
            "height": height,
            "labels": labels,
            "label_colors": {},
            "segments": segments,
        }
        write_json(target, content, 2)
    return targets
