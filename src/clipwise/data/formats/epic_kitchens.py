"""EPIC-KITCHENS-100: CSV with ``HH:MM:SS.ff`` time stamps. The frame columns number extracted images at 50 or 60 a second, not the video's.

The label is the action, verb and noun (``take plate``); ``layer`` verb or noun takes one of them.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, video_of, video_stem
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.data.formats.text_lists import open_text
from clipwise.data.formats.written import write_whole
from clipwise.errors import DataError
from clipwise.io.text import csv_text

LAYERS = ("action", "verb", "noun")
_HEADER = ("narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp", "start_frame",
           "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class", "all_nouns", "all_noun_classes")  # fmt: skip


def matches_header(header: list[str]) -> bool:
    """Whether a CSV's header is that of EPIC-KITCHENS."""
    return {"video_id", "start_timestamp", "stop_timestamp"} <= set(header)  # EPIC-KITCHENS-55 has uid for narration_id


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read one split; the file of the test split names segments without labels, so there is nothing to learn from it.

    Classes are the official ones, ``verb_class`` and ``noun_class`` by their key names where the class tables lie beside the file, else the
    narrated words of the class' first occurrence.
    """
    layer = options.layer or "action"
    if layer not in LAYERS:
        raise DataError(f"layer {layer!r}: EPIC-KITCHENS has {', '.join(LAYERS)}.")
    collector = Collector(path, options)
    keys = {kind: _keys(path.parent, kind) for kind in ("verb", "noun")}
    subset = next(
        (
            s
            for s, part in (("training", "train"), ("validation", "val"), ("test", "test"))
            if part in path.stem.lower()
        ),
        None,
    )
    with open_text(path) as file:
        rows = csv.DictReader(file)
        for row in rows:
            where = f"line {rows.line_num}"
            if "verb" not in row:
                raise DataError(
                    f"{path} has no verbs and nouns: it is the list of the test split, whose labels are not published."
                )
            if None in row or row["noun_class"] is None:
                raise DataError(f"{path}, {where}: the columns do not fit the header.")
            words = {}
            for kind in ("verb", "noun"):
                number = collector.frame(row[f"{kind}_class"], where)
                words[kind] = keys[kind].setdefault(number, row[kind])
            label = f"{words['verb']} {words['noun']}" if layer == "action" else words[layer]
            draft = collector.video(row["video_id"], subset=subset)
            draft.add(row["start_timestamp"], row["stop_timestamp"], label, where=where)
    return collector.result()


def _keys(folder: Path, kind: str) -> dict[int, str]:
    """Class names by number, of the official table if it is there."""
    tables = sorted(folder.glob(f"EPIC_100_{kind}_classes*.csv"))
    if not tables:
        return {}
    with open_text(tables[-1]) as file:
        return {int(row["id"]): row["key"] for row in csv.DictReader(file)}


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """The columns of the official files; a label is a verb and a noun, its first word and the rest."""
    pairs = {label: (label.partition(" ")[0], label.partition(" ")[2]) for label in annotations.classes}
    verbs, nouns = (
        {name: i for i, name in enumerate(sorted({pair[side] for pair in pairs.values()}))} for side in (0, 1)
    )
    rows: list[tuple[object, ...]] = [_HEADER]
    for video in annotations.videos.values():
        name = video.name if not video.path else video_stem(video_of(video, options))
        for n, ((start, end), label) in enumerate(zip(video.segments.tolist(), video.labels)):
            verb, noun = pairs[label]
            frames = [max(1, math.floor(t * _image_rate(video) + 1e-6)) for t in (start, end)]
            rows.append((f"{name}_{n}", name.partition("_")[0], name, _stamp(start, 3), _stamp(start), _stamp(end), *frames, label, verb,
                         verbs[verb], noun, nouns[noun], f"['{noun}']", f"[{nouns[noun]}]"))  # fmt: skip
    write_whole(path, csv_text(rows))
    return [path]


def _image_rate(video: VideoAnnotation) -> int:
    """Images a second: 60 of the older videos (P01_11), 50 of the newer (P01_101)."""
    return 50 if len(video.name.partition("_")[2]) == 3 else 60


def _stamp(seconds: float, digits: int = 2) -> str:
    units = round(seconds * 10**digits)
    whole, rest = divmod(units, 10**digits)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{rest:0{digits}d}"
