"""Label Studio: JSON and JSON-MIN exports, and tasks with predictions for import.

Frames of ``TimelineLabels`` count from 1, both ends inclusive, at the rate that the labeling configuration declares
(``<Video frameRate="25"/>``, 24 if it says nothing), whatever the file's own rate is: the player multiplies its clock by that number.
So frames ``[start, end]`` are the seconds ``(start - 1) / rate`` to ``end / rate``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from clipwise.data.formats.annotation_parts import Collector, Draft, FormatOptions, load_object
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.text_lists import open_text
from clipwise.data.videolist import is_video
from clipwise.errors import DataError
from clipwise.io.parse import parse_json
from clipwise.io.safe_xml import read_xml, root_tag

_DEFAULT_RATE = 24.0
_RATE_FIELDS = ("fps", "frame_rate", "frameRate", "framerate", "frameRate_")
_WITH_LABELS = ("timelinelabels", "labels", "timeserieslabels")
_WHOLE = ("choices", "taxonomy")


def matches(content: Any) -> bool:
    """Whether JSON is an export of Label Studio, a task, or an event that it sends."""
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return False
    if isinstance(first.get("data"), dict) and any(k in first for k in ("annotations", "predictions", "completions")):
        return True
    if isinstance(first.get("annotation"), dict) and "result" in first["annotation"]:
        return True
    if isinstance(first.get("result"), list) and isinstance(first.get("task"), dict):
        return True  # a file of a target storage, one an annotation
    if isinstance(content, list) and isinstance(first.get("data"), dict) and "id" in first:
        return True  # a task that nobody has annotated
    marks = {"annotation_id", "annotator", "lead_time"} & set(first)
    return isinstance(content, list) and (len(marks) > 1 or any(map(_regions_of_min, first.values())))


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read an export. Of several annotations of a task the one marked as ground truth counts, else the first."""
    content = _table(path) if path.suffix.lower() in (".csv", ".tsv") else load_object(path)
    records = content if isinstance(content, list) else [content]
    config = _find_config(path, options, records)
    collector = Collector(path, options)
    if config is not None:
        collector.vocabulary = config.labels
    bare = _bare_choices(records, config, options.layer, path)
    seen: set[Any] = set()
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise DataError(f"{path}, task {number}: {type(record).__name__} where a task is expected.")
        data, results, key = _task(record, collector, number, bare)
        if results is None:
            continue
        if key is not None and key in seen:
            collector.note("further annotations of a task, left out", f"task {key}")
            continue
        seen.add(key)
        draft = collector.video(_video_name(data, config, path, number))
        _add_regions(collector, draft, results, DeclaredRate(data, config, options, path), number)
    return collector.result()


def matches_header(header: list[str]) -> bool:
    """Whether a table's header is that of a CSV or TSV export."""
    return {"annotation_id", "lead_time"} <= set(header)


def _table(path: Path) -> list[dict[str, Any]]:
    """A CSV or TSV export as the records of JSON-MIN; its cells hold JSON."""
    with open_text(path) as file:
        rows = list(csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    records = []
    for row in rows:
        record: dict[str, Any] = {}
        for key, cell in row.items():
            record[key] = cell
            if isinstance(cell, str) and cell[:1] in ("[", "{"):
                try:
                    record[key] = parse_json(cell)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}, column {key}: not valid JSON ({error.msg}).") from None
        records.append({key: value for key, value in record.items() if value not in ("", None)})
    return records


