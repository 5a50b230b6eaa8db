"""The audit of a data set: labels, missing and repeated entries, what a look at an entry tells, and advice.

``clipwise train`` does :func:`short_audit` before the first epoch, which takes seconds on any data set: only a sample of the videos
is opened. ``clipwise check`` (:mod:`clipwise.prepare.check`) looks at every entry, and for copies.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from clipwise.data.lists import VideoList
from clipwise.errors import ClipwiseError, DecodeError
from clipwise.io.text import plural
from clipwise.video.decode import PyAVReader

SHORT_SAMPLE = 48

# What can be wrong with an entry, worst first; an entry is reported once, with its worst fault.
FAULTS = {
    "missing": "the file or folder is not there",
    "undecodable": "cannot be opened, or no frame of it decoded",
    "truncated": "breaks off, or holds fewer frames than its header or the list says",
    "damaged": "has frames with errors that the decoder has covered up, or begins between two keyframes",
    "too_short": "has fewer frames than are needed",
    "bad_label": "has no label, or one outside the classes",
    "duplicate": "has the same content as an entry of another part",
    "lookalike": "looks the same as an entry of another part, in another encoding, container or size",
    "conflict": "has the same content as another entry with another label",
    "repeated": "is listed more than once",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: which part of the data, which entry of its list, what, and in words."""

    part: str
    index: int
    path: str
    kind: str
    detail: str


@dataclass
class CheckResult:
    """What an audit found.

    Attributes:
        depth: how closely it looked.
        entries: number of entries of each part.
        opened: how many videos were opened.
        faults: what is wrong, in the order of the lists.
        histograms: part -> number of entries of each class.
        classes: class names, where known.
        statistics: frames, fps, size, keyframe distance and so on: of each the smallest, median and largest value.
        speed: ``clip_cpu_ms``, ``clips_per_s`` of one loader worker, ``epoch_s`` of the first part with ``workers`` workers.
        notes: files that are read correctly although their metadata is wrong, and what is wrong; no faults.
        advice: what to do about it, in sentences.
        seconds: how long the check took.
    """

    depth: str
    entries: dict[str, int]
    opened: int = 0
    faults: list[Fault] = field(default_factory=list)
    histograms: dict[str, list[int]] = field(default_factory=dict)
    classes: list[str] | None = None
    statistics: dict[str, Any] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)
    notes: list[Fault] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.faults

    def counts(self) -> dict[str, int]:
        """Number of faults of each kind that occurs, worst first."""
        found = Counter(fault.kind for fault in self.faults)
        return {kind: found[kind] for kind in FAULTS if found[kind]}

    def to_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "counts": self.counts(), **asdict(self)}


Key = tuple[str, int]
"""A part's name and an entry's index."""


def short_audit(parts: Mapping[str, VideoList], look: Look, num_classes: int | None = None) -> CheckResult:
    """Look at the lists and at a sample of their videos, in this process."""
    result, there = check_lists("short", parts, num_classes)
    records = {key: look.one(*entry_of(parts, key)) for key in sample(there)}
    add_records(result, parts, records)
    finish(result, parts, records.values())
    return result


def describe(result: CheckResult, recipe: Any) -> Iterator[str]:
    """What a run that trains by a recipe says of its audit, in lines."""
    for fault in result.faults[:5]:
        yield f"{fault.part} {fault.path}: {fault.detail}"
    if len(result.faults) > 5:
        yield f"and {len(result.faults) - 5} more; `clipwise check` lists them all"
    yield from result.advice
    segments, shortest = recipe.num_segments, result.statistics.get("frames", {}).get("min", 0)
    if segments and not recipe.input.keep_tail_frames and shortest < 2 * segments:
        yield (
            f"some videos have only {shortest:g} frames. With {plural(segments, 'segment')} MMAction2's rule trains on their first "
            f"{plural(segments, 'frame')} and tests on all of them; input.keep_tail_frames=true trains on all."
        )


