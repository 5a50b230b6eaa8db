"""Columns of text, and what all lists in files share. ``clipwise.data.lists`` is the door."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clipwise.data.labels import ClassIndex, is_integer
from clipwise.data.videolist import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Kind, ListBuilder, VideoList
from clipwise.errors import DataError
from clipwise.io.parse import parse_json
from clipwise.io.text import plural

PATH_KEYS = (
    "path",
    "video_path",
    "video",
    "filename",
    "file_name",
    "file",
    "frame_dir",
    "clip",
    "name",
    "id",
    "video_id",
)
LABEL_KEYS = ("label", "labels", "class", "class_name", "category", "action", "target", "class_id", "label_id")
_EXTENSION = "|".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES))
_PATH_THEN_REST = re.compile(rf"(.+?\.(?:{_EXTENSION}))\s+(.+)$", re.IGNORECASE)


_SAMPLE = 200  # entries that are looked at
SUBSET_KEYS = ("subset", "split", "partition")


def chosen_subset(subset: str | None, known: Iterable[Any], source: str | Path) -> str | None:
    """A subset as the list of these names it; None for all.

    Raises:
        DataError: there is none of that name.
    """
    if subset is None:
        return None
    from clipwise.data.formats.annotations import subset_named

    there = sorted({str(name) for name in known if name})
    found = subset_named(subset, there)
    if found is None:
        raise DataError(f"{source} has no subset {subset!r}; it has {', '.join(there) or 'none'}.")
    return found


def read_columns(
    path: Path, root: str | Path | None, index: ClassIndex, multi_label: bool, layout: str | None
) -> VideoList:
    """Text columns; ``layout`` None: found from the first lines."""
    sample = [(number, line) for (number, line), _ in zip(list_lines(path), range(200))]
    head = _cells(sample[0][1], None) if sample else []
    header = len(head) > 1 and head[0].lower() in PATH_KEYS and head[1].lower() in (*LABEL_KEYS, "num_frames")
    skipped = sample.pop(0)[0] if header else 0
    if not sample:
        raise DataError(f"{path}: the list is empty.")
    separator = _separator([line for _, line in sample])
    if layout is None:
        layout = _layout([_cells(line, separator) for _, line in sample], path, root, multi_label)
    numbers = {"video": 0, "image": 0, "rawframes": 1, "counted": 1, "rawframes_offset": 2, "untrimmed": 0}[layout]
    kinds: dict[str, Kind] = {"counted": "video", "rawframes_offset": "rawframes"}
    kind: Kind = kinds.get(layout, layout)  # type: ignore[arg-type]
    builder = ListBuilder(kind, str(path))
    fast = separator is None and not multi_label and layout != "untrimmed"
    resolve, source = index.resolve, str(path)
    for number, line in list_lines(path):
        if number == skipped:
            continue  # `path label`
        # The usual line, numbers after a path, is split from the right: blanks in the path do no harm.
        cells = line.rsplit(None, numbers + 1) if fast and line[0] not in "\"'" else []
        if len(cells) != numbers + 2 or not is_integer(cells[-1]):
            cells = _cells(line, separator)
        try:
            values = [int(cell) for cell in cells[1 : 1 + numbers]]
            if layout == "untrimmed":
                clips = [int(cell) for cell in cells[2:]]
                if not clips:
                    raise ValueError
                if len(clips) > 1:  # a video without positive clips is left out, as MMAction2 does
                    builder.add(cells[0], [resolve(cells[1], number)], positives=clips[1:])
                continue
        except ValueError:
            raise DataError(f"{source}, line {number}: {_expected(layout)}, but the line is {line!r}.") from None
        labels = cells[1 + numbers :]
        if len(labels) > 1 and not multi_label and separator is None and not all(map(is_integer, labels)):
            labels = [" ".join(labels)]  # a class name with blanks
        if len(cells) < 1 + numbers or (not multi_label and len(labels) > 1) or (numbers and not labels):
            raise DataError(f"{source}, line {number}: {_expected(layout)}, but the line is {line!r}.")
        resolved = [resolve(label, number) for label in labels]
        if kind == "rawframes":
            offset = values[0] if numbers == 2 else None
            builder.add(cells[0], resolved, num_frames=values[-1], offset=offset)
            if values[-1] < 1:
                raise DataError(
                    f"{source}, line {number}: a folder with {plural(values[-1], 'frame')} cannot be used; remove the line."
                )
        else:
            builder.add(cells[0], resolved)
    return finish(builder, path, root, index, multi_label)


def finish(
    builder: ListBuilder,
    path: Path,
    root: str | Path | None,
    index: ClassIndex,
    multi_label: bool,
    suffix: str | None = None,
    frame_template: str | None = None,
) -> VideoList:
    """Build the list; find its root folder and, for entries without extension, the files' suffix."""
    rank = index.sorted_by_name()
    if rank is not None:
        builder.relabel(rank)
    some = builder.first_entries(_SAMPLE)
    folder = find_root(path, root, some[0] if some else None)
    if suffix is None:
        suffix = ""
        places = [os.path.join(folder, name) for name in some]
        if (
            builder.kind == "video" and places and not os.path.exists(places[0])
        ):  # of public sets some videos are always gone
            suffix = next((s for p in places for s in sorted(VIDEO_SUFFIXES) if os.path.isfile(p + s)), "")
    return builder.build(
        root=folder,
        multi_label=multi_label,
        classes=index.names or None,
        num_classes=index.limit,
        suffix=suffix,
        frame_template=frame_template,
    )


