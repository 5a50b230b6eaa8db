"""Feature files of long videos: one vector for every few frames, on disk in many forms, in memory as (L, F).

A *store* finds and reads the features of a video by name, from a folder with one file a video (``v_ID.csv``, ``ID.npy``,
``.npz``, ``.pkl``, ``.pt``) or from one file with all (``.npz`` with ``names`` and ``feat``; ``.npy`` (V, L, F) beside a ``.txt``
of names, which is mapped into memory). Letters: L positions, F feature dimension, V videos.
"""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from clipwise.data.annotations import AnnotationSet, TimeBase
from clipwise.data.rescale import Rescale, rescale_features
from clipwise.errors import DataError

Format = Literal["auto", "csv", "npy", "npz", "pkl", "pt"]
SUFFIXES = (".csv", ".npy", ".npz", ".pkl", ".pt")
SIDECAR = "features.json"
"""In a folder of features: which recogniser made them, and how."""


class FeatureStore:
    """Features by the name of a video; names with and without ``v_`` are the same.

    Args:
        source: folder with a file a video, or one file with all.
        format: kind of the files; needed only where a folder holds several kinds.
        feat_dim: F that every file must have; unchecked if not given.

    Raises:
        DataError: there is nothing of the kind.
    """

    def __init__(self, source: str | os.PathLike, format: Format = "auto", feat_dim: int | None = None):
        self.source, self.feat_dim = Path(source), feat_dim
        self._files: dict[str, Path] = {}
        self._array: NDArray | None = None
        self._row: dict[str, int] = {}
        if self.source.is_dir():
            self._files = _find_files(self.source, format)
        elif self.source.is_file():
            names, self._array = _open_collection(self.source)
            self._row = {name.removeprefix("v_"): row for row, name in enumerate(names)}
            if len(self._row) != len(names):
                raise DataError(f"{self.source}: a video stands there twice.")
        else:
            raise DataError(
                f"features {self.source} do not exist. Give a folder with a file a video, or one .npz or .npy with all."
            )

    @property
    def names(self) -> list[str]:
        """Videos, without ``v_``."""
        return list(self._files or self._row)

    def __contains__(self, name: str) -> bool:
        return name.removeprefix("v_") in (self._files or self._row)

    def __len__(self) -> int:
        return len(self._files or self._row)

    def where(self, name: str) -> str:
        """The file (and row) of a video, for messages."""
        name = name.removeprefix("v_")
        if self._array is not None:
            return f"{self.source}, video {name}"
        return str(self._files.get(name, self.source / name))

    def read(self, name: str) -> NDArray[np.float32]:
        """(L, F) of a video.

        Raises:
            DataError: no features of this video, or features that can't be used; the message names the file.
        """
        key = name.removeprefix("v_")
        if key not in self:
            raise DataError(
                f"{self.source} has no features of video {key!r} (looked for {key} and v_{key}; {len(self)} videos are there)."
            )
        if self._array is not None:
            array = np.asarray(self._array[self._row[key]])
        else:
            array = read_feature_file(self._files[key])
        return check_features(array, self.where(key), self.feat_dim)

    def find_feat_dim(self) -> int:
        """F of the first video.

        Raises:
            DataError: its file can't be used.
        """
        return self.read(self.names[0]).shape[1]

    def recipe(self) -> dict[str, Any] | None:
        """How the features were made, if ``clipwise features`` made them."""
        return read_sidecar(self.source if self.source.is_dir() else self.source.parent)


def read_sidecar(folder: str | os.PathLike) -> dict[str, Any] | None:
    """``features.json`` of a folder, or None.

    Raises:
        DataError: it is damaged.
    """
    path = Path(folder) / SIDECAR
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {error}.") from None
    return content if isinstance(content, dict) else None


