"""Scores of whole videos from files, fused, which name the proposals of a localizer (ActivityNet's way).

| file | holds |
|---|---|
| ``.json`` | CUHK's file in either form, or what ``clipwise test --out`` wrote |
| ``.csv`` | a row a video: ``video`` (or ``path``), then a column a class; ``clipwise test --out`` writes it as well |
| ``.npz`` | an array (num_classes,) a video under its name; ``classes`` may hold the names |
| ``.npy`` | (videos, num_classes); the videos' names, one a line, in the ``.txt`` of the same name beside it |
| a folder | ``VIDEO.npy`` of (num_classes,) or (views, num_classes) each |

Class names that a file does not hold are read from ``classes.txt`` beside it, or in the folder.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import ClipwiseError, DataError
from clipwise.io.parse import parse_json
from clipwise.io.text import plural
from clipwise.tasks.detections import VideoClassScores, read_class_scores


def read_fused_class_scores(paths: Sequence[str], weights: Sequence[float] | None = None) -> VideoClassScores:
    """Weighted mean of the scores in several files.

    Args:
        paths: at least one file or folder.
        weights: one each, at least 0; equal ones if not given.

    Raises:
        DataError: a file of no known form, scores that are no probabilities, or files of other classes or videos.
    """
    if weights is not None and (len(weights) != len(paths) or min(weights) < 0 or not sum(weights)):
        raise ClipwiseError(
            f"{plural(len(paths), 'file of class scores needs', 'files of class scores need')} as many weights, not below 0; given: {list(weights)}."
        )
    files = [_checked(read_video_class_scores(path), path) for path in paths]
    if len(files) == 1:
        return files[0]
    shares = np.asarray(weights or [1.0] * len(files)) / sum(weights or [1.0] * len(files))
    first = files[0]
    fused = {video: shares[0] * values for video, values in first.scores.items()}
    for path, file, share in zip(paths[1:], files[1:], shares[1:]):
        if sorted(file.classes) != sorted(first.classes):
            other = sorted(set(file.classes) ^ set(first.classes))
            raise DataError(f"{path} and {paths[0]} are of other classes; {other[0]!r} is in one of them only.")
        missing = sorted(set(first.scores) ^ set(file.scores))
        if missing:
            raise DataError(f"{path} and {paths[0]} are of other videos; {missing[0]!r} is in one of them only.")
        order = [file.classes.index(name) for name in first.classes]
        for video, values in file.scores.items():
            fused[video] = fused[video] + share * values[order]
    return VideoClassScores(first.classes, fused)


def _checked(scores: VideoClassScores, path: str) -> VideoClassScores:
    for video, values in scores.scores.items():
        if not np.isfinite(values).all() or values.min() < 0:
            raise DataError(
                f"{path}: the scores of {video!r} go down to {values.min():.4g}; probabilities are expected. "
                "`clipwise test … --average-clips prob --out` writes them."
            )
    return scores


def read_video_class_scores(path: str) -> VideoClassScores:
    """One file, see the table above.

    Raises:
        DataError: no such file, or of no known form.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(place.glob("*.npy"))
        if not files:
            raise DataError(f"{path}: no .npy file in this folder; one with a video's class scores each is expected.")
        return _named({file.stem: _row(np.load(file), str(file)) for file in files}, place, path)
    if not place.is_file():
        raise DataError(f"{path} does not exist")
    if place.suffix == ".csv":
        return _read_csv(place)
    if place.suffix == ".npy":
        return _read_matrix(place)
    if place.suffix == ".npz":
        with np.load(place) as arrays:
            rows = {name: arrays[name] for name in arrays.files}
        names = rows.pop("classes", None)
        scores = {name: _row(values, f"{path}, {name}") for name, values in rows.items()}
        return _named(scores, place.parent, path, None if names is None else [str(name) for name in names])
    return _read_json(place)


def _row(values: Any, source: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim == 2:  # views
        array = array.mean(axis=0)
    if array.ndim != 1:
        raise DataError(f"{source}: class scores have shape {np.shape(values)}; (num_classes,) is expected.")
    return array


def _named(
    scores: Mapping[str, NDArray[np.float64]], folder: Path, source: str, classes: list[str] | None = None
) -> VideoClassScores:
    if not scores:
        raise DataError(f"{source} holds no scores.")
    names = folder / "classes.txt"
    if classes is None and names.is_file():
        classes = [line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    count = len(next(iter(scores.values())))
    if classes is not None and len(classes) != count:
        raise DataError(
            f"{source} has scores of {plural(count, 'class', 'classes')}, but there are {plural(len(classes), 'name')}."
        )
    plain: dict[str, NDArray[np.float64]] = {}
    for video, values in scores.items():
        name = video.removeprefix("v_")
        if name in plain:
            raise DataError(
                f"{source} has video {name!r} twice; videos are matched by file name, so names must differ."
            )
        plain[name] = values
    return VideoClassScores(classes or [str(i) for i in range(count)], plain)


def _read_csv(path: Path) -> VideoClassScores:
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    key = next((name for name in ("video", "path") if name in header), None)
    if key is None:
        raise DataError(
            f"{path}: a column 'video' (or 'path') and one for each class are expected; found: {', '.join(header)}."
        )
    at = header.index(key)
    columns = [i for i, name in enumerate(header) if name.startswith("score_")] or [
        i for i in range(len(header)) if i != at
    ]
    try:
        scores = [(Path(row[at]).stem, np.array([float(row[i]) for i in columns])) for row in rows]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: a score is not a number, or a row is short ({error}).") from None
    if len(dict(scores)) < len(scores):
        raise DataError(f"{path} has a video twice; videos are matched by file name, so names must differ.")
    names = [header[i].removeprefix("score_") for i in columns]
    return _named(dict(scores), path.parent, str(path), names)


def _read_matrix(path: Path) -> VideoClassScores:
    values, names = np.load(path), path.with_suffix(".txt")
    if values.ndim != 2:
        raise DataError(f"{path} has shape {values.shape}; (videos, num_classes) is expected.")
    if not names.is_file():
        raise DataError(
            f"{path}: it is unknown which row belongs to which video. Put the names of the videos, one a line, into {names}."
        )
    videos = [line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(videos) != len(values):
        raise DataError(f"{path} has {plural(len(values), 'row')}, but {names} {plural(len(videos), 'name')}.")
    return _named(dict(zip(videos, values.astype(np.float64))), path.parent, str(path))


def _read_json(path: Path) -> VideoClassScores:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return read_class_scores(path)  # which says what is wrong
    rows = content.get("results") if isinstance(content, dict) else None
    if not (isinstance(rows, list) and rows and isinstance(rows[0], dict) and "path" in rows[0]):
        return read_class_scores(path)
    scores: dict[str, Any] = {}
    named: dict[str, str] = {}
    for row in rows:
        if row.get("scores") is None:
            continue
        name = Path(row["path"]).stem.removeprefix("v_")
        if named.setdefault(name, row["path"]) != row["path"]:
            raise DataError(
                f"{path} has scores of {named[name]} and of {row['path']}; videos are matched by file name, so names must differ."
            )
        scores[name] = np.asarray(row["scores"], float)
    if not scores or any(s.ndim != 1 for s in scores.values()):
        raise DataError(f"{path} must hold one row of scores for each video. Write it with --average-clips prob.")
    first = next(iter(scores.values()))
    return VideoClassScores(list(content.get("classes") or map(str, range(len(first)))), scores)
