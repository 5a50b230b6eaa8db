"""A data set as folders: one sub-folder a class, with videos or frame folders in it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from clipwise.data.videolist import ListBuilder, VideoList
from clipwise.errors import DataError

VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".flv", ".wmv", ".asf",
    ".3gp", ".3g2", ".ogv", ".ogg", ".vob", ".rm", ".rmvb", ".gif",
))  # fmt: skip
IMAGE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".bmp", ".webp"])


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which class_2 comes before class_10."""
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", name) if part]


def is_video(name: str) -> bool:
    """Whether a file's name is that of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not name.startswith(".")


def read_folder(path: Path, classes: Sequence[str] | None, num_classes: int | None, multi_label: bool) -> VideoList:
    """One sub-folder a class; natural order of names unless ``classes`` gives another. Videos, or frame folders."""
    names = sorted((e.name for e in os.scandir(path) if e.is_dir() and not e.name.startswith(".")), key=natural_key)
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
            f"{path}: some class folders hold videos ({videos[0][0]}), others pictures ({folders[0][0]}). Keep one kind."
        )
    builder = ListBuilder("rawframes" if folders else "video", str(path))
    for entry, label in videos:
        builder.add(entry, [label])
    for entry, count, label in folders:
        builder.add(entry, [label], num_frames=count)
    if not len(builder):
        raise DataError(
            f"{path}: its {len(names)} sub-folders hold no videos (known: {' '.join(sorted(VIDEO_SUFFIXES))})."
        )
    return builder.build(root=str(path), multi_label=multi_label, classes=order, num_classes=num_classes or len(order))