def read_feature_file(path: str | os.PathLike) -> NDArray:
    """The array of one file, whatever its kind.

    Raises:
        DataError: it can't be read; the message names it.
    """
    path = Path(path)
    try:
        if path.suffix == ".csv":
            return _read_csv(path)
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                key = next((k for k in ("feat", "features", "feature", "arr_0") if k in file), None)
                if key is None and len(file.files) == 1:
                    key = file.files[0]
                if key is None:
                    raise DataError(f"{path} holds {', '.join(file.files)}; features are looked for under 'feat'.")
                return file[key]
        if path.suffix == ".pkl":
            with open(path, "rb") as stream:
                return _as_array(
                    _SafeUnpickler(stream, encoding="latin1").load(), path
                )  # so that Python 2's can be read
        if path.suffix == ".pt":
            return _as_array(torch.load(path, map_location="cpu", weights_only=True), path)
    except FileNotFoundError:
        raise DataError(f"feature file {path} does not exist.") from None
    except DataError:
        raise
    except Exception as error:  # damaged files fail in many ways
        if path.suffix in (".npy", ".npz") and "allow_pickle" in str(error):
            raise DataError(
                f"feature file {path} can't be read: it is damaged, or holds objects instead of numbers."
            ) from None
        raise DataError(f"feature file {path} can't be read: {error}".split("\n")[0]) from None
    raise DataError(f"{path}: features are {', '.join(SUFFIXES)} files, not {path.suffix or 'without a suffix'}.")


def check_features(array: NDArray, where: str, feat_dim: int | None = None) -> NDArray[np.float32]:
    """(L, F) float32, or an error that names ``where``."""
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        raise DataError(
            f"{where}: features have shape {array.shape} and type {array.dtype}; numbers (positions, feat_dim) are needed."
        )
    if feat_dim is not None and array.shape[1] != feat_dim:
        if array.shape[0] == feat_dim:
            hint = "it looks transposed: (positions, feat_dim) is needed"
        else:
            hint = f"to train on such features set feat_dim={array.shape[1]}, or auto"
        raise DataError(
            f"{where}: features have shape {array.shape}, that is feat_dim {array.shape[1]}, but the model has feat_dim {feat_dim}; {hint}."
        )
    values = array.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise DataError(
            f"{where}: {int((~finite).sum())} features are NaN or infinite, the first at position {row}, channel {column}."
        )
    return values


class FeatureDataset(Dataset):
    """Features of annotated videos, rescaled: {"features": (F, L), "index"}.

    Args:
        annotations: the videos, in their order.
        store: where features come from.
        temporal_dim: L.
        rescale: how a sequence of another length becomes L positions.
        in_memory: read everything now; later batches are slices of one array.

    Raises:
        DataError: a video has no features.
    """

    def __init__(
        self,
        annotations: AnnotationSet,
        store: FeatureStore,
        *,
        temporal_dim: int,
        rescale: Rescale = "linear",
        time_base: TimeBase = "duration",
        in_memory: bool = False,
    ):
        missing = [name for name in annotations.videos if name not in store]
        if missing:
            raise DataError(
                f"{store.source} has no features of {len(missing)} of {len(annotations)} videos of {annotations.source}, "
                f"the first: {', '.join(missing[:5])}. Extract them (`clipwise features`), or set allow_missing=true to do without."
            )
        self.annotations, self.store = annotations, store
        self.names = list(annotations.videos)
        self.temporal_dim, self.rescale = temporal_dim, rescale
        self.segments = [v.fractions(time_base) for v in annotations.videos.values()]
        self.memory: torch.Tensor | None = None
        if in_memory:
            self.memory = torch.stack([self._load(i) for i in range(len(self))])

    def __len__(self) -> int:
        return len(self.names)

    def _load(self, index: int) -> torch.Tensor:
        name = self.names[index]
        values = self.store.read(name)
        if self.rescale == "none" and len(values) != self.temporal_dim:
            raise DataError(
                f"{self.store.where(name)}: {len(values)} positions, but temporal_dim is {self.temporal_dim}. Set rescale=linear."
            )
        if len(values) != self.temporal_dim:
            video = self.annotations.videos[name]
            step = video.duration_s * 16 / video.num_frames if video.num_frames else 1.0
            values = rescale_features(values, self.temporal_dim, self.rescale, seconds_per_position=step)
        return torch.from_numpy(np.ascontiguousarray(values.T))

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        index = key[1] if isinstance(key, tuple) else key
        return {"features": self.memory[index] if self.memory is not None else self._load(index), "index": index}


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