def check_lists(depth: str, parts: Mapping[str, VideoList], num_classes: int | None) -> tuple[CheckResult, list[Key]]:
    """A result with what the lists alone tell, and the entries whose files exist."""
    result = CheckResult(depth, {name: len(videos) for name, videos in parts.items()})
    known = next((videos.classes for videos in parts.values() if videos.classes), None)
    result.classes = list(known) if known else None
    limit = num_classes or next((videos.num_classes for videos in parts.values() if videos.num_classes), None)
    there = []
    for name, videos in parts.items():
        result.histograms[name], wrong = _label_counts(videos, limit)
        missing = {int(index): FAULTS["missing"] for index in videos.missing()}
        repeated = {index: f"is listed before, as entry {first}" for index, first in _repeats(videos)}
        for kind, details in (("bad_label", wrong), ("missing", missing), ("repeated", repeated)):
            result.faults += [Fault(name, index, videos.path(index), kind, text) for index, text in details.items()]
        there += [(name, index) for index in range(len(videos)) if index not in missing]
    return result, there


def _label_counts(videos: VideoList, limit: int | None) -> tuple[list[int], dict[int, str]]:
    """Number of entries of each class, and what is wrong with an entry's label."""
    labels = videos.labels
    if labels.ndim == 2:
        bare = np.flatnonzero(labels.sum(axis=1) == 0)
        return [int(count) for count in labels.sum(axis=0)], {int(index): "has no label" for index in bare}
    if (labels == -1).all():
        return [], {}  # a list to predict on
    top = limit if limit is not None else int(labels.max()) + 1
    wrong = {}
    for index in np.flatnonzero((labels < 0) | (labels >= top)):
        outside = f"has the label {labels[index]}, but there are {plural(top, 'class', 'classes')}, 0 to {top - 1}"
        wrong[int(index)] = "has no label" if labels[index] == -1 else outside
    return np.bincount(labels[(labels >= 0) & (labels < top)], minlength=top).tolist(), wrong


def _repeats(videos: VideoList) -> Iterator[tuple[int, int]]:
    """(index, first index) of entries that name the same file and the same part of it as one before."""
    first: dict[tuple, int] = {}
    for index in range(len(videos)):
        key = (videos.entry(index), videos.offset(index), videos.span(index))
        if first.setdefault(key, index) != index:
            yield index, first[key]


def sample(there: Sequence[Key]) -> Sequence[Key]:
    """The entries that a short audit opens."""
    if len(there) <= SHORT_SAMPLE:
        return there
    return [there[i] for i in np.sort(np.random.default_rng(0).choice(len(there), SHORT_SAMPLE, replace=False))]


def entry_of(parts: Mapping[str, VideoList], key: Key) -> tuple[str, str, int | None, int]:
    """What a :class:`Look` takes: path, kind, number of frames and offset."""
    videos, index = parts[key[0]], key[1]
    return videos.path(index), videos.kind, videos.num_frames(index), videos.offset(index)


def add_records(result: CheckResult, parts: Mapping[str, VideoList], records: Mapping[Key, Record]) -> None:
    """Take what looks at entries told into the result."""
    result.opened = len(records)
    for (name, index), record in records.items():
        path = parts[name].path(index)
        if record.fault:
            result.faults.append(Fault(name, index, path, record.fault, record.detail))
        elif record.note:
            result.notes.append(Fault(name, index, path, "false_marks", record.note))


def finish(result: CheckResult, parts: Mapping[str, VideoList], records: Iterable[Record]) -> None:
    """Keep each entry's worst fault, in the order of the lists; figures and advice."""
    order, severity = list(parts), list(FAULTS)
    worst: dict[Key, Fault] = {}
    for fault in sorted(result.faults, key=lambda fault: severity.index(fault.kind)):
        worst.setdefault((fault.part, fault.index), fault)
    result.faults = sorted(worst.values(), key=lambda fault: (order.index(fault.part), fault.index))
    result.statistics = _statistics([record for record in records if record.num_frames])
    result.advice = list(_advice(result))


