"""What all readers and writers of annotation files share: options, videos found by name, and checks of every segment."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.data.formats.frame_times import FrameClock, exact_rate, open_clock, parse_time
from clipwise.data.formats.text_lists import load_json
from clipwise.data.videolist import VIDEO_SUFFIXES
from clipwise.errors import DataError
from clipwise.io.names import did_you_mean
from clipwise.io.text import plural

_LONGEST_S = 1e7  # four months; a time beyond it is a unit mistaken
_SLACK_S = 1.5  # so far behind the end of the video annotators' ends are commonly
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
_PROXY = re.compile(r"/tasks/\d+/(?:presign|resolve)/?\?fileuri=([\w=-]+)")  # Label Studio's, of cloud storage


class VideoFinder:
    """Video files by the names that annotation files have for them.

    Args:
        folders: where to look, first by the name as it stands, then for the file name alone, in subfolders too. A path that leads to a file
            from the current folder is found without.
    """

    def __init__(self, *folders: str | Path | None):
        self.folders = [Path(folder) for folder in folders if folder is not None]
        self._known: dict[str, list[Path]] | None = None
        self._clocks: dict[str, FrameClock] = {}

    def find(self, name: str) -> Path | None:
        """The file, or None where there is none.

        Raises:
            DataError: several files of the name in different subfolders.
        """
        plain = plain_path(name)
        for folder in (*self.folders, Path()):
            for candidate in (folder / plain, folder / PurePosixPath(plain).name):
                if candidate.is_file() or (candidate.is_dir() and not candidate.suffix and plain):
                    return candidate
        if self._known is None:
            self._known = self._scan()
        base = PurePosixPath(plain).name
        for key in (base, _UPLOAD.sub("", base), video_name(base), video_name(_UPLOAD.sub("", base))):
            found = self._known.get(key.lower())
            if found and len(found) > 1:
                exact = [path for path in found if path.name == base] or found
                tail = [path for path in exact if path.as_posix().endswith("/" + plain.lstrip("./"))]
                found = tail if len(tail) == 1 else exact
            if found and len(found) > 1:
                raise DataError(
                    f"the video {name!r} could be {found[0]} or {found[1]}: names must differ, or be given with their folders."
                )
            if found:
                return found[0]
        return None

    def _scan(self) -> dict[str, list[Path]]:
        known: dict[str, list[Path]] = {}
        for folder in self.folders:
            for parent, below, files in os.walk(folder):
                below[:] = sorted(b for b in below if not b.startswith("."))
                for file in sorted(files):
                    if os.path.splitext(file)[1].lower() in VIDEO_SUFFIXES and not file.startswith("."):
                        path = Path(parent, file)
                        for key in {file.lower(), video_name(file).lower()}:
                            if path not in known.setdefault(key, []):
                                known[key].append(path)
        return known

    def clock(self, name: str) -> FrameClock | None:
        """The clock of a video, or None where the file is not there."""
        if name not in self._clocks:
            path = self.find(name)
            if path is None or path.is_dir():
                return None
            self._clocks[name] = open_clock(path)
        return self._clocks[name]


@dataclass
class FormatOptions:
    """What a file may not say of itself.

    Attributes:
        fps: rate of the frame numbers; for Label Studio the declared one.
        default_fps: rate of videos that are not found.
        videos: finds video files, for their frame rates, time stamps and lengths.
        classes: the only labels that are allowed, where given.
        layer: which of several: ELAN tier, attribute of VIA or CVAT, Label Studio control, verb | noun | action, low | mid | high.
        config: Label Studio's labeling configuration.
        strict: a segment that can't be (reversed, negative, without label) is an error; else it is left out and noted.
    """

    fps: float | None = None
    default_fps: float | None = None
    videos: VideoFinder = field(default_factory=VideoFinder)
    classes: Sequence[str] | None = None
    layer: str | None = None
    config: str | Path | None = None
    strict: bool = True

    def clock(self, name: str, source: str | Path, why: str) -> FrameClock:
        """The clock of a video: of ``fps``, else of its file.

        Raises:
            DataError: neither is known.
        """
        if self.fps is not None:
            return FrameClock(exact_rate(self.fps))
        clock = self.videos.clock(name)
        if clock is None and self.default_fps is not None:
            return FrameClock(exact_rate(self.default_fps))
        if clock is None:
            places = ", ".join(map(str, self.videos.folders)) or "no folder"
            raise DataError(
                f"{source}: {why}, and the video {name!r} was not found ({places} searched), so its frame rate is unknown. "
                "Give the frame rate (--fps, lists.fps or input.fps) or the folder of the videos (--videos, data_root or input.videos)."
            )
        return clock


def plain_path(name: str) -> str:
    """A video's path without what tools put around it: URLs, Label Studio's prefixes and proxies, Windows' backslashes."""
    text = str(name).strip().replace("\\", "/")
    if match := _PROXY.search(text):
        with suppress(ValueError):  # of base64, and of its text
            return plain_path(base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)).decode())
    if "/data/local-files/" in text and "?d=" in text:
        return unquote(text.partition("?d=")[2]).replace("\\", "/").lstrip("/")
    if match := re.match(r"(?:https?://[^/]+)?/?data/upload/\d+/(.+)", text):
        return _UPLOAD.sub("", unquote(match[1].partition("?")[0]))
    if match := re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        text = unquote(text[match.end() :].partition("?")[0])
        return re.sub(r"^/(?=[A-Za-z]:/)", "", text) if name.startswith("file:") else text.partition("/")[2] or text
    return text