def is_collection(path: str | os.PathLike) -> bool:
    """Whether a file holds the features of many videos, by name."""
    path = Path(path)
    if path.suffix == ".npy":
        return path.is_file() and path.with_suffix(".txt").is_file()
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        with np.load(path, allow_pickle=False) as file:
            return {"names", "feat"} <= set(file.files)
    except (ValueError, OSError, EOFError):
        return False  # read_feature_file says what is wrong


def _open_collection(path: Path) -> tuple[list[str], NDArray]:
    try:
        if path.suffix == ".npy":
            names = path.with_suffix(".txt")
            if not names.is_file():
                raise DataError(f"{path} needs {names.name} beside it: the names of its videos, one a line.")
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            listed = names.read_text(encoding="utf-8").split()
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                if not {"names", "feat"} <= set(file.files):
                    raise DataError(
                        f"{path} holds {', '.join(file.files)}; a file with all videos needs 'names' and 'feat'."
                    )
                listed, array = [str(n) for n in file["names"]], file["feat"]
        else:
            raise DataError(
                f"{path}: one file with all videos is .npz or .npy; otherwise give the folder of the files."
            )
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} can't be read: {error}") from None
    if array.ndim != 3 or len(array) != len(listed):
        raise DataError(
            f"{path}: features {array.shape} do not fit {len(listed)} names; (videos, positions, feat_dim) is needed."
        )
    return listed, array


def _read_csv(path: Path) -> NDArray[np.float32]:
    with open(path, encoding="utf-8") as file:
        first = file.readline()
        if not _is_header(first):
            file.seek(0)
        try:
            values = np.loadtxt(file, delimiter=",", dtype=np.float32, ndmin=2, comments=None)
            return (
                values[:, 1:] if first.startswith((",", '"",')) else values
            )  # pandas numbers the rows in a column without a name
        except ValueError as error:
            raise DataError(f"feature file {path} can't be read: {str(error).splitlines()[0]}") from None


def _is_header(line: str) -> bool:
    """Whether a CSV's first line names its columns: words, or the numbers 0, 1, 2 … that pandas writes."""
    cells = [cell.strip().strip('"') for cell in line.split(",")]
    cells = cells[1:] if cells[0] == "" else cells
    if len(cells) > 1 and cells == [str(i) for i in range(len(cells))]:
        return True
    return any(c.isalpha() for c in line.replace("e", "").replace("E", "").replace("nan", "").replace("inf", ""))


def _as_array(value: Any, path: Path) -> NDArray:
    if isinstance(value, dict):
        key = next((k for k in ("feat", "features", "feature") if k in value), None)
        if key is None:
            raise DataError(
                f"{path} is a dictionary of {', '.join(map(str, list(value)[:5]))}; features are looked for under 'feat'."
            )
        value = value[key]
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return np.stack([np.asarray(v) for v in value])
    if not isinstance(value, np.ndarray):
        raise DataError(f"{path} holds {type(value).__name__}; an array (positions, feat_dim) is needed.")
    return value


class _SafeUnpickler(pickle.Unpickler):
    """Arrays, tensors, numbers and containers; nothing that can run code."""

    _ALLOWED = {  # noqa: RUF012
        ("numpy", "ndarray"), ("numpy", "dtype"), ("collections", "OrderedDict"), ("_codecs", "encode"),
        *((f"numpy.{core}.{module}", name) for core in ("core", "_core")
          for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))),
    }  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _load_storage  # torch's own would unpickle anything
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return torch._utils._rebuild_tensor_v2
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a feature file has no need of")
        return super().find_class(module, name)


def _load_storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
