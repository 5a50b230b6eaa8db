"""Charades: CSV with ``id``, ``length`` and ``actions`` such as ``c092 11.90 21.20;c147 0.00 12.60``.

Ends past ``length`` are the rule (5,876 of 7,985 training videos) and are cut; the few segments that do not end after their start are left out
whatever the options say, since they are in the official files.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, video_of, video_stem
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.text_lists import open_text
from clipwise.data.formats.written import write_whole
from clipwise.errors import DataError
from clipwise.io.text import csv_text

CLASSES = "Charades_v1_classes.txt"


def matches_header(header: list[str]) -> bool:
    """Whether a CSV's header is that of Charades."""
    return {"id", "actions", "length"} <= set(header)


def read_charades_classes(path: Path) -> dict[str, str]:
    """Names by their codes, of lines ``c000 Holding some clothes``."""
    with open_text(path) as file:
        pairs = [line.strip().partition(" ") for line in file if line.strip()]
    return {code: name.strip() for code, _, name in pairs}


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read one of the two files; codes become names where ``Charades_v1_classes.txt`` lies beside it."""
    collector = Collector(path, replace(options, strict=False))
    names = read_charades_classes(path.parent / CLASSES) if (path.parent / CLASSES).is_file() else {}
    collector.vocabulary = list(names.values())
    subset = next((s for s, part in (("training", "train"), ("test", "test")) if part in path.stem.lower()), None)
    with open_text(path) as file:
        rows = csv.DictReader(file)
        for row in rows:
            where = f"line {rows.line_num}"
            if None in row or row.get("actions") is None:
                raise DataError(f"{path}, {where}: the columns do not fit the header; quoted fields need both quotes.")
            draft = collector.video(row["id"], subset=subset, duration_s=row.get("length") or None)
            length = draft.duration_s
            for action in filter(None, (part.strip() for part in row["actions"].split(";"))):
                words = action.split()
                if len(words) != 3:
                    raise DataError(f"{path}, {where}: {action!r} is not `class start end`.")
                start, end = (collector.number(word, where) for word in words[1:])
                if start < end and end > length:
                    if end > length + 1.5:
                        collector.note("ends more than 1.5 s behind the video, cut", where)
                    end = max(start, length)
                draft.add(start, end, names.get(words[0], words[0]), where=where)
    return collector.result()


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """The three columns that count, and Charades' codes where labels are such; else the codes' file beside it."""
    labels = list(dict.fromkeys([*annotations.vocabulary, *annotations.classes]))
    coded = all(len(label) == 4 and label[0] == "c" and label[1:].isdecimal() for label in labels)
    codes = {label: label if coded else f"c{i:03d}" for i, label in enumerate(labels)}
    rows = [("id", "actions", "length")]
    for video in annotations.videos.values():
        parts = [
            f"{codes[label]} {a:.2f} {max(b, a + 0.01):.2f}"
            for (a, b), label in zip(video.segments.tolist(), video.labels)
        ]
        name = video_stem(video_of(video, options)) if video.path else video.name
        rows.append((name, ";".join(parts), f"{video.duration_s:.2f}" if video.duration_s == video.duration_s else ""))
    write_whole(path, csv_text(rows))
    if coded:
        return [path]
    beside = path.with_name(CLASSES)
    write_whole(beside, "".join(f"{code} {label}\n" for label, code in codes.items()))
    return [path, beside]
