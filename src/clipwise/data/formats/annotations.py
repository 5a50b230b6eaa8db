"""When what happens in long videos: the one form inside, and annotation files in the forms in which ActivityNet goes around.

=============== ==============================================================================================
form            looks like
=============== ==============================================================================================
ActivityNet     ``{"database": {id: {"duration", "subset", "annotations": [{"segment": [s, e], "label"}]}}}``
BSN, MMAction2  ``{"v_id": {"duration_second", "duration_frame", "feature_frame", "annotations"}}``; the subsets
                stand in a table beside it (``video_info_new.csv``)
Paddle          as BSN's, with ``subset`` in each entry
=============== ==============================================================================================

Names are kept without the leading ``v_`` that files have and ActivityNet's JSON has not. Files of annotation tools and other data sets
become the same form (``clipwise.data.formats.annotation_kinds``).
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError
from clipwise.io.parse import parse_json

TimeBase = Literal["duration", "snippets", "strides"]
_LATE_S = 0.05  # an end this far behind the video's is rounding


@dataclass(frozen=True)
class VideoAnnotation:
    """What is known about one long video.

    Attributes:
        name: without ``v_``.
        duration_s: length of the video; NaN where the file does not say and nobody looked.
        subset: ``training``, ``validation``, … or None.
        segments: (G, 2) start and end in seconds, as the file has them.
        labels: class of each segment.
        num_frames: frames of the video, 0 if unknown.
        feature_frames: frames that the features cover, 0 if unknown.
        scores: of each segment, in files of predictions; else empty.
        whole: labels of the video as a whole.
        whole_scores: of each of these, in files of predictions; else empty.
        path: the video as the annotation file names it.
        fps: frame rate, 0 if unknown.
    """

    name: str
    duration_s: float
    subset: str | None
    segments: NDArray[np.float64]
    labels: tuple[str, ...]
    num_frames: int = 0
    feature_frames: int = 0
    scores: tuple[float, ...] = ()
    whole: tuple[str, ...] = ()
    whole_scores: tuple[float, ...] = ()
    path: str = ""
    fps: float = 0.0

    def covered_s(self, time_base: TimeBase = "duration") -> float:
        """Seconds that the features stand for.

        ``snippets`` corrects the duration by feature_frame / duration_frame, as BSN, JJBOY and MMAction2 do: their
        features end with the last whole snippet of 16 frames.
        """
        if time_base == "snippets" and self.feature_frames and self.num_frames:
            return self.feature_frames / self.num_frames * self.duration_s
        return self.duration_s

    def fractions(self, time_base: TimeBase = "duration") -> NDArray[np.float64]:
        """(G, 2) the segments as shares of what the features cover."""
        return self.segments / self.covered_s(time_base)


@dataclass(frozen=True)
class AnnotationSet:
    """All videos of a file, by name.

    Attributes:
        vocabulary: the classes that the file declares, in its order; empty where it declares none.
        notes: sentences on what was left out while reading.
    """

    source: str
    videos: Mapping[str, VideoAnnotation]
    vocabulary: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def classes(self) -> list[str]:
        """Names of the classes that occur, sorted."""
        return sorted({label for video in self.videos.values() for label in video.labels})

    def has_subset(self, name: str) -> bool:
        """Whether :meth:`subset` finds one."""
        return self._subset_named(name) is not None

    def _subset_named(self, name: str) -> str | None:
        return subset_named(name, {video.subset for video in self.videos.values() if video.subset})

    def subset(self, name: str) -> AnnotationSet:
        """The videos of one subset; ``train`` finds ``training``.

        Raises:
            DataError: no such subset.
        """
        found = self._subset_named(name)
        if found is None:
            there = sorted({video.subset for video in self.videos.values() if video.subset})
            known = (
                f"it has {', '.join(there)}" if there else "no video has a subset; BSN's form needs video_info (CSV)"
            )
            raise DataError(f"{self.source} has no video of subset {name!r}: {known}.")
        return replace(self, videos={n: v for n, v in self.videos.items() if v.subset == found})

    def checked(self, tolerant: bool = False) -> tuple[AnnotationSet, list[str]]:
        """The set if it is sound, for training.

        Args:
            tolerant: leave out segments of no length, keep what runs past the video's end (targets are cut there)
                and videos in which nothing happens, and say how many there were.

        Returns:
            The set, and sentences on what was found.

        Raises:
            DataError: a segment of no length, one that ends after its video, or a video without a segment.
        """
        found: dict[str, list[str]] = {}
        videos = {}
        for name, video in self.videos.items():
            if np.isnan(video.duration_s):
                raise DataError(f"{self.source}: video {name!r} has no duration; give it there or in input.video_info.")
            length = video.segments[:, 1] - video.segments[:, 0]
            for i in np.flatnonzero(length <= 0):
                found.setdefault("no length", []).append(f"{name}: segment {video.segments[i].tolist()} has no length")
            for i in np.flatnonzero(video.segments[:, 1] > video.duration_s + _LATE_S):
                found.setdefault("late", []).append(
                    f"{name}: segment {video.segments[i].tolist()} ends after the video, which has {video.duration_s:g} s"
                )
            if not len(video.segments):
                found.setdefault("empty", []).append(f"{name}: no segment, nothing happens in this video")
            if (length <= 0).any():
                keep = length > 0
                labels = tuple(label for label, k in zip(video.labels, keep) if k)
                scores = tuple(score for score, k in zip(video.scores, keep) if k)
                video = replace(video, segments=video.segments[keep], labels=labels, scores=scores)
            videos[name] = video
        if found and not tolerant:
            lines = [
                f"{each[0]}" + (f" (and {len(each) - 1} more like it)" if len(each) > 1 else "")
                for each in found.values()
            ]
            raise DataError(
                f"{self.source}: {'; '.join(lines)}. Correct the file, or set input.tolerant=true: segments of no length are then left "
                "out, late ends cut, and videos without a segment taken as background."
            )
        done = {
            "no length": "segments of no length left out",
            "late": "segments cut at the video's end",
            "empty": "videos without a segment taken as background",
        }
        notes = [f"{self.source}: {len(each)} {done[kind]}, the first: {each[0]}" for kind, each in found.items()]
        return replace(self, videos=videos), notes

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """For the metrics: name -> [{"segment", "label"}], segments as the file has them."""
        return {
            name: [{"segment": s, "label": label} for s, label in zip(v.segments.tolist(), v.labels)]
            for name, v in self.videos.items()
        }

    def fingerprint(self) -> str:
        """Changes when names or times change."""
        digest = hashlib.sha256()
        for name, video in self.videos.items():
            digest.update(f"{name} {video.duration_s!r} {video.segments.tolist()}\n".encode())
        return digest.hexdigest()[:16]


def subset_named(name: str, known: Iterable[str]) -> str | None:
    """A subset's own name: this one, or one that it begins or that begins it, in either case (``train``: ``Training``)."""
    there, lower = sorted(known), name.lower()
    near = (s for s in there if s.lower().startswith(lower) or lower.startswith(s.lower()))
    return name if name in there else next(near, None)


