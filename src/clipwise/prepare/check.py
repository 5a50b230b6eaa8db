"""Auditing a data set before days are spent on it: what is missing, broken, too short, wrongly labeled, or in both parts.

``check_dataset`` opens every video (a pass over its packets, and a few keyframes decoded), ``depth="full"`` decodes everything,
``depth="short"`` only looks at labels, existence and a sample, which takes seconds on any data set.
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
from clipwise.errors import DataError
from clipwise.io.files import atomic_path
from clipwise.io.progress import Progress
from clipwise.prepare.check_entry import Look, Record
from clipwise.prepare.check_report import (
    FAULTS,
    CheckResult,
    Fault,
    ReadClip,
    advise,
    measure_speed,
    read_eight_frames,
    summarize,
)
from clipwise.prepare.lookalikes import find_lookalikes
from clipwise.prepare.parallel import run_jobs

Depth = Literal["short", "normal", "full"]

SHORT_SAMPLE = 48
CHUNK = 16


def check_dataset(parts: Mapping[str, VideoList], *, depth: Depth = "normal", num_classes: int | None = None, min_frames: int = 1,
                  workers: int | None = None, loader_workers: int | None = None, read_clip: ReadClip | None = None,
                  frame_template: str | None = None, start_index: int | None = 1, modality: str = "rgb",
                  timeout_s: float | None = 120.0, seed: int = 0, progress: Progress | None = None) -> CheckResult:  # fmt: skip
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
        DataError: there is no list, or all of them are empty.
    """
    if not parts or not any(len(videos) for videos in parts.values()):
        raise DataError("there is nothing to check: give at least one list with entries")
    if depth not in ("short", "normal", "full"):
        raise DataError(f"depth is {depth!r}; allowed are short, normal, full")
    started = time.perf_counter()
    rng = np.random.default_rng(seed)
    result = CheckResult(depth, {name: len(videos) for name, videos in parts.items()})
    worst: dict[tuple[str, int], Fault] = {}

    def report(part: str, index: int, kind: str, detail: str) -> None:
        rank = list(FAULTS).index
        old = worst.get((part, index))
        if old is None or rank(kind) < rank(old.kind):
            worst[part, index] = Fault(part, index, parts[part].path(index), kind, detail)

    known = next((videos.classes for videos in parts.values() if videos.classes), None)
    result.classes = list(known) if known else None
    limit = num_classes or next((videos.num_classes for videos in parts.values() if videos.num_classes), None)
    for name, videos in parts.items():
        result.histograms[name] = _check_labels(name, videos, limit, report)
        for index in videos.missing():
            report(name, int(index), "missing", FAULTS["missing"])
        for index, first in _repeats(videos):
            report(name, index, "repeated", f"is listed before, as entry {first}")
    there = [
        (name, i) for name, videos in parts.items() for i in range(len(videos)) if _kind(worst, name, i) != "missing"
    ]
    looked = there
    if depth == "short" and len(there) > SHORT_SAMPLE:
        looked = [there[i] for i in np.sort(rng.choice(len(there), SHORT_SAMPLE, replace=False))]
    look = Look(depth == "full", min_frames, frame_template, start_index, modality, timeout_s)
    records = _look_at(parts, looked, look, workers, progress)
    for (name, index), record in records.items():
        if record.fault:
            report(name, index, record.fault, record.detail)
        elif record.note:
            result.notes.append(Fault(name, index, parts[name].path(index), "false_marks", record.note))
    result.opened = len(records)
    if depth != "short":
        copies = _find_copies(parts, there, report)
        _find_lookalikes(parts, records, copies, report, workers, timeout_s, progress)
    result.faults = [worst[key] for key in sorted(worst, key=lambda key: (list(parts).index(key[0]), key[1]))]
    summarize(result, parts, list(records.values()))
    good = [key for key, record in records.items() if not record.fault]
    measure_speed(result, parts, good, look, read_clip or read_eight_frames, loader_workers or os.cpu_count() or 1, rng)
    advise(result, parts)
    result.seconds = time.perf_counter() - started
    return result


def _kind(worst: Mapping[tuple[str, int], Fault], part: str, index: int) -> str | None:
    fault = worst.get((part, index))
    return fault.kind if fault else None


