"""Tables beside annotations, and annotations of every other format or of a list of videos."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipwise.data.formats.annotations import AnnotationSet
from clipwise.errors import DataError

if TYPE_CHECKING:
    from clipwise.data.formats.annotation_parts import FormatOptions

_LISTS = ("kinetics_csv", "something", "jester", "gym99", "video", "csv", "json", "auto", "folder")


def read_table(path: Path, video_info: str | os.PathLike | None) -> dict[str, dict[str, str]]:
    """The rows of ``video_info`` by the names of their videos."""
    if video_info is None:
        beside = [path.parent / name for name in ("video_info_new.csv", "video_info.csv")]
        table = next((p for p in beside if p.is_file()), None)
        if table is None:
            return {}
    else:
        table = Path(video_info)
    try:
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(f"video_info {table} does not exist.") from None
    if not rows or not {"video", "subset"} <= set(rows[0]):
        raise DataError(
            f"{table} needs the columns video and subset; it has {', '.join(rows[0]) if rows else 'no row'}."
        )
    return {row["video"].removeprefix("v_"): row for row in rows}


def read_any(path: str | Path, kind: str = "auto", options: FormatOptions | None = None) -> AnnotationSet:
    """Read annotations of any format of ``clipwise.data.formats.annotation_kinds``, or a list of videos as annotations.

    Args and errors as of ``read_kind``.
    """
    from clipwise.data.formats.annotation_kinds import read_kind

    return read_kind(path, kind, options, _read_list)


def _read_list(path: Path, kind: str, options: FormatOptions) -> AnnotationSet:
    """A list's labels as annotations of whole videos."""
    if kind not in _LISTS:
        raise DataError(f"{path} is a list of the format {kind}, which holds no annotations.")
    from clipwise.data.formats.annotation_kinds import KINDS
    from clipwise.data.formats.annotation_lists import annotations_of_list
    from clipwise.data.formats.list_files import read_list_file
    from clipwise.data.videolist import find_classes, is_video

    root, beside = next(iter(options.videos.folders), None), find_classes(path.parent, path.stem)
    videos = read_list_file(path, root=root, classes=options.classes, beside=beside)
    if kind == "auto" and not any(is_video(e) or os.path.exists(e) for e in (videos.path(0), videos.entry(0))):
        raise DataError(
            f"{path} is not recognized: neither a list of videos nor annotations of {', '.join(KINDS)}. If it is one of these, say which."
        )
    return annotations_of_list(videos, str(path))


def with_table(annotations: AnnotationSet, path: Path, video_info: str | os.PathLike | None) -> AnnotationSet:
    """Subsets and lengths of the table ``video_info``, for videos whose annotations lack them."""
    table = read_table(path, video_info)
    videos = dict(annotations.videos)
    for name in videos.keys() & table.keys():
        row, video = table[name], videos[name]
        try:
            seconds = float(row.get("duration") or row.get("duration_second") or row.get("duration_s") or "nan")
        except ValueError:
            raise DataError(
                f"video_info: the duration {row.get('duration')!r} of video {name!r} is not a number."
            ) from None
        length = video.duration_s if not math.isnan(video.duration_s) else seconds
        videos[name] = replace(video, subset=video.subset or row.get("subset") or None, duration_s=length)
    return replace(annotations, videos=videos)
