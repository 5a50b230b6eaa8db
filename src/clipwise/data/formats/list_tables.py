"""Lists with named columns: CSV with a header, JSON; and writing lists."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clipwise.data.formats.text_lists import (
    LABEL_KEYS,
    PATH_KEYS,
    SUBSET_KEYS,
    chosen_subset,
    finish,
    load_json,
    open_text,
)
from clipwise.data.labels import ClassIndex, is_integer
from clipwise.data.videolist import VIDEO_SUFFIXES, ListBuilder, VideoList
from clipwise.errors import DataError
from clipwise.io.text import plural

_COUNT_KEYS = ("num_frames", "total_frames", "frames", "n_frames")


def read_header_csv(
    path: Path, root: str | Path | None, index: ClassIndex, multi_label: bool, subset: str | None = None
) -> VideoList:
    """CSV with a header; comma, semicolon or tab; several labels in one cell are separated by blanks or ``|``."""
    with open_text(path) as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=first.count)
        rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        header = [cell.strip().lower().lstrip("\ufeff") for cell in next(rows)]
        path_at = _column(header, PATH_KEYS)
        label_at, count_at = _column(header, LABEL_KEYS), _column(header, _COUNT_KEYS)
        offset_at, start_at, end_at = (_column(header, (name,)) for name in ("offset", "start_s", "end_s"))
        if path_at is None:
            raise DataError(f"{path}, line 1: the header has no column {PATH_KEYS[0]!r}; it has {', '.join(header)}.")
        subset_at = _column(header, SUBSET_KEYS)
        if subset is not None:
            wanted = chosen_subset(
                subset, (r[subset_at] for r in rows if subset_at is not None and len(r) > subset_at), path
            )
            file.seek(0)
            rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            next(rows)
        as_frames = count_at is not None and _frame_folders(path, root, rows, path_at)
        file.seek(0)
        rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        next(rows)
        builder = ListBuilder("rawframes" if as_frames else "video", str(path))
        for row in rows:
            if not row:
                continue
            line = rows.line_num
            if len(row) != len(header):
                raise DataError(f"{path}, line {line}: {plural(len(row), 'column')}, but the header has {len(header)}.")
            if subset is not None and subset_at is not None and row[subset_at] != wanted:
                continue
            try:
                builder.add(
                    row[path_at],
                    _cell_labels(row[label_at], index, line, multi_label) if label_at is not None else (),
                    num_frames=int(row[count_at]) if as_frames and count_at is not None else None,
                    offset=int(row[offset_at]) if offset_at is not None else None,
                    span_s=_span(row, start_at, end_at),
                )
            except ValueError:
                raise DataError(f"{path}, line {line}: a number was expected in one of the columns: {row}.") from None
    return finish(builder, path, root, index, multi_label)


def read_json(
    path: Path, root: str | Path | None, index: ClassIndex, multi_label: bool, subset: str | None = None
) -> VideoList:
    """A list of objects, or ``{"classes": […], "videos": […]}``. MMAction2's single-label form uses the first label."""
    content = load_json(path)
    if isinstance(content, dict) and isinstance(content.get("classes"), list) and not index.known:
        index = ClassIndex(content["classes"], index.limit, str(path))
    rows = content.get("videos", content.get("annotations")) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise DataError(f'{path}: expected a list of objects such as {{"path": "a.mp4", "label": 0}}.')
    if subset is not None:
        parts = [next((row[key] for key in SUBSET_KEYS if key in row), None) for row in rows]
        wanted = chosen_subset(subset, parts, path)
        rows = [row for row, part in zip(rows, parts) if part == wanted]
    builder = ListBuilder("rawframes" if rows and "frame_dir" in rows[0] else "video", str(path))
    for number, row in enumerate(rows, 1):
        name = next((row[key] for key in PATH_KEYS if key in row), None) if isinstance(row, dict) else None
        if name is None:
            raise DataError(
                f"{path}, entry {number}: there is no path; expected one of the keys {', '.join(PATH_KEYS[:7])}."
            )
        label: Any = next((row[key] for key in LABEL_KEYS if key in row), [])
        labels = list(label) if isinstance(label, list) else [label]
        labels = [index.resolve(value, number) for value in (labels if multi_label else labels[:1])]
        count = next((int(row[key]) for key in _COUNT_KEYS if key in row), None)
        if builder.kind == "rawframes" and count is None:
            raise DataError(f"{path}, entry {number}: a frame folder needs total_frames.")
        span = (float(row["start_s"]), float(row["end_s"])) if "start_s" in row and "end_s" in row else None
        offset = int(row["offset"]) if "offset" in row else None
        counted = count if builder.kind == "rawframes" else None
        builder.add(str(name), labels, num_frames=counted, offset=offset, span_s=span)
    return finish(builder, path, root, index, multi_label)


