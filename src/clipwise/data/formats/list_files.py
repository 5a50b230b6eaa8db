"""Lists in files, by their format.

| format | one entry |
|---|---|
| folder | one subfolder per class, holding videos or frame folders |
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
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from clipwise.data.formats import list_tables, text_lists
from clipwise.data.formats import published as sources
from clipwise.data.labels import ClassIndex, read_classes
from clipwise.data.videolist import ListBuilder, VideoList
from clipwise.errors import ClipwiseWarning, DataError, RecipeError
from clipwise.io.code_promises import described, promised
from clipwise.io.names import did_you_mean
from clipwise.io.plugins import Registry

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

_WITH_SUBSETS = ("csv", "json", "kinetics_csv", "activitynet")

DATASETS = Registry("dataset", "clipwise.datasets")
register_dataset = DATASETS.register
"""Decorator: a function ``(source) -> (path, label) pairs`` reads lists of the format of its name (``lists.format``)."""


class WithoutEffectError(DataError):
    """Arguments for annotations were given, and the list is a plain one; ``names`` are theirs."""

    def __init__(self, message: str, names: Sequence[str]):
        super().__init__(message)
        self.names = tuple(names)


def without_effect(source: str | Path, **given: Any) -> None:
    """Refuse arguments that a plain list has no use for.

    Raises:
        WithoutEffectError: some are not None.
    """
    if names := [name for name, value in given.items() if value is not None]:
        lacks = {
            "root": "its videos inside",
            "subset": "no subsets (a column subset or split has them)",
            "fps": "no frame numbers",
            "layer": "one kind of labels",
            "config": "no labeling configuration",
        }
        raise WithoutEffectError(
            f"{source} is a {'folder of classes' if 'root' in given else 'plain list'} with {' and '.join(lacks[name] for name in names)}; leave {', '.join(names)} out.",
            names,
        )


def name_idle(error: WithoutEffectError, keys: Mapping[str, str], part: str) -> None:
    """Warn of a recipe's keys that this list has no use for; training on more than was asked for is refused.

    Args:
        keys: argument -> ``key=value``.
    """
    named = ", ".join(keys[name] for name in error.names)
    if "subset" in error.names and part == "train":
        raise DataError(f"{named}: {error}") from None
    if "subset" in error.names or part == "train":  # else a checkpoint's recipe meets a list of another kind
        warnings.warn(f"{named} without effect: {error}", ClipwiseWarning, stacklevel=3)


def read_list_file(
    source: str | Path,
    *,
    root: str | Path | None,
    format: str = "auto",
    classes: Sequence[str] | None,
    beside: Path | None,
    num_classes: int | None = None,
    multi_label: bool = False,
    subset: str | None = None,
    fps: float | None = None,
    layer: str | None = None,
    config: str | None = None,
) -> VideoList:
    """Read a list that is not a folder of classes: see :func:`clipwise.data.lists.read_list`.

    Args:
        beside: the file of class names that lies beside the list, used where the list does not name its classes itself.
    """
    path = Path(source)
    given: Any = {"root": root, "classes": classes, "num_classes": num_classes, "multi_label": multi_label}
    given |= {"subset": subset, "fps": fps, "layer": layer, "config": config}
    if format not in get_args(ListFormat):
        if format not in DATASETS.names() and (read := _annotation_reader(format)):
            return read(path, format, **given)
        without_effect(source, subset=subset, fps=fps, layer=layer, config=config)
        return _read_registered(format, str(source), root, ClassIndex(classes, num_classes, str(source)), multi_label)
    if format == "shards" or (
        format == "auto" and (".tar" in str(source) or (path.is_dir() and any(path.glob("*.tar"))))
    ):
        from clipwise.data.formats.tar_shards import read_shard_list

        without_effect(source, subset=subset, fps=fps, layer=layer, config=config)
        return read_shard_list(source, classes=classes, num_classes=num_classes, multi_label=multi_label)
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Give a list file, or a folder with one subfolder per class"
            + (f" (the current folder is {Path.cwd()})." if not path.is_absolute() else ".")
        )
    found = format
    if format == "auto":
        from clipwise.data.formats.detect import detect

        found = "annotations" if path.is_dir() else detect(path)
        if found not in get_args(ListFormat):
            return _annotation_reader()(path, found, **given)
    if path.is_dir() != (found == "folder") and not (path.is_dir() and found in ("jester", "gym99")):
        wanted = "a folder" if found == "folder" else "a file"
        raise DataError(f"{path}: the list format {found!r} wants {wanted}.")
    parted = {"subset": subset} if found in _WITH_SUBSETS else {}
    without_effect(path, subset=None if parted else subset)
    names_itself = found in ("activitynet", "something", "jester", "gym99")
    if classes is None and beside is not None and beside.resolve() != path.resolve() and not names_itself:
        classes = read_classes(beside)
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
            return readers[found](path, root=root, classes=classes, num_classes=num_classes, **parted)
        without_effect(path, fps=fps, layer=layer, config=config)
        index = ClassIndex(classes, num_classes, str(path))
        if found == "json":
            return list_tables.read_json(path, root, index, multi_label, subset)
    except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:  # of files that are built otherwise
        reason = f"({error})" if type(error) is ValueError else "(its entries are built in another way)"
        raise DataError(f"{path} is not in the form of {found} lists {reason}.") from error
    if found == "csv":
        return list_tables.read_header_csv(path, root, index, multi_label, subset)
    layout = "video" if found == "paddle_mp4" else found
    videos = text_lists.read_columns(path, root, index, multi_label, layout if layout != "auto" else None)
    return replace(videos, kind="shard", root="") if ".tar#" in videos.entry(0) else videos


def _annotation_reader(format: str | None = None) -> Any:
    """What reads annotations as lists, or None where the format is none of them."""
    from clipwise.data.formats.annotation_lists import is_annotation_format, read_annotated

    return read_annotated if format is None or is_annotation_format(format) else None


def _iterable(rows: Any, _: str) -> bool:
    return isinstance(rows, Iterable)


def _read_registered(
    format: str, source: str, root: str | Path | None, index: ClassIndex, multi_label: bool
) -> VideoList:
    """The entries that a registered function gives."""
    try:
        function = promised(DATASETS.find(format), "dataset", "source", "(path, label) pairs", _iterable)
    except RecipeError as error:
        if format in DATASETS.names():  # an installed package announces it, and cannot give it
            raise
        known = f"known: {', '.join(get_args(ListFormat))}, and the annotation formats of docs/en/annotations.md."
        near = did_you_mean(format, get_args(ListFormat)) or ";"
        raise RecipeError(f"The list format is {format!r}{near} {known}" if ":" not in format else str(error)) from None
    builder = ListBuilder("video", source)
    for number, row in enumerate(function(source), 1):
        path, label = row if isinstance(row, (list, tuple)) and len(row) == 2 else (None, None)
        labels = label if isinstance(label, (list, tuple)) else [] if label is None else [label]
        if not isinstance(path, (str, os.PathLike)) or not all(isinstance(x, (str, int, np.integer)) for x in labels):
            raise DataError(
                f"{source}: the list format {format} gave {described(row)} as entry {number}; an entry is a (path, label) pair, "
                "its label a class number, a class name, a list of these, or None."
            )
        builder.add(os.fspath(path), [index.resolve(x, number) for x in labels])
    if not len(builder):
        raise DataError(f"{source}: the list format {format} gave no entry.")
    return text_lists.finish(builder, Path(source), root or "", index, multi_label, suffix="")
