"""Feature files of long videos: one vector for every few frames, on disk in many forms, in memory as (L, F).

A *store* finds and reads the features of a video by name, from a folder with one file per video (``v_ID.csv``, ``ID.npy``, …) or from one
file with all (``data.formats.feature_collections``). Letters: L positions, F feature dimension, V videos.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clipwise.data.feature_windows import TimeWindows, cut_window
from clipwise.data.formats.annotations import AnnotationSet, TimeBase
from clipwise.data.formats.feature_formats import SUFFIXES, check_features, read_feature_file, read_object
from clipwise.data.rescale import Rescale, rescale_features
from clipwise.errors import DataError
from clipwise.io.text import plural

Format = Literal["auto", "csv", "npy", "npz", "pkl", "pickle", "pt", "h5", "hdf5"]
SIDECAR = "features.json"
"""In a folder of features: which recognizer made them, and how."""


class FeatureStore:
    """Features by the name of a video; names with and without ``v_`` are the same.

    Args:
        source: folder with a file per video, or one file with all: its path, or what ``find_collection`` gave.
        format: kind of the files; needed only where a folder holds several kinds.
        feat_dim: F that every file must have; unchecked if not given.
        channels_first: arrays are (F, L).

    Raises:
        DataError: there is nothing of the kind.
    """

    def __init__(self, source: Any, format: Format = "auto", feat_dim: int | None = None, channels_first: bool = False):
        self.many = source if hasattr(source, "names") else None
        self.source = Path(getattr(source, "path", source))
        self.feat_dim, self.channels_first = feat_dim, channels_first
        self.files: dict[str, Path] = {}
        self.rows: dict[str, int] = {}
        if self.source.is_dir():
            self.files = _find_files(self.source, format)
        elif self.source.is_file():
            from clipwise.data.formats.feature_collections import open_collection, rows_by_name

            self.many = self.many or open_collection(self.source)
            self.rows = rows_by_name(self.many)
        else:
            raise DataError(
                f"features {self.source} do not exist. Give a folder with a file per video, or one file (.npz, .npy, .h5, .pkl, .pt) with all."
            )

    @property
    def names(self) -> list[str]:
        """Videos, without ``v_``."""
        return list(self.files or self.rows)

    def __contains__(self, name: str) -> bool:
        return name.removeprefix("v_") in (self.files or self.rows)

    def __len__(self) -> int:
        return len(self.files or self.rows)

    def where(self, name: str) -> str:
        """The file (and row) of a video, for messages."""
        name = name.removeprefix("v_")
        if self.many is not None:
            return f"{self.source}, video {name}"
        return str(self.files.get(name, self.source / name))

    def read(self, name: str) -> NDArray[np.float32]:
        """(L, F) of a video.

        Raises:
            DataError: no features of this video, or features that can't be used; the message names the file.
        """
        key = name.removeprefix("v_")
        if key not in self:
            raise DataError(
                f"{self.source} has no features of video {key!r} (looked for {key} and v_{key}; {plural(len(self), 'video is', 'videos are')} there)."
            )
        array = read_feature_file(self.files[key]) if self.many is None else self.many.read(self.rows[key])
        return check_features(array.T if self.channels_first else array, self.where(key), self.feat_dim)

    def facts(self, name: str) -> dict[str, Any]:
        """What is known beside a video's features: ``duration_s``, ``fps``, … of `clipwise features` or of a file with all."""
        from clipwise.data.formats.feature_collections import read_facts

        key = name.removeprefix("v_")
        if self.many is not None:
            return self.many.facts(self.rows[key]) if key in self.rows else {}
        return read_facts(self.files[key]) if key in self.files else {}

    def find_feat_dim(self) -> int:
        """F of the first video.

        Raises:
            DataError: its file can't be used, or its features lie the other way round than ``channels_first`` says.
        """
        first, other = (self.read(self.names[n]).shape for n in (0, -1))
        if first[1] != other[1] and first[0] == other[0]:
            from clipwise.data.formats.feature_collections import other_order

            raise DataError(other_order(self, first, other))
        return first[1]

    def recipe(self) -> dict[str, Any] | None:
        """How the features were made, if ``clipwise features`` made them."""
        return read_sidecar(self.source if self.source.is_dir() else self.source.parent)


def read_sidecar(folder: str | os.PathLike) -> dict[str, Any] | None:
    """``features.json`` of a folder, or None.

    Raises:
        DataError: it is damaged.
    """
    return read_object(Path(folder) / SIDECAR)


