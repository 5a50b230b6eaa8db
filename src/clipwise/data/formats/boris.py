"""BORIS: projects (``.boris``), and its exports of aggregated and of tabular events (TSV, CSV). Times are seconds of the observation.

Several files of the first player are played one after the other while the time runs on, so that times are those of the file only after
the lengths of the files before are taken away, and so is the observation's time offset, which BORIS adds to what the player shows. Further players
show other views of the same; their files are not taken, and their offsets do not count: events are timed by the first one.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, load_object, video_of
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.frame_times import parse_time
from clipwise.data.formats.text_lists import open_text
from clipwise.data.formats.written import write_json
from clipwise.data.videolist import is_video
from clipwise.errors import DataError
from clipwise.io.text import plural

_AGGREGATED = {"behavior", "start (s)", "stop (s)"}
_TABULAR = {"time", "behavior"}
_FILE_COLUMNS = ("media file", "media file name", "media file path", "media files", "media file(s)", "source")
_NO_FILE = ("", "NA", "NOT FOUND")  # of live observations, and of events beside the media
_LENGTH_COLUMNS = ("total length", "media duration (s)", "media duration")


def matches(content: Any) -> bool:
    """Whether JSON is a project of BORIS."""
    return isinstance(content, dict) and "behaviors_conf" in content and "observations" in content


def matches_table(lines: Sequence[str]) -> bool:
    """Whether the first lines are those of an export of events."""
    rows = [_split(line) for line in lines]
    return bool(rows) and (set(rows[0]) >= _AGGREGATED or any(_is_tabular(row) for row in rows))


def _split(line: str) -> list[str]:
    mark = max(",;\t", key=line.count)
    return [cell.strip().strip('"').lower() for cell in line.split(mark)]


def _is_tabular(row: Sequence[str]) -> bool:
    return (
        bool(row)
        and row[0] in ("time", "observation id")
        and set(row) >= _TABULAR
        and any(c in row for c in ("status", "behavior type"))
    )


# ---- projects


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read a project. State events of one subject and behavior alternate between start and stop; point events have no length."""
    content = load_object(path)
    collector = Collector(path, options)
    try:
        kinds = {str(b["code"]): str(b.get("type", "")).lower() for b in content["behaviors_conf"].values()}
        collector.vocabulary = [code for code, kind in kinds.items() if kind.startswith("state")]
        for name, observation in content["observations"].items():
            _observation(collector, str(name), observation, kinds)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path} is not in the form of BORIS projects ({type(error).__name__}: {error}).") from None
    return collector.result()


def _observation(collector: Collector, name: str, observation: dict[str, Any], kinds: dict[str, str]) -> None:
    files = observation.get("file")
    players = files if isinstance(files, dict) else {"1": files} if isinstance(files, list) else {}
    used = [key for key in sorted(players, key=str) if players[key]]
    where = f"observation {name!r}"
    if str(observation.get("type", "MEDIA")).upper() != "MEDIA" or not used:
        collector.note("observations without a media file, left out", where)
        return
    played = [str(file) for file in players[used[0]]]
    if len(used) > 1:
        collector.note("observations of several players, of which the first one's files were taken", where)
    facts = observation.get("media_info") or {}
    shifts = facts.get("offset") or {}
    if isinstance(shifts, dict) and shifts.get(used[0]) and float(shifts[used[0]]):
        collector.note("observations whose first player has an offset of its own, which is not applied", where)
    offset_s = collector.number(observation.get("time offset") or 0, f"{where}, time offset")
    if observation.get("media_creation_date_as_offset"):
        offset_s += _created(collector, facts, played, where)
    info = facts.get("length") or {}
    clocks = [None if info.get(file) else collector.options.videos.clock(file) for file in played]
    lengths = [info.get(file) or (clock and clock.duration_s) for file, clock in zip(played, clocks)]
    for file, length in zip(played, lengths):
        collector.video(file, duration_s=length)
    open_since: dict[tuple[str, ...], float] = {}
    events = observation.get("events") or []
    rows = [(_seconds(event[0], f"{where}, event {n}", collector), n, event) for n, event in enumerate(events, 1)]
    for time, n, event in sorted(rows, key=lambda row: row[:2]):
        code = str(event[2])
        kind = kinds.get(code)
        if kind is None:
            raise DataError(
                f"{collector.source}, {where}, event {n}: the behavior {code!r} is not in the project's list."
            )
        if not kind.startswith("state"):
            collector.note("point events, which have no length, left out", where)
            continue
        key = (str(event[1]), code, str(event[3]) if len(event) > 3 else "")
        if key in open_since:
            start = open_since.pop(key)
            _place(collector, played, lengths, start - offset_s, time - offset_s, code, f"{where}, event {n}")
        else:
            open_since[key] = time
    for subject, code, _ in open_since:
        collector.leave_out("state events without an end", f"{where}: {code} of {subject or 'no focal subject'}")