def find_root(path: Path, root: str | Path | None, first: str | None) -> str:
    """``root``, or the folder of the list or the current one, whichever holds the first entry."""
    if root is not None:
        return str(root)
    beside = str(path.parent)
    if first is None or os.path.isabs(first) or os.path.exists(os.path.join(beside, first)):
        return beside
    return "" if os.path.exists(first) else beside


def find_file(folder: Path, *names: str) -> Path | None:
    """The first of these files that exists in a folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def load_json(path: Path) -> Any:
    """Parse a JSON file, or say where it is broken."""
    try:
        with open_text(path) as file:
            return parse_json(file.read())
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from None


def open_text(path: Path):
    """A list for reading: UTF-8, or UTF-16 where it begins with that encoding's mark (Windows' editors write it)."""
    with path.open("rb") as file:
        start = file.read(1024)
    wide = start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if b"\0" in start and not wide:
        what = "a video" if path.suffix.lower() in VIDEO_SUFFIXES else "a binary file"
        raise DataError(f"{path} is {what}, not a list or a file of annotations, which are text.")
    if wide:
        return path.open(encoding="utf-16", newline="" if path.suffix == ".csv" else None)
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="" if path.suffix == ".csv" else None)


def list_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text list that hold something, with their numbers."""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if line and not _is_comment(line):
                yield number, line


def _is_comment(line: str) -> bool:
    """A line that begins with #, unless that is the first letter of a path: ``#intro.mp4 0``."""
    if line[0] != "#" or line.startswith("# "):
        return line[0] == "#"
    return not re.match(rf"#\S*(/|\.(?:{_EXTENSION})\b)", line, re.IGNORECASE)


def _separator(lines: Sequence[str]) -> str | None:
    """Of columns; None stands for blanks."""
    for mark in "\t,;":
        if all(re.search(rf"{mark}\s*\"?-?\d+\"?$", line) for line in lines):
            return mark
    if all(re.search(r"\s-?\d+$", line) for line in lines) or all(_PATH_THEN_REST.match(line) for line in lines):
        return "\t" if all("\t" in line for line in lines) else None
    return next((mark for mark in "\t,;" if all(mark in line for line in lines)), None)


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is not None:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    cells: list[str] = []
    while line:
        if line[0] in "\"'" and (end := line.find(line[0], 1)) > 0:
            cells.append(line[1:end])
            line = line[end + 1 :].lstrip()
        elif not cells and (match := _PATH_THEN_REST.match(line)):
            cells.append(match.group(1))
            line = match.group(2)
        else:
            first, _, line = line.replace("\t", " ").partition(" ")
            cells.append(first)
            line = line.lstrip()
    return cells


def _layout(rows: list[list[str]], path: Path, root: str | Path | None, multi_label: bool) -> str:
    """What the columns mean, from the number of numbers behind each path and from what lies on the disk."""
    numbers = {len(cells) - 1 for cells in rows if all(map(is_integer, cells[1:]))}
    first = rows[0][0]
    extension = os.path.splitext(first)[1].lower()
    if extension in IMAGE_SUFFIXES:
        return "image"
    if not numbers or numbers <= {0, 1} or (multi_label and extension in VIDEO_SUFFIXES):
        where = os.path.join(find_root(path, root, first), first)
        if os.path.isdir(where) and extension not in VIDEO_SUFFIXES:
            raise DataError(
                f"{path}: {where} is a folder, but the list has no frame counts. Expected: folder num_frames label. "
                "Make such a list with `clipwise prepare lists`."
            )
        return "video"
    if multi_label:
        return "rawframes"
    if numbers == {2}:
        where = os.path.join(find_root(path, root, first), first)
        files = [where] if extension in VIDEO_SUFFIXES else [where + suffix for suffix in VIDEO_SUFFIXES]
        return "counted" if extension in VIDEO_SUFFIXES or any(map(os.path.isfile, files)) else "rawframes"
    if numbers == {3} and extension not in VIDEO_SUFFIXES:
        return "rawframes_offset"
    raise DataError(
        f"{path}: the lines have {', '.join(map(str, sorted(numbers)))} numbers after the path, which can mean several "
        "things. Say which with list_format (video, rawframes, rawframes_offset, untrimmed …) and multi_label."
    )


def _expected(layout: str) -> str:
    return {
        "video": "expected `path label`",
        "image": "expected `path label`",
        "rawframes": "expected `folder num_frames label`",
        "counted": "expected `video num_frames label`",
        "rawframes_offset": "expected `folder offset num_frames label`",
        "untrimmed": "expected `folder label num_clips positive_clip …`",
    }[layout]