class FeatureDataset(Dataset):
    """Features of annotated videos, rescaled, or of windows of them: {"features": (F, L), "index", "start_s", "length_s"}.

    Args:
        annotations: the videos, in their order.
        store: where features come from.
        temporal_dim: L; None leaves every sequence at its own length.
        rescale: how a sequence of another length becomes L positions.
        in_memory: read everything now; later batches are slices of one array.
        strides: what ``feature_times`` gives: features that lie a fixed number of frames apart; None: they divide what ``time_base`` says.
        windows: cut videos into these; None: each video as a whole (without times).
        seed: training on windows: they shift by up to half their distance, by random numbers of (seed, epoch, window), and of
            those without a segment only a share is taken. None: all windows, where they lie.

    Attributes:
        covered_s: of each video, the seconds that its positions divide.
        first_s: and the second at which they begin.
        items: the number of a video and the start of a window, for each sample.

    Raises:
        DataError: a video has no features.
    """

    def __init__(
        self,
        annotations: AnnotationSet,
        store: FeatureStore,
        *,
        temporal_dim: int | None,
        rescale: Rescale = "linear",
        time_base: TimeBase = "duration",
        in_memory: bool = False,
        strides: Any = None,
        windows: TimeWindows | None = None,
        seed: int | None = None,
    ):
        missing = [name for name in annotations.videos if name not in store]
        if missing:
            raise DataError(
                f"{store.source} has no features of {len(missing)} of {plural(len(annotations), 'video')} of {annotations.source}, "
                f"the first: {', '.join(missing[:5])}. Extract them (`clipwise features`), or set input.allow_missing=true to do without."
            )
        self.annotations, self.store = annotations, store
        self.names = list(annotations.videos)
        self.temporal_dim, self.rescale, self.windows, self.seed = temporal_dim, rescale, windows, seed
        self.segments = [v.fractions(time_base) for v in annotations.videos.values()]
        self.covered_s = [v.covered_s(time_base) for v in annotations.videos.values()]
        self.first_s = [0.0] * len(self.names)
        if strides is not None:
            self.first_s, self.covered_s, self.segments = strides.place(annotations, store)
        self.items: list[tuple[int, float]] = [(i, 0.0) for i in range(len(self.names))]
        if windows is not None:
            self.items = self._window_items(windows)
        self.memory: Sequence[Any] | None = None
        if in_memory and windows is not None:
            self.memory = [store.read(name) for name in self.names]
        elif in_memory:
            rows = [self._load(i) for i in range(len(self.names))]
            self.memory = rows if temporal_dim is None else torch.stack(rows)  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.items)

    def _window_items(self, windows: TimeWindows) -> list[tuple[int, float]]:
        items = [(i, float(start)) for i, s in enumerate(self.covered_s) for start in windows.starts(s)]
        if self.seed is None:
            return items
        filled = [self.known(i, start, None)[1].size > 0 for i, start in items]
        empty = np.flatnonzero(~np.array(filled))
        wanted = int(min(len(empty), np.ceil(windows.background * sum(filled)) if any(filled) else len(empty)))
        chosen = set(empty[np.linspace(0, len(empty) - 1, wanted).round().astype(int)].tolist()) if wanted else set()
        kept = [item for number, item in enumerate(items) if filled[number] or number in chosen]
        return kept * max(1, round(windows.least / max(1, len(kept))))

    def known(
        self, index: int, start_s: float, length_s: float | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Segments of a sample as shares of it, and which of the video's they are."""
        if self.windows is None:
            return self.segments[index], np.arange(len(self.segments[index]))
        return self.windows.inside(self.segments[index] * self.covered_s[index], start_s, length_s)

    def shard(self, rank: int, world: int) -> list[int]:
        """Samples of every ``world``-th video from ``rank`` on: those of a video stay together, in their order."""
        return [number for number, (index, _) in enumerate(self.items) if index % world == rank]

    def _load(self, index: int) -> torch.Tensor:
        name = self.names[index]
        values = self.store.read(name)
        if self.temporal_dim is None:
            return torch.from_numpy(np.ascontiguousarray(values.T))
        if self.rescale == "none" and len(values) != self.temporal_dim:
            raise DataError(
                f"{self.store.where(name)}: {plural(len(values), 'position')}, but temporal_dim is {self.temporal_dim}. Set input.rescale=linear."
            )
        if len(values) != self.temporal_dim:
            video = self.annotations.videos[name]
            step = video.duration_s * 16 / video.num_frames if video.num_frames else 1.0
            values = rescale_features(values, self.temporal_dim, self.rescale, seconds_per_position=step)
        return torch.from_numpy(np.ascontiguousarray(values.T))

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, number = key if isinstance(key, tuple) else (0, key)
        index, start = self.items[number]
        if self.windows is None:
            return {"features": self.memory[index] if self.memory is not None else self._load(index), "index": index}
        covered, length = self.covered_s[index], self.windows.length_s
        if self.seed is not None and covered > length:
            shift = np.random.default_rng((self.seed, epoch, number)).uniform(-0.5, 0.5) * self.windows.stride_s
            start = float(np.clip(start + shift, 0, covered - length))
        values = self.memory[index] if self.memory is not None else self.store.read(self.names[index])
        rows, start, length = cut_window(values, covered, start, length, self.temporal_dim)
        features = torch.from_numpy(np.ascontiguousarray(rows.T))
        return {"features": features, "index": index, "start_s": start, "length_s": length}


def _find_files(folder: Path, format: Format) -> dict[str, Path]:
    suffixes = SUFFIXES if format == "auto" else (f".{format}",)
    files: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        found = sorted(e.name for e in entries if e.name.endswith(suffixes) and not e.name.startswith("."))
    for file in found:
        stem = os.path.splitext(file)[0]
        name = stem.removeprefix("v_")
        if name in files:
            raise DataError(
                f"{folder} holds the features of {name!r} twice: {files[name].name} and {file}. Set feature_format, or remove one."
            )
        files[name] = folder / file
    if not files:
        raise DataError(f"{folder} holds no feature file ({', '.join('*' + s for s in suffixes)}).")
    return files


# ---- where a run's files are: what was named, or the only candidates in the data folder


@dataclass(frozen=True)
class DataPlace:
    """Where a run's files are."""

    folder: Path | None
    features: Path
    annotations: Path


def find_data(data: str | None, features: str | None = None, annotations: str | None = None) -> DataPlace:
    """Features and annotations: those that are named, or the only candidate in the data folder.

    Args:
        data: folder, or an annotation file beside which the features lie.
        features, annotations: as the recipe names them.

    Raises:
        DataError: nothing, or more than one candidate; they are listed.
    """
    folder = Path(data) if data else None
    if folder is not None and folder.is_file():
        if features is None:
            raise DataError(f"{data} is a file; set features=FOLDER beside it, or give the folder that holds both.")
        return DataPlace(folder.parent, in_folder(features, folder.parent), folder)
    if folder is not None and not folder.is_dir():
        raise DataError(f"data folder {data} does not exist.")
    if folder is None and not features:
        raise DataError(
            "no training data: give --data FOLDER with features and annotations, or set features and annotations."
        )
    if folder is None and not annotations:
        raise DataError("features are set but annotations are not: set annotations=FILE.json.")
    if features:
        where = in_folder(features, folder)
    else:
        assert folder is not None
        where = _only(
            _feature_candidates(folder), folder, "features", "a folder of feature files, or one .npz or .h5 with all"
        )
    if annotations:
        return DataPlace(folder, where, in_folder(annotations, folder))
    assert folder is not None
    return DataPlace(folder, where, _only(_annotation_candidates(folder), folder, "annotations", "a file with them"))


def in_folder(path: str | Path, folder: Path | None) -> Path:
    """A path of the recipe: inside the data folder if it is there, else as it stands."""
    inside = folder / path if folder is not None else None
    return inside if inside is not None and inside.exists() else Path(path)


def _feature_candidates(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    found = [p for p in files if p.suffix == ".npz" or (p.suffix == ".npy" and p.with_suffix(".txt").is_file())]
    others = [p for p in files if p.suffix in (".h5", ".hdf5", ".pkl", ".pickle", ".pt")]
    if not found and len(others) == 1:
        from clipwise.data.formats.feature_collections import is_collection

        found = [p for p in others if is_collection(p)]
    loose = not found and any(p.suffix in SUFFIXES and p.suffix != ".csv" for p in files)
    for child in sorted(p for p in folder.iterdir() if p.is_dir()):
        if (child / "recipe.yaml").is_file():  # a run, whose states are .pt files too
            continue
        if next((p for p in child.iterdir() if p.suffix in SUFFIXES), None):
            found.append(child)
    return [*found, folder] if loose else found


def _annotation_candidates(folder: Path) -> list[Path]:
    found = []
    places = (folder, folder / "activitynet_annotations", folder / "annotations")
    for place in places:
        for path in sorted(place.glob("*.json")) if place.is_dir() else ():
            with open(path, encoding="utf-8", errors="replace") as file:
                start = file.read(4096)
            if '"annotations"' in start or '"database"' in start:
                found.append(path)
    if found:
        return found
    from clipwise.data.formats.annotation_kinds import annotation_files

    return [path for place in places for path in annotation_files(place)]


def _only(candidates: list[Path], folder: Path, key: str, what: str) -> Path:
    if not candidates:
        made = " `clipwise features` makes them from videos." if key == "features" else ""
        raise DataError(f"{folder} holds no {key}: {what} is looked for there. Set {key}=PATH.{made}")
    if len(candidates) > 1:
        names = ", ".join(str(p.relative_to(folder)) for p in candidates)
        raise DataError(
            f"{folder} holds several candidates for {key}: {names}. Choose one: {key}={candidates[0].relative_to(folder)}."
        )
    return candidates[0]
