"""Segments as a table: CSV or TSV with the columns video, label, start, end, and relatives of it (HACS clips, G-TAD's THUMOS, our own).

Columns are known by their names (``start``, ``Start Time (s)``, ``begin_ms``, ``start`` and ``duration``, …); a table without a header is video, label,
start, end. Times are seconds or ``HH:MM:SS.fff``; where there are only frames (``start_frame``, ``end_frame``) these
count from 0 and the end is the first frame after the segment. A row without times labels the whole video; one without a label names it only.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, video_of
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.frame_times import parse_time
from clipwise.data.formats.text_lists import LABEL_KEYS, PATH_KEYS, open_text
from clipwise.data.formats.written import write_whole
from clipwise.data.videolist import is_video
from clipwise.errors import DataError
from clipwise.io.names import did_you_mean
from clipwise.io.text import csv_text, from_csv_cell, plural


def _times(words: Sequence[str], units: Sequence[str]) -> tuple[str, ...]:
    """``start_s``, ``start``, ``start_time``, ``time_start``, ``t_start`` … for each word."""
    plain = "s" in units
    return tuple(
        name
        for word in words
        for name in (
            *(f"{word}_{unit}" for unit in units),
            *((word, f"{word}_time", f"{word}_timestamp", f"t_{word}", f"t{word}", f"time_{word}") if plain else ()),
            *(f"{word}_time_{unit}" for unit in units),
        )
    )


_VIDEO = ("video", "video_id", "video_name", "vid", "youtube_id", "videoid", "video_file", "video_filename", *PATH_KEYS)
_LABEL = ("label", "class", "class_name", "classname", "type", "action", "activity", "behavior", "behaviour", "event", "label_name",
          "action_label", "action_name", *LABEL_KEYS)  # fmt: skip
_BEGINNINGS, _ENDS = ("start", "begin", "onset"), ("end", "stop", "offset")
_UNITS = ("s", "sec", "secs", "second", "seconds")
_START = (*_times(_BEGINNINGS, _UNITS), "from")
_END = (*_times(_ENDS, _UNITS), "to")
_START_MS, _END_MS = (_times(words, ("ms", "msec", "milliseconds")) for words in (_BEGINNINGS, _ENDS))
_LENGTH = ("duration", "duration_s", "length", "length_s", "segment_duration")
_FIRST = ("start_frame", "startframe", "frame_start", "first_frame", "begin_frame")
_LAST = ("end_frame", "endframe", "frame_end", "stop_frame", "last_frame_exclusive")
_SCORE = ("score", "confidence", "probability")
_SUBSET = ("subset", "split", "partition")
_DURATION = ("video_duration", "duration_s", "video_duration_s", "video_length")
_ROLES = {"video": _VIDEO, "label": _LABEL, "start": _START, "end": _END, "start_ms": _START_MS, "end_ms": _END_MS, "length": _LENGTH,
          "first": _FIRST, "last": _LAST, "score": _SCORE, "subset": _SUBSET, "duration": _DURATION, "fps": ("fps", "frame_rate", "framerate")}  # fmt: skip
_BOUNDS = (("start", "end"), ("start_ms", "end_ms"), ("start", "length"), ("first", "last"))


def columns(header: Sequence[str]) -> dict[str, int]:
    """Where the columns that count are, by what they hold; of several pairs of bounds the exact one."""
    names = [_plain(cell) for cell in header]
    found = {}
    for role, known in _ROLES.items():
        place = next((names.index(name) for name in known if name in names), None)
        if place is not None:
            found[role] = place
    pair = next((pair for pair in _BOUNDS if set(pair) <= set(found)), ())
    for role in {role for bounds in _BOUNDS for role in bounds} - set(pair):
        found.pop(role, None)
    if "length" in pair and found.get("duration") == found["length"]:
        del found["duration"]
    return found


def _plain(cell: str) -> str:
    """A column's name as the tables above have it: ``Start Time (s)`` is start_time_s."""
    return re.sub(r"[\s\-._()\[\]]+", "_", cell.strip().strip('"').lower().lstrip("\ufeff")).strip("_")


def matches_header(header: Sequence[str]) -> bool:
    """Whether a header is that of segments: a video and two times or frames."""
    found = columns(header)
    return "video" in found and any(set(pair) <= set(found) for pair in _BOUNDS)


def unknown_times(header: Sequence[str]) -> list[str]:
    """Columns that look like times of segments, of a header that is not read as one."""
    words = {*_BEGINNINGS, "end", "stop"}
    return [cell.strip() for cell in header if words & set(_plain(cell).split("_"))] if len(header) > 2 else []


def has_times(path: Path) -> bool:
    """Whether a table's header has two times or frames."""
    with open_text(path) as file:
        first = file.readline()
    return matches_header(first.split(max(",;\t", key=first.count)))


def is_comment(line: str) -> bool:
    """A line above the header: a comment, or the separator that spreadsheets write."""
    return line.startswith("#") or line.lower().startswith("sep=")