def read_annotations(
    path: str | os.PathLike,
    video_info: str | os.PathLike | None = None,
    *,
    videos: str | os.PathLike | None = None,
    fps: float | None = None,
    layer: str | None = None,
    config: str | None = None,
    tolerant: bool = False,
) -> AnnotationSet:
    """Read annotations in any of the forms of the module's table, of a tool, or of another data set.

    Args:
        path: the file, or a folder of files of one format.
        video_info: BSN's CSV with the columns video and subset (and duration); found by itself if it lies beside the file.
        videos: folder of the videos, whose frame rates and lengths are asked for where the annotations lack them.
        fps, layer, config: of :class:`clipwise.data.formats.annotation_parts.FormatOptions`.
        tolerant: leave out segments that can't be.

    Raises:
        DataError: no such file, another form, a time that is no number; the message names file and video.
    """
    path = Path(path)
    content = None
    if path.suffix.lower() in (".json", "") and not path.is_dir():
        try:
            content = parse_json(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise DataError(f"annotation file {path} does not exist.") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is no JSON file: {error}.") from None
    entries = content.get("database", content) if isinstance(content, dict) else None
    if path.suffix.lower() not in (".json", "") or path.is_dir() or _is_foreign(content, entries):
        from clipwise.data.formats.annotation_kinds import read_foreign

        return read_foreign(path, video_info, videos, tolerant, fps=fps, layer=layer, config=config)
    if not isinstance(content, dict) or not isinstance(entries, dict) or not entries:
        raise DataError(f"{path} holds no annotations: videos by name, or a 'database' of them, are expected.")
    table: dict[str, dict[str, str]] = {}
    if "database" not in content and not any(isinstance(e, dict) and "subset" in e for e in entries.values()):
        table = read_table(path, video_info)
    subsets = {name: row["subset"] for name, row in table.items()}
    found = {}
    for given, entry in entries.items():
        name = given.removeprefix("v_")
        if name in found:
            raise DataError(f"{path}: video {name!r} is listed twice (with and without v_).")
        found[name] = _video(name, entry, subsets, path)
    return AnnotationSet(str(path), found)


def _is_foreign(content: Any, entries: Any) -> bool:
    """Whether JSON is of another form, or ActivityNet's with durations that are text or missing."""
    if isinstance(content, list) or not isinstance(entries, dict):
        return isinstance(content, list) and bool(content)
    durations = [e.get("duration_second", e.get("duration")) for e in entries.values() if isinstance(e, dict)]
    if "database" in content:
        return any(d is None or isinstance(d, str) for d in durations)
    known = any(
        isinstance(e, dict) and ("duration_second" in e or isinstance(e.get("annotations"), list))
        for e in entries.values()
    )
    if known or not durations:
        return False
    from clipwise.data.formats.detect import detect_json

    return detect_json(content) not in ("json", "activitynet")


def annotations_of(database: Mapping[str, Any], source: str = "database") -> AnnotationSet:
    """The same from a ``database`` in memory, for instance of ``clipwise.prepare.synthetic.make_long_videos``."""
    return AnnotationSet(
        source, {n.removeprefix("v_"): _video(n.removeprefix("v_"), e, {}, source) for n, e in database.items()}
    )


def _video(name: str, entry: Any, subsets: Mapping[str, str], path: Any) -> VideoAnnotation:
    if not isinstance(entry, dict):
        raise DataError(
            f"{path}: video {name!r} is {type(entry).__name__}; a dictionary with its annotations is expected."
        )
    seconds = next((entry[key] for key in ("duration_second", "duration") if key in entry), None)
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds) or seconds <= 0:
        raise DataError(f"{path}: video {name!r} has duration {seconds!r}; a positive number of seconds is needed.")
    actions = entry.get("annotations", [])
    try:
        segments = np.array([a["segment"] for a in actions], dtype=np.float64).reshape(-1, 2)
        labels = tuple(str(a.get("label", "action")) for a in actions)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(
            f'{path}: the annotations of video {name!r} must be a list of {{"segment": [start, end], "label": name}}.'
        ) from None
    if not np.isfinite(segments).all():
        raise DataError(
            f"{path}: video {name!r} has a segment with a time that is NaN or infinite: {segments.tolist()}."
        )
    if (segments[:, 1] < segments[:, 0]).any():
        raise DataError(f"{path}: a segment of video {name!r} ends before it starts: {segments.tolist()}.")
    if (segments < 0).any():
        raise DataError(f"{path}: a segment of video {name!r} starts before the video: {segments.tolist()}.")
    try:
        num_frames, feature_frames = (int(entry.get(key) or 0) for key in ("duration_frame", "feature_frame"))
        fps = float(entry.get("fps") or (num_frames or int(entry.get("frame") or 0)) / seconds)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: duration_frame, feature_frame and fps of video {name!r} must be numbers.") from None
    return VideoAnnotation(
        name=name,
        duration_s=float(seconds),
        subset=entry.get("subset", subsets.get(name)),
        segments=segments,
        labels=labels,
        num_frames=num_frames,
        feature_frames=feature_frames,
        fps=fps if math.isfinite(fps) else 0.0,
    )


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


def class_names(sets: Iterable[AnnotationSet]) -> list[str]:
    """All classes of several sets, sorted."""
    return sorted({name for each in sets for name in each.classes})
