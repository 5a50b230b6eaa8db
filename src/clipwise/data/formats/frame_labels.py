"""Labels of every frame: MS-TCN's layout of Breakfast, 50Salads and GTEA (a label a line), and the intervals these come from.

``groundTruth/<video>.txt`` has one label for each frame, runs of which are segments; ``mapping.txt`` numbers the classes. 50Salads' original
files have ``start end label`` in microseconds, Breakfast's ``1-30 SIL`` in frames from 1, both inclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from clipwise.data.formats.annotation_parts import Collector, Draft, FormatOptions, overlapping_layers
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.frame_times import FrameClock
from clipwise.data.formats.text_lists import open_text
from clipwise.data.formats.written import write_whole
from clipwise.data.labels import read_classes
from clipwise.errors import DataError

_TRUTH = "groundTruth"
_MICROSECONDS = re.compile(r"(\d+)\s+(\d+)\s+(\S+)$")
_FRAMES = re.compile(r"(\d+)-(\d+)\s+(\S.*)$")
BACKGROUND = "background"
LEVELS = ("low", "mid", "high")


def is_folder(path: Path) -> bool:
    """Whether a folder has MS-TCN's layout."""
    return path.is_dir() and (path / _TRUTH).is_dir()


def matches_text(path: Path, lines: list[str]) -> str | None:
    """The format of a text file: mstcn, salads50 or breakfast."""
    if lines and all(_FRAMES.match(line) for line in lines):
        return "breakfast"
    intervals = [_MICROSECONDS.match(line) for line in lines]
    if lines and all(found and not found[3].replace(".", "").isdigit() for found in intervals):
        return "salads50"
    return "mstcn" if path.parent.name == _TRUTH and all(len(line.split()) == 1 for line in lines) else None


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Read a folder in MS-TCN's layout, or one file of its ``groundTruth``."""
    folder = path if path.is_dir() else path.parent.parent
    files = sorted((path / _TRUTH).glob("*.txt")) if path.is_dir() else [path]
    collector = Collector(path, options)
    if (mapping := folder / "mapping.txt").is_file():
        collector.vocabulary = [name for name in read_classes(mapping) if name != BACKGROUND]
    subsets = _bundles(folder)
    for file in files:
        with open_text(file) as lines:
            labels = [line.strip() for line in lines.read().splitlines()]
        while labels and not labels[-1]:
            labels.pop()
        if "" in labels:
            raise DataError(f"{file}, line {labels.index('') + 1}: there is no label; each frame has one.")
        draft = collector.video(file.stem, subset=subsets.get(file.stem))
        clock = _clock(options, file.stem, file)
        draft.describe(num_frames=len(labels), duration_s=clock.seconds(len(labels)))
        place = 0
        for label, run in groupby(labels):
            count = len(list(run))
            if label != BACKGROUND:
                where = f"{file.name}, line {place + 1}"
                draft.add(clock.seconds(place), clock.seconds(place + count), label, where=where)
            place += count
    return collector.result()


def _clock(options: FormatOptions, name: str, source: Path) -> FrameClock:
    """Of the frames that are labeled; every video of these sets has one label a frame, at 15 or 30 a second."""
    return options.clock(
        name, source, "labels are given for frames (15 a second in Breakfast and GTEA, 30 in 50Salads)"
    )


def _bundles(folder: Path) -> dict[str, str]:
    """Subset by video, of ``splits/train.split1.bundle``: the first split, if there are several."""
    found: dict[str, str] = {}
    for part, subset in (("train", "training"), ("test", "test")):
        for bundle in sorted((folder / "splits").glob(f"{part}.*bundle"))[:1]:
            with open_text(bundle) as file:
                names = [line.strip() for line in file if line.strip()]
            found |= {Path(name).stem: subset for name in names}
    return found


def read_salads(path: Path, options: FormatOptions) -> AnnotationSet:
    """50Salads' intervals: ``layer`` low (``cut_tomato_core``, the default), mid (``cut_tomato``) or high (``prepare_dressing``)."""
    layer = options.layer or "low"
    if layer not in LEVELS:
        raise DataError(f"layer {layer!r}: 50Salads has {', '.join(LEVELS)}.")
    collector = Collector(path, options)
    draft = collector.video(path.stem.removesuffix("-activityAnnotation"))
    for where, found in _lines(path, _MICROSECONDS, "start end label"):
        low = re.search(r"_(prep|core|post)$", found[3])
        if bool(low) == (layer == "high"):
            continue
        label = found[3][: low.start()] if low and layer == "mid" else found[3]
        draft.add(int(found[1]) / 1e6, int(found[2]) / 1e6, label, where=where)
    if layer == "mid":
        _join(draft)
    return collector.result()


def _join(draft: Draft) -> None:
    """Phases of one action that touch become one segment."""
    joined: list[tuple[float, float, str, float | None]] = []
    for row in sorted(draft.rows, key=lambda r: (r[2], r[0])):
        if joined and joined[-1][2] == row[2] and row[0] <= joined[-1][1] + 1e-6:
            joined[-1] = (joined[-1][0], max(joined[-1][1], row[1]), row[2], None)
        else:
            joined.append(row)
    draft.rows = joined


def read_breakfast(path: Path, options: FormatOptions) -> AnnotationSet:
    """Breakfast's ``1-30 SIL``: frames from 1, both ends inclusive, at 15 frames a second unless ``fps`` says otherwise."""
    collector = Collector(path, options)
    draft = collector.video(path.stem)
    clock = _clock(options, path.stem, path)
    for where, found in _lines(path, _FRAMES, "first-last label"):
        first, last = (collector.frame(found[side], where) for side in (1, 2))
        if first < 1 or last < first:
            collector.leave_out("segments that end before they start", f"{where}: frames {first} to {last}")
            continue
        collector.add_frames(draft, clock, first - 1, last, found[3], where=where)
    return collector.result()


def _lines(path: Path, pattern: re.Pattern[str], form: str) -> Iterator[tuple[str, re.Match[str]]]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            found = pattern.match(line.strip())
            if found is None:
                raise DataError(f"{path}, line {number}: expected `{form}`, but the line is {line.strip()!r}.")
            yield f"line {number}", found


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """A folder in MS-TCN's layout: where segments overlap the one that began first is kept, the rest of the frames are background."""
    (path / _TRUTH).mkdir(parents=True, exist_ok=True)
    written = []
    for video in annotations.videos.values():
        clock = _clock(options, video.path or video.name, path)
        layers = overlapping_layers(video)
        spans = [(*clock.frames(*video.segments[i].tolist()), video.labels[i]) for i in (layers[0] if layers else [])]
        count = clock.num_frames or max([video.num_frames, *(end for _, end, _ in spans)])
        if video.duration_s == video.duration_s:
            count = max(count, clock.frame(video.duration_s))
        labels = [BACKGROUND] * count
        for first, end, label in spans:
            labels[first:end] = [re.sub(r"\s", "_", label)] * (min(end, count) - first)
        target = path / _TRUTH / f"{Path(video.name).name}.txt"
        write_whole(target, "".join(f"{label}\n" for label in labels))
        written.append(target)
    names = [
        BACKGROUND,
        *(re.sub(r"\s", "_", c) for c in dict.fromkeys([*annotations.vocabulary, *annotations.classes])),
    ]
    mapping = path / "mapping.txt"
    write_whole(mapping, "".join(f"{i} {name}\n" for i, name in enumerate(dict.fromkeys(names))))
    return [*written, mapping]