def write_list(videos: VideoList, path: str | Path, *, relative_to: str | Path | None = None) -> Path:
    """Write a list that ``read_list`` reads back: tab-separated where a path holds blanks, and ``classes.txt`` beside it.

    Args:
        relative_to: write paths relative to this folder; default: the folder of ``path`` if all entries lie below it,
            else absolute paths.

    Raises:
        DataError: the list has times, which the text format has no column for; save it as CSV (``.csv``).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    base = os.path.abspath(relative_to if relative_to is not None else path.parent)
    shards = videos.kind == "shard"  # addresses, or absolute
    full = [entry if shards else os.path.abspath(entry) for entry in videos.paths()]
    inside = not shards and (relative_to is not None or all(entry.startswith(base + os.sep) for entry in full))
    entries = [os.path.relpath(entry, base) for entry in full] if inside else full
    rows = []
    as_csv = path.suffix.lower() == ".csv"
    if videos.spans_s is not None and not as_csv:
        raise DataError(f"{path}: these entries are parts of videos; write them as .csv, which has columns for times.")
    for i, entry in enumerate(entries):
        columns: list[str | int | float] = [entry]
        if videos.kind == "rawframes":
            columns += [videos.offset(i)] if videos.frame_offsets is not None else []
            columns += [videos.num_frames(i) or 0]
        if videos.many_labels is not None:
            labels = [int(label) for label in videos.many_labels[i]]
            columns += [" ".join(map(str, labels))] if as_csv else labels
        elif videos.label(i) is not None:
            columns.append(int(videos.single_labels[i]))  # type: ignore[index]
        if videos.kind == "untrimmed":
            positives = videos.positive_clips(i)
            columns += [max(positives, default=-1) + 1, *(int(p) for p in positives)]
        if videos.spans_s is not None:
            columns += ["" if (span := videos.span(i)) is None else span[0], "" if span is None else span[1]]
        rows.append(columns)
    _write_rows(path, rows, videos, as_csv)
    if videos.classes:
        (path.parent / "classes.txt").write_text("\n".join(videos.classes) + "\n", encoding="utf-8")
    return path


def _write_rows(path: Path, rows: list[list[Any]], videos: VideoList, as_csv: bool) -> None:
    if as_csv:
        header = ["path"]
        if videos.kind == "rawframes":
            header += (["offset"] if videos.frame_offsets is not None else []) + ["num_frames"]
        header += ["label"] if any(videos.label(i) is not None for i in range(len(videos))) else []
        header += ["start_s", "end_s"] if videos.spans_s is not None else []
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return
    blanks = any(re.search(r"\s", row[0]) or row[0][0] in "\"'#" for row in rows)
    separator = "\t" if blanks else " "
    text = "".join(separator.join(map(str, row)) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _column(header: list[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _cell_labels(cell: str, index: ClassIndex, line: int, multi_label: bool) -> list[int]:
    cell = cell.strip()
    if not multi_label:
        return [index.resolve(cell, line)] if cell else []
    parts = cell.split("|") if "|" in cell else (cell.split() if all(map(is_integer, cell.split())) else [cell])
    return [index.resolve(part.strip(), line) for part in parts if part.strip()]


def _span(row: list[str], start_at: int | None, end_at: int | None) -> tuple[float, float] | None:
    if start_at is None or end_at is None or not row[start_at].strip():
        return None
    return float(row[start_at]), float(row[end_at])


def _frame_folders(path: Path, root: str | Path | None, rows: Iterator[list[str]], path_at: int) -> bool:
    """Whether the first entry is a folder of frames rather than a video whose frames were counted."""
    first = next((row[path_at] for row in rows if len(row) > path_at), "")
    return os.path.splitext(first)[1].lower() not in VIDEO_SUFFIXES
