"""Published lists of trimmed clips whose rules differ from ours: UCF101, HMDB51, Diving48, Kinetics' JSON. A label belongs to a whole video."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, load_object
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.text_lists import open_text
from clipwise.data.formats.written import write_json
from clipwise.data.labels import read_classes
from clipwise.errors import DataError
from clipwise.io.text import plural

_UCF = re.compile(r"([^/\s][^/]*)/(\S.*?\.\w+)(?:\s+(\d+))?$")
_HMDB = re.compile(r"(.+)_test_split(\d+)$")
_HMDB_PARTS = {"0": None, "1": "training", "2": "test"}


def matches_ucf(path: Path, lines: Sequence[str]) -> bool:
    """Whether a text file is one of UCF101's lists: by its name, and a folder of a class before each file."""
    return (
        bool(re.match(r"(train|test|val)list\d*", path.stem))
        and bool(lines)
        and all(_UCF.match(line) for line in lines)
    )


def read_ucf(path: Path, options: FormatOptions) -> AnnotationSet:
    """UCF101: ``Class/v_Class_g01_c01.avi 1``; labels count from 1, test lists have none, and the folder is the class."""
    collector = Collector(path, options)
    if (beside := path.parent / "classInd.txt").is_file():
        collector.vocabulary = read_classes(beside)
    same = {name.lower(): name for name in collector.vocabulary}
    subset = {"train": "training", "test": "test", "val": "validation"}[path.stem.partition("list")[0]]
    for number, line in _lines(path):
        found = _UCF.match(line)
        if found is None:
            raise DataError(f"{path}, line {number}: expected `class/file [label]`, but the line is {line!r}.")
        label = same.get(found[1].lower(), found[1])
        if found[3] and collector.vocabulary:
            index = int(found[3])
            if not 1 <= index <= len(collector.vocabulary):
                raise DataError(
                    f"{path}, line {number}: label {index}, but UCF101's labels are 1 to {len(collector.vocabulary)}."
                )
            if collector.vocabulary[index - 1] != label:
                raise DataError(
                    f"{path}, line {number}: label {index} is {collector.vocabulary[index - 1]!r}, the folder {found[1]!r}."
                )
        collector.video(f"{found[1]}/{found[2]}", subset=subset).add_whole(label, where=f"line {number}")
    return collector.result()


def matches_hmdb(path: Path, lines: Sequence[str]) -> bool:
    """Whether a text file is one of HMDB51's."""
    return (
        bool(_HMDB.match(path.stem))
        and bool(lines)
        and all(line.rsplit(maxsplit=1)[-1] in _HMDB_PARTS for line in lines)
    )


def read_hmdb(path: Path, options: FormatOptions) -> AnnotationSet:
    """HMDB51, the file of one class and split: ``name.avi 1``, where 1 is training, 2 test and 0 not used."""
    named = _HMDB.match(path.stem)
    if named is None:
        raise DataError(f"{path}: HMDB51's files are named CLASS_test_split1.txt.")
    collector = Collector(path, options)
    for number, line in _lines(path):
        name, _, flag = line.rpartition(" ")
        if flag not in _HMDB_PARTS or not name.strip():
            raise DataError(f"{path}, line {number}: expected `file 0|1|2`, but the line is {line!r}.")
        if (subset := _HMDB_PARTS[flag]) is not None:
            folder = named[1]
            collector.video(f"{folder}/{name.strip()}", subset=subset).add_whole(named[1], where=f"line {number}")
    return collector.result()


def matches_diving(content: Any) -> bool:
    """Whether JSON is a list of Diving48."""
    return (
        isinstance(content, list)
        and bool(content)
        and isinstance(content[0], dict)
        and {"vid_name", "label"} <= set(content[0])
    )


def read_diving(path: Path, options: FormatOptions) -> AnnotationSet:
    """Diving48: ``{"vid_name", "label": 0 to 47}``; the vocabulary beside it (``*vocab*.json``) names the classes."""
    collector = Collector(path, options)
    names = _diving_names(path.parent)
    collector.vocabulary = names
    subset = next((s for s, part in (("training", "train"), ("test", "test")) if part in path.stem.lower()), None)
    for number, row in enumerate(load_object(path), 1):
        where = f"entry {number}"
        if not isinstance(row, dict) or "vid_name" not in row or "label" not in row:
            raise DataError(f"{path}, {where}: vid_name and label are expected.")
        index = collector.frame(row["label"], where)
        if index < 0 or (names and index >= len(names)):
            raise DataError(
                f"{path}, {where}: label {index} is out of range"
                + (f"; there are {plural(len(names), 'class', 'classes')}." if names else ".")
            )
        collector.video(row["vid_name"], subset=subset).add_whole(names[index] if names else str(index), where=where)
    return collector.result()


def _diving_names(folder: Path) -> list[str]:
    beside = next(iter(sorted(folder.glob("*vocab*.json"))), None)
    if beside is None:
        text = folder / "label_map.txt"
        return read_classes(text) if text.is_file() else []
    rows = load_object(beside)
    if not isinstance(rows, list):
        raise DataError(f"{beside}: a list of class names is expected.")
    return ["+".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows]


def matches_kinetics(content: Any) -> bool:
    """Whether JSON is Kinetics': annotations are one object a video, not a list."""
    first = next(iter(content.values()), None) if isinstance(content, dict) else None
    return isinstance(first, dict) and isinstance(first.get("annotations"), dict) and "label" in first["annotations"]


def read_kinetics(path: Path, options: FormatOptions) -> AnnotationSet:
    """Kinetics' JSON. Files are looked for as ``ID_000017_000027.mp4`` (the clip) or ``ID.mp4``; the label is of the whole file."""
    collector = Collector(path, options)
    for name, entry in load_object(path).items():
        where = f"video {name!r}"
        note = entry.get("annotations") if isinstance(entry, dict) else None
        if not isinstance(note, dict):
            raise DataError(f"{path}, {where}: 'annotations' must be an object with label and segment.")
        clip = name
        segment = note.get("segment")
        if isinstance(segment, list) and len(segment) == 2:
            start, end = (int(collector.number(t, where)) for t in segment)
            stem = f"{name}_{start:06d}_{end:06d}"
            clip = stem if options.videos.find(stem) or options.videos.find(f"{stem}.mp4") else name
        collector.video(clip, subset=entry.get("subset")).add_whole(note.get("label"), where=where)
    return collector.result()


def _lines(path: Path) -> list[tuple[int, str]]:
    with open_text(path) as file:
        return [(number, line.strip()) for number, line in enumerate(file, 1) if line.strip()]


def write_kinetics(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """Kinetics' JSON, one label a video."""
    content = {}
    for name, video in annotations.videos.items():
        if not video.whole:
            continue
        length = video.duration_s if video.duration_s == video.duration_s else None
        entry: dict[str, Any] = {
            "annotations": {"label": video.whole[0], "segment": [0.0, length or 10.0]},
            "subset": video.subset or "",
            "url": "",
        }
        content[name] = entry | ({} if length is None else {"duration": length})
    write_json(path, content, 1)
    return [path]
