"""Read the list of a data set, whatever its format, into a ``VideoList``; write one.

| format | one entry |
|---|---|
| folder | one sub-folder a class, holding videos or frame folders |
| video | ``path label``; several labels with multi_label; without a label: videos to predict |
| rawframes | ``folder num_frames label`` (frame folders) |
| rawframes_offset | ``folder offset num_frames label`` |
| counted | ``video_id num_frames label``: video files whose frame count is listed (the seeds' Kinetics list) |
| image | ``path label`` of images (OmniSource) |
| untrimmed | ``folder label num_clips positive_clip …`` (OmniSource) |
| csv | a header and the columns path, label[, num_frames, offset, start_s, end_s] |
| json | a list of objects with such keys (also MMAction2's frame_dir, total_frames, filename) |
| shards | a sample of tar shards (WebDataset's layout): a folder of them, one, or ``https://host/train-{000..099}.tar`` |
| paddle_mp4, paddle_pkl | PaddleCV's ``path label`` and lists of pickled clips |
| kinetics_csv, something, jester, gym99, activitynet | as published, see clipwise.data.formats.published |
| label-studio, cvat, via, elan, boris, segments, … | annotation tools and other data sets, see clipwise.data.formats.annotation_kinds |

Columns are separated by blanks, tabs, commas or semicolons. A path or a class name with blanks is quoted, or the list
uses another separator; a path with blanks before a numeric label needs nothing. Lines that begin with "# " are comments.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from clipwise.data.formats import list_tables
from clipwise.data.formats import published as sources
from clipwise.data.formats import text_lists as formats
from clipwise.data.formats.list_tables import write_list
from clipwise.data.labels import ClassIndex, read_classes
from clipwise.data.videolist import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    ListBuilder,
    Ragged,
    VideoList,
    is_video,
    natural_key,
)
from clipwise.errors import DataError, RecipeError
from clipwise.io.plugins import Registry

__all__ = [
    "ListFormat",
    "Ragged",
    "Splits",
    "VideoList",
    "find_splits",
    "natural_key",
    "read_classes",
    "read_list",
    "test_part",
    "write_list",
]

ListFormat = Literal[
    "auto",
    "folder",
    "video",
    "rawframes",
    "rawframes_offset",
    "counted",
    "image",
    "untrimmed",
    "csv",
    "json",
    "paddle_mp4",
    "paddle_pkl",
    "shards",
    "kinetics_csv",
    "something",
    "jester",
    "gym99",
    "activitynet",
]

DATASETS = Registry("dataset", "clipwise.datasets")
register_dataset = DATASETS.register
"""Decorator: a function ``(source) -> (path, label) pairs`` reads lists of the format of its name (``lists.format``)."""


def read_list(
    source: str | Path,
    *,
    root: str | Path | None = None,
    format: ListFormat | str = "auto",
    classes: Sequence[str] | str | Path | None = None,
    num_classes: int | None = None,
    multi_label: bool = False,
    subset: str | None = None,
    fps: float | None = None,
    layer: str | None = None,
    config: str | None = None,
) -> VideoList:
    """Read a list file or a folder of classes.

    Args:
        source: the list or folder.
        root: prepended to relative paths. Not given: the list's folder if the first entry lies there, else the
            current folder if it lies there, else the list's folder.
        format: a name of the table above; "auto" finds out, and asks where two readings are possible.
        classes: class names in the order of their indices, or a file of them. Not given: ``classes.txt`` or a label map
            beside the list; else, if labels are names, these in natural order.
        num_classes: number of classes, if it is more than the list or the names tell.
        multi_label: entries may have several labels.
        subset: the part to take of annotations that have several in one file.
        fps, layer, config: what annotations do not say of themselves (``clipwise.data.formats.annotation_parts``).

    Returns:
        The entries in the order of the file.

    Raises:
        DataError: with file and line: no such file, no entries, a label out of range, an unknown class name, columns
            that do not fit.
    """
    path = Path(source)
    if isinstance(classes, str | Path):
        classes = read_classes(classes)
    given: Any = {"root": root, "classes": classes, "num_classes": num_classes, "multi_label": multi_label}
    given |= {"subset": subset, "fps": fps, "layer": layer, "config": config}
    if format not in get_args(ListFormat):
        if format not in DATASETS.names() and (read := _annotation_reader(format)):
            return read(path, format, **given)
        return _read_registered(format, str(source), root, ClassIndex(classes, num_classes, str(source)), multi_label)
    if format == "shards" or (format == "auto" and (".tar" in str(source) or _holds_shards(path))):
        from clipwise.data.formats.tar_shards import read_shard_list

        return read_shard_list(source, classes=classes, num_classes=num_classes, multi_label=multi_label)
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Give a list file, or a folder with one sub-folder a class"
            + (f" (the current folder is {Path.cwd()})." if not path.is_absolute() else ".")
        )
    found = format
    if format == "auto":
        found = _detect(path)
        if found not in get_args(ListFormat):
            return _annotation_reader()(path, found, **given)
    if path.is_dir() != (found == "folder") and not (path.is_dir() and found in ("jester", "gym99")):
        wanted = "a folder" if found == "folder" else "a file"
        raise DataError(f"{path}: the list format {found!r} wants {wanted}.")
    if classes is None and found not in ("activitynet", "something", "jester", "gym99"):
        beside = find_classes(path if path.is_dir() else path.parent, path.stem)
        if beside is not None and beside.resolve() != path.resolve():
            classes = read_classes(beside)
        elif path.is_dir() and (above := find_classes(path.parent)):
            # dataset/classes.txt beside dataset/videos/: only if it speaks of these very folders
            names = {entry.name for entry in path.iterdir() if entry.is_dir() and not _is_foreign(entry.name)}
            candidate = read_classes(above) if names else []
            classes = candidate if names <= set(candidate) else None
    if found == "folder":
        return read_folder(path, classes, num_classes, multi_label)
    readers = {
        "kinetics_csv": sources.kinetics_csv,
        "something": sources.something_something,
        "jester": sources.jester_csv,
        "gym99": sources.gym99_list,
        "activitynet": sources.activitynet_json,
        "paddle_pkl": sources.paddle_pickles,
    }
    try:
        if found in readers:
            options = {"subset": subset} if found == "activitynet" else {}
            return readers[found](path, root=root, classes=classes, num_classes=num_classes, **options)
        index = ClassIndex(classes, num_classes, str(path))
        if found == "json":
            return list_tables.read_json(path, root, index, multi_label)
    except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:  # of files that are built otherwise
        raise DataError(f"{path} is not in the form of {found} lists ({type(error).__name__}: {error}).") from None
    if found == "csv":
        return list_tables.read_header_csv(path, root, index, multi_label)
    layout = "video" if found == "paddle_mp4" else found
    videos = formats.read_columns(path, root, index, multi_label, layout if layout != "auto" else None)
    return replace(videos, kind="shard", root="") if ".tar#" in videos.entry(0) else videos


def reading_of(lists: Any, part: str) -> dict[str, Any]:
    """Arguments of :func:`read_list` for the ``train`` or ``val`` part, of the keys ``lists`` of a recipe."""
    return {"subset": getattr(lists, f"{part}_subset"), "fps": lists.fps, "layer": lists.layer, "config": lists.config}


def _detect(path: Path) -> str:
    """The format: "folder" for class folders and loose videos, else what the content says."""
    if not path.is_dir():
        from clipwise.data.formats.detect import detect

        return detect(path)
    if any(
        (e.is_dir() and not _is_foreign(e.name) and e.name != "groundTruth") or is_video(e.name)
        for e in os.scandir(path)
    ):
        return "folder"
    from clipwise.data.formats.annotation_kinds import holds_annotations

    return "annotations" if holds_annotations(path) else "folder"


def _annotation_reader(format: str | None = None) -> Any:
    """What reads annotations as lists, or None where the format is none of them."""
    from clipwise.data.formats.annotation_lists import is_annotation_format, read_annotated

    return read_annotated if format is None or is_annotation_format(format) else None


def _read_registered(
    format: str, source: str, root: str | Path | None, index: ClassIndex, multi_label: bool
) -> VideoList:
    """The entries that a registered function gives."""
    try:
        function = DATASETS.find(format).make
    except RecipeError as error:
        raise RecipeError(
            f"The list format is {format!r}; known are {', '.join(get_args(ListFormat))}, and the annotation formats of docs/en/annotations.md. {error}"
        ) from None
    builder = ListBuilder("video", source)
    for number, row in enumerate(function(source), 1):
        path, label = row
        labels = label if isinstance(label, (list, tuple)) else [] if label is None else [label]
        builder.add(os.fspath(path), [index.resolve(x, number) for x in labels])
    if not len(builder):
        raise DataError(f"{source}: the list format {format} gave no entry.")
    return formats.finish(builder, Path(source), root or "", index, multi_label, suffix="")


def _holds_shards(path: Path) -> bool:
    """Whether this is a folder with tar files and no folders in it."""
    return path.is_dir() and any(path.glob("*.tar")) and not any(entry.is_dir() for entry in path.iterdir())


def _is_foreign(name: str) -> bool:
    """Whether the system or a packer made the folder: hidden ones, macOS's in ZIP files, Windows's, NAS thumbnails."""
    return name.startswith((".", "__MACOSX", "$RECYCLE", "@eaDir")) or name in (
        "lost+found",
        "System Volume Information",
    )


def read_folder(path: Path, classes: Sequence[str] | None, num_classes: int | None, multi_label: bool) -> VideoList:
    """One sub-folder a class; natural order of names unless ``classes`` gives another. Videos, or frame folders."""
    names = sorted((e.name for e in os.scandir(path) if e.is_dir() and not _is_foreign(e.name)), key=natural_key)
    if not names:
        files = sorted((e.name for e in os.scandir(path) if is_video(e.name)), key=natural_key)
        if not files:
            raise DataError(f"{path}: neither class folders nor videos are in it. Expected: one sub-folder a class.")
        builder = ListBuilder("video", str(path))
        for name in files:
            builder.add(name)
        return builder.build(root=str(path), multi_label=False, classes=None, num_classes=None)
    if loose := sorted((e.name for e in os.scandir(path) if is_video(e.name)), key=natural_key):
        raise DataError(
            f"{path}: {len(loose)} videos, the first {loose[0]}, lie beside the {len(names)} class folders ({', '.join(names[:3])}"
            f"{', …' if len(names) > 3 else ''}), so they have no class. Move them into one, or elsewhere."
        )
    if classes is not None and (unknown := [name for name in names if name not in set(classes)]):
        raise DataError(f"{path}: the folder {unknown[0]!r} is not among the {len(classes)} known classes.")
    order = list(classes) if classes is not None else names
    label_of = {name: i for i, name in enumerate(order)}
    videos: list[tuple[str, int]] = []
    folders: list[tuple[str, int, int]] = []
    for name in names:
        for parent, subfolders, files in os.walk(path / name):
            subfolders[:] = sorted((s for s in subfolders if not s.startswith(".")), key=natural_key)
            relative = os.path.relpath(parent, path)
            videos += [
                (os.path.join(relative, f), label_of[name]) for f in sorted(files, key=natural_key) if is_video(f)
            ]
            images = sum(os.path.splitext(f)[1].lower() in IMAGE_SUFFIXES for f in files)
            if images:
                folders.append((relative, images, label_of[name]))
    if videos and folders:
        raise DataError(
            f"{path}: some class folders hold videos ({videos[0][0]}), others images ({folders[0][0]}). Keep one kind."
        )
    builder = ListBuilder("rawframes" if folders else "video", str(path))
    for entry, label in videos:
        builder.add(entry, [label])
    for entry, count, label in folders:
        builder.add(entry, [label], num_frames=count)
    full = {label for _, label in videos} or {label for *_, label in folders}
    empty = [name for name in names if label_of[name] not in full]
    if full and empty and classes is None:
        raise DataError(
            f"{path}: {', '.join(empty[:5])}{', …' if len(empty) > 5 else ''}: no videos in {len(empty)} of the {len(names)} folders, so they "
            "can't be classes. Move them elsewhere or put videos into them; or give the folder that holds the class folders."
        )
    if not len(builder):
        raise DataError(
            f"{path}: its {len(names)} sub-folders hold no videos (known: {' '.join(sorted(VIDEO_SUFFIXES))})."
        )
    return builder.build(root=str(path), multi_label=multi_label, classes=order, num_classes=num_classes or len(order))


_CLASS_FILES = ("classes.txt", "label_map.txt", "labels.txt", "classInd.txt", "class_names.txt", "labels.json")


def find_classes(folder: Path, stem: str = "") -> Path | None:
    """The file of class names beside a list, if there is exactly one candidate of the usual names."""
    for name in ([f"{stem}_classes.txt"] if stem else []) + list(_CLASS_FILES):
        if (folder / name).is_file():
            return folder / name
    # label_map_k400.txt, kinetics_class2ind.txt: MMAction2's names
    candidates = {p for part in ("label_map*.txt", "*class2ind*.txt") for p in folder.glob(part)}
    return candidates.pop() if len(candidates) == 1 else None


# ---- from what a user calls --data to a training and a validation part -------------------------------------------------------------

_LISTS = (".txt", ".csv", ".tsv", ".json")


@dataclass(frozen=True)
class Splits:
    """Sources of the parts; ``held_out`` says that validation must be cut from training."""

    train: str | Path
    val: str | Path | None
    held_out: bool = False

    @staticmethod
    def hold_out(videos: VideoList, share: float = 0.2, seed: int = 0) -> tuple[VideoList, VideoList]:
        """Split a list by class, the same way each time: (training, validation).

        Raises:
            DataError: a class has only one video; a video has no label, or several.
        """
        if videos.multi_label:
            raise DataError("videos with several labels can't be split by class; give a validation list.")
        if (videos.labels < 0).any():
            raise DataError("videos without labels can't be split by class; give a validation list.")
        labels = videos.labels
        rng = np.random.default_rng(seed)
        chosen = []
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            if len(members) < 2:
                name = videos.classes[label] if videos.classes else int(label)
                raise DataError(
                    f"class {name!r} has only one video, so none can be held out for validation. Add videos, or give a validation list."
                )
            chosen.append(members[: max(1, round(len(members) * share))])
        held = np.zeros(len(videos), bool)
        held[np.concatenate(chosen)] = True
        return videos.subset(np.flatnonzero(~held)), videos.subset(np.flatnonzero(held))


def find_splits(data: str | Path) -> Splits:
    """Find the parts of a data set.

    A list file is all training; validation is ``…val….*`` beside a ``…train….*``. A folder may hold ``train.*`` and
    ``val.*``, or ``train`` and ``val`` folders with one folder a class, or other such lists, or one folder a class, of
    which a fifth is then held out.

    Raises:
        DataError: no such file or folder, or several pairs of lists in it.
    """
    path = Path(data)
    if ".tar" in str(data) and not path.is_dir():
        return Splits(str(data), None, held_out=True)
    if path.is_file():
        if is_video(path.name):
            raise DataError(
                f"{path} is one video. Training data is a folder with one sub-folder a class, or a list file (path label)."
            )
        val = _twin(path) if "train" in path.name else None
        return Splits(path, val, held_out=val is None)
    if not path.is_dir():
        raise DataError(
            f"{path} does not exist. Give a folder with one sub-folder a class, or a list file (path label)."
        )
    for suffix in _LISTS:
        train = path / f"train{suffix}"
        if train.is_file():
            val = _twin(train)
            return Splits(train, val, held_out=val is None)
    named = [p for p in path.iterdir() if p.suffix in _LISTS and "train" in p.name and not p.name.startswith(".")]
    pairs = sorted(p for p in named if p.is_file() and _twin(p))
    by_class = (path / "train").is_dir() and any(p.is_dir() for p in (path / "train").iterdir())
    if pairs and not by_class:
        if len(pairs) > 1:
            names = ", ".join(p.name for p in pairs[:6])
            raise DataError(
                f"{path} holds several training lists: {names}{', …' if len(pairs) > 6 else ''}. Give one of them."
            )
        return Splits(pairs[0], _twin(pairs[0]))
    if (path / "train").is_dir():
        val_folder = next((path / n for n in ("val", "valid", "validation", "test") if (path / n).is_dir()), None)
        return Splits(path / "train", val_folder, held_out=val_folder is None)
    return Splits(path, None, held_out=True)


def _twin(train: Path) -> Path | None:
    names = (train.name.replace("train", "val"), train.name.replace("trainlist", "testlist"))  # UCF101 has no other
    return next((train.with_name(n) for n in names if n != train.name and train.with_name(n).is_file()), None)


def test_part(data: str | Path) -> Path:
    """The part of a data set that ``clipwise test`` measures: its test list or folder, else validation, else all of it."""
    path = Path(data)
    if path.is_dir():
        for name in ("test", "val", "valid", "validation"):
            for candidate in [path / name, *(path / f"{name}{s}" for s in _LISTS)]:
                if candidate.exists():
                    return candidate
    return path


test_part.__test__ = False  # type: ignore[attr-defined]