def video_name(path: str) -> str:
    """A video's name in an annotation set: without folder, suffix of a video and leading ``v_``."""
    return video_stem(path).removeprefix("v_")


def video_stem(path: str) -> str:
    """A path's last part without the suffix of a video; other dots belong to the name."""
    base = PurePosixPath(plain_path(path)).name
    stem, suffix = os.path.splitext(base)
    return stem if suffix.lower() in VIDEO_SUFFIXES or suffix.lower() in (".wav", ".mp3") else base


class Draft:
    """One video while its file is read."""

    def __init__(self, owner: Collector, path: str):
        self.owner, self.path = owner, path
        self.duration_s = math.nan
        self.num_frames = 0
        self.subset: str | None = None
        self.rows: list[tuple[float, float, str, float | None]] = []
        self.whole: dict[str, float | None] = {}

    def describe(self, *, duration_s: Any = None, subset: Any = None, num_frames: int = 0) -> Draft:
        """Note what the file says of the video; a duration may be text."""
        if subset not in (None, ""):
            self.subset = str(subset)
        if duration_s not in (None, ""):
            seconds = self.owner.number(duration_s, f"the duration of video {self.path!r}")
            if seconds > 0:
                self.duration_s = seconds
        self.num_frames = num_frames or self.num_frames
        return self

    def add(self, start: Any, end: Any, label: Any, score: Any = None, *, where: str = "") -> None:
        """One segment, in seconds (numbers or text); checked."""
        owner, place = self.owner, where or f"video {self.path!r}"
        start_s, end_s = owner.number(start, place), owner.number(end, place)
        name = owner.label(label, place)
        if name is None:
            return
        if start_s < 0 and end_s > 0 and start_s > -_SLACK_S and not owner.options.strict:
            owner.note("segments that begin before the video, cut at 0", place)
            start_s = 0.0
        if start_s < 0:
            return owner.leave_out(
                "segments that begin before the video", f"{place}: starts at {start_s:g} s, before the video"
            )
        if end_s <= start_s:
            kind = "segments of no length" if end_s == start_s else "segments that end before they start"
            return owner.leave_out(kind, f"{place}: from {start_s:g} to {end_s:g} s")
        self.rows.append((start_s, end_s, name, None if score is None else owner.number(score, place)))

    def add_whole(self, label: Any, score: Any = None, *, where: str = "") -> None:
        """A label of the video as a whole."""
        place = where or f"video {self.path!r}"
        name = self.owner.label(label, place)
        if name is not None:
            self.whole.setdefault(name, None if score is None else self.owner.number(score, place))


