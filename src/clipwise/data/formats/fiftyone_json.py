"""FiftyOne on disk: ``labels.json`` of FiftyOneTemporalDetectionDataset and FiftyOneVideoClassificationDataset, ``samples.json`` of FiftyOneDataset.

``support`` is ``[first, last]`` in frames from 1, both inclusive; ``timestamps`` are seconds. FiftyOne itself converts with the mean rate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipwise.data.formats.annotation_parts import Collector, Draft, FormatOptions, load_object, video_name, video_of
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.frame_times import FrameClock, exact_rate
from clipwise.data.formats.written import write_json
from clipwise.errors import DataError
from clipwise.io.text import plural


def matches(content: Any) -> bool:
    """Whether JSON is a ``labels.json`` or ``samples.json`` of FiftyOne."""
    if not isinstance(content, dict):
        return False
    if isinstance(content.get("labels"), dict) and "classes" in content:
        return True
    samples = content.get("samples")
    return isinstance(samples, list) and bool(samples) and isinstance(samples[0], dict) and "filepath" in samples[0]


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read one file; names without extension are completed by ``data.json`` beside it."""
    content = load_object(path)
    collector = Collector(path, options)
    if "samples" in content:
        for number, sample in enumerate(content["samples"], 1):
            _sample(collector, sample, number)
        return collector.result()
    classes = content.get("classes")
    collector.vocabulary = [str(name) for name in classes or []]
    places = path.parent / "data.json"
    files = load_object(places) if places.is_file() else {}
    for name, labels in content["labels"].items():
        draft = collector.video(str(files.get(name, name)) if isinstance(files, dict) else name)
        for number, one in enumerate(labels if isinstance(labels, list) else [labels], 1):
            if one is None:
                continue
            where = f"{name}, label {number}"
            if not isinstance(one, dict):  # a class of the whole video
                draft.add_whole(_label(one, collector, where), where=where)
                continue
            label = _label(one.get("label"), collector, where)
            if "support" not in one and "timestamps" not in one and not isinstance(labels, list):
                draft.add_whole(label, one.get("confidence"), where=where)
            else:
                _detection(collector, draft, one, label, None, where)
    return collector.result()


def _label(value: Any, collector: Collector, where: str) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and collector.vocabulary:
        if not 0 <= value < len(collector.vocabulary):
            raise DataError(
                f"{collector.source}, {where}: label {value} is out of range; there are {plural(len(collector.vocabulary), 'class', 'classes')}."
            )
        return collector.vocabulary[value]
    return value


def _detection(
    collector: Collector, draft: Draft, one: dict[str, Any], label: Any, clock: FrameClock | None, where: str
) -> None:
    has_frames, has_times = one.get("support") is not None, one.get("timestamps") is not None
    if not has_frames and not has_times:
        raise DataError(f"{collector.source}, {where}: 'support' (frames) or 'timestamps' (seconds) is needed.")
    pair = one["timestamps"] if has_times else one["support"]
    if not isinstance(pair, list) or len(pair) != 2:
        raise DataError(f"{collector.source}, {where}: {pair!r} is not [first, last].")
    score = one.get("confidence")
    if has_times:
        draft.add(pair[0], pair[1], label, score, where=where)
        return
    first, last = (collector.frame(value, where) for value in pair)
    if first < 1:
        collector.leave_out("segments that begin before the video", f"{where}: frame {first}, but frames count from 1")
        return
    if last < first:
        collector.leave_out("segments that end before they start", f"{where}: frames {first} to {last}")
        return
    clock = clock or collector.options.clock(draft.path, collector.source, "FiftyOne counts frames")
    collector.add_frames(draft, clock, first - 1, last, label, score, where=where)


def _sample(collector: Collector, sample: dict[str, Any], number: int) -> None:
    """A sample of a whole exported data set: its temporal detections and classifications, whatever their fields are called."""
    path = sample.get("filepath")
    facts = sample.get("metadata") or {}
    draft = collector.video(path, duration_s=facts.get("duration"))
    rate, count = facts.get("frame_rate"), facts.get("total_frame_count")
    clock = FrameClock(exact_rate(float(rate)), num_frames=count) if rate else None
    tags = [str(tag) for tag in sample.get("tags") or []]
    if subset := next(
        (tag for tag in tags if tag in ("train", "training", "val", "validation", "test", "testing")), None
    ):
        draft.subset = subset
    for kinds in (("TemporalDetections", "TemporalDetection"), ("Classification", "Classifications")):
        same = [name for name, field in sample.items() if isinstance(field, dict) and field.get("_cls") in kinds]
        if len(same) > 1 and collector.options.layer is None:
            raise DataError(
                f"{collector.source}: samples have several such fields: {', '.join(same)}. Name one as layer."
            )
    for name, field in sample.items():
        if collector.options.layer not in (None, name) or not isinstance(field, dict):
            continue
        where = f"sample {number}, {name}"
        if field.get("_cls") == "TemporalDetections":
            for one in field.get("detections") or []:
                _detection(collector, draft, one, one.get("label"), clock, where)
        elif field.get("_cls") == "TemporalDetection":
            _detection(collector, draft, field, field.get("label"), clock, where)
        elif field.get("_cls") == "Classification":
            draft.add_whole(field.get("label"), field.get("confidence"), where=where)
        elif field.get("_cls") == "Classifications":
            for one in field.get("classifications") or []:
                draft.add_whole(one.get("label"), one.get("confidence"), where=where)


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """``labels.json`` with times in seconds, which FiftyOne turns into frames, and ``data.json`` with the places of the videos."""
    labels: dict[str, Any] = {}
    places = {}
    for video in annotations.videos.values():
        rows = []
        for i, ((start, end), label) in enumerate(zip(video.segments.tolist(), video.labels)):
            one: dict[str, Any] = {"label": label, "timestamps": [start, end]}
            if video.scores:
                one["confidence"] = video.scores[i]
            rows.append(one)
        name = video_of(video, options)
        key = video_name(name) if video_name(name) not in labels else name
        whole = [
            {"label": w} | ({"confidence": video.whole_scores[i]} if video.whole_scores else {})
            for i, w in enumerate(video.whole)
        ]
        labels[key] = whole[0] if whole and not rows else rows
        found = options.videos.find(name)
        places[key] = str(found.resolve()) if found else name
    content = {"classes": None, "labels": labels}
    write_json(path, content, 1)
    beside = path.with_name("data.json")
    write_json(beside, places, 1)
    return [path, beside]
