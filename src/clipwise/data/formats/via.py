"""VGG VIA 3, the video annotator: one JSON project. Times are seconds; ``z`` of two values is a segment, an empty one the whole file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, load_object, video_of
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.written import write_json
from clipwise.errors import DataError
from clipwise.io.names import did_you_mean
from clipwise.io.text import plural

_TEXT, _CHECKBOX, _RADIO, _SELECT = 1, 2, 3, 4
_VIDEO = 4


def matches(content: Any) -> bool:
    """Whether JSON is a project of VIA 3.

    Raises:
        DataError: it is one of VIA 1 or 2.
    """
    if not isinstance(content, dict):
        return False
    first = next(iter(content.values()), None)
    older = isinstance(first, dict) and {"filename", "regions"} <= set(first)
    if older or "_via_img_metadata" in content or "_via_settings" in content:
        raise DataError("this is a project of VIA 1 or 2, which annotate images; VIA 3 annotates videos.")
    return {"metadata", "view", "file"} <= set(content) and isinstance(content["metadata"], dict)


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read a project. Where segments have several attributes, ``layer`` names the one that is the label."""
    content = load_object(path)
    collector = Collector(path, options)
    try:
        files = {str(fid): entry for fid, entry in content["file"].items()}
        views = {str(vid): view for vid, view in content["view"].items()}
        attributes = {str(aid): entry for aid, entry in (content.get("attribute") or {}).items()}
        paths = {vid: _file_of(view, files, collector, vid) for vid, view in views.items()}
        chosen = {
            kind: _choose(attributes, anchor, options.layer, path)
            for kind, anchor in (("segment", "_Z2_XY0"), ("whole", "_Z0_XY0"))
        }
        for name in dict.fromkeys([*chosen["segment"], *chosen["whole"]]):
            collector.vocabulary += map(str, (attributes[name].get("options") or {}).values())
        for place in paths.values():
            if place is not None:
                collector.video(place)
        for key, entry in content["metadata"].items():
            _entry(collector, key, entry, paths, attributes, chosen)
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not in the form of VIA 3 projects ({type(error).__name__}: {error}).") from None
    return collector.result()


def _file_of(view: dict[str, Any], files: dict[str, Any], collector: Collector, vid: str) -> str | None:
    ids = [str(fid) for fid in view.get("fid_list") or []]
    if not ids or ids[0] not in files:
        collector.note("views without a file, left out", f"view {vid}")
        return None
    if len(ids) > 1:
        collector.note("views of several files, of which the first was taken", f"view {vid}")
    entry = files[ids[0]]
    return str(entry.get("fname") or entry.get("src"))


def _choose(attributes: dict[str, Any], anchor: str, layer: str | None, path: Path) -> list[str]:
    """Ids of the attributes that are labels: the one named, else the only one."""
    found = [aid for aid, one in attributes.items() if str(one.get("anchor_id", "")).endswith(anchor)]
    names = {aid: str(attributes[aid].get("aname", aid)) for aid in found}
    if layer is not None:
        wanted = [aid for aid, name in names.items() if name == layer]
        if not wanted and anchor == "_Z2_XY0":
            known = [str(one.get("aname")) for one in attributes.values()]
            if layer not in known:
                raise DataError(
                    f"{path} has no attribute {layer!r}{did_you_mean(layer, known) or f'; it has {known}.'}"
                )
        return wanted
    if len(found) > 1 and anchor == "_Z2_XY0":
        raise DataError(
            f"{path}: segments have several attributes ({', '.join(names.values())}). Name the one that is the label as layer "
            "(--layer, lists.layer or input.layer)."
        )
    return found


