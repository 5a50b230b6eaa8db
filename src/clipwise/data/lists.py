"""Read the list of a data set, whatever its format, into a ``VideoList``; find the parts of a data set.

One subfolder per class is read here; files are read by :mod:`clipwise.data.formats.list_files`, whose table has their formats.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from clipwise.data.formats.list_files import ListFormat, WithoutEffectError, name_idle, register_dataset, without_effect
from clipwise.data.formats.list_splits import LIST_SUFFIXES, Splits, listed_splits
from clipwise.data.formats.list_tables import write_list
from clipwise.data.labels import read_classes
from clipwise.data.videolist import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    ListBuilder,
    Ragged,
    VideoList,
    find_classes,
    is_video,
    natural_key,
)
from clipwise.errors import DataError
from clipwise.io.text import plural

__all__ = [
    "ListFormat",
    "Ragged",
    "Splits",
    "VideoList",
    "find_splits",
    "natural_key",
    "read_classes",
    "read_list",
    "register_dataset",
    "write_list",
]


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
        format: a name of :data:`clipwise.data.formats.list_files.ListFormat`; "auto" finds out, and asks where two readings are possible.
        classes: class names in the order of their indices, or a file of them. Not given: ``classes.txt`` or a label map
            beside the list; else, if labels are names, these in natural order.
        num_classes: number of classes, if it is more than the list or the names tell.
        multi_label: entries may have several labels.
        subset: the part to take of a list that has several in one file: annotations, or a column ``subset`` or ``split``.
        fps, layer, config: what annotations do not say of themselves (``clipwise.data.formats.annotation_parts``).

    Returns:
        The entries in the order of the file.

    Raises:
        DataError: with file and line: no such file, no entries, a label out of range, an unknown class name, columns
            that do not fit; a subset, or what only annotations need, of a list that has none.
    """
    path = Path(source)
    if isinstance(classes, str | Path):
        classes = read_classes(classes)
    if path.is_dir() and (format == "folder" or (format == "auto" and _holds_classes(path))):
        classes = _folder_classes(path) if classes is None else classes
        if (root, subset, fps, layer, config) != (None,) * 5:
            without_effect(source, root=root, subset=subset, fps=fps, layer=layer, config=config)
        return read_folder(path, classes, num_classes, multi_label)
    from clipwise.data.formats.list_files import read_list_file

    return read_list_file(
        source,
        root=root,
        format=format,
        classes=classes,
        beside=find_classes(path.parent, path.stem) if path.is_file() else None,
        num_classes=num_classes,
        multi_label=multi_label,
        subset=subset,
        fps=fps,
        layer=layer,
        config=config,
    )


def read_part(
    source: str | Path, recipe: Mapping[str, Any], part: Literal["train", "val"], *, plain: bool = False, **options: Any
) -> VideoList:
    """Read a training or test list as a recipe says. Every command reads its ``--data`` here.

    Args:
        recipe: values of a recipe, also of a checkpoint's; ``data_root``, ``val.data_root``, ``multi_label`` and ``lists`` count.
        part: the test list is read as ``val``.
        plain: the list was written by clipwise itself (videos held out), so the keys of ``lists`` do not hold for it.
        options: further arguments of :func:`read_list`, such as ``classes``.

    Raises:
        DataError: as :func:`read_list`; ``lists.train_subset`` of a list without subsets.
    """
    lists = {} if plain else recipe.get("lists") or {}
    root = recipe.get("data_root")
    if part == "val":
        root = (recipe.get("val") or {}).get("data_root") or root
    options |= {"root": root, "format": lists.get("format", "auto"), "multi_label": bool(recipe.get("multi_label"))}
    keys = {"subset": f"{part}_subset", "fps": "fps", "layer": "layer", "config": "config"}
    given = options | {name: lists[key] for name, key in keys.items() if lists.get(key) is not None}
    try:
        return read_list(source, **given)
    except WithoutEffectError as error:
        named = {name: f"lists.{key}={given.get(name)}" for name, key in keys.items()} | {"root": f"data_root={root}"}
        name_idle(error, named, part)
        return read_list(source, **{name: given[name] for name in given if name not in error.names})