def _check_labels(
    name: str, videos: VideoList, limit: int | None, report: Callable[[str, int, str, str], None]
) -> list[int]:
    labels = videos.labels
    if labels.ndim == 2:
        for index in np.flatnonzero(labels.sum(axis=1) == 0):
            report(name, int(index), "bad_label", "has no label")
        return [int(count) for count in labels.sum(axis=0)]
    if (labels == -1).all():
        return []  # a list to predict on
    top = limit if limit is not None else int(labels.max()) + 1
    for index in np.flatnonzero((labels < 0) | (labels >= top)):
        label = int(labels[index])
        what = "has no label" if label == -1 else f"has the label {label}, but there are {top} classes, 0 to {top - 1}"
        report(name, int(index), "bad_label", what)
    return np.bincount(labels[(labels >= 0) & (labels < top)], minlength=top).tolist()


def _repeats(videos: VideoList) -> list[tuple[int, int]]:
    """(index, first index) of entries that name the same file and the same part of it as one before."""
    first: dict[tuple, int] = {}
    found = []
    for index in range(len(videos)):
        key = (videos.entry(index), videos.offset(index), videos.span(index))
        if first.setdefault(key, index) != index:
            found.append((index, first[key]))
    return found


# ---- looking at every entry -----------------------------------------------------------------------------------------------------------


def _look_at(parts: Mapping[str, VideoList], keys: list[tuple[str, int]], look: Look, workers: int | None,
             progress: Progress | None) -> dict[tuple[str, int], Record]:  # fmt: skip
    def job(key: tuple[str, int]) -> tuple[str, str, int | None, int]:
        videos, index = parts[key[0]], key[1]
        return videos.path(index), videos.kind, videos.num_frames(index), videos.offset(index)

    size = max(1, min(CHUNK, len(keys) // (4 * (workers or os.cpu_count() or 1))))
    chunks = [keys[at : at + size] for at in range(0, len(keys), size)]

    def advance(count: int, total: int | None, message: str) -> None:
        if progress is not None:
            progress(min(count * size, len(keys)), len(keys), message)

    jobs = [[job(key) for key in chunk] for chunk in chunks]
    outcomes = run_jobs(look, jobs, workers=workers, progress=advance, describe=_last_path)
    records: dict[tuple[str, int], Record] = {}
    for chunk, outcome in zip(chunks, outcomes):
        if isinstance(outcome, BaseException):  # a process died on one of them: each alone
            outcome = run_jobs(look, [[job(key)] for key in chunk], workers=2)
            outcome = [Record("undecodable", str(one)) if isinstance(one, BaseException) else one[0] for one in outcome]
        records.update(zip(chunk, outcome))
    return records


def _last_path(chunk: list[tuple]) -> str:
    return chunk[-1][0]


# ---- copies --------------------------------------------------------------------------------------------------------------------------


def _find_copies(
    parts: Mapping[str, VideoList], keys: list[tuple[str, int]], report: Callable[[str, int, str, str], None]
) -> set[tuple[str, int]]:
    """Entries with the same bytes. Files are read only where two have the same size. Returns what is in several parts.

    Of folders of frames the first, the middle and the last image are compared, and their number.
    """
    copies: set[tuple[str, int]] = set()
    by_size: dict[tuple[int, ...], list[tuple[str, int]]] = defaultdict(list)
    contents: dict[tuple[str, int], list[str]] = {}
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
        by_content: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
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


def _find_lookalikes(parts: Mapping[str, VideoList], records: Mapping[tuple[str, int], Record], copies: set[tuple[str, int]],
                     report: Callable[[str, int, str, str], None], workers: int | None, timeout_s: float | None,
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


def _different_spans(parts: Mapping[str, VideoList], a: tuple[str, int], b: tuple[str, int]) -> bool:
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
            raise DataError(f"{target}: nothing would be left of {name}; all its {len(videos)} entries have a fault")
        with atomic_path(Path(target), keep_suffix=True) as temporary:
            write_list(videos.subset(np.array(kept)), temporary, relative_to=_list_base(videos, Path(target)))
        left_out[name] = len(bad)
    return left_out


def _list_base(videos: VideoList, path: Path) -> Path | None:
    """Paths are written relative to the list's folder where all entries lie below it."""
    base = os.path.abspath(path.parent) + os.sep
    return path.parent if all(os.path.abspath(entry).startswith(base) for entry in videos.paths()) else None