# ---- one entry ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What one look at an entry told."""

    fault: str = ""
    detail: str = ""
    num_frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    codec: str = ""
    keyframe_distance: int = 0
    seekable: bool = True
    cells: bytes = b""  # brightness of the first frame, see lookalikes
    bytes: int = 0
    duration_s: float = 0.0
    note: str = ""  # which metadata of the file is wrong, though all frames are read correctly


@dataclass(frozen=True)
class Look:
    """How to look at an entry; goes to worker processes.

    Attributes:
        full: decode every frame, not only three keyframes.
        min_frames: shorter videos are a fault.
        frame_template, start_index, modality: of frame folders, as in ``open_frames``.
        timeout_s: limit for each video.
        cells: keep the first frame's cells, for the search for lookalikes.
    """

    full: bool = False
    min_frames: int = 1
    frame_template: str | None = None
    start_index: int | None = 1
    modality: str = "rgb"
    timeout_s: float | None = 120.0
    cells: bool = False

    def many(self, entries: Sequence[tuple[str, str, int | None, int]]) -> list[Record]:
        return [self.one(*entry) for entry in entries]

    def one(self, path: str, kind: str, num_frames: int | None, offset: int) -> Record:
        try:
            if kind == "video":
                return self._video(path)
            from clipwise.prepare.look_folder import look_at

            return Record(**look_at(self, path, kind, num_frames, offset))
        except (ClipwiseError, OSError, ValueError, RuntimeError, MemoryError) as error:
            return Record("undecodable", (str(error) or type(error).__name__).removeprefix(f"{path}: "))

    def _video(self, path: str) -> Record:
        with PyAVReader(path, timeout_s=self.timeout_s, verify=self.full) as reader:
            cells = b""
            if self.cells:
                from clipwise.prepare.lookalikes import first_frame_cells, thumbnail

                cells = first_frame_cells(reader.frames([0], transform=thumbnail)[0])
            else:
                reader.frames([0], transform=_corner)
            if not self.full and reader.table.seekable:
                # First, last and a middle keyframe: any decoding error in them, at a hundredth of the cost of a full decode.
                keys = reader.keyframes
                try:
                    reader.frames([int(keys[len(keys) // 2]), int(keys[-1])], transform=_corner)
                except DecodeError:
                    if not reader.damage:
                        raise
            fault, detail = _video_fault(reader)
            if not fault and reader.num_frames < self.min_frames:
                fault, detail = "too_short", f"has {plural(reader.num_frames, 'frame')}, {self.min_frames} are needed"
            table = reader.table
            keys = np.append(reader.keyframes, reader.num_frames)
            distance = int(np.diff(keys).max()) if table.seekable else reader.num_frames
            return Record(fault, detail, reader.num_frames, reader.fps, reader.height, reader.width, reader.codec, distance,
                          table.seekable, cells, os.path.getsize(path), reader.duration_s, table.note or "")  # fmt: skip


def _video_fault(reader: PyAVReader) -> tuple[str, str]:
    expected, there = reader.header_frames, reader.num_frames
    if reader.damage:
        begins_late = reader.damage.startswith("begins between")
        return ("damaged" if there >= expected > 0 or begins_late else "truncated"), reader.damage
    if expected and there + reader.table.hidden < expected:
        return "truncated", f"has {plural(there, 'frame')}, its header says {expected}"
    if reader.concealed:
        return "damaged", f"frame {min(reader.concealed)} has errors that the decoder has covered up"
    return "", ""


def _corner(frame: np.ndarray) -> np.ndarray:
    return frame[:1, :1].copy()


# ---- figures and advice ---------------------------------------------------------------------------------------------------------------


def _statistics(good: list[Record]) -> dict[str, Any]:
    if not good:
        return {}

    def spread(values: list[float]) -> dict[str, float]:
        return {"min": float(np.min(values)), "median": float(np.median(values)), "max": float(np.max(values))}

    return {
        "frames": spread([r.num_frames for r in good]),
        "fps": spread([r.fps for r in good if r.fps] or [0.0]),
        "duration_s": spread([r.num_frames / r.fps for r in good if r.fps] or [0.0]),
        "short_side": spread([min(r.height, r.width) for r in good]),
        "sizes": {f"{w}x{h}": n for (w, h), n in Counter((r.width, r.height) for r in good).most_common(5)},
        "codecs": dict(Counter(r.codec for r in good).most_common(5)),
        "keyframe_distance": spread([r.keyframe_distance for r in good]),
        "not_seekable": sum(not r.seekable for r in good),
        "bytes": int(sum(r.bytes for r in good)),
    }


def _advice(result: CheckResult) -> Iterator[str]:
    statistics = result.statistics
    gap = statistics.get("keyframe_distance", {}).get("median", 0)
    side = statistics.get("short_side", {}).get("median", 0)
    pictures = statistics.get("codecs", {}).get("pictures")
    if statistics and not pictures and (gap > 32 or side > 400):
        why = [f"a keyframe only every {gap:.0f} frames"] if gap > 32 else []
        why += [f"a short side of {side:.0f} pixels"] if side > 400 else []
        yield (
            f"The videos have {' and '.join(why)}, so most of what is decoded is discarded. "
            "`clipwise prepare resize` makes files for random access (short side 256, a keyframe every 8 frames)."
        )
    if statistics.get("not_seekable"):
        yield (
            f"{plural(statistics['not_seekable'], 'video')} without exact seeking (AVI, transport streams, damaged files): decoded "
            "from the start each time. `clipwise prepare resize` makes mp4 files of them."
        )
    if result.notes:
        first = result.notes[0]
        yield (
            f"{len(result.notes)} {'video has' if len(result.notes) == 1 else 'videos have'} wrong metadata; the first, {first.path}: "
            f"{first.detail}. Frames are read correctly, but slowly; `clipwise prepare resize` makes mp4 files with correct metadata."
        )
    for name, histogram in result.histograms.items():
        counts = np.array(histogram)
        empty = np.flatnonzero(counts == 0).tolist()
        if empty and len(empty) < len(counts):
            names = result.classes or []
            few = ", ".join(names[i] if i < len(names) else str(i) for i in empty[:5])
            from_one = empty == [0] and not result.classes
            yield (
                f"{name} has no entry of {len(empty)} of {plural(len(counts), 'class', 'classes')}: {few}{', …' if len(empty) > 5 else ''}."
                + (" If the list counts classes from 1, subtract 1 from each of its labels." if from_one else "")
            )
        present = counts[counts > 0]
        if name == next(iter(result.histograms)) and len(present) > 1 and present.max() > 10 * present.min():
            yield (
                f"The classes of {name} are uneven: {present.min()} to {plural(present.max(), 'entry', 'entries')}. Look at mean class accuracy too, "
                "or draw classes evenly (lists.class_power in the recipe)."
            )
    rates = statistics.get("fps", {})
    if rates and rates["min"] > 0 and rates["max"] > 1.5 * rates["min"]:
        yield (
            f"Frame rates differ ({rates['min']:.4g} to {rates['max']:.4g}): the same frame interval means different times. "
            "input.target_fps in the recipe evens them out."
        )
    if result.counts().keys() & {"duplicate", "lookalike"}:
        yield "Some videos are in more than one part, so scores will be too good. --fix removes them from the training part."


# ---- videos of two parts ---------------------------------------------------------------------------------------------------------------


def same_content(train: VideoList, val: VideoList) -> set[int]:
    """Which entries of ``val`` have the size, the first bytes and the span of one of ``train``."""
    if not train.kind == val.kind == "video":
        return set()
    with ThreadPoolExecutor(16) as pool:
        train_sizes, val_sizes = (list(pool.map(_size, videos.paths())) for videos in (train, val))
    common = set(train_sizes) & set(val_sizes) - {0}
    starts = {(n, _start(train.path(i)), train.span(i)) for i, n in enumerate(train_sizes) if n in common}
    return {i for i, n in enumerate(val_sizes) if n in common and (n, _start(val.path(i)), val.span(i)) in starts}


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _start(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read(2**16)).digest()
    except OSError:
        return b""