def _holds_classes(path: Path) -> bool:
    """Whether a folder holds class folders or loose videos, not shards or annotations."""
    entries = list(os.scandir(path))
    if ".tar" in str(path) or (any(e.name.endswith(".tar") for e in entries) and not any(e.is_dir() for e in entries)):
        return False
    if any((e.is_dir() and not _is_foreign(e.name) and e.name != "groundTruth") or is_video(e.name) for e in entries):
        return True
    from clipwise.data.formats.annotation_kinds import holds_annotations

    return not holds_annotations(path)


def _folder_classes(path: Path) -> list[str] | None:
    """The class names of a file in a folder of class folders, or beside it."""
    if (inside := find_classes(path, path.stem)) is not None:
        return read_classes(inside)
    if above := find_classes(path.parent):
        # dataset/classes.txt beside dataset/videos/: only if it speaks of these very folders
        names = {entry.name for entry in path.iterdir() if entry.is_dir() and not _is_foreign(entry.name)}
        candidate = read_classes(above) if names else []
        return candidate if names <= set(candidate) else None
    return None


def _is_foreign(name: str) -> bool:
    """Whether the system or a packer made the folder: hidden ones, macOS's in ZIP files, Windows's, NAS thumbnails."""
    return name.startswith((".", "__MACOSX", "$RECYCLE", "@eaDir", "lost+found", "System Volume Information"))


def read_folder(path: Path, classes: Sequence[str] | None, num_classes: int | None, multi_label: bool) -> VideoList:
    """One subfolder per class; natural order of names unless ``classes`` gives another. Videos, or frame folders."""
    names = sorted((e.name for e in os.scandir(path) if e.is_dir() and not _is_foreign(e.name)), key=natural_key)
    if any((path / name).is_symlink() for name in names):
        from clipwise.data.upward_links import without_upward_links

        names = without_upward_links(path, names)
    if not names:
        files = sorted((e.name for e in os.scandir(path) if is_video(e.name)), key=natural_key)
        if not files:
            raise DataError(f"{path}: neither class folders nor videos are in it. Expected: one subfolder per class.")
        builder = ListBuilder("video", str(path))
        for name in files:
            builder.add(name)
        return builder.build(root=str(path), multi_label=False, classes=None, num_classes=None)
    if loose := sorted((e.name for e in os.scandir(path) if is_video(e.name)), key=natural_key):
        raise DataError(
            f"{path}: {plural(len(loose), f'video, {loose[0]}, lies', f'videos, the first {loose[0]}, lie')} beside the {len(names)} class folders ({', '.join(names[:3])}"
            f"{', …' if len(names) > 3 else ''}), so they have no class. Move them into one, or elsewhere."
        )
    if classes is not None and (unknown := [name for name in names if name not in set(classes)]):
        raise DataError(f"{path}: the folder {unknown[0]!r} is none of the known classes (there are {len(classes)}).")
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
            f"{path}: its {plural(len(names), 'subfolder holds', 'subfolders hold')} no videos (known: {' '.join(sorted(VIDEO_SUFFIXES))})."
        )
    return builder.build(root=str(path), multi_label=multi_label, classes=order, num_classes=num_classes or len(order))


def find_splits(data: str | Path) -> Splits:
    """Find the parts of a data set.

    A list file is all training; validation is ``…val….*`` beside a ``…train….*``. A folder may hold ``train.*`` and
    ``val.*``, or ``train`` and ``val`` folders with one folder per class, or other such lists, or one folder per class, of
    which a fifth is then held out.

    Raises:
        DataError: no such file or folder, or several pairs of lists in it.
    """
    path = Path(data)
    by_class = (path / "train").is_dir() and any(p.is_dir() for p in (path / "train").iterdir())
    named = not by_class or any((path / f"train{suffix}").is_file() for suffix in LIST_SUFFIXES)
    if named and (found := listed_splits(data)):
        return found
    if (path / "train").is_dir():
        val_folder = next((path / n for n in ("val", "valid", "validation", "test") if (path / n).is_dir()), None)
        return Splits(path / "train", val_folder, held_out=val_folder is None)
    return Splits(path, None, held_out=True)
