"""Late fusion: a weighted sum of several models' scores for the same videos.

Read are score files of ``clipwise test --out`` (JSON, CSV, pickle) and MMAction2's pickles and JSON lists. Where a file names
its videos, the order is checked and repaired by name; where none does, only the number of videos can be checked.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.data.videolist import VIDEO_SUFFIXES
from clipwise.engine.evaluate import measure
from clipwise.errors import DataError
from clipwise.io.parse import check_schema, parse_json
from clipwise.io.text import JSON_SCHEMA, from_csv_cell, plural
from clipwise.io.unpickle import read_pickle
from clipwise.tasks import metrics
from clipwise.tasks.logits import Activation, to_probabilities

Label = int | list[int]
"""A class index, or the indices of all classes of a video with several labels."""


@dataclass
class ScoreFile:
    """Scores of a list of videos.

    Attributes:
        path: where they come from.
        scores: float64 (N, num_classes); NaN where a video failed.
        names: the videos' paths, if the file has them.
        labels: class indices (a list of them for several labels a video), if the file has them.
        classes: class names, if the file has them.
    """

    path: str
    scores: np.ndarray
    names: list[str] | None = None
    labels: list[Label] | None = None
    classes: list[str] | None = None

    def __len__(self) -> int:
        return len(self.scores)


def read_scores(path: str | Path) -> ScoreFile:
    """Read a score file: ``.json``, ``.csv``, ``.pkl`` (read without running what is in it).

    Raises:
        DataError: not readable, or no scores in it.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"score file {path} does not exist.")
    readers = {".json": _read_json, ".csv": _read_csv, ".pkl": _read_pickle, ".pickle": _read_pickle}
    if path.suffix not in readers:
        raise DataError(f"{path}: scores are read from .json, .csv or .pkl files.")
    try:
        found = readers[path.suffix](path)
    except (ValueError, KeyError, TypeError, IndexError, EOFError, UnicodeDecodeError) as error:
        reason = f" ({error})" if isinstance(error, ValueError) else ""  # of others the text is a program's
        raise DataError(f"{path} is not a score file of clipwise or MMAction2, or it is damaged{reason}.") from None
    if found.scores.ndim != 2 or not found.scores.size:
        raise DataError(f"{path} holds scores of shape {found.scores.shape}; (videos, classes) is expected.")
    return found


def _read_json(path: Path) -> ScoreFile:
    content = parse_json(path.read_text(encoding="utf-8"))
    if isinstance(content, list):  # MMAction2: a list of lists
        return ScoreFile(str(path), _stack(content))
    if isinstance(content, dict):
        check_schema(content.get("schema", JSON_SCHEMA), JSON_SCHEMA, path, DataError)
    rows = content["results"]
    width = len(content["classes"] or next(r["scores"] for r in rows if r["scores"] is not None))
    scores = [np.full(width, np.nan) if r["scores"] is None else np.asarray(r["scores"], float) for r in rows]
    labels = [r["label"] for r in rows]
    known = all(isinstance(label, (int, list)) for label in labels)
    return ScoreFile(
        str(path), _stack(scores), [r["path"] for r in rows], labels if known else None, content["classes"]
    )


def _read_csv(path: Path) -> ScoreFile:
    csv.field_size_limit(sys.maxsize)
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    columns = [i for i, name in enumerate(header) if name.startswith("score_")]
    scores = [[float(row[i]) for i in columns] for row in rows]
    names = [from_csv_cell(row[header.index("path")]) for row in rows] if "path" in header else None
    labels = [parse_json(row[header.index("label")]) for row in rows] if "label" in header else None  # 3, or [0, 3]
    classes = [header[i].removeprefix("score_") for i in columns]
    return ScoreFile(str(path), _stack(scores), names, labels, None if classes[0].isdigit() else classes)


def _read_pickle(path: Path) -> ScoreFile:
    content = read_pickle(path)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        raise DataError(
            f"{path} is a dump of MMAction2 1.x, whose scores are torch tensors in a pickle. "
            "Save the scores as a list of arrays (pred_score) first."
        )
    return ScoreFile(str(path), _stack(content))


def _stack(rows: Sequence[Any]) -> np.ndarray:
    arrays = [np.asarray(row, dtype=np.float64) for row in rows]
    return np.stack([row if row.ndim == 1 else row.reshape(-1, row.shape[-1]).mean(0) for row in arrays])


def align(
    files: Sequence[ScoreFile], labels: Sequence[tuple[str | None, Label]] | None = None
) -> tuple[list[np.ndarray], list[Label] | None]:
    """Bring score files into one order.

    Args:
        files: at least one.
        labels: (name, class) of each video of a list; a name may be None.

    Returns:
        The scores in the order of the list (else of the first file), and the labels where they are known.

    Raises:
        DataError: numbers, names or labels do not agree; what differs is named.
    """
    first = files[0]
    for other in files[1:]:
        if other.scores.shape[1] != first.scores.shape[1]:
            raise DataError(
                f"{other.path} has {plural(other.scores.shape[1], 'class', 'classes')}, {first.path} {first.scores.shape[1]}: not the same data set."
            )
    named = next((f for f in files if f.names), None)
    order: Sequence[str | None] | None = (
        [name for name, _ in labels] if labels and all(name for name, _ in labels) else None
    )
    if order is None and named is not None and labels is None:
        order = named.names
    expected = len(labels) if labels is not None else len(first)
    arranged = []
    for file in files:
        if len(file) != expected:
            source = "the list of labels" if labels is not None else first.path
            raise DataError(f"{file.path} has {plural(len(file), 'video')}, {source} {expected}.")
        arranged.append(file.scores[_positions(file, order)] if order and file.names else file.scores)
    if labels is not None:
        return arranged, [label for _, label in labels]
    known = []
    for file in files:
        if file.labels:
            places = _positions(file, order) if order and file.names else range(len(file))
            known.append((file.path, [file.labels[i] for i in places]))
    for path, told in known[1:]:
        if told != known[0][1]:
            at = next(i for i, pair in enumerate(zip(told, known[0][1])) if pair[0] != pair[1])
            raise DataError(
                f"{path} and {known[0][0]} disagree on the label of video {at + 1}: {told[at]} and {known[0][1][at]}. "
                "The files must be of the same videos in the same order."
            )
    return arranged, known[0][1] if known else None


