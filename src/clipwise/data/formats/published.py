"""Published annotation files: Kinetics, Something-Something, Jester, FineGym, ActivityNet, PaddleCV's pickles.

Two of them have a one-call preparation that goes from what is published to ready lists: ``prepare_gym99`` and
``prepare_jester`` (``clipwise prepare lists --gym99 …``).
"""

from __future__ import annotations

import csv
import os
import pickletools
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

from clipwise.data.formats import text_lists as formats
from clipwise.data.formats.list_tables import write_list
from clipwise.data.labels import ClassIndex, read_classes
from clipwise.data.videolist import IMAGE_SUFFIXES, ListBuilder, VideoList
from clipwise.errors import DataError
from clipwise.io.text import plural
from clipwise.io.unpickle import read_pickle

JESTER_TEMPLATE = "{:05}.jpg"
SOMETHING_V2_TEMPLATE = "{:06}.jpg"
Classes = Sequence[str] | None
Root = str | Path | None


def kinetics_csv(
    path: Path,
    *,
    root: Root = None,
    classes: Classes = None,
    num_classes: int | None = None,
    subset: str | None = None,
) -> VideoList:
    """Kinetics 400/600/700 as DeepMind publishes it: label, youtube_id, time_start, time_end, split[, is_cc].

    Clips are looked for as ``{label}/{id}_{start:06}_{end:06}.mp4`` (with blanks or underscores in the label), or
    without the label's folder. Classes are the labels in alphabetical order unless given.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise DataError(f"{path}: the list is empty.")
    if subset is not None:
        wanted = formats.chosen_subset(subset, (row.get("split") for row in rows), path)
        rows = [row for row in rows if row["split"] == wanted]
    labeled = "label" in rows[0]
    names = sorted({row["label"] for row in rows}) if labeled else []
    index = ClassIndex(classes if classes is not None else names or None, num_classes, str(path))
    same_blanks = {name.replace("_", " "): name for name in index.names}
    stems = [f"{r['youtube_id']}_{int(float(r['time_start'])):06d}_{int(float(r['time_end'])):06d}" for r in rows]
    folder = str(root) if root is not None else str(path.parent)
    style = _kinetics_style(folder, rows, stems, labeled)
    builder = ListBuilder("video", str(path))
    for line, (row, stem) in enumerate(zip(rows, stems), 2):
        if not labeled:
            builder.add(style.format(stem=stem, id=row["youtube_id"]))
            continue
        name = same_blanks.get(row["label"].replace("_", " "), row["label"])
        builder.add(
            style.format(label=row["label"], flat=row["label"].replace(" ", "_"), stem=stem, id=row["youtube_id"]),
            [index.resolve(name, line)],
        )
    return formats.finish(builder, path, folder, index, False)


def something_something(
    path: Path, *, root: Root = None, classes: Classes = None, num_classes: int | None = None
) -> VideoList:
    """Something-Something V2 JSON: objects {id, label, template}; labels.json beside it orders the classes.

    Entries are ``{id}.webm`` where such files lie in ``root``, else frame folders, whose frames are counted.
    """
    rows = formats.load_json(path)
    classes = classes if classes is not None else _companion(path, "labels.json")
    index = ClassIndex(classes, num_classes, str(path))
    entries = []
    for number, row in enumerate(rows, 1):
        name = row.get("template", "").replace("[", "").replace("]", "")
        entries.append((str(row["id"]), [index.resolve(name, number)] if name else []))
    return _videos_or_folders(entries, path, root, index, SOMETHING_V2_TEMPLATE)


def jester_csv(path: Path, *, root: Root = None, classes: Classes = None, num_classes: int | None = None) -> VideoList:
    """Jester and Something-Something V1: lines ``id;class name`` (test: ``id``); *-labels.csv beside orders the classes.

    Entries are frame folders below ``root``; their frames are counted.
    """
    classes = classes if classes is not None else _companion(path, "labels.csv")
    index = ClassIndex(classes, num_classes, str(path))
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        folder, _, name = line.strip().partition(";")
        entries.append((folder, [index.resolve(name.strip(), number)] if name.strip() else []))
    return _videos_or_folders(entries, path, root, index, JESTER_TEMPLATE)


def gym99_list(path: Path, *, root: Root = None, classes: Classes = None, num_classes: int | None = None) -> VideoList:
    """FineGym's gym99 splits: lines ``VIDEO_E_start_end_A_start_end label``; gym99_categories.txt beside names classes.

    Entries are ``{id}.mp4`` where such files lie in ``root``, else frame folders.
    """
    if classes is None and (beside := path.parent / "gym99_categories.txt").is_file():
        classes = read_classes(beside)
    index = ClassIndex(classes, num_classes or 99, str(path))
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 2 or not cells[1].isdigit():
            raise DataError(f"{path}, line {number}: expected `sub-action label`, but the line is {line!r}.")
        entries.append((cells[0], [index.resolve(cells[1], number)]))
    return _videos_or_folders(entries, path, root, index, "img_{:05}.jpg")


def activitynet_json(
    path: Path,
    *,
    root: Root = None,
    classes: Classes = None,
    num_classes: int | None = None,
    subset: str | None = None,
    segments: bool = True,
) -> VideoList:
    """ActivityNet ({"database": …}) or BSN's form ({"v_id": {duration_second, annotations}}).

    Args:
        subset: "training", "validation" or "testing"; all if not given (BSN's form does not say).
        segments: one entry an annotated segment, with its times; else one a video, with all its labels (multi-label).
    """
    content = formats.load_json(path)
    database = content.get("database", content)
    subset = formats.chosen_subset(subset, (video.get("subset") for video in database.values()), path)
    chosen = {name: video for name, video in database.items() if subset in (None, video.get("subset"))}
    names = sorted({note["label"] for video in chosen.values() for note in video["annotations"]})
    if classes is None and (beside := formats.find_file(path.parent, "action_name.csv", "classes.txt")):
        classes = read_classes(beside)
    index = ClassIndex(classes if classes is not None else names, num_classes, str(path))
    builder = ListBuilder("video", str(path))
    for number, (name, video) in enumerate(chosen.items(), 1):
        labels = [index.resolve(note["label"], number) for note in video["annotations"]]
        if not segments:
            builder.add(name, sorted(set(labels)))
            continue
        for label, note in zip(labels, video["annotations"]):
            builder.add(name, [label], span_s=(float(note["segment"][0]), float(note["segment"][1])))
    return formats.finish(builder, path, root, index, not segments)


def paddle_pickles(
    path: Path, *, root: Root = None, classes: Classes = None, num_classes: int | None = None
) -> VideoList:
    """PaddleCV's ``pkl`` lists: one path a line; the label is inside each pickle, and only its head is read for it."""
    entries = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    index = ClassIndex(classes, num_classes, str(path))
    folder = formats.find_root(path, root, entries[0] if entries else None)
    with ThreadPoolExecutor(16) as pool:
        labels = list(pool.map(lambda entry: _pickled_label(os.path.join(folder, entry)), entries))
    builder = ListBuilder("pickle", str(path))
    for number, (entry, label) in enumerate(zip(entries, labels), 1):
        builder.add(entry, [index.resolve(label, number)])
    return formats.finish(builder, path, folder, index, False)


def read_paddle_pickle(path: str | Path) -> tuple[str, int, list[bytes]]:
    """(video id, label, JPEG files) of one PaddleCV pickle, without running code that a pickle may carry.

    Raises:
        DataError: the file is missing, is not a pickle, holds something else, or asks for a class beyond plain data.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path} does not exist.")
    content = read_pickle(path, encoding="bytes")
    try:
        name, label, frames = content[:3]
        return (name.decode() if isinstance(name, bytes) else str(name)), int(label), [bytes(frame) for frame in frames]
    except Exception as error:
        raise DataError(
            f"{path}: expected a pickled (id, label, [JPEG bytes …]): {type(error).__name__}: {error}"
        ) from None


def prepare_gym99(annotations: str | Path, clips: str | Path, out: str | Path) -> dict[str, VideoList]:
    """From FineGym's published files to ``train`` and ``val`` lists with ``classes.txt``, in one call.

    Args:
        annotations: folder with gym99_train_element*.txt, gym99_val_element*.txt and gym99_categories.txt.
        clips: folder of the cut sub-actions, ``{id}.mp4`` or frame folders.
        out: where the lists go.

    Returns:
        The lists of what exists in ``clips``; entries that could not be downloaded are left out and counted.

    Raises:
        DataError: a published file is missing, or no clip at all exists.
    """
    folder = Path(annotations)
    found = {}
    for part in ("train", "val"):
        lists = sorted(folder.glob(f"gym99_{part}*.txt"))
        if not lists:
            raise DataError(
                f"{folder}: FineGym's gym99_{part}_element*.txt is not here; download it from the FineGym page."
            )
        found[part] = gym99_list(lists[-1], root=clips)
    return _write_parts(found, out)


def prepare_jester(annotations: str | Path, frames: str | Path, out: str | Path) -> dict[str, VideoList]:
    """From Jester's published CSV files to ``train`` and ``val`` lists with ``classes.txt``, in one call.

    Args:
        annotations: folder with jester-v1-train.csv, jester-v1-validation.csv and jester-v1-labels.csv.
        frames: the folder 20bn-jester-v1 with one subfolder a clip.
        out: where the lists go.
    """
    folder = Path(annotations)
    found = {}
    for part, pattern in (("train", "*train*.csv"), ("val", "*val*.csv")):
        lists = sorted(folder.glob(pattern))
        if not lists:
            raise DataError(f"{folder}: Jester's jester-v1-{part}….csv is not here.")
        found[part] = jester_csv(lists[-1], root=frames)
    return _write_parts(found, out)


def _write_parts(parts: dict[str, VideoList], out: str | Path) -> dict[str, VideoList]:
    for part, videos in parts.items():
        absent = videos.missing()
        if len(absent) == len(videos):
            raise DataError(
                f"None of the {plural(len(videos), 'clip')} of the {part} list exists; the first would be {videos.path(0)}."
            )
        keep = set(range(len(videos))) - set(absent.tolist())
        parts[part] = videos.subset(sorted(keep))
        name = f"{part}_rawframes.txt" if videos.kind == "rawframes" else f"{part}.txt"
        write_list(parts[part], Path(out) / name)
        if len(absent):
            names = "".join(f"{videos.entry(int(i))}\n" for i in absent)
            (Path(out) / f"{part}_missing.txt").write_text(names, encoding="utf-8", errors="surrogateescape")
    return parts


def _videos_or_folders(
    entries: list[tuple[str, list[int]]], path: Path, root: Root, index: ClassIndex, template: str
) -> VideoList:
    """Video files where the first existing entry is one, else frame folders with their frames counted."""
    folder = str(root) if root is not None else str(path.parent)
    suffix = None
    for name, _ in entries[:1000]:
        where = os.path.join(folder, name)
        if os.path.isdir(where):
            break
        suffix = next((s for s in (".mp4", ".webm", ".avi", ".mkv") if os.path.isfile(where + s)), None)
        if suffix:
            break
    if suffix:
        builder = ListBuilder("video", str(path))
        for name, labels in entries:
            builder.add(name, labels)
        return formats.finish(builder, path, folder, index, False, suffix=suffix)
    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(count_frames, (os.path.join(folder, name) for name, _ in entries)))
    builder = ListBuilder("rawframes", str(path))
    for (name, labels), count in zip(entries, counts):
        builder.add(name, labels, num_frames=count)
    return formats.finish(builder, path, folder, index, False, suffix="", frame_template=template)


def count_frames(folder: str | Path) -> int:
    """RGB frames of a folder: images whose name does not begin like a flow image's (flow_x…, x_…); 0 if missing."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return sum(
        os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not re.match(r"(flow_)?[xy]_", name) for name in names
    )