class Collector:
    """Gathers a file's videos and segments, checks them, and makes the set."""

    def __init__(self, source: str | Path, options: FormatOptions):
        self.source, self.options = str(source), options
        self.drafts: dict[str, Draft] = {}
        self.vocabulary: list[str] = []
        self._notes: dict[str, list[str]] = {}
        self._classes = {name: name for name in options.classes or ()}
        self._alike = {_alike(name): name for name in options.classes or ()}

    def video(self, path: Any, **facts: Any) -> Draft:
        """The draft of a video by the path that the file has for it; facts as of :meth:`Draft.describe`."""
        if not isinstance(path, (str, int)) or isinstance(path, bool) or not str(path).strip():
            raise DataError(f"{self.source}: {path!r} is not the name of a video.")
        path = str(path).strip()
        if path not in self.drafts:
            self.drafts[path] = Draft(self, path)
        return self.drafts[path].describe(**facts) if facts else self.drafts[path]

    def number(self, value: Any, where: str) -> float:
        """A finite number of reasonable size, from a number or text."""
        try:
            number = parse_time(value)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{self.source}, {where}: {_short(value)} is not a number.") from None
        if abs(number) > _LONGEST_S:
            raise DataError(
                f"{self.source}, {where}: {number:g} s is longer than a video can be; is it counted in other units?"
            )
        return number

    def frame(self, value: Any, where: str) -> int:
        """A frame number."""
        try:
            if isinstance(value, bool):
                raise ValueError
            number = int(value) if isinstance(value, (int, str)) else int(float(value))
            if isinstance(value, float) and number != value:
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{self.source}, {where}: {_short(value)} is not a frame number.") from None
        if abs(number) > 10**9:
            raise DataError(f"{self.source}, {where}: frame {_short(value)} is more than a video can have.")
        return number

    def label(self, value: Any, where: str) -> str | None:
        """A label as the classes have it; None where it is empty and left out."""
        if isinstance(value, (dict, list, bool)):
            raise DataError(f"{self.source}, {where}: {_short(value)} is not a label.")
        text = "" if value is None else " ".join(str(value).split())
        if any("\udc80" <= c <= "\udcff" for c in text):
            raise DataError(f"{self.source}, {where}: the label is not UTF-8 text; save the file in that encoding.")
        if not text:
            self.leave_out("segments without a label", where)
            return None
        if not self._classes or text in self._classes:
            return text
        if same := self._alike.get(_alike(text)):
            return same
        raise DataError(
            f"{self.source}, {where}: the label {text!r} is not among the {plural(len(self._classes), 'known class', 'known classes')}"
            f"{did_you_mean(text, self._classes) or '.'}"
        )

    def add_frames(
        self, draft: Draft, clock: FrameClock, first: int, end: int, label: Any, score: Any = None, *, where: str
    ) -> None:
        """A segment of frames ``[first, end)``, counted from 0; one past the end of the video is cut or refused."""
        last = clock.num_frames
        if last is not None and end > last:
            late_s = clock.seconds(end) - clock.seconds(last)
            say = f"{where}: ends with frame {end - 1}, the video has {plural(last, 'frame')}"
            if first >= last or (late_s > _SLACK_S and self.options.strict):
                return self.leave_out("segments beyond the end of the video", say)
            self.note("segments cut at the end of the video", say)
            end = last
        if first < 0:
            return self.leave_out("segments that begin before the video", f"{where}: begins with frame {first}")
        draft.add(clock.seconds(first), clock.seconds(end), label, score, where=where)

    def leave_out(self, kind: str, detail: str) -> None:
        """Refuse a segment in strict mode; else leave it out and count it."""
        if self.options.strict:
            raise DataError(
                f"{self.source}, {detail}: {kind} can't be used. Correct the file, or leave such segments out: `clipwise prepare annotations` "
                "does and counts them; in training input.tolerant=true does."
            )
        self.note(f"{kind}, left out", detail)

    def note(self, kind: str, detail: str) -> None:
        """Count something that a person should know."""
        self._notes.setdefault(kind, []).append(detail)

    def result(self, *, keep_empty: bool = True) -> AnnotationSet:
        """The finished set.

        Raises:
            DataError: no video in the file.
        """
        if not self.drafts:
            raise DataError(f"{self.source}: there is no video in it.{''.join(' ' + n for n in self._sentences())}")
        videos: dict[str, VideoAnnotation] = {}
        for draft, name in zip(self.drafts.values(), _names(self.drafts)):
            rows = sorted(draft.rows, key=lambda row: row[:2])
            scored = bool(rows) and all(row[3] is not None for row in rows)
            videos[name] = VideoAnnotation(
                name=name,
                duration_s=draft.duration_s,
                subset=draft.subset,
                segments=np.array([row[:2] for row in rows], np.float64).reshape(-1, 2),
                labels=tuple(row[2] for row in rows),
                num_frames=draft.num_frames,
                scores=tuple(float(row[3] or 0.0) for row in rows) if scored else (),
                whole=tuple(draft.whole),
                whole_scores=tuple(float(s or 0.0) for s in draft.whole.values())
                if draft.whole and None not in draft.whole.values()
                else (),
                path=draft.path,
            )
        return AnnotationSet(self.source, videos, tuple(dict.fromkeys(self.vocabulary)), tuple(self._sentences()))

    def _sentences(self) -> Iterable[str]:
        for kind, details in self._notes.items():
            yield f"{self.source}: {len(details)} {kind}" + (f", the first: {details[0]}" if details[0] else "") + "."


