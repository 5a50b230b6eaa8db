"""From what a user calls ``--data`` to a training and a validation part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipwise.data.lists import VideoList
from clipwise.errors import DataError

_LISTS = (".txt", ".csv", ".tsv", ".json")


@dataclass(frozen=True)
class Splits:
    """Sources of the parts; ``held_out`` says that validation must be cut from training."""

    train: Path
    val: Path | None
    held_out: bool = False

    @staticmethod
    def hold_out(videos: VideoList, share: float = 0.2, seed: int = 0) -> tuple[VideoList, VideoList]:
        """Split a list by class, the same way each time: (training, validation).

        Raises:
            DataError: a class has only one video.
        """
        labels = np.array([videos.label(i) for i in range(len(videos))])
        if labels.ndim != 1:
            raise DataError("videos with several labels can't be split by class; give a validation list.")
        rng = np.random.default_rng(seed)
        chosen = []
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            if len(members) < 2:
                name = videos.classes[label] if videos.classes else label
                raise DataError(
                    f"class {name!r} has only one video, so none can be held out for validation. Add videos, or give a validation list."
                )
            chosen.append(members[: max(1, round(len(members) * share))])
        held = np.zeros(len(videos), bool)
        held[np.concatenate(chosen)] = True
        return videos.subset(np.flatnonzero(~held)), videos.subset(np.flatnonzero(held))


def find_splits(data: str | Path) -> Splits:
    """Find the parts of a data set.

    A list file is all training; validation is ``val.*`` beside a ``train.*``. A folder may hold such lists, or
    ``train`` and ``val`` folders, or one folder a class, of which a fifth is then held out.

    Raises:
        DataError: no such file or folder.
    """
    path = Path(data)
    if path.is_file():
        val = _twin(path) if "train" in path.name else None
        return Splits(path, val, held_out=val is None)
    if not path.is_dir():
        raise DataError(
            f"{path} does not exist. Give a folder with one sub-folder a class, or a list file (path label)."
        )
    for suffix in _LISTS:
        train = path / f"train{suffix}"
        if train.is_file():
            val = _twin(train)
            return Splits(train, val, held_out=val is None)
    if (path / "train").is_dir():
        val_folder = next((path / n for n in ("val", "valid", "validation", "test") if (path / n).is_dir()), None)
        return Splits(path / "train", val_folder, held_out=val_folder is None)
    return Splits(path, None, held_out=True)


def _twin(train: Path) -> Path | None:
    twin = train.with_name(train.name.replace("train", "val"))
    return twin if twin.is_file() else None


def test_part(data: str | Path) -> Path:
    """The part of a data set that ``clipwise test`` measures: its test list or folder, else validation, else all of it."""
    path = Path(data)
    if path.is_dir():
        for name in ("test", "val", "valid", "validation"):
            for candidate in [path / name, *(path / f"{name}{s}" for s in _LISTS)]:
                if candidate.exists():
                    return candidate
    return path


test_part.__test__ = False  # type: ignore[attr-defined]
