"""Lists for training, validation and test from a folder of classes, so that nothing leaks from one part into another."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.data.lists import VideoList, read_list, write_list
from clipwise.errors import DataError
from clipwise.io.files import atomic_path
from clipwise.io.progress import Progress
from clipwise.io.text import plural

# Names under which videos belong together, tried in this order if no pattern is given; a pattern counts only if every name fits.
KNOWN_GROUPS = {
    "UCF101's group (v_Class_g01_c01)": r"v_\w+_g(\d+)_c\d+",
    "the YouTube id of Kinetics (id_000001_000011)": r"([\w-]{11})_\d{6}_\d{6}",
    "ActivityNet's id (v_ID)": r"v_([\w-]{11})(?:[_.-].*)?",
}


@dataclass
class ListsResult:
    """What was written.

    Attributes:
        paths: part -> list file.
        counts: part -> number of entries of each class.
        groups: part -> number of groups.
        rule: by what videos were grouped, in words.
        copies: number of files that have the same content as another one, and so were put in the same part.
        classes: class names.
    """

    rule: str
    classes: list[str] | None = None
    paths: dict[str, str] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    copies: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_lists(source: str | os.PathLike, target: str | os.PathLike, *, shares: Mapping[str, float] | None = None, group: str | None = None,
               seed: int = 0, progress: Progress | None = None) -> ListsResult:  # fmt: skip
    """Splits a folder with one subfolder per class, or a list, and writes one list a part, with ``classes.txt``.

    Videos of one group (one person, one source video) go into the same part, as do files with the same content; within that, each
    class is split as nearly as possible in the wanted shares. The same folder and seed give the same lists.

    Args:
        source: folder of classes, holding videos or frame folders; or a list of any format.
        target: folder for ``train.txt`` and so on.
        shares: part -> share; None: train 0.8, val 0.1, test 0.1.
        group: a regular expression that must match every entry's path (relative to the source, without its ending) somewhere; what
            its first parentheses catch is the group. None: a known naming scheme if every name follows it, else every video is a
            group of its own.
        seed: of the split.
        progress: called as ``progress(done, total, message)``.

    Raises:
        DataError: shares that do not add up to 1, a pattern that does not fit, fewer groups than parts.
    """
    wanted = dict(shares or {"train": 0.8, "val": 0.1, "test": 0.1})
    if any(share <= 0 for share in wanted.values()) or abs(sum(wanted.values()) - 1) > 1e-6:
        raise DataError(f"shares must be positive and add up to 1, not {wanted}")
    videos = read_list(Path(source))
    if videos.many_labels is not None or any(videos.label(i) is None for i in range(len(videos))):
        raise DataError(f"{source}: each video must have one label, by which the parts get their shares.")
    entries = [videos.entry(i).replace(os.sep, "/") for i in range(len(videos))]
    names = [os.path.splitext(entry)[0] if videos.kind == "video" else entry for entry in entries]
    keys, rule = _group_keys(names, group)
    result = ListsResult(rule, videos.classes)
    keys, result.copies = _join_copies(videos, keys, progress)
    number = {key: i for i, key in enumerate(sorted(set(keys)))}
    groups = np.array([number[key] for key in keys])
    if len(number) < len(wanted):
        raise DataError(
            f"{source}: {plural(len(number), 'group')} cannot be split into {plural(len(wanted), 'part')} ({rule}); give fewer parts or another group pattern"
        )
    part_of_group = split_groups(groups, videos.labels, np.array(list(wanted.values())), seed)
    out = Path(target)
    for at, name in enumerate(wanted):
        members = np.flatnonzero(part_of_group[groups] == at)
        part = videos.subset(members)
        result.paths[name] = str(_write_atomically(part, out / f"{name}.txt"))
        result.counts[name] = np.bincount(part.labels, minlength=videos.num_classes or 0).tolist()
        result.groups[name] = int((part_of_group == at).sum())
    return result


def split_groups(groups: np.ndarray, labels: np.ndarray, shares: np.ndarray, seed: int = 0) -> np.ndarray:
    """Assigns groups to parts so that every class comes near the wanted shares.

    Large groups are placed first, each where it reduces most what its classes still lack; every part gets at least one group.

    Args:
        groups: (N,) group of each entry, 0 to G - 1.
        labels: (N,) class of each entry.
        shares: (P,) wanted shares, adding up to 1.

    Returns:
        (G,) part of each group.
    """
    count = np.zeros((int(groups.max()) + 1, int(labels.max()) + 1))
    np.add.at(count, (groups, labels), 1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(count))
    order = order[np.argsort(-count[order].sum(axis=1), kind="stable")]
    lacking = shares[:, None] * count.sum(axis=0)  # (P, classes)
    target = np.maximum(lacking.copy(), 1e-9)
    part = np.full(len(count), -1)
    for at, group in enumerate(order):
        present = count[group] > 0
        gain = (lacking[:, present] / target[:, present] * count[group, present]).sum(axis=1)
        empty = np.array([not (part == p).any() for p in range(len(shares))])
        if empty.sum() >= len(order) - at:  # the rest is needed to leave no part empty
            gain = np.where(empty, gain, -np.inf)
        best = np.flatnonzero(gain >= gain.max() - 1e-12)
        part[group] = best[np.argmax(shares[best])]
        lacking[part[group]] -= count[group]
    return part


def _group_keys(names: list[str], pattern: str | None) -> tuple[list[str], str]:
    if pattern is not None:
        try:
            search = re.compile(pattern)
        except re.error as error:
            raise DataError(f"the group pattern {pattern!r} is not a regular expression: {error}") from error
        if not search.groups:
            raise DataError(f"the group pattern {pattern!r} needs parentheses around what names the group")
        found = [search.search(name) for name in names]
        missed = next((name for name, match in zip(names, found) if match is None or match[1] is None), None)
        if missed is not None:
            raise DataError(f"the group pattern {pattern!r} does not match {missed!r}")
        return [match[1] for match in found if match], f"the pattern {pattern}"
    stems = [name.rsplit("/", 1)[-1] for name in names]
    for rule, known in KNOWN_GROUPS.items():
        matches = [re.fullmatch(known, stem) for stem in stems]
        if all(matches):
            classes = [name.rsplit("/", 1)[0] for name in names] if rule.startswith("UCF") else [""] * len(names)
            return [f"{c}/{m[1]}" for c, m in zip(classes, matches) if m], rule
    return names, "every video for itself"


def _join_copies(videos: VideoList, keys: list[str], progress: Progress | None) -> tuple[list[str], int]:
    """Gives files with the same bytes one group, and with them the groups they belong to."""
    if videos.kind != "video":
        return keys, 0
    paths = list(videos.paths())
    if len(absent := videos.missing()):
        raise DataError(
            f"{len(absent)} of {plural(len(videos), 'video')} do not exist, the first {paths[int(absent[0])]}; clipwise check lists all."
        )
    by_size: dict[int, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        by_size[os.path.getsize(path)].append(index)
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            key = parent[key]
        return key

    copies = 0
    for at, group in enumerate(by_size.values()):
        if progress is not None:
            progress(at + 1, len(by_size), paths[group[0]])
        if len(group) > 1:
            digests = [blake2b(Path(paths[index]).read_bytes()).digest() for index in group]
            first: dict[bytes, int] = {}
            for index, digest in zip(group, digests):
                if first.setdefault(digest, index) != index:
                    copies += 1
                    one, other = sorted((root(keys[index]), root(keys[first[digest]])))
                    parent[other] = one
    return [root(key) for key in keys], copies


def _write_atomically(videos: VideoList, path: Path) -> Path:
    base = os.path.abspath(path.parent) + os.sep
    inside = all(os.path.abspath(entry).startswith(base) for entry in videos.paths())
    with atomic_path(path, keep_suffix=True) as temporary:
        write_list(videos, temporary, relative_to=path.parent if inside else None)
    return path
