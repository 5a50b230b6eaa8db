"""The result of :mod:`clipwise.prepare.check`: what was found, in figures, and what to do about it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from clipwise.data.lists import VideoList
from clipwise.errors import ClipwiseError
from clipwise.prepare.check_entry import Look, Record
from clipwise.video.decode import VideoReader, open_frames, open_video

ReadClip = Callable[[VideoReader, np.random.Generator], Any]
SPEED_SAMPLE = 24

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
    """What ``check_dataset`` found.

    Attributes:
        depth: how closely it looked.
        entries: number of entries of each part.
        opened: how many videos were opened.
        faults: what is wrong, in the order of the lists.
        histograms: part -> number of entries of each class.
        classes: class names, where known.
        statistics: frames, fps, size, keyframe distance and so on: of each the smallest, median and largest value.
        speed: ``clip_cpu_ms``, ``clips_per_s`` of one loader worker, ``epoch_s`` of the first part with ``workers`` workers.
        notes: files that are read rightly although their marks are false, and what is false; no faults.
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


def summarize(result: CheckResult, parts: Mapping[str, VideoList], records: list[Record]) -> None:
    good = [record for record in records if record.num_frames]
    if not good:
        return

    def spread(values: list[float]) -> dict[str, float]:
        return {"min": float(np.min(values)), "median": float(np.median(values)), "max": float(np.max(values))}

    result.statistics = {
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


def read_eight_frames(reader: VideoReader, rng: np.random.Generator) -> np.ndarray:
    """One frame from each eighth of the video, cut to 224×224: what TSN and TSM ask for."""
    edges = np.linspace(0, reader.num_frames, 9)
    indices = (edges[:-1] + rng.random(8) * np.diff(edges)).astype(int)
    return reader.frames(indices, transform=lambda frame: frame[:224, :224] if min(frame.shape[:2]) >= 224 else frame)


def measure_speed(result: CheckResult, parts: Mapping[str, VideoList], good: list[tuple[str, int]], look: Look, read_clip: ReadClip,
                   workers: int, rng: np.random.Generator) -> None:  # fmt: skip
    first = next(iter(parts))
    keys = [key for key in good if key[0] == first and parts[first].kind in ("video", "rawframes")] or good
    if not keys:
        return
    times = []
    for at in rng.permutation(len(keys))[:SPEED_SAMPLE]:
        part, index = keys[at]
        videos = parts[part]
        started = time.process_time()
        try:
            if videos.kind == "rawframes":
                options: dict[str, Any] = {
                    "template": look.frame_template,
                    "modality": look.modality,
                    "start_index": look.start_index,
                }
                reader = open_frames(
                    videos.path(index), num_frames=videos.num_frames(index), offset=videos.offset(index), **options
                )
            else:
                reader = open_video(videos.path(index), timeout_s=look.timeout_s)
            with reader:
                read_clip(reader, rng)
        except ClipwiseError:
            continue
        times.append(time.process_time() - started)
    if not times:
        return
    per_clip = float(np.mean(times))
    result.speed = {
        "clip_cpu_ms": per_clip * 1e3,
        "clips_per_s": 1 / max(per_clip, 1e-6),
        "workers": workers,
        "epoch_s": len(parts[first]) * per_clip / workers,
    }


def advise(result: CheckResult, parts: Mapping[str, VideoList]) -> None:
    advice, statistics = result.advice, result.statistics
    gap = statistics.get("keyframe_distance", {}).get("median", 0)
    side = statistics.get("short_side", {}).get("median", 0)
    pictures = statistics.get("codecs", {}).get("pictures")
    if statistics and not pictures and (gap > 32 or side > 400):
        why = [f"a keyframe only every {gap:.0f} frames"] if gap > 32 else []
        why += [f"a short side of {side:.0f} pixels"] if side > 400 else []
        advice.append(
            f"The videos have {' and '.join(why)}, so most of what is decoded is thrown away. "
            "`clipwise prepare resize` makes files for random access (short side 256, a keyframe every 8 frames)."
        )
    if statistics.get("not_seekable"):
        advice.append(
            f"{statistics['not_seekable']} videos cannot be seeked in exactly (AVI, transport streams, damaged files) and are decoded "
            "from their start each time. `clipwise prepare resize` makes mp4 files of them."
        )
    if result.notes:
        first = result.notes[0]
        advice.append(
            f"{len(result.notes)} {'video has' if len(result.notes) == 1 else 'videos have'} false marks; the first, {first.path}: "
            f"{first.detail}. Frames are read rightly, but slowly; `clipwise prepare resize` makes mp4 files with true marks."
        )
    names = list(result.histograms)
    for name in names:
        counts = np.array(result.histograms[name])
        if not len(counts):
            continue
        empty = np.flatnonzero(counts == 0)
        if len(empty) and len(empty) < len(counts):
            few = ", ".join(
                result.classes[i] if result.classes and i < len(result.classes) else str(i) for i in empty[:5]
            )
            from_one = empty.tolist() == [0] and not result.classes
            advice.append(
                f"{name} has no entry of {len(empty)} of {len(counts)} classes: {few}{', …' if len(empty) > 5 else ''}."
                + (" If the list counts classes from 1, subtract 1 from each of its labels." if from_one else "")
            )
        present = counts[counts > 0]
        if name == names[0] and len(present) > 1 and present.max() > 10 * present.min():
            advice.append(
                f"The classes of {name} are uneven: {present.min()} to {present.max()} entries. Look at mean class accuracy too, "
                "or draw classes evenly (lists.class_power in the recipe)."
            )
    rates = statistics.get("fps", {})
    if rates and rates["min"] > 0 and rates["max"] > 1.5 * rates["min"]:
        advice.append(
            f"Frame rates differ ({rates['min']:.4g} to {rates['max']:.4g}): the same frame interval means different times. "
            "input.target_fps in the recipe evens them out."
        )
    if result.counts().get("duplicate") or result.counts().get("lookalike"):
        advice.append(
            "Some videos are in more than one part, so scores will be too good. --fix removes them from the training part."
        )
