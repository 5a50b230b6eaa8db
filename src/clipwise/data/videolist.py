"""``VideoList``: paths and labels of a data set in a few flat arrays.

A Python list of 300,000 objects is copied page by page into every loader worker as reference counts change; one bytes
object and a handful of numpy arrays are shared for good, and pickle quickly where workers are spawned.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clipwise.errors import DataError

Kind = Literal["video", "rawframes", "image", "untrimmed", "pickle", "shard"]
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".flv", ".wmv", ".asf",
    ".3gp", ".3g2", ".ogv", ".ogg", ".vob", ".rm", ".rmvb", ".gif",
))  # fmt: skip
IMAGE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".bmp", ".webp"])


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which class_2 comes before class_10."""
    return [
        (0, int(part[:4000])) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", name) if part
    ]


def is_video(name: str) -> bool:
    """Whether a file's name is that of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not name.startswith(".")


_CLASS_FILES = ("classes.txt", "label_map.txt", "labels.txt", "classInd.txt", "class_names.txt", "labels.json")


def find_classes(folder: Path, stem: str = "") -> Path | None:
    """The file of class names beside a list, if there is exactly one candidate of the usual names."""
    for name in ([f"{stem}_classes.txt"] if stem else []) + list(_CLASS_FILES):
        if (folder / name).is_file():
            return folder / name
    # label_map_k400.txt, kinetics_class2ind.txt: MMAction2's names
    candidates = {p for part in ("label_map*.txt", "*class2ind*.txt") for p in folder.glob(part)}
    return candidates.pop() if len(candidates) == 1 else None


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different length: row i is values[starts[i]:starts[i + 1]]."""

    values: np.ndarray
    starts: np.ndarray

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.starts[index] : self.starts[index + 1]]