def _seconds(value: Any, where: str, collector: Collector) -> float:
    """A time; dates as offsets make it larger than any video is long."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return collector.number(value, where)


def _created(collector: Collector, facts: dict[str, Any], played: Sequence[str], where: str) -> float:
    """The date of a file in seconds, which BORIS adds to the times if it is told to.

    Raises:
        DataError: it is not known, or there are several files, whose dates are added to times that run on.
    """
    dates = facts.get("media_creation_time") or {}
    if len(played) > 1 or played[0] not in dates:
        reason = "there are several files" if len(played) > 1 else "the project does not have that date"
        raise DataError(
            f"{collector.source}, {where}: the date of the media file is added to its times, but {reason}. Uncheck that option in BORIS and "
            "correct the times there."
        )
    return _seconds(dates[played[0]], f"{where}, media_creation_time", collector)


def _place(
    collector: Collector, files: list[str], lengths: Sequence[Any], start: float, end: float, label: str, where: str
) -> None:
    """A segment of an observation in the file or files that it lies in."""
    begin = 0.0
    for number, (file, length) in enumerate(zip(files, lengths), 1):
        last = number == len(files)
        if length is None and not last:
            raise DataError(
                f"{collector.source}, {where}: {plural(len(files), 'file')} play one after the other, and the length of {file!r} is not known. "
                "Give the folder of the videos (--videos)."
            )
        stop = math.inf if last else begin + collector.number(length, f"length of {file!r}")
        first = number == 1 and start < 0
        if (start < stop and end > begin) or (start == end and begin <= start < stop) or (first and end <= begin):
            if end > stop:
                collector.note("segments over the border of two files, split there", where)
            left, right = (start if first else max(start, begin)) - begin, min(end, stop) - begin
            collector.video(file).add(round(left, 6), round(right, 6), label, where=where)
        begin = stop


# ---- exported tables


def read_table(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read an export of aggregated or tabular events."""
    with open_text(path) as file:
        lines = [line for line in file.read().splitlines() if line.strip()]
    mark = max(",;\t", key="\n".join(lines[:50]).count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark)]
    head = next(
        (
            i
            for i, row in enumerate(rows)
            if _is_tabular([c.lower() for c in row]) or {c.lower() for c in row} >= _AGGREGATED
        ),
        None,
    )
    if head is None:
        raise DataError(f"{path}: there is no row with the columns of BORIS' events (Behavior, Start (s), Stop (s)).")
    header = [cell.lower() for cell in rows[head]]
    column = next((name for name in _FILE_COLUMNS if name in header), None)
    if column is None:
        raise DataError(f"{path}: there is no column Media file; it has {', '.join(rows[head])}.")
    above = {
        row[0].lower(): row[1] for row in rows[:head] if len(row) > 1
    }  # an older tabular export is of one observation
    collector = Collector(path, options)
    table = [above | dict(zip(header, row)) | {"": str(n)} for n, row in enumerate(rows[head + 1 :], head + 2)]
    for row in table:
        for name in _FILE_COLUMNS:
            if name in row:
                row[name] = re.sub(r"^player #\d+:\s*", "", row[name].partition("|")[0], flags=re.IGNORECASE)
    spans = _aggregated(table, collector) if set(header) >= _AGGREGATED else _tabular(table, collector)
    observations: dict[str, list[dict[str, str]]] = {}
    for row in table:
        observations.setdefault(row.get("observation id", ""), []).append(row)
    played = {name: _played(some, column) for name, some in observations.items()}
    for row, start, end, label in spans:
        files = played[row.get("observation id", "")]
        if not files:
            collector.note("observations without a media file, left out", f"row {row['']}")
            continue
        offset_s = collector.number(row.get("time offset (s)") or 0, f"row {row['']}, time offset")
        _in_files(collector, files, row, start - offset_s, end - offset_s, label)
    for name in {name: None for files in played.values() for name in files}:
        collector.video(name)
    return collector.result()


