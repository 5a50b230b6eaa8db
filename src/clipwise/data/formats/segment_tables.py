"""Segments as a table: CSV or TSV with the columns video, label, start, end, and relatives of it (HACS clips, G-TAD's THUMOS, our own).

Columns are known by their names. Times are seconds or ``HH:MM:SS.fff``; where there are only frames (``start_frame``, ``end_frame``) these
count from 0 and the end is the first frame after the segment. A row without times labels the whole video; one without a label names it only.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, video_of
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.text_lists import LABEL_KEYS, PATH_KEYS, open_text
from clipwise.errors import DataError
from clipwise.io.names import did_you_mean
from clipwise.io.text import csv_text, from_csv_cell

_VIDEO = ("video", "video_id", "video_name", "vid", "youtube_id", "videoid", "video_file", *PATH_KEYS)
_LABEL = ("label", "class", "class_name", "classname", "type", "action", "activity", "behavior", "event", *LABEL_KEYS)
_START = (
    "start_s",
    "start",
    "start_time",
    "t_start",
    "start_sec",
    "start_seconds",
    "tstart",
    "begin",
    "time_start",
    "start (s)",
    "from",
    "onset",
)
_END = (
    "end_s",
    "end",
    "end_time",
    "t_end",
    "end_sec",
    "end_seconds",
    "tend",
    "stop",
    "stop_s",
    "stop_time",
    "time_end",
    "end (s)",
    "stop (s)",
    "to",
    "offset",
)
_FIRST = ("start_frame", "startframe", "frame_start", "first_frame")
_LAST = ("end_frame", "endframe", "frame_end", "stop_frame")
_SCORE = ("score", "confidence", "probability")
_SUBSET = ("subset", "split", "partition")
_DURATION = ("video_duration", "duration_s", "video_duration_s", "video_length")


def columns(header: Sequence[str]) -> dict[str, int]:
    """Where the columns that count are, by what they hold."""
    names = [cell.strip().strip('"').lower().lstrip("\ufeff") for cell in header]
    roles = {
        "start": _START,
        "end": _END,
        "first": _FIRST,
        "last": _LAST,
        "score": _SCORE,
        "subset": _SUBSET,
        "duration": _DURATION,
    }
    found = {}
    for role, known in ({"video": _VIDEO, "label": _LABEL} | roles).items():
        place = next((names.index(name) for name in known if name in names), None)
        if place is not None:
            found[role] = place
    return found


def matches_header(header: Sequence[str]) -> bool:
    """Whether a header is that of segments: a video and two times or frames."""
    found = columns(header)
    return "video" in found and ({"start", "end"} <= set(found) or {"first", "last"} <= set(found))


def has_times(path: Path) -> bool:
    """Whether a table's header has two times or frames."""
    with open_text(path) as file:
        first = file.readline()
    return matches_header(first.split(max(",;\t", key=first.count)))


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read a table with a header."""
    with open_text(path) as file:
        text = file.read()
    first = text.lstrip("\ufeff").split("\n", 1)[0]
    mark = max(",;\t", key=first.count)
    rows = csv.reader(text.lstrip("\ufeff").splitlines(), delimiter=mark, skipinitialspace=True)
    try:
        header = next(rows)
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
            raise DataError(f"{path}, {where}: {len(row)} columns, but the header has {len(header)}.")
        cell = {role: from_csv_cell(row[place].strip()) for role, place in at.items()}
        draft = collector.video(cell["video"], subset=cell.get("subset"), duration_s=cell.get("duration"))
        if hacs and row[sign].strip() == "-1":
            collector.note("negative samples (label -1), left out", where)
            continue
        score = cell.get("score") or None
        if cell.get("start") and cell.get("end"):
            draft.add(cell["start"], cell["end"], cell["label"], score, where=where)
        elif cell.get("first") and cell.get("last"):
            clock = options.clock(cell["video"], path, "segments are given in frames")
            begin, end = (collector.frame(cell[role], where) for role in ("first", "last"))
            if end <= begin:
                collector.leave_out("segments that end before they start", f"{where}: frames {begin} to {end}")
                continue
            collector.add_frames(draft, clock, begin, end, cell["label"], score, where=where)
        elif cell.get("start") or cell.get("end"):
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
    path.write_text(csv_text(rows), encoding="utf-8", errors="surrogateescape")
    return [path]
