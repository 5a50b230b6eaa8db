"""What a data set is measured on: its own part for tests, or videos held out of a list for validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipwise.data.formats.list_splits import LIST_SUFFIXES
from clipwise.data.videolist import VideoList
from clipwise.errors import DataError


def hold_out(videos: VideoList, share: float = 0.2, seed: int = 0) -> tuple[VideoList, VideoList]:
    """Split a list by class, the same way each time: (training, validation).

    Raises:
        DataError: a class has only one video; a video has no label, or several.
    """
    if videos.multi_label:
        raise DataError("videos with several labels can't be split by class; give a validation list.")
    if (videos.labels < 0).any():
        raise DataError("videos without labels can't be split by class; give a validation list.")
    labels = videos.labels
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            name = videos.classes[label] if videos.classes else int(label)
            raise DataError(
                f"class {name!r} has only one video, so none can be held out for validation. Add videos, or give a validation list."
            )
        chosen.append(members[: max(1, round(len(members) * share))])
    held = np.zeros(len(videos), bool)
    held[np.concatenate(chosen)] = True
    return videos.subset(np.flatnonzero(~held)), videos.subset(np.flatnonzero(held))


def test_part(data: str | Path) -> Path:
    """The part of a data set that ``clipwise test`` measures: its test list or folder, else validation, else all of it."""
    path = Path(data)
    if path.is_dir():
        for name in ("test", "val", "valid", "validation"):
            for candidate in [path / name, *(path / f"{name}{s}" for s in LIST_SUFFIXES)]:
                if candidate.exists():
                    return candidate
    return path


test_part.__test__ = False  # type: ignore[attr-defined]
