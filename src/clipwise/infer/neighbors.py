"""k nearest neighbors on features of whole videos: how well a frozen encoder tells classes apart, without any training.

A video's feature is the mean of its positions, of length 1. The k training videos of greatest cosine vote for their classes, each
with weight exp(cosine / temperature).

Source: Wu et al. 2018 (instance discrimination), with DINO's k = 20 and temperature 0.07.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from clipwise.data.formats.feature_formats import SUFFIXES, check_features, read_feature_file
from clipwise.data.lists import VideoList
from clipwise.errors import ClipwiseError, DataError
from clipwise.io.text import plural


def neighbor_scores(
    train: ArrayLike, labels: ArrayLike, queries: ArrayLike, num_classes: int, *, k: int = 20, temperature: float = 0.07
) -> NDArray[np.float32]:
    """Class shares of the neighbors' votes.

    Args:
        train: (N, F) features; they need not have length 1.
        labels: (N,) classes.
        queries: (M, F).
        k: neighbors; all, if there are fewer training videos.
        temperature: of the weights.

    Returns:
        (M, num_classes), rows sum to 1.
    """
    if k < 1 or temperature <= 0:
        raise ClipwiseError(
            f"k was {k} and temperature {temperature}; k must be at least 1 and the temperature more than 0."
        )
    bank = _unit(torch.as_tensor(np.asarray(train, np.float64)))
    votes = torch.nn.functional.one_hot(torch.as_tensor(np.asarray(labels, np.int64)), num_classes).double()
    rows = []
    for part in _unit(torch.as_tensor(np.asarray(queries, np.float64))).split(1024):
        near, which = (part @ bank.T).topk(min(k, len(bank)), dim=1)
        weights = torch.softmax(near / temperature, dim=1)
        rows.append((votes[which] * weights[..., None]).sum(1))
    return torch.cat(rows).float().numpy()


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)


def video_features(videos: VideoList, folders: Sequence[str | os.PathLike]) -> NDArray[np.float32]:
    """(N, F): the mean feature of each video of a list, from files of its name in one of the folders.

    Raises:
        DataError: a video without a file, or with several; files of different sizes.
    """
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if not Path(folder).is_dir():
            raise DataError(
                f"{folder} is not a folder of features. Make one: clipwise features --encoder hf:MODEL VIDEOS --out {folder}"
            )
        for path in Path(folder).iterdir():
            if path.suffix in SUFFIXES:
                found.setdefault(path.stem, []).append(path)
    rows: list[NDArray] = []
    for index in range(len(videos)):
        name = Path(videos.path(index)).stem
        files = found.get(name, [])
        if len(files) != 1:
            what = "no feature file" if not files else f"several feature files ({files[0]}, {files[1]})"
            raise DataError(f"{videos.path(index)}: {what} of the name {name} in {', '.join(map(str, folders))}.")
        rows.append(check_features(read_feature_file(files[0]), str(files[0])).mean(0))
        if rows[-1].shape != rows[0].shape:
            raise DataError(
                f"{files[0]} has {plural(len(rows[-1]), 'feature')}, the first file {len(rows[0])}; one encoder makes one folder."
            )
    return np.stack(rows).astype(np.float32)