def _played(rows: Sequence[dict[str, str]], column: str) -> dict[str, float | None]:
    """The files of an observation in the order in which they were played, with their lengths where each has its own.

    BORIS 8 has the files of all players in ``Source``, of which the first one's count; else the rows' files go by their times.
    """
    for row in rows:
        source = [file.strip() for file in row.get("source", "").split(";") if file.strip()]
        if len(source) > 1 and all(is_video(file) for file in source):
            cells = _total(row).split(";")
            known = [float(cell) if re.fullmatch(r"\d+(\.\d+)?", cell.strip()) else None for cell in cells]
            return dict(zip(source, known if len(known) == len(source) else [None] * len(source)))
    times = ((parse_time(row.get("time") or row.get("start (s)") or 0), row) for row in rows)
    names = [row.get(column) or "" for _, row in sorted(times, key=lambda pair: pair[0])]
    named = [name for name in names if name.upper() not in _NO_FILE] or [rows[0].get("source", "")]
    return dict.fromkeys(name for name in named if name.upper() not in _NO_FILE)


def _total(row: dict[str, str]) -> str:
    """The length of the first player's files as a table has it: of each, or of all together."""
    return next((row[name] for name in _LENGTH_COLUMNS if row.get(name)), "").partition("|")[0]


def _in_files(
    collector: Collector, files: dict[str, float | None], row: dict[str, str], start: float, end: float, label: str
) -> None:
    """A segment of a table in the files of its observation, which were played one after the other."""
    where, names = f"row {row['']}", list(files)
    clocks = [None if files[name] else collector.options.videos.clock(name) for name in names]
    lengths = [files[name] or (clock and clock.duration_s) for name, clock in zip(names, clocks)]
    total = collector.number(_total(row), where) if re.fullmatch(r"\d+(\.\d+)?", _total(row)) else None
    if len(names) == 1:
        if total and lengths[0] and total > lengths[0] + 1.5:
            raise DataError(
                f"{collector.source}, {where}: {total:g} s were observed, and {names[0]!r} has {lengths[0]:g} s. Files that were played before or "
                "after it have no row, so where this one begins is not known; give the project (.boris)."
            )
        draft = collector.video(names[0], duration_s=total or lengths[0])
        return draft.add(round(start, 6), round(end, 6), label, where=where)
    if total and sum(length is None for length in lengths) == 1:
        rest = total - sum(length or 0.0 for length in lengths)
        lengths = [rest if length is None else length for length in lengths]
    if any(length is None for length in lengths):
        missing = names[lengths.index(None)]
        raise DataError(
            f"{collector.source}, {where}: {', '.join(names)} were observed one after the other and the times run on; the length of "
            f"{missing!r} is not known. Give the folder of the videos (--videos), or the project (.boris), which has the lengths."
        )
    _place(collector, names, lengths, start, end, label, where)