def _positions(file: ScoreFile, order: Sequence[str | None]) -> list[int]:
    """Where the file has each name of ``order``. Names are compared from their end: folders above may differ."""
    wanted = [_key(name or "") for name in order]
    have = [_key(name) for name in file.names or []]
    depth = next((d for d in range(1, 6) if len({k[-d:] for k in wanted}) == len(set(wanted)) == len(wanted)), 6)
    place = {key[-depth:]: i for i, key in enumerate(have)}
    missing = [name for name, key in zip(order, wanted) if key[-depth:] not in place]
    if missing or len(place) != len(have):
        problem = f"has no scores for {missing[0]} and {len(missing) - 1} more" if missing else "has videos twice"
        raise DataError(f"{file.path} {problem}; the files must be of the same videos.")
    return [place[key[-depth:]] for key in wanted]


def _key(name: str) -> tuple[str, ...]:
    """Folders and stem: an RGB video and its flow folder have the same one."""
    path = Path(name)
    stem = path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
    return (*path.parent.parts, stem)


def fuse(scores: Sequence[np.ndarray], weights: Sequence[float], activation: Activation | None = None) -> np.ndarray:
    """Weighted sum, without dividing by the weights' sum.

    Args:
        scores: arrays (N, num_classes).
        weights: one number an array.
        activation: turn each array's rows into probabilities first (for files with logits).

    Source: MMAction2 0.24 tools/analysis/report_accuracy.py.
    """
    return metrics.weighted_score([_probabilities(s, activation) for s in scores], weights)


def _probabilities(scores: np.ndarray, activation: Activation | None) -> np.ndarray:
    return np.asarray(to_probabilities(scores, "score", activation)) if activation else scores


def measure_fused(scores: np.ndarray, labels: Sequence[Label], topk: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Top-k and mean class accuracy, or mean average precision; a video without scores (NaN) counts as wrong."""
    if np.isnan(scores).any(axis=1).all():
        raise DataError("no video has scores from all files.")
    several = any(isinstance(label, list) for label in labels)
    names = ("mean_average_precision",) if several else ("top_k_accuracy", "mean_class_accuracy")
    return measure(scores, list(_truth(labels, scores.shape[1])), names, topk)


def _truth(labels: Sequence[Label], num_classes: int) -> np.ndarray:
    """(N,) class indices, or (N, num_classes) 0 and 1 where a video may have several."""
    if not any(isinstance(label, list) for label in labels):
        return np.asarray(labels)
    truth = np.zeros((len(labels), num_classes), np.int64)
    for row, label in zip(truth, labels):
        row[label] = 1
    return truth


def search_weights(
    scores: Sequence[np.ndarray], labels: Sequence[Label], activation: Activation | None = None, steps: int = 20
) -> tuple[list[float], float]:
    """The weights with the best top-1 accuracy (mAP for several labels), on a grid; the first weight is 1 unless it is 0.

    Of equally good ones the most even weights win. Search on a validation list, not on the list that is reported.

    Args:
        steps: the weights are multiples of 1/steps before they are scaled.

    Returns:
        Weights and their figure.
    """
    if len(scores) == 1:
        return [1.0], next(iter(measure_fused(scores[0], labels, (1,)).values()))
    truth = _truth(labels, scores[0].shape[1])
    parts = np.stack([_probabilities(s, activation) for s in scores])  # (files, N, classes)
    good = ~np.isnan(parts).any(axis=(0, 2))
    parts, kept = parts[:, good], truth[good]
    if not len(kept):
        raise DataError("no video has scores from all files.")
    best: tuple[float, float] | None = None
    winner: tuple[int, ...] = ()
    for counts in _splits(steps, len(parts)):
        fused = np.tensordot(np.asarray(counts) / steps, parts, axes=1)
        if truth.ndim == 2:
            figure = metrics.mean_average_precision(fused, kept)
        else:
            figure = float((fused.argmax(axis=1) == kept).mean()) * len(kept) / len(truth)
        rank = (figure, -float(np.var(counts)))
        if best is None or rank > best:
            best, winner = rank, counts
    assert best is not None
    scale = winner[0] or steps
    return [round(c / scale, 6) for c in winner], best[0]


def _splits(total: int, parts: int):
    """All tuples of ``parts`` counts that sum to ``total``."""
    for bars in itertools.combinations(range(total + parts - 1), parts - 1):
        edges = (-1, *bars, total + parts - 1)
        yield tuple(b - a - 1 for a, b in itertools.pairwise(edges))
