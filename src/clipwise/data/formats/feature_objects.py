"""Features in CSV, pickles, torch files and HDF5, and many videos in one file: what a folder of numpy files does without."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipwise.errors import DataError
from clipwise.io.unpickle import read_pickle, read_torch


def read_feature_object(path: Path, keys: Sequence[str]) -> NDArray:
    """The array of a ``.csv``, ``.pkl``, ``.pickle``, ``.pt``, ``.h5`` or ``.hdf5`` file.

    Raises:
        DataError: there is no array in it where one is looked for.
    """
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix in (".h5", ".hdf5"):
        return _read_h5(path, keys)
    return _as_array(read_torch(path, DataError) if path.suffix == ".pt" else read_pickle(path), path, keys)


def _read_h5(path: Path, keys: Sequence[str]) -> NDArray:
    """The array of a file that holds one, or one under a usual name."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path}: reading it needs h5py; pip install clipwise[h5].") from None
    if not path.is_file():
        raise FileNotFoundError
    with h5py.File(path, "r") as file:
        arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        key = next((k for k in keys if k in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
        if key is None:
            named = ", ".join(list(file)[:5])
            raise DataError(
                f"{path} holds {named or 'nothing'}; one array, or one named {keys[0]!r}, is expected: a file a video."
            )
        return arrays[key][()]


def _as_array(value: Any, path: Path, keys: Sequence[str]) -> NDArray:
    if isinstance(value, dict):
        key = next((k for k in keys if k in value), None)
        if key is None:
            raise DataError(
                f"{path} is a dictionary of {', '.join(map(str, list(value)[:5]))}; features are looked for under 'feat'."
            )
        value = value[key]
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        numbers, inner = 1, value
        while isinstance(inner, (list, tuple)) and inner:
            numbers, inner = numbers * len(inner), inner[0]
        if numbers > path.stat().st_size:  # a list that holds itself many times over
            raise DataError(
                f"{path} is {path.stat().st_size:,} bytes and stands for {numbers:,} numbers; it is damaged."
            )
        return np.stack([np.asarray(v) for v in value])
    if not isinstance(value, np.ndarray):
        raise DataError(f"{path} holds {type(value).__name__}; an array (positions, feat_dim) is needed.")
    return value


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
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        return False  # read_feature_file says what is wrong


def open_collection(path: Path) -> tuple[list[str], NDArray]:
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
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} can't be read: {error}") from None
    if array.ndim != 3 or len(array) != len(listed):
        raise DataError(
            f"{path}: features {array.shape} do not fit {len(listed)} names; (videos, positions, feat_dim) is needed."
        )
    return listed, array