class LabelConfig:
    """A labeling configuration: the controls, their labels, and the declared rate."""

    def __init__(self, root: ElementTree.Element, source: str | Path):
        videos = [e for e in root.iter() if e.tag.lower() == "video"]
        if not videos and not any(e.tag.lower() in ("timelinelabels", "choices", "labels") for e in root.iter()):
            raise DataError(f"{source}: there is no <Video> in this labeling configuration.")
        video = lower_keys(videos[0]) if videos else {}
        self.video_name = video.get("name", "video")
        self.value = video.get("value", "$video").removeprefix("$")
        self.rate = video.get("framerate")
        self.timeline, self.timeline_labels = self._control(root, "timelinelabels")
        self.choices, self.choice_labels = self._control(root, "choices")
        self.labels = [*self.timeline_labels, *self.choice_labels]
        self.controls = {e.get("name") for e in root.iter() if e.get("toName")}

    @staticmethod
    def _control(root: ElementTree.Element, tag: str) -> tuple[str | None, list[str]]:
        name, labels = None, []
        for control in (e for e in root.iter() if e.tag.lower() == tag):
            name = name or control.get("name")
            for label in (e for e in control.iter() if e.tag.lower() in ("label", "choice")):
                if value := label.get("alias") or label.get("value"):
                    labels.append(value)
        return name, labels


def read_config(source: str | Path | bytes, name: str | Path | None = None) -> LabelConfig:
    """A labeling configuration from its file or text."""
    return LabelConfig(read_xml(source, name), name or str(source))


def _find_config(path: Path, options: FormatOptions, records: list[Any]) -> LabelConfig | None:
    if options.config:
        return read_config(options.config)
    first = records[0] if records and isinstance(records[0], dict) else {}
    project = first.get("project")
    if isinstance(project, dict) and isinstance(project.get("label_config"), str):
        return read_config(project["label_config"].strip().encode(), f"{path}, label_config")
    beside = [p for p in sorted(path.parent.glob("*.xml")) if root_tag(p) == "View"]
    own = [p for p in beside if p.stem in (f"{path.stem}_config", path.stem)]
    found = own or beside
    return read_config(found[0]) if len(found) == 1 else None


def _task(
    record: dict[str, Any], collector: Collector, number: int, bare: set[str]
) -> tuple[dict[str, Any], list[Any] | None, Any]:
    """A task's data, the regions that count (None: nobody's work counts), and what repeats for each further annotation."""
    if isinstance(record.get("annotation"), dict):  # an event
        task = record.get("task") or {}
        return (
            task.get("data", {}) if isinstance(task, dict) else {},
            _results(record["annotation"], collector, number),
            None,
        )
    if isinstance(record.get("task"), dict) and isinstance(record.get("result"), list):
        task = record["task"]
        if record.get("was_cancelled"):
            collector.note("cancelled annotations, left out", f"task {task.get('id', number)}")
            return {}, None, None
        return task.get("data", {}), _results(record, collector, number), task.get("id")
    if not isinstance(record.get("data"), dict):
        return record, list(_min_regions(record, bare)), record.get("id")
    notes = record.get("annotations", record.get("completions")) or []
    if not isinstance(notes, list) or not all(isinstance(note, dict) for note in notes):
        raise DataError(f"{collector.source}, task {number}: 'annotations' must be a list of objects with a 'result'.")
    valid = [note for note in notes if not note.get("was_cancelled") and not note.get("was_canceled")]
    if len(valid) < len(notes):
        collector.note("cancelled annotations, left out", f"task {record.get('id', number)}")
    if rejected := [note for note in valid if _rejected(note)]:
        collector.note("annotations that a reviewer rejected, left out", f"task {record.get('id', number)}")
        valid = [note for note in valid if note not in rejected]
    if len(valid) > 1:
        collector.note("tasks with several annotations, of which one was taken", f"task {record.get('id', number)}")
    chosen = next((note for note in valid if note.get("ground_truth")), valid[0] if valid else None)
    if chosen is not None:
        return record["data"], _results(chosen, collector, number), None
    predictions = record.get("predictions") or []
    if predictions and not notes and isinstance(predictions[0], dict):
        collector.note("tasks without annotation, whose prediction was taken", f"task {record.get('id', number)}")
        return record["data"], _results(predictions[0], collector, number), None
    return record["data"], None if notes else [], None


def _rejected(note: dict[str, Any]) -> bool:
    """Whether the last review of an annotation refused it."""
    reviews = note.get("reviews")
    last = reviews[-1] if isinstance(reviews, list) and reviews and isinstance(reviews[-1], dict) else {}
    return note.get("last_action") == "rejected" or last.get("accepted") is False