def _entry(
    collector: Collector,
    key: str,
    entry: dict[str, Any],
    paths: dict[str, str | None],
    attributes: dict[str, Any],
    chosen: dict[str, list[str]],
) -> None:
    where = f"metadata {key!r}"
    vid, times = str(entry.get("vid")), entry.get("z") or []
    if vid not in paths:
        collector.leave_out("segments of views that the project lacks", f"{where}: view {vid}")
        return
    name = paths[vid]
    if name is None or entry.get("xy") or len(times) == 1:
        collector.note("regions of frames, left out (segments and whole files are read)", where)
        return
    if len(times) > 2:
        raise DataError(f"{collector.source}, {where}: z has {plural(len(times), 'time')}; a segment has two.")
    kind = "segment" if times else "whole"
    values = {str(aid): value for aid, value in (entry.get("av") or {}).items()}
    labels = [label for aid in chosen[kind] if aid in values for label in _labels(attributes[aid], values[aid])]
    draft = collector.video(name)
    if not times:
        for label in labels:
            draft.add_whole(label, where=where)
        return
    if not labels:
        collector.leave_out("segments without a label", where)
    start, end = (collector.number(t, where) for t in times)
    if end < start:
        collector.note("segments drawn backwards, turned", where)
        start, end = end, start
    for label in labels:
        draft.add(start, end, label, where=where)


def _labels(attribute: dict[str, Any], value: Any) -> list[str]:
    """The labels that a value stands for: keys of options, joined by commas for checkboxes; text as it is."""
    options = {str(key): str(name) for key, name in (attribute.get("options") or {}).items()}
    if isinstance(value, dict):  # {"0": true, "1": false}
        value = ",".join(str(key) for key, on in value.items() if on)
    text = str(value)
    if not options or attribute.get("type") == _TEXT or text in options:
        return [options.get(text, text)] if text.strip() else []
    keys = [key.strip() for key in text.split(",") if key.strip()]
    if keys and all(key in options for key in keys):
        return [options[key] for key in keys]
    return [text] if text.strip() else []


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """A project that VIA 3 opens; videos are named as they are, and must lie beside its page or be added again."""
    labels = list(dict.fromkeys([*annotations.vocabulary, *annotations.classes]))
    whole = sorted({label for video in annotations.videos.values() for label in video.whole})
    attribute: dict[str, Any] = {}
    if labels or not whole:
        attribute["1"] = _attribute("label", "FILE1_Z2_XY0", _SELECT, labels)
    if whole:
        attribute["2"] = _attribute("class", "FILE1_Z0_XY0", _CHECKBOX, whole)
    files, views, metadata = {}, {}, {}
    for number, video in enumerate(annotations.videos.values(), 1):
        vid, name = str(number), video_of(video, options)
        files[vid] = {
            "fid": vid,
            "fname": name,
            "type": _VIDEO,
            "loc": 2 if "://" in name else 1,
            "src": name if "://" in name else "",
        }
        views[vid] = {"fid_list": [vid]}
        for i, (times, label) in enumerate(zip(video.segments.tolist(), video.labels)):
            entry = {"vid": vid, "flg": 0, "z": times, "xy": [], "av": {"1": str(labels.index(label))}}
            metadata[_id(vid, i, name)] = entry
        if video.whole:
            keys = ",".join(str(whole.index(label)) for label in video.whole)
            metadata[_id(vid, -1, name)] = {"vid": vid, "flg": 0, "z": [], "xy": [], "av": {"2": keys}}
    project = {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": path.stem,
            "creator": "VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)",
            "created": 0,
            "vid_list": list(views),
        },
        "config": {
            "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
            "ui": {
                "file_content_align": "center",
                "file_metadata_editor_visible": True,
                "spatial_metadata_editor_visible": True,
                "temporal_segment_metadata_editor_visible": True,
                "spatial_region_label_attribute_id": "",
                "gtimeline_visible_row_count": "4",
            },
        },
        "attribute": attribute,
        "file": files,
        "view": views,
        "metadata": metadata,
    }
    write_json(path, project, 1)
    return [path]


def _attribute(name: str, anchor: str, kind: int, labels: list[str]) -> dict[str, Any]:
    options = {str(i): label for i, label in enumerate(labels)}
    return {"aname": name, "anchor_id": anchor, "type": kind, "desc": "", "options": options, "default_option_id": ""}


def _id(vid: str, number: int, name: str) -> str:
    return f"{vid}_{hashlib.sha256(f'{number}|{name}'.encode()).hexdigest()[:8]}"
