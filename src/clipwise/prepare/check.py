"""Auditing a data set before days are spent on it: what is missing, broken, too short, wrongly labeled, or in both parts.

``check_dataset`` opens every video (a pass over its packets, and a few keyframes decoded) and looks for copies, ``depth="full"``
decodes everything, ``depth="short"`` only looks at labels, existence and a sample, which takes seconds on any data set.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clipwise.data.lists import VideoList, write_list
from clipwise.errors import ClipwiseError, DataError
from clipwise.io.files import atomic_path
from clipwise.io.progress import Progress
from clipwise.io.text import plural
from clipwise.prepare.audit import (
    CheckResult,
    Fault,
    Key,
    Look,
    Record,
    add_records,
    check_lists,
    entry_of,
    finish,
    sample,
)
from clipwise.prepare.lookalikes import find_lookalikes
from clipwise.prepare.parallel import run_jobs
from clipwise.video.backends import open_frames
from clipwise.video.decode import VideoReader, open_video

Depth = Literal["short", "normal", "full"]
ReadClip = Callable[[VideoReader, np.random.Generator], Any]
Report = Callable[[str, int, str, str], None]

SPEED_SAMPLE = 24
CHUNK = 16


def check_dataset(parts: Mapping[str, VideoList], *, depth: Depth = "normal", num_classes: int | None = None, min_frames: int = 1,
                  workers: int | None = None, loader_workers: int | None = None, read_clip: ReadClip | None = None,
                  frame_template: str | None = None, start_index: int | None = 1, modality: str = "rgb",
                  timeout_s: float | None = 120.0, progress: Progress | None = None) -> CheckResult:  # fmt: skip
    """Audits the lists of a data set.

    Args:
        parts: name -> list, such as ``{"train": …, "val": …}``; the first is taken for the training part.
        depth: "short": labels, existence, and a sample of videos; "normal": every video is opened; "full": and decoded completely.
        num_classes: labels must be below; None: the number of classes that the lists know, else of the first part's labels.
        min_frames: shorter videos are a fault.
        workers: processes for the check, None: one a core.
        loader_workers: processes of the later training, for the expected epoch time; None: one a core.
        read_clip: reads one training clip from an open video, for the expected speed; None: eight frames cut to 224×224.
        frame_template, start_index, modality: of frame folders, as in ``open_frames``.
        timeout_s: limit for each video.
        progress: called as ``progress(done, total, message)``.

    Raises:
        DataError: there is not a list, or all of them are empty.
    """
    if not parts or not any(len(videos) for videos in parts.values()):
        raise DataError("there is nothing to check: give at least one list with entries")
    if depth not in ("short", "normal", "full"):
        raise DataError(f"depth is {depth!r}; allowed: short, normal, full")
    started = time.perf_counter()
    result, there = check_lists(depth, parts, num_classes)
    look = Look(depth == "full", min_frames, frame_template, start_index, modality, timeout_s, cells=depth != "short")
    records = _look_at(parts, list(sample(there) if depth == "short" else there), look, workers, progress)
    add_records(result, parts, records)

    def report(part: str, index: int, kind: str, detail: str) -> None:
        result.faults.append(Fault(part, index, parts[part].path(index), kind, detail))

    if depth != "short":
        copies = _find_copies(parts, there, report)
        _find_lookalikes(parts, records, copies, report, workers, timeout_s, progress)
    finish(result, parts, list(records.values()))
    good = [key for key, record in records.items() if not record.fault]
    result.speed = _measure_speed(
        parts, good, look, read_clip or read_eight_frames, loader_workers or os.cpu_count() or 1
    )
    result.seconds = time.perf_counter() - started
    return result


# ---- looking at every entry -----------------------------------------------------------------------------------------------------------


def _look_at(parts: Mapping[str, VideoList], keys: list[Key], look: Look, workers: int | None,
             progress: Progress | None) -> dict[Key, Record]:  # fmt: skip
    size = max(1, min(CHUNK, len(keys) // (4 * (workers or os.cpu_count() or 1))))
    chunks = [keys[at : at + size] for at in range(0, len(keys), size)]

    def advance(count: int, total: int | None, message: str) -> None:
        if progress is not None:
            progress(min(count * size, len(keys)), len(keys), message)

    jobs = [[entry_of(parts, key) for key in chunk] for chunk in chunks]
    outcomes = run_jobs(look.many, jobs, workers=workers, progress=advance, describe=lambda chunk: chunk[-1][0])
    records: dict[Key, Record] = {}
    for chunk, outcome in zip(chunks, outcomes):
        if isinstance(outcome, BaseException):  # a process died on one of them: each alone
            outcome = run_jobs(look.many, [[entry_of(parts, key)] for key in chunk], workers=2)
            outcome = [Record("undecodable", str(one)) if isinstance(one, BaseException) else one[0] for one in outcome]
        records.update(zip(chunk, outcome))
    return records


# ---- the expected speed ---------------------------------------------------------------------------------------------------------------


def read_eight_frames(reader: VideoReader, rng: np.random.Generator) -> np.ndarray:
    """One frame from each eighth of the video, cut to 224×224: what TSN and TSM ask for."""
    edges = np.linspace(0, reader.num_frames, 9)
    indices = (edges[:-1] + rng.random(8) * np.diff(edges)).astype(int)
    return reader.frames(indices, transform=lambda frame: frame[:224, :224] if min(frame.shape[:2]) >= 224 else frame)


def _measure_speed(
    parts: Mapping[str, VideoList], good: list[Key], look: Look, read_clip: ReadClip, workers: int
) -> dict[str, float]:
    """Processor time of a training clip, over a sample of the first part; empty where none can be read."""
    first, rng = next(iter(parts)), np.random.default_rng(0)
    keys = [key for key in good if key[0] == first and parts[first].kind in ("video", "rawframes")] or good
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
        return {}
    per_clip = float(np.mean(times))
    return {
        "clip_cpu_ms": per_clip * 1e3,
        "clips_per_s": 1 / max(per_clip, 1e-6),
        "workers": workers,
        "epoch_s": len(parts[first]) * per_clip / workers,
    }


# ---- copies --------------------------------------------------------------------------------------------------------------------------


def _find_copies(parts: Mapping[str, VideoList], keys: list[Key], report: Report) -> set[Key]:
    """Entries with the same bytes. Files are read only where two have the same size. Returns what is in several parts.

    Of folders of frames the first, the middle and the last image are compared, and their number.
    """
    copies: set[Key] = set()
    by_size: dict[tuple[int, ...], list[Key]] = defaultdict(list)
    contents: dict[Key, list[str]] = {}
    for key in keys:
        videos = parts[key[0]]
        path = videos.path(key[1])
        if videos.kind in ("video", "image") and os.path.isfile(path):
            contents[key] = [path]
        elif videos.kind == "rawframes" and os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if not name.startswith("."))
            contents[key] = [os.path.join(path, names[at]) for at in (0, len(names) // 2, -1)] if names else []
        sizes = [os.path.getsize(file) for file in contents.get(key, ()) if os.path.isfile(file)]
        if any(sizes):
            extent = (
                ()
                if videos.kind != "rawframes"
                else (len(names), videos.num_frames(key[1]) or 0, videos.offset(key[1]))
            )
            by_size[(*sizes, *extent)].append(key)
    for group in by_size.values():
        if len(group) < 2:
            continue
        by_content: dict[bytes, list[Key]] = defaultdict(list)
        for key in group:
            by_content[b"".join(_digest(file) for file in contents[key])].append(key)
        for same in by_content.values():
            for number, (part, index) in enumerate(same):
                other = next(((p, i) for p, i in same if p != part), None)
                videos = parts[part]
                if other is not None and not _different_spans(parts, (part, index), other):
                    copies.add((part, index))
                    report(
                        part,
                        index,
                        "duplicate",
                        f"has the same content as entry {other[1]} of {other[0]}, {parts[other[0]].path(other[1])}",
                    )
                for p, i in same[:number]:
                    if not _different_spans(parts, (part, index), (p, i)) and not _same_label(
                        videos.label(index), parts[p].label(i)
                    ):
                        what = f"has the same content as entry {i} of {p}, but the label {videos.label(index)} instead of {parts[p].label(i)}"
                        report(part, index, "conflict", what)
    return copies


def _find_lookalikes(parts: Mapping[str, VideoList], records: Mapping[Key, Record], copies: set[Key],
                     report: Report, workers: int | None, timeout_s: float | None,
                     progress: Progress | None) -> None:  # fmt: skip
    """Entries of different parts that show the same frames but are not the same bytes."""
    keys = [key for key, record in records.items() if record.cells and key not in copies]
    looks = [records[key] for key in keys]
    number = {name: at for at, name in enumerate(parts)}
    pairs = find_lookalikes(
        [parts[name].path(index) for name, index in keys],
        [look.cells for look in looks],
        [look.duration_s for look in looks],
        [number[name] for name, _ in keys],
        workers=workers,
        timeout_s=timeout_s,
        progress=progress,
    )
    for one, other in pairs:
        if not _different_spans(parts, keys[one], keys[other]):
            for (name, index), (p, i) in ((keys[one], keys[other]), (keys[other], keys[one])):
                report(name, index, "lookalike", f"looks the same as entry {i} of {p}, {parts[p].path(i)}")


def _different_spans(parts: Mapping[str, VideoList], a: Key, b: Key) -> bool:
    return parts[a[0]].span(a[1]) != parts[b[0]].span(b[1])


def _same_label(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b))


def _digest(path: str) -> bytes:
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


# ---- without what is wrong -----------------------------------------------------------------------------------------------------------


def write_clean_lists(
    parts: Mapping[str, VideoList], result: CheckResult, targets: Mapping[str, str | os.PathLike]
) -> dict[str, int]:
    """Writes each part without its faulty entries; complete or not at all.

    A copy that is in several parts stays only in the later ones, so that what was held out for testing stays as it was. An entry that
    is listed twice stays once.

    Args:
        targets: part -> file to write.

    Returns:
        part -> number of entries that were left out.

    Raises:
        DataError: nothing would be left of a part.
    """
    names = list(parts)
    left_out: dict[str, int] = {}
    for name, target in targets.items():
        videos = parts[name]
        bad = {
            fault.index
            for fault in result.faults
            if fault.part == name and not (fault.kind in ("duplicate", "lookalike") and name != names[0])
        }
        kept = [index for index in range(len(videos)) if index not in bad]
        if not kept:
            raise DataError(
                f"{target}: nothing would be left of {name}; {plural(len(videos), 'entry has', 'entries have')} a fault, all there are"
            )
        with atomic_path(Path(target), keep_suffix=True) as temporary:
            write_list(videos.subset(np.array(kept)), temporary, relative_to=_list_base(videos, Path(target)))
        left_out[name] = len(bad)
    return left_out


def _list_base(videos: VideoList, path: Path) -> Path | None:
    """Paths are written relative to the list's folder where all entries lie below it."""
    base = os.path.abspath(path.parent) + os.sep
    return path.parent if all(os.path.abspath(entry).startswith(base) for entry in videos.paths()) else None