@dataclass(frozen=True, eq=False, repr=False)
class VideoList:
    """The entries of a data set. Made by ``clipwise.data.lists.read_list``.

    Attributes:
        kind: what a path names: a "video" file; a folder of frames ("rawframes"); an "image"; a folder with
            part_0.mp4, part_1.mp4 … ("untrimmed", OmniSource); a "pickle" of JPEG frames (PaddleCV); a sample in a tar
            file, ``shard.tar#start+size`` ("shard").
        root: prepended to paths that are not absolute.
        suffix: appended to paths (lists of Kinetics ids name no extension).
        classes: class names, or None where only indices are known.
        num_classes: number of classes, or None where nothing is labeled.
        frame_template: name of a frame within its folder where the data set prescribes one, such as "{:05}.jpg".
    """

    kind: Kind
    text: bytes
    ends: np.ndarray
    single_labels: np.ndarray | None = None
    many_labels: Ragged | None = None
    frame_counts: np.ndarray | None = None
    frame_offsets: np.ndarray | None = None
    spans_s: np.ndarray | None = None
    positives: Ragged | None = None
    root: str = ""
    suffix: str = ""
    classes: list[str] | None = None
    num_classes: int | None = None
    frame_template: str | None = None

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __repr__(self) -> str:
        return f"VideoList({len(self)} entries of kind {self.kind}, {self.num_classes or 'no'} classes, root {self.root!r})"

    def to_pandas(self) -> Any:
        """A data frame with a row an entry: path, label and class name; needs the extra ``notebook``."""
        from clipwise.io.tables import data_frame, list_rows

        return data_frame(list_rows(self), "VideoList.to_pandas()")

    def entry(self, index: int) -> str:
        """The path as the list file has it."""
        if not 0 <= index < len(self):
            raise IndexError(f"entry {index} of a list of {len(self)}")
        return self.text[self.ends[index] : self.ends[index + 1]].decode("utf-8", "surrogateescape")

    def path(self, index: int) -> str:
        """The path to open."""
        return os.path.join(self.root, self.entry(index) + self.suffix)

    def paths(self) -> Iterator[str]:
        """All paths, in order."""
        return (self.path(i) for i in range(len(self)))

    @property
    def multi_label(self) -> bool:
        """Whether an entry may have several labels."""
        return self.many_labels is not None

    def label(self, index: int) -> int | np.ndarray | None:
        """Class index; a multi-hot float32 vector (num_classes,) in a multi-label list; None without labels."""
        if self.many_labels is not None:
            vector = np.zeros(self.num_classes or 0, np.float32)
            vector[self.many_labels[index]] = 1
            return vector
        if self.single_labels is None or self.single_labels[index] < 0:
            return None
        return int(self.single_labels[index])

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,), -1 where there is none; float32 (N, num_classes) in a multi-label list."""
        if self.many_labels is not None:
            matrix = np.zeros((len(self), self.num_classes or 0), np.float32)
            rows = np.repeat(np.arange(len(self)), np.diff(self.many_labels.starts))
            matrix[rows, self.many_labels.values] = 1
            return matrix
        if self.single_labels is None:
            return np.full(len(self), -1, np.int64)
        return self.single_labels.astype(np.int64)

    @property
    def shards(self) -> np.ndarray | None:
        """For each sample of a list of kind "shard" the number of its shard, int64 (N,); None for other lists."""
        if self.kind != "shard":
            return None
        numbers: dict[str, int] = {}
        names = (self.entry(i).rpartition("#")[0] for i in range(len(self)))
        return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)

    def num_frames(self, index: int) -> int | None:
        """Frames of a frame folder; None for a video file, whose own count is the true one."""
        return int(self.frame_counts[index]) if self.kind == "rawframes" and self.frame_counts is not None else None

    def offset(self, index: int) -> int:
        """Frames before the entry's first one in its folder."""
        return int(self.frame_offsets[index]) if self.frame_offsets is not None else 0

    def span(self, index: int) -> tuple[float, float] | None:
        """Start and end of the entry within its video in seconds, where the list has them."""
        if self.spans_s is None or np.isnan(self.spans_s[index, 0]):
            return None
        return float(self.spans_s[index, 0]), float(self.spans_s[index, 1])

    def positive_clips(self, index: int) -> np.ndarray:
        """Numbers of the parts of an untrimmed video that show its label (OmniSource)."""
        return self.positives[index] if self.positives is not None else np.zeros(0, np.int32)

    def clip_path(self, index: int, clip: int) -> str:
        """File of one part of an untrimmed video."""
        return os.path.join(self.path(index), f"part_{clip}.mp4")

    def subset(self, indices: Iterable[int]) -> VideoList:
        """The entries at ``indices``, in that order."""
        from clipwise.data.list_subset import entries_at

        return entries_at(self, indices)

    def fingerprint(self) -> str:
        """sha256 over entries, labels, counts and class names; where the files lie does not matter."""
        digest = hashlib.sha256(f"{self.kind}|{self.suffix}|{self.num_classes}|{self.classes}|".encode())
        digest.update(self.text)
        arrays = [self.ends, self.single_labels, self.frame_counts, self.frame_offsets, self.spans_s]
        for ragged in (self.many_labels, self.positives):
            arrays += [ragged.values, ragged.starts] if ragged else [None]
        for values in arrays:
            digest.update(b"-" if values is None else np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def class_name(self, label: int) -> str:
        """Name of a class, or its index as text."""
        return self.classes[label] if self.classes and label < len(self.classes) else str(label)

    def missing(self, threads: int = 16) -> np.ndarray:
        """Indices of the entries whose file or folder does not exist. (Shards were opened when their list was made.)"""
        if self.kind == "shard":
            return np.zeros(0, np.int64)
        with ThreadPoolExecutor(threads) as pool:
            exists = list(pool.map(os.path.exists, self.paths()))
        return np.flatnonzero(~np.array(exists, bool))


MOST_CLASSES = 100_000  # that a list without names may have; a larger label is a mistake


class ListBuilder:
    """Collects entries in compact form."""

    def __init__(self, kind: Kind, source: str):
        self.kind: Kind = kind
        self.source = source
        self._text = bytearray()
        self._ends = array("q", [0])
        self._labels = array("i")
        self._label_starts = array("q", [0])
        self._counts = array("i")
        self._offsets = array("i")
        self._spans = array("d")
        self._positives = array("i")
        self._positive_starts = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(
        self,
        path: str,
        labels: Sequence[int] = (),
        *,
        num_frames: int | None = None,
        offset: int | None = None,
        span_s: tuple[float, float] | None = None,
        positives: Sequence[int] | None = None,
    ) -> None:
        """Append an entry; an optional column must be given for every entry or for none (spans: for any)."""
        self._text += path.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._text))
        self._labels.extend(labels)
        self._label_starts.append(len(self._labels))
        if num_frames is not None:
            self._counts.append(num_frames)
        if offset is not None:
            self._offsets.append(offset)
        if span_s is not None:
            self._spans.extend([float("nan")] * (2 * (len(self) - 1) - len(self._spans)))
            self._spans.extend(span_s)
        if positives is not None:
            self._positives.extend(positives)
            self._positive_starts.append(len(self._positives))

    def first_entries(self, count: int = 1) -> list[str]:
        """The first paths, at most ``count``."""
        ends = self._ends[: count + 1]
        return [self._text[a:b].decode("utf-8", "surrogateescape") for a, b in itertools.pairwise(ends)]

    def relabel(self, new_of_old: Sequence[int]) -> None:
        """Renumber all labels."""
        self._labels = array("i", np.asarray(new_of_old, np.int32)[np.array(self._labels, np.int32)].tolist())

    def build(
        self,
        *,
        root: str,
        multi_label: bool,
        classes: list[str] | None,
        num_classes: int | None,
        suffix: str = "",
        frame_template: str | None = None,
    ) -> VideoList:
        """The finished list.

        Raises:
            DataError: no entries, or entries with several labels in a single-label list.
        """
        if not len(self):
            raise DataError(f"{self.source}: there is no video in it.")
        labels = np.array(self._labels, np.int32)
        label_starts = np.array(self._label_starts, np.int64)
        per_entry = np.diff(label_starts)
        single = many = None
        if multi_label:
            many = Ragged(labels, label_starts)
        elif len(labels) == len(self) and (per_entry == 1).all():
            single = labels
        elif len(labels):
            first = int(np.flatnonzero(per_entry != 1)[0])
            raise DataError(
                f"{self.source}: entry {first + 1} has {per_entry[first]} labels, others have one. "
                "A list with several labels a video needs multi_label: true."
            )
        if num_classes is None and classes is None and len(labels):
            num_classes = int(labels.max()) + 1
            if num_classes > MOST_CLASSES:
                entry = int(np.searchsorted(label_starts, int(labels.argmax()), side="right"))
                raise DataError(
                    f"{self.source}: entry {entry} has the label {labels.max()}, so there would be {num_classes:,} classes. Labels count from "
                    f"0; up to {MOST_CLASSES:,} classes are taken (more if num_classes is set)."
                )
        spans = None
        if len(self._spans):
            self._spans.extend([float("nan")] * (2 * len(self) - len(self._spans)))
            spans = np.array(self._spans, np.float64).reshape(-1, 2)
        return VideoList(
            kind=self.kind,
            text=bytes(self._text),
            ends=np.array(self._ends, np.int64),
            single_labels=single,
            many_labels=many,
            frame_counts=np.array(self._counts, np.int32) if len(self._counts) else None,
            frame_offsets=np.array(self._offsets, np.int32) if len(self._offsets) else None,
            spans_s=spans,
            positives=(
                Ragged(np.array(self._positives, np.int32), np.array(self._positive_starts, np.int64))
                if len(self._positive_starts) > 1
                else None
            ),
            root=root,
            suffix=suffix,
            classes=classes,
            num_classes=num_classes if num_classes is not None else (len(classes) if classes else None),
            frame_template=frame_template,
        )


def shared_videos(train: VideoList, val: VideoList) -> set[int]:
    """Numbers of the validation videos that are training videos, too: the same part of the same path."""

    def key(videos: VideoList, index: int) -> tuple:
        return os.path.realpath(videos.path(index)), videos.offset(index), videos.span(index)

    known = {key(train, i) for i in range(len(train))}
    return {i for i in range(len(val)) if key(val, i) in known}
