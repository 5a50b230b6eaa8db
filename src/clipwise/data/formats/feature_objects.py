"""Features in pickles, torch files and HDF5: kinds that few use, so that the others are read without these lines."""

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
    """The array of a ``.pkl``, ``.pickle``, ``.pt``, ``.h5`` or ``.hdf5`` file.

    Raises:
        DataError: there is no array in it where one is looked for.
    """
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