def _companion(path: Path, ending: str) -> list[str] | None:
    """Class names from the published labels file beside a list, named alike but for its end."""
    own = [p for p in sorted(path.parent.glob(f"*{ending}")) if p != path]
    if not own:
        return None
    alike = [sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(p.name, path.name))) for p in own]
    return read_classes(own[alike.index(max(alike))])


def _kinetics_style(folder: str, rows: list[dict[str, str]], stems: list[str], labeled: bool) -> str:
    """How the clips lie below ``folder``; found from the first ones that exist."""
    places = ("{label}/", "{flat}/", "") if labeled else ("",)
    styles = [place + name for name in ("{stem}", "{id}") for place in places]
    for row, stem in list(zip(rows, stems))[:200]:
        for style in styles:
            label = row.get("label", "")
            name = style.format(label=label, flat=label.replace(" ", "_"), stem=stem, id=row["youtube_id"])
            if any(os.path.isfile(os.path.join(folder, name + suffix)) for suffix in (".mp4", ".mkv", ".webm", ".avi")):
                return style
    return styles[0]


def _pickled_label(path: str) -> int:
    """The first number of a pickle, found by reading its instructions, not by running them."""
    try:
        with open(path, "rb") as file:
            for opcode, value, _ in pickletools.genops(file):
                if opcode.name in ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1"):
                    return int(value or 0)
                if opcode.name in ("GLOBAL", "STACK_GLOBAL", "REDUCE"):
                    break
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except ValueError:
        pass
    return read_paddle_pickle(path)[1]
