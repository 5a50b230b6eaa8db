"""Training and validation lists that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipwise.data.videolist import is_video
from clipwise.errors import DataError

LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".json")


@dataclass(frozen=True)
class Splits:
    """Sources of the parts; ``held_out`` says that validation must be cut from training."""

    train: str | Path
    val: str | Path | None
    held_out: bool = False


def listed_splits(data: str | Path) -> Splits | None:
    """The parts of a list, of shards, or of a folder with lists; None: a folder without.

    Raises:
        DataError: no such file or folder, or several pairs of lists in it.
    """
    path = Path(data)
    if ".tar" in str(data) and not path.is_dir():
        return Splits(str(data), None, held_out=True)
    if path.is_file():
        if is_video(path.name):
            raise DataError(
                f"{path} is one video. Training data is a folder with one subfolder per class, or a list file (path label)."
            )
        val = _twin(path) if "train" in path.name else None
        return Splits(path, val, held_out=val is None)
    if not path.is_dir():
        raise DataError(
            f"{path} does not exist. Give a folder with one subfolder per class, or a list file (path label)."
        )
    for suffix in LIST_SUFFIXES:
        train = path / f"train{suffix}"
        if train.is_file():
            val = _twin(train)
            return Splits(train, val, held_out=val is None)
    if (path / "train").is_dir() and any(p.is_dir() for p in (path / "train").iterdir()):
        return None
    named = [
        p for p in path.iterdir() if p.suffix in LIST_SUFFIXES and "train" in p.name and not p.name.startswith(".")
    ]
    pairs = sorted(p for p in named if p.is_file() and _twin(p))
    if len(pairs) > 1:
        names = ", ".join(p.name for p in pairs[:6])
        raise DataError(
            f"{path} holds several training lists: {names}{', …' if len(pairs) > 6 else ''}. Give one of them."
        )
    return Splits(pairs[0], _twin(pairs[0])) if pairs else None


def _twin(train: Path) -> Path | None:
    names = (train.name.replace("train", "val"), train.name.replace("trainlist", "testlist"))  # UCF101 has no other
    return next((train.with_name(n) for n in names if n != train.name and train.with_name(n).is_file()), None)
