"""Feature files, whatever their kind, as arrays; nothing in them is ever run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError
from clipwise.io.parse import parse_json
from clipwise.io.text import plural

SUFFIXES = (".csv", ".npy", ".npz", ".pkl", ".pickle", ".pt", ".h5", ".hdf5")
FEATURE_KEYS = ("feat", "features", "feature", "feats", "arr_0")  # ActionFormer's archives have feats


def read_feature_file(path: str | os.PathLike) -> NDArray:
    """The array of one file, whatever its kind.

    Raises:
        DataError: it can't be read; the message names it.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                key = next((k for k in FEATURE_KEYS if k in file), None)
                if key is None and len(file.files) == 1:
                    key = file.files[0]
                if key is None:
                    raise DataError(f"{path} holds {', '.join(file.files)}; features are looked for under 'feat'.")
                return file[key]
        if path.suffix in SUFFIXES:
            from clipwise.data.formats.feature_objects import read_feature_object

            return read_feature_object(path, FEATURE_KEYS)
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
            hint = "it looks transposed: (positions, feat_dim) is needed; a recipe's input.channels_first=true takes the other order"
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
            f"{where}: {plural(int((~finite).sum()), 'feature is', 'features are')} NaN or infinite, the first at position {row}, channel {column}."
        )
    return values


def read_object(path: Path) -> dict[str, Any] | None:
    """A file of a JSON object; None if there is none."""
    if not path.is_file():
        return None
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {error}.") from None
    return content if isinstance(content, dict) else None
