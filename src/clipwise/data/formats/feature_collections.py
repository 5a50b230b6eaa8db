"""One file with the features of many videos, in the forms in which they are shared.

``.npz`` and ``.h5`` with ``names`` and ``feat`` (videos, positions, feat_dim); ``.npy`` of such an array beside a ``.txt`` of names, mapped into
memory; ``.npz``, ``.h5``, ``.pkl`` and ``.pt`` with an entry a video: an array (positions, feat_dim), or a group or dictionary that holds one
under ``feats``, ``feat``, … and may tell ``duration`` (seconds) and ``fps``. Groups of ``.h5`` may hold groups (``test/VIDEO``).
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clipwise.data.formats.feature_formats import FEATURE_KEYS, read_object
from clipwise.data.formats.feature_objects import as_array, import_h5py
from clipwise.errors import DataError
from clipwise.io.text import plural
from clipwise.io.unpickle import read_pickle, read_torch

COLLECTION_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".pkl", ".pickle", ".pt")
_FACTS = {"duration_s": ("duration_s", "duration", "duration_second"), "fps": ("fps",)}


class Collection(Protocol):
    """The features of many videos.

    Attributes:
        path: of the file.
        names: of the videos, as the file has them.
    """

    path: Path
    names: list[str]

    def read(self, number: int) -> NDArray:
        """The array of a video, by its place in ``names``."""
        ...

    def count(self, number: int) -> int:
        """Its number of positions."""
        ...

    def facts(self, number: int) -> dict[str, float]:
        """What the file tells of a video: ``duration_s``, ``fps``."""
        ...


def find_collection(path: str | os.PathLike) -> Collection | None:
    """The features of many videos that a file holds; None for a file of one video's features, and for what is no such file.

    Raises:
        DataError: it can't be read.
    """
    path = Path(path)
    if path.suffix not in COLLECTION_SUFFIXES or not path.is_file():
        return None
    if path.suffix == ".npy":
        return open_collection(path) if path.with_suffix(".txt").is_file() else None
    try:
        many = _open(path)
    except DataError:
        if path.suffix == ".npz":
            return None  # read_feature_file says what is wrong
        raise
    if many is None or isinstance(many, _Rows) or len(many.names) > 1:
        return many
    return None


def is_collection(path: Path) -> bool:
    """Whether a file holds the features of many videos; one that can't be read does not."""
    try:
        return find_collection(path) is not None
    except DataError:
        return False


def open_collection(path: Path) -> Collection:
    """The features of many videos, or of a single one under its name.

    Raises:
        DataError: the file can't be read, or has another form.
    """
    if path.suffix not in COLLECTION_SUFFIXES:
        raise DataError(
            f"{path}: one file with all videos is .npz, .npy, .h5, .pkl or .pt; otherwise give the folder of the files."
        )
    many = _open(path)
    if many is None or not many.names:
        raise DataError(
            f"{path} holds one video's features, or none; a file with all videos has an entry a video, named after it, or 'names' and 'feat'. "
            "Otherwise give the folder of the files."
        )
    return many


def _open(path: Path) -> Collection | None:
    """None if there is an array under a usual name and no names of videos."""
    try:
        if path.suffix == ".npy":
            return _mapped(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                held = set(file.files)
                if {"names", "feat"} <= held:
                    return _Rows(path, [str(n) for n in file["names"]], file["feat"])
            return None if held & set(FEATURE_KEYS) else _Archive(path)
        if path.suffix in (".h5", ".hdf5"):
            return _open_h5(path)
        content = read_torch(path, DataError) if path.suffix == ".pt" else read_pickle(path)
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} can't be read: {str(error).splitlines()[0]}.") from None
    if not isinstance(content, Mapping) or set(content) & set(FEATURE_KEYS):
        return None
    entries = {str(name): value for name, value in content.items() if not np.isscalar(value)}
    return _Entries(path, list(entries), entries)


def rows_by_name(many: Collection) -> dict[str, int]:
    """The place of each video, without ``v_``.

    Raises:
        DataError: a name occurs twice.
    """
    rows: dict[str, int] = {}
    for row, name in enumerate(many.names):
        if rows.setdefault(name.removeprefix("v_"), row) != row:
            raise DataError(f"{many.path}: duplicate video name {name!r}.")
    return rows


def read_facts(path: str | os.PathLike) -> dict[str, Any]:
    """What stands beside a file of one video's features: duration_s, fps, …; empty if nothing does.

    Raises:
        DataError: it is damaged.
    """
    return read_object(Path(path).with_suffix(".json")) or {}


def other_order(store: Any, first: tuple[int, ...], last: tuple[int, ...]) -> str:
    """What to do about features whose two axes seem to be exchanged, from the shapes of two videos."""
    names, fixed = store.names, "false" if store.channels_first else "true"
    return (
        f"{store.source}: as (positions, feat_dim), features of {names[0]} have shape {first} and of {names[-1]} {last}: "
        f"their axes are exchanged. Set input.channels_first={fixed}."
    )