def _results(note: dict[str, Any], collector: Collector, number: int) -> list[Any]:
    result = note.get("result", [])
    if not isinstance(result, list):
        raise DataError(f"{collector.source}, task {number}: 'result' must be a list of regions.")
    return result


def _regions_of_min(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "ranges" in value[0]


def _min_regions(record: dict[str, Any], bare: set[str]) -> Iterator[dict[str, Any]]:
    """The regions of a JSON-MIN record, in the form that they have in full exports."""
    for key, value in record.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            for one in value:
                kind = next((t for t in _WITH_LABELS if t in one), None)
                if kind:
                    yield {"type": kind, "from_name": key, "value": one}
        elif isinstance(value, dict) and isinstance(value.get("choices"), list):
            yield {"type": "choices", "from_name": key, "value": value}
        elif isinstance(value, str) and key in bare:
            yield {"type": "choices", "from_name": key, "value": {"choices": [value]}}


def _bare_choices(records: list[Any], config: LabelConfig | None, layer: str | None, path: Path) -> set[str]:
    """The keys of JSON-MIN records whose text is a single choice; fields of the task look the same, so a control must be known.

    Raises:
        DataError: there are several such keys, and nothing says which is a control.
    """
    small = [r for r in records if isinstance(r, dict) and "annotation_id" in r]
    texts = {key: value for r in small for key, value in r.items() if isinstance(value, str) and key not in _MIN_KEYS}
    if config is not None or layer is not None:
        known = {layer} if layer is not None else config.controls if config is not None else set()
        return {key for key in texts if key in known}
    found = {key for key, value in texts.items() if not _like_media(value)}
    if any(_regions_of_min(value) for r in small for value in r.values()):
        return set()  # of segments; a text is the task's
    if len(found) > 1:
        raise DataError(
            f"{path}: {', '.join(sorted(found))} hold texts, and the export does not say which of them is a control with choices. Give the "
            "labeling configuration (--config FILE, or beside the export), or the control as layer (--layer, lists.layer)."
        )
    return found


_MIN_KEYS = ("created_at", "updated_at", "annotator", "annotation_id", "id", "lead_time", "agreement", "video", "url")


def _like_media(value: str) -> bool:
    return is_video(value.partition("?")[0]) or "/" in value or is_video(value)


def _video_name(data: Mapping[str, Any], config: LabelConfig | None, path: Path, number: int) -> str:
    """The task's video: the field that the configuration names, else the only one that holds a video."""
    wanted = [config.value] if config else []
    for key in (*wanted, "video", "video_url", "videos", "url"):
        if isinstance(data.get(key), str) and data[key].strip():
            html = re.search(
                r"<(?:video|source)\b[^>]*\bsrc\s*=\s*[\"']?([^\"'\s>]+)", data[key]
            )  # <HyperText> with a player
            return html[1] if html else str(data[key])
    texts = {
        key: value for key, value in data.items() if isinstance(value, str) and key not in (*_RATE_FIELDS, *_MIN_KEYS)
    }
    fields = [value for value in texts.values() if _like_media(value)] or list(texts.values())
    if len(fields) == 1 and fields[0].strip():
        return fields[0]  # a name without suffix, if nothing else can be one
    raise DataError(
        f"{path}, task {number}: no field of its data names a video (there are {', '.join(map(str, data)) or 'none'})."
        " Give the labeling configuration (--config) that says which."
    )


class DeclaredRate:
    """The declared rate of a task, asked for only where frames are counted."""

    def __init__(self, data: Mapping[str, Any], config: LabelConfig | None, options: FormatOptions, path: Path):
        self.data, self.config, self.options, self.path = data, config, options, path

    def __call__(self) -> float:
        declared: Any = self.options.fps
        if declared is None and self.config is not None and self.config.rate:
            field = self.config.rate.strip()
            declared = self.data.get(field[1:]) if field.startswith("$") else field
            if declared is None:
                raise DataError(
                    f"{self.path}: the labeling configuration takes the rate from {field}, which a task does not have."
                )
        if declared is None:
            declared = next((self.data[k] for k in _RATE_FIELDS if k in self.data), None)
        if declared is None and self.config is not None:
            declared = _DEFAULT_RATE
        if declared is None:
            raise DataError(
                f"{self.path}: Label Studio counts frames at the rate that its labeling configuration declares "
                '(<Video frameRate="…"/>; 24 if it does not), and the export does not repeat it. Give the configuration (--config FILE, or beside '
                "the export), or the declared rate (--fps, lists.fps or input.fps). The video's own rate may be another."
            )
        try:
            rate = float(declared)
            if not 0 < rate < 1e6:
                raise ValueError
        except (TypeError, ValueError):
            raise DataError(f"{self.path}: the declared frame rate {declared!r} is not a positive number.") from None
        return 1 / rate if rate < 1 else rate


def _add_regions(collector: Collector, draft: Draft, results: list[Any], rate: DeclaredRate, number: int) -> None:
    layer = collector.options.layer
    names = {r.get("from_name") for r in results if isinstance(r, dict) and r.get("type") in _WHOLE}
    if len(names) > 1 and layer is None:
        known = ", ".join(sorted(map(str, names)))
        raise DataError(
            f"{collector.source}, task {number}: there are choices of several controls ({known}); name one as layer."
        )
    for place, region in enumerate(results, 1):
        where = f"task {number}, region {place}"
        if not isinstance(region, dict):
            raise DataError(f"{collector.source}, {where}: {type(region).__name__} where a region is expected.")
        if layer is not None and region.get("from_name") != layer:
            continue
        kind, value = str(region.get("type", "")).lower(), region.get("value")
        if kind not in (*_WITH_LABELS, *_WHOLE):
            collector.note(f"results of type {kind or 'unknown'}, left out", where)
            continue
        if not isinstance(value, dict):
            raise DataError(f"{collector.source}, {where}: its 'value' must be an object.")
        labels = value.get(kind, [])
        if not isinstance(labels, list):
            labels = [labels]
        if kind in _WHOLE:
            for label in labels:
                draft.add_whole(
                    "/".join(map(str, label)) if isinstance(label, list) else label, region.get("score"), where=where
                )
            continue
        if not labels:
            collector.leave_out("segments without a label", where)
        for start_s, end_s in _spans(collector, value, rate, where):
            for label in labels:
                draft.add(start_s, end_s, label, region.get("score"), where=where)


def _spans(collector: Collector, value: dict[str, Any], rate: DeclaredRate, where: str) -> Iterator[tuple[Any, Any]]:
    if "ranges" not in value:
        if "start" in value and "end" in value:  # <Labels> of audio beside a video: seconds
            yield value["start"], value["end"]
            return
        raise DataError(f"{collector.source}, {where}: there are no 'ranges'.")
    ranges = value["ranges"]
    if not isinstance(ranges, list) or not all(isinstance(r, dict) and "start" in r and "end" in r for r in ranges):
        raise DataError(f'{collector.source}, {where}: \'ranges\' must be a list of {{"start": frame, "end": frame}}.')
    for one in ranges:
        first, last = (collector.frame(one[key], where) for key in ("start", "end"))
        per_second = rate()
        if first == 0 and not collector.options.strict:
            collector.note("ranges that begin with frame 0, taken as 1", where)
            first = 1
        if first < 1:
            collector.leave_out(
                "segments that begin before the video", f"{where}: frame {first}, but frames count from 1"
            )
        elif last < first:
            collector.leave_out("segments that end before they start", f"{where}: frames {first} to {last}")
        else:
            yield (first - 1) / per_second, last / per_second


def lower_keys(element: ElementTree.Element) -> dict[str, str]:
    """Attributes, whose names tools write with and without capitals."""
    return {key.lower(): value for key, value in element.attrib.items()}