def _names(paths: Mapping[str, Any]) -> list[str]:
    """A name for each path: without folders, as long as that tells them apart."""
    short = [video_name(path) for path in paths]
    if len(set(short)) == len(short):
        return short
    long = [os.path.splitext(plain_path(path))[0] for path in paths]
    names = [b if short.count(a) > 1 else a for a, b in zip(short, long)]
    return names if len(set(names)) == len(names) else list(paths)


def _alike(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).lower()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def load_object(path: str | Path) -> Any:
    """A JSON file's content.

    Raises:
        DataError: no such file, or not JSON.
    """
    if not Path(path).is_file():
        raise DataError(f"{path} does not exist.")
    try:
        return load_json(Path(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not readable as text: {error}.") from None


def overlapping_layers(video: VideoAnnotation) -> list[list[int]]:
    """Segments (their indices) in as few layers as have no overlap within one."""
    layers: list[list[int]] = []
    for i in np.lexsort((video.segments[:, 1], video.segments[:, 0])).tolist():
        free = (layer for layer in layers if video.segments[layer[-1], 1] <= video.segments[i, 0])
        layer = next(free, None)
        if layer is None:
            layers.append([i])
        else:
            layer.append(i)
    return layers


def video_of(video: VideoAnnotation, options: FormatOptions) -> str:
    """The path of a video to write into a file: the file that was found, else what the source had."""
    return video.path or video.name


def files_for(videos: Sequence[VideoAnnotation], path: Path, name: Callable[[VideoAnnotation], str]) -> list[Path]:
    """Where a format with one file per video writes: ``path`` for one video, else a folder of ``name``.json."""
    if len(videos) == 1 and path.suffix.lower() == ".json":
        return [path]
    path.mkdir(parents=True, exist_ok=True)
    return [path / f"{name(video)}.json" for video in videos]
