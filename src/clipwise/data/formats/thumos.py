"""THUMOS14 and MultiTHUMOS: a text file per class, ``video_validation_0000266  72.8 76.4``, and MultiTHUMOS' and Charades' JSON.

The class is the file's name up to ``_val`` or ``_test``, which is the subset. ``Ambiguous`` is no class but what evaluation leaves out.
JSON is ``{video: {"subset", "duration", "actions": [[class, start, end], …]}}``, with classes from 1 (MultiTHUMOS) or 0 (Charades).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, load_object
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.text_lists import open_text
from clipwise.data.formats.written import write_whole
from clipwise.data.labels import read_classes
from clipwise.errors import DataError
from clipwise.io.text import plural

AMBIGUOUS = "Ambiguous"
_SUBSETS = {
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "train": "training",
    "training": "training",
}
_NUMBER = r"\d+(?:\.\d+)?"
_LINE = re.compile(rf"(\S+)\s+({_NUMBER})\s+({_NUMBER})$")
_CLASS_FILES = ("detclasslist.txt", "class_list.txt", "classes.txt")


def matches_text(path: Path, lines: list[str]) -> bool:
    """Whether a text file has lines of a video and two times: the name says so, or a decimal point does."""
    if not lines or not all(_LINE.match(line) for line in lines):
        return False
    named = _split_name(path)[1] is not None or lines[0].startswith(("video_validation_", "video_test_"))
    return named or any("." in word for line in lines for word in line.split()[1:])


def is_class_list(path: Path) -> bool:
    """Whether a file beside the annotations is one of class names."""
    return path.name.lower() in (*_CLASS_FILES, "readme.txt")


def _split_name(path: Path) -> tuple[str, str | None]:
    """(class, subset) of a file's name."""
    stem, _, last = path.stem.rpartition("_")
    subset = _SUBSETS.get(last.lower())
    return (stem, subset) if stem and subset else (path.stem, None)


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read the file of one class."""
    label, subset = _split_name(path)
    collector = Collector(path, options)
    beside = next((path.parent / name for name in _CLASS_FILES if (path.parent / name).is_file()), None)
    if beside is not None:
        collector.vocabulary = _class_names(beside)
    if label == AMBIGUOUS and options.layer != AMBIGUOUS:
        return AnnotationSet(str(path), {}, (), (f"{path}: ambiguous segments are no class and left out.",))
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            found = _LINE.match(line.strip())
            if found is None:
                raise DataError(f"{path}, line {number}: expected `video start end`, but the line is {line.strip()!r}.")
            name = found[1]
            part = re.match(r"video_(validation|test)_\d+$", name)
            draft = collector.video(name, subset=subset or (part and part[1]))
            draft.add(found[2], found[3], label, where=f"line {number}")
    return collector.result()


def _class_names(path: Path) -> list[str]:
    """Names by their numbers; the 20 of THUMOS14 often have those of UCF101's 101 classes (``7 BaseballPitch``), with gaps."""
    with open_text(path) as file:
        rows = [line.split(maxsplit=1) for line in file if line.strip()]
    if all(len(row) == 2 and row[0].isdecimal() for row in rows):
        return [name.strip() for _, name in sorted(rows, key=lambda row: int(row[0]))]
    return read_classes(path)


def matches_json(content: Any) -> bool:
    """Whether JSON is MultiTHUMOS' or Charades'."""
    first = next(iter(content.values()), None) if isinstance(content, dict) else None
    return isinstance(first, dict) and isinstance(first.get("actions"), list) and "duration" in first


def read_json(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read ``{video: {subset, duration, actions}}``; numbers of classes become names where a class list lies beside it."""
    content = load_object(path)
    collector = Collector(path, options)
    names = _numbered(path, content)
    if names is not None:
        collector.vocabulary = names[1]
    for video, entry in content.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("actions", []), list):
            raise DataError(f"{path}: video {video!r} must be an object with subset, duration and actions.")
        draft = collector.video(video, subset=entry.get("subset"), duration_s=entry.get("duration"))
        for number, action in enumerate(entry.get("actions", []), 1):
            where = f"video {video!r}, action {number}"
            if not isinstance(action, list) or len(action) != 3:
                raise DataError(f"{path}, {where}: {action!r} is not [class, start, end].")
            label: Any = action[0]
            if names is not None and isinstance(label, int):
                if not 0 <= label - names[0] < len(names[1]):
                    raise DataError(
                        f"{path}, {where}: class {label} is out of range; {plural(len(names[1]), 'class is', 'classes are')} known."
                    )
                label = names[1][label - names[0]]
            draft.add(action[1], action[2], label, where=where)
    return collector.result()


def _numbered(path: Path, content: dict[str, Any]) -> tuple[int, list[str]] | None:
    """The first number of classes, and their names, where a list lies beside the file."""
    beside = next((path.parent / name for name in ("class_list.txt", "classes.txt", "Charades_v1_classes.txt")
                   if (path.parent / name).is_file()), None)  # fmt: skip
    if beside is None:
        return None
    if beside.name.startswith("Charades"):
        from clipwise.data.formats.charades import read_charades_classes

        return 0, list(read_charades_classes(beside).values())
    names = read_classes(beside)
    numbers = {
        a[0] for e in content.values() if isinstance(e, dict) for a in e.get("actions", []) if isinstance(a, list) and a
    }
    return (0 if 0 in numbers else 1), names


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """A folder with a file for each class and subset; times with two decimals."""
    path.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {}
    suffix = {"validation": "_val", "test": "_test", "testing": "_test"}
    for name, video in annotations.videos.items():
        if re.search(r"\s", name):
            raise DataError(f"video {name!r}: THUMOS' text files can't hold names with blanks.")
        for (start, end), label in zip(video.segments.tolist(), video.labels):
            subset = video.subset or ""
            file = f"{label.replace('/', '_')}{suffix.get(subset, f'_{subset}' if subset else '')}.txt"
            lines.setdefault(file, []).append(f"{name}  {start:.2f} {max(end, start + 0.01):.2f}\n")
    for file, text in lines.items():
        write_whole(path / file, "".join(text))
    return [path / file for file in lines]
