"""Features of one video in CSV, pickles, torch files and HDF5: what a folder of numpy files does without."""

from __future__ import annotations

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
    content = read_torch(path, DataError) if path.suffix == ".pt" else read_pickle(path)
    return as_array(content, str(path), keys, path.stat().st_size)


def import_h5py(path: Path) -> Any:
    """The library.

    Raises:
        DataError: it is not installed; the message names the extra and the file.
    """
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path}: reading it needs h5py; pip install clipwise[h5].") from None
    return h5py


def _read_h5(path: Path, keys: Sequence[str]) -> NDArray:
    """The array of a file that holds one, or one under a usual name."""
    h5py = import_h5py(path)
    if not path.is_file():
        raise FileNotFoundError
    with h5py.File(path, "r") as file:
        arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        key = next((k for k in keys if k in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
        if key is None:
            named = ", ".join(list(file)[:5])
            raise DataError(
                f"{path} holds {named or 'nothing'}; one array, or one named {keys[0]!r}, is expected: a file per video."
            )
        return arrays[key][()]


def as_array(value: Any, where: str, keys: Sequence[str], size: int) -> NDArray:
    """The array that a pickle or torch file gave: itself, of tensors, of a list of rows, or of a dictionary.

    Args:
        where: the file (and video), for messages.
        size: bytes of the file.
    """
    if isinstance(value, dict):
        key = next((k for k in keys if k in value), None)
        if key is None:
            raise DataError(
                f"{where} is a dictionary of {', '.join(map(str, list(value)[:5]))}; features are looked for under 'feat'."
            )
        value = value[key]
    if isinstance(value, torch.Tensor):
        return (value.float() if value.dtype is torch.bfloat16 else value).detach().numpy()  # numpy has no bfloat16
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        numbers, inner = 1, value
        while isinstance(inner, (list, tuple)) and inner:
            numbers, inner = numbers * len(inner), inner[0]
        if numbers > size:  # a list that holds itself many times over
            raise DataError(f"{where} is {size:,} bytes and stands for {numbers:,} numbers; it is damaged.")
        return np.stack([np.asarray(v) for v in value])
    if not isinstance(value, np.ndarray):
        raise DataError(f"{where} holds {type(value).__name__}; an array (positions, feat_dim) is needed.")
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