@dataclass
class _Rows:
    """Rows of one array."""

    path: Path
    names: list[str]
    array: NDArray

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or len(self.array) != len(self.names):
            raise DataError(
                f"{self.path}: features {self.array.shape} do not fit {plural(len(self.names), 'name')}; (videos, positions, feat_dim) is needed."
            )

    def read(self, number: int) -> NDArray:
        return np.asarray(self.array[number])

    def count(self, number: int) -> int:
        return self.array.shape[1]

    def facts(self, number: int) -> dict[str, float]:
        return {}


def _mapped(path: Path) -> _Rows:
    names = path.with_suffix(".txt")
    if not names.is_file():
        raise DataError(f"{path} needs {names.name} beside it: the names of its videos, one a line.")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return _Rows(path, names.read_text(encoding="utf-8").split(), array)


@dataclass
class _Entries:
    """A dictionary in memory."""

    path: Path
    names: list[str]
    entries: Mapping[str, Any]

    def read(self, number: int) -> NDArray:
        name = self.names[number]
        return as_array(self.entries[name], f"{self.path}, video {name}", FEATURE_KEYS, self.path.stat().st_size)

    def count(self, number: int) -> int:
        return len(self.read(number))

    def facts(self, number: int) -> dict[str, float]:
        value = self.entries[self.names[number]]
        return _facts(value) if isinstance(value, Mapping) else {}


class _Archive:
    """A ``.npz`` with an array a video; opened once a process, because its list of names takes time."""

    def __init__(self, path: Path):
        self.path, self._process, self._file = path, 0, None
        self.names = list(self._opened().files)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": 0, "_file": None}

    def _opened(self) -> Any:
        if self._process != os.getpid():  # two processes that share a file share its position
            self._process, self._file = os.getpid(), np.load(self.path, allow_pickle=False)
        return self._file

    def read(self, number: int) -> NDArray:
        try:
            return self._opened()[self.names[number]]
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}, video {self.names[number]}: can't be read: {error}.") from None

    def count(self, number: int) -> int:
        return len(self.read(number))

    def facts(self, number: int) -> dict[str, float]:
        return {}


def _open_h5(path: Path) -> Collection | None:
    h5py = import_h5py(path)
    with h5py.File(path, "r") as file:
        if {"names", "feat"} <= set(file):
            return _Rows(path, [_text(n) for n in file["names"][()]], file["feat"][()])
        if any(isinstance(file.get(key), h5py.Dataset) for key in FEATURE_KEYS):
            return None
        places = list(_videos(file, h5py))
    parts = [place.split("/") for place in places]
    inside = len({p[-1] for p in parts}) == 1 and all(len(p) > 1 for p in parts)  # VIDEO/i3d in each group
    return _H5(path, [p[-2] if inside else p[-1] for p in parts], places)


def _videos(group: Any, h5py: Any, inside: str = "") -> Iterator[str]:
    """Where the videos of a group are: arrays, and groups that hold one under a usual name."""
    for name, item in group.items():
        if isinstance(item, h5py.Dataset):
            if item.ndim >= 2 and item.dtype.kind in "fiu":
                yield inside + name
        elif _array_of(item, h5py) is not None:
            yield inside + name
        else:
            yield from _videos(item, h5py, f"{inside}{name}/")


def _array_of(item: Any, h5py: Any) -> Any:
    """The array of a video's entry; None for a group of videos."""
    if isinstance(item, h5py.Dataset):
        return item
    return next((item[key] for key in FEATURE_KEYS if isinstance(item.get(key), h5py.Dataset)), None)


@dataclass
class _H5:
    """Entries of an ``.h5`` file, which is opened for each: processes can't share it."""

    path: Path
    names: list[str]
    places: list[str]

    def read(self, number: int) -> NDArray:
        h5py = import_h5py(self.path)
        try:
            with h5py.File(self.path, "r") as file:
                return _array_of(file[self.places[number]], h5py)[()]
        except OSError as error:
            raise DataError(f"{self.path}, video {self.names[number]}: can't be read: {error}.") from None

    def count(self, number: int) -> int:
        h5py = import_h5py(self.path)
        with h5py.File(self.path, "r") as file:
            return len(_array_of(file[self.places[number]], h5py))

    def facts(self, number: int) -> dict[str, float]:
        h5py = import_h5py(self.path)
        with h5py.File(self.path, "r") as file:
            item = file[self.places[number]]
            held = {} if isinstance(item, h5py.Dataset) else {k: v[()] for k, v in item.items() if v.shape == ()}
            return _facts({**dict(item.attrs), **held})


def _facts(entry: Mapping[str, Any]) -> dict[str, float]:
    facts = {}
    for fact, keys in _FACTS.items():
        value = next((entry[key] for key in keys if key in entry), None)
        if value is not None and np.ndim(value) == 0 and not isinstance(value, (str, bytes)) and float(value) > 0:
            facts[fact] = float(value)
    return facts


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