def _aggregated(table: list[dict[str, str]], collector: Collector) -> list[tuple[dict[str, str], float, float, str]]:
    spans = []
    for row in table:
        where = f"row {row['']}"
        if row.get("behavior type", "STATE").upper().startswith("POINT"):
            collector.note("point events, which have no length, left out", where)
            continue
        start, end = row.get("start (s)", ""), row.get("stop (s)", "")
        if end.upper() in ("", "NA", "NAN"):
            collector.leave_out("state events without an end", where)
            continue
        spans.append((row, collector.number(start, where), collector.number(end, where), row.get("behavior", "")))
    return spans


def _tabular(table: list[dict[str, str]], collector: Collector) -> list[tuple[dict[str, str], float, float, str]]:
    spans, begun = [], dict[tuple[str, ...], tuple[float, str]]()
    modifiers = [name for name in (table[0] if table else {}) if re.fullmatch(r"modifiers?( #\d+)?", name)]
    for row in table:
        where = f"row {row['']}"
        status = (row.get("status") or row.get("behavior type") or "").upper()
        key = tuple(row.get(c, "") for c in ("observation id", "subject", "behavior", *modifiers))
        if status == "POINT":
            collector.note("point events, which have no length, left out", where)
        elif status == "START":
            begun[key] = (collector.number(row.get("time"), where), where)
        elif status == "STOP":
            if key not in begun:
                collector.leave_out("state events without a start", where)
                continue
            spans.append((row, begun.pop(key)[0], collector.number(row.get("time"), where), row.get("behavior", "")))
        else:
            raise DataError(f"{collector.source}, {where}: the status {status!r} is none of START, STOP and POINT.")
    for _, where in begun.values():
        collector.leave_out("state events without an end", where)
    return spans


# ---- writing


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """A project with an observation a video; overlapping segments of one class go to further subjects."""
    labels = list(dict.fromkeys([*annotations.vocabulary, *annotations.classes]))
    observations, subjects = {}, 1
    for video in annotations.videos.values():
        name = video_of(video, options)
        events: list[list[Any]] = []
        busy: dict[tuple[str, int], float] = {}
        for (start, end), label in zip(video.segments.tolist(), video.labels):
            lane = next(n for n in range(10**6) if busy.get((label, n), -math.inf) < start)
            busy[label, lane], subjects = end, max(subjects, lane + 1)
            who = "" if lane == 0 else f"clipwise {lane + 1}"
            events += [
                [round(start, 3), who, label, "", ""],
                [max(round(end, 3), round(start, 3) + 0.001), who, label, "", ""],
            ]
        clock = options.videos.clock(name)
        length = (clock.duration_s if clock else None) or (
            video.duration_s if math.isfinite(video.duration_s) else None
        )
        info: dict[str, Any] = {"length": {}, "fps": {}, "hasVideo": {name: True}, "hasAudio": {name: False}}
        info["length"] = {} if length is None else {name: round(length, 3)}
        info["fps"] = {} if clock is None else {name: round(float(clock.rate), 3)}
        observations[video.name] = {
            "date": "2000-01-01T00:00:00",
            "file": {"1": [name], "2": []},
            "type": "MEDIA",
            "description": "",
            "time offset": 0.0,
            "independent_variables": {},
            "visualize_spectrogram": False,
            "close_behaviors_between_videos": False,
            "media_info": info | {"offset": {"1": 0.0, "2": 0.0}},
            "events": sorted(events, key=lambda event: event[0]),
        }
    conf = {
        str(i): {"type": "State event", "key": "", "code": label, "description": "", "category": "", "modifiers": "", "excluded": "",
                 "coding map": ""} for i, label in enumerate(labels)
    }  # fmt: skip
    people = {str(i): {"key": "", "name": f"clipwise {i + 2}", "description": ""} for i in range(subjects - 1)}
    project = {
        "time_format": "hh:mm:ss",
        "project_name": path.stem,
        "project_date": "2000-01-01T00:00:00",
        "project_format_version": "7.0",
        "project_description": "",
        "subjects_conf": people,
        "behaviors_conf": conf,
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "converters": {},
        "observations": observations,
    }
    write_json(path, project, 1)
    return [path]
