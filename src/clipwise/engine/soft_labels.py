"""Class probabilities instead of labels: what a teacher says about web data (OmniSource, Duan et al. 2020, section 3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipwise.data.lists import VideoList
from clipwise.errors import DataError
from clipwise.io.parse import parse_json
from clipwise.io.text import plural


def read_soft_labels(path: str | Path, videos: VideoList, num_classes: int) -> torch.Tensor:
    """The probabilities of a list's entries, in its order.

    Args:
        path: what ``clipwise predict … --topk CLASSES --jsonl NAME.jsonl`` or ``clipwise test … --out NAME.json`` wrote; or a
            ``.json`` object {name: probabilities}; or an ``.npz`` with ``names`` (N,) and ``probs`` (N, num_classes). A name is
            the entry as the list has it, its full path, or its file name without the extension.

    Returns:
        (N, num_classes), as precise as the file.

    Raises:
        DataError: the file can't be read, entries are missing, or rows are not probabilities of so many classes.
    """
    rows = _read(Path(path))
    entries = [videos.entry(i) for i in range(len(videos))]
    stems = Counter(Path(entry).stem for entry in set(entries))
    found: list[Any] = []
    for i, entry in enumerate(entries):
        stem = Path(entry).stem
        # a file name that two entries have in different folders names neither
        names = (entry, videos.path(i), stem) if stems[stem] == 1 else (entry, videos.path(i))
        found.append(next((rows[name] for name in names if name in rows), None))
    missing = [entry for entry, row in zip(entries, found) if row is None]
    if missing:
        raise DataError(
            f"{path} has no probabilities for {len(missing)} of {plural(len(videos), 'entry', 'entries')}, the first: {missing[0]}."
        )
    wrong = next((i for i, row in enumerate(found) if np.shape(row) != (num_classes,)), None)
    if wrong is not None:
        shape = np.shape(found[wrong])
        raise DataError(
            f"{path}, {entries[wrong]}: {shape[0] if shape else 'no'} values, but there are {plural(num_classes, 'class', 'classes')}."
        )
    soft = np.asarray(found)
    bad = np.flatnonzero(~((soft >= 0).all(1) & (np.abs(soft.astype(np.float64).sum(1) - 1) < 1e-2)))
    if len(bad):
        raise DataError(
            f"{path}, {entries[bad[0]]} and {len(bad) - 1} more: probabilities are not negative and sum to 1. "
            "Scores before the softmax? Write them with --average-clips prob."
        )
    return torch.from_numpy(soft)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return dict(zip(arrays["names"].tolist(), arrays["probs"]))
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            lines = [parse_json(line) for line in text.splitlines()]
            return {line["source"]: _row(line["predictions"]) for line in lines if "error" not in line}
        content = parse_json(text)
        if "results" in content:
            # A video that could not be decoded has no scores; if the list has it, it is named as missing.
            return {row["path"]: np.float32(row["scores"]) for row in content["results"] if row["scores"] is not None}
        return {name: np.float32(row) for name, row in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"soft labels {path} can't be read ({error}). Give the .jsonl of `clipwise predict`, the .json of `clipwise test --out`, a .json object "
            "{name: probabilities}, or an .npz with names and probs."
        ) from None


def _row(predictions: list[dict[str, Any]]) -> np.ndarray:
    """The classes of a prediction in their own order; with fewer than all of them the row is too short, and is refused."""
    ranked = sorted(predictions, key=lambda p: p["index"])
    return np.array([p["score"] for p in ranked], np.float32)