def header_of_rows(lines: Sequence[str]) -> list[str] | None:
    """The columns of a table without a header, where all rows are video, label and two times."""
    mark = max(",;\t", key=(lines[0] if lines else "").count)
    rows = [[cell.strip().strip('"') for cell in line.split(mark)] for line in lines]
    orders = (["video", "label", "start", "end"], ["video", "start", "end", "label"])
    if rows and all(len(row) == 4 and is_video(row[0]) for row in rows):
        return next(
            (o for o in orders if all(_are_times(row[o.index("start")], row[o.index("end")]) for row in rows)), None
        )
    return None


def _are_times(*cells: str) -> bool:
    try:
        return all(parse_time(cell) >= 0 for cell in cells)
    except ValueError:
        return False


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read a table with a header."""
    with open_text(path) as file:
        text = file.read()
    lines = ["" if is_comment(line) else line for line in text.lstrip("\ufeff").splitlines()]
    filled = [line for line in lines if line.strip()]
    mark = max(",;\t", key=(filled or [""])[0].count)
    rows = csv.reader(lines, delimiter=mark, skipinitialspace=True)
    try:
        header = header_of_rows(filled) or next(row for row in rows if row)
        body = [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    except (StopIteration, csv.Error) as error:
        raise DataError(f"{path}: not a table ({error or 'it is empty'}).") from None
    at = columns(header)
    for role in ("video", "label"):
        if role not in at:
            hint = next(
                (h for name in header if (h := did_you_mean(name.lower(), _VIDEO if role == "video" else _LABEL))), ""
            )
            raise DataError(f"{path}: there is no column {role}{hint or f'; it has {chr(44).join(header)}.'}")
    collector = Collector(path, options)
    hacs = {"classname", "label", "youtube_id"} <= {cell.strip().lower() for cell in header}
    sign = [cell.strip().lower() for cell in header].index("label") if hacs else -1
    if hacs:
        at["label"] = [cell.strip().lower() for cell in header].index("classname")
    for number, row in body:
        where = f"line {number}"
        if len(row) != len(header):
            raise DataError(f"{path}, {where}: {plural(len(row), 'column')}, but the header has {len(header)}.")
        cell = {role: from_csv_cell(row[place].strip()) for role, place in at.items()}
        for role in ("start", "end", "start_ms", "end_ms", "length"):
            if mark != "," and re.fullmatch(r"[\d:]*\d,\d+", cell.get(role, "")):  # a decimal comma
                cell[role] = cell[role].replace(",", ".")
        draft = collector.video(cell["video"], subset=cell.get("subset"), duration_s=cell.get("duration"))
        if hacs and row[sign].strip() == "-1":
            collector.note("negative samples (label -1), left out", where)
            continue
        score = cell.get("score") or None
        if cell.get("start_ms") and cell.get("end_ms"):
            start_ms, end_ms = (collector.number(cell[role], where) for role in ("start_ms", "end_ms"))
            draft.add(start_ms / 1000, end_ms / 1000, cell["label"], score, where=where)
        elif cell.get("start") and cell.get("length"):
            begin_s, length_s = (collector.number(cell[role], where) for role in ("start", "length"))
            draft.add(begin_s, begin_s + length_s, cell["label"], score, where=where)
        elif cell.get("start") and cell.get("end"):
            draft.add(cell["start"], cell["end"], cell["label"], score, where=where)
        elif cell.get("first") and cell.get("last"):
            why = "segments are given in frames"
            own = replace(options, fps=collector.number(cell["fps"], where)) if cell.get("fps") else options
            clock = own.clock(cell["video"], path, why)
            begin, end = (collector.frame(cell[role], where) for role in ("first", "last"))
            if end <= begin:
                collector.leave_out("segments that end before they start", f"{where}: frames {begin} to {end}")
                continue
            collector.add_frames(draft, clock, begin, end, cell["label"], score, where=where)
        elif any(cell.get(role) for pair in _BOUNDS for role in pair):
            collector.leave_out("segments with one time only", where)
        elif cell["label"]:
            draft.add_whole(cell["label"], score, where=where)
    return collector.result()


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """A row a segment; a row without times for each label of a whole video, and for each video in which nothing happens."""
    videos = annotations.videos.values()
    extra = [("score", any(v.scores or v.whole_scores for v in videos)), ("subset", any(v.subset for v in videos)),
             ("video_duration", any(v.duration_s == v.duration_s for v in videos))]  # fmt: skip
    used = [name for name, there in extra if there]
    rows: list[Sequence[object]] = [("video", "label", "start", "end", *used)]
    for video in videos:
        facts = {
            "subset": video.subset or "",
            "video_duration": repr(video.duration_s) if video.duration_s == video.duration_s else "",
        }
        name = video_of(video, options)

        def row(
            label: str, times: Sequence[str], score: float | None, name: str = name, facts: dict[str, str] = facts
        ) -> list[str]:
            values = facts | {"score": "" if score is None else repr(score)}
            return [name, label, *times, *(values[column] for column in used)]

        for i, ((start, end), label) in enumerate(zip(video.segments.tolist(), video.labels)):
            rows.append(row(label, (repr(start), repr(end)), video.scores[i] if video.scores else None))
        for i, label in enumerate(video.whole):
            rows.append(row(label, ("", ""), video.whole_scores[i] if video.whole_scores else None))
        if not video.labels and not video.whole:
            rows.append(row("", ("", ""), None))
    write_whole(path, csv_text(rows))
    return [path]
