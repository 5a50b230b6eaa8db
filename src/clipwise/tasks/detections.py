"""Result files in ActivityNet's form, and names for proposals from video-level class scores."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import ClipwiseError, DataError
from clipwise.io.parse import parse_json
from clipwise.io.text import plural
from clipwise.io.unfinished import growing_file

ActivityNetResults = dict[str, list[dict[str, Any]]]


class ResultWriter:
    """Writes ``{"version", "results": {video: [{"segment", "score"[, "label"]}]}, "external_data"}`` video by video.

    Nothing is kept in memory. The file appears under its name when all is written; until then, and after an error,
    there is only ``NAME.part``::

        with ResultWriter("results.json") as results:
            results.add("abc", segments, scores)
    """

    def __init__(self, path: str | os.PathLike, external_data: Mapping[str, Any] | None = None):
        self.path = Path(path)
        self._external_data = dict(external_data or {})
        self._written: set[str] = set()

    def __enter__(self) -> "ResultWriter":
        self._stack = contextlib.ExitStack()
        self._file = self._stack.enter_context(growing_file(self.path))
        self._file.write('{"version": "VERSION 1.3", "results": {')
        return self

    def add(
        self, video: str, segments: ArrayLike, scores: ArrayLike, labels: str | Sequence[str] | None = None
    ) -> None:
        """Write one video.

        Args:
            video: name; as in ActivityNet's files without the leading ``v_``.
            segments: (n, 2) seconds.
            scores: (n,).
            labels: one name for all segments, or one for each.

        Raises:
            DataError: a video for the second time, or numbers that JSON cannot hold.
        """
        name = video.removeprefix("v_")
        if name in self._written:
            raise DataError(f"video {name!r} was written twice to {self.path}; names must differ")
        pairs, values = np.asarray(segments, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if pairs.shape != (len(values), 2):
            raise DataError(f"video {name!r}: segments {pairs.shape} do not fit {plural(len(values), 'score')}")
        if not (np.isfinite(pairs).all() and np.isfinite(values).all()):
            raise DataError(f"video {name!r}: segments or scores are NaN or infinite")
        entries = [{"score": s, "segment": p} for s, p in zip(values.tolist(), pairs.tolist())]
        if labels is not None:
            names = [labels] * len(entries) if isinstance(labels, str) else labels
            entries = [entry | {"label": label} for entry, label in zip(entries, names, strict=True)]
        self._file.write(f"{', ' if self._written else ''}{json.dumps(name)}: {json.dumps(entries)}")
        self._written.add(name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._file.write(f'}}, "external_data": {json.dumps(self._external_data)}}}\n')
        self._stack.__exit__(kind, error, trace)


def read_results(path: str | os.PathLike) -> ActivityNetResults:
    """The ``results`` of a file in ActivityNet's form, without the ``v_`` that some write before a video's name.

    Raises:
        DataError: no such file, no JSON, another form, or a video twice; the message names the file.
    """
    content = _read_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict) or not all(isinstance(v, list) for v in results.values()):
        raise DataError(
            f"{path} has no 'results' that give a list for each video; it is not an ActivityNet result file"
        )
    plain = {video.removeprefix("v_"): entries for video, entries in results.items()}
    if len(plain) != len(results):
        twice = next(video for video in plain if video in results and f"v_{video}" in results)
        raise DataError(
            f"{path} has {twice!r} and {f'v_{twice}'!r}, which are one video; merge their results or delete one"
        )
    return plain


@dataclasses.dataclass(frozen=True)
class VideoClassScores:
    """Scores of whole videos, from a recognizer or a published file.

    Attributes:
        classes: names of the classes.
        scores: for each video (num_classes,).
    """

    classes: list[str]
    scores: dict[str, NDArray[np.float64]]

    def __post_init__(self) -> None:
        for video, values in self.scores.items():
            if np.shape(values) != (len(self.classes),):
                raise DataError(
                    f"video {video!r} has scores of shape {np.shape(values)}, but there are {plural(len(self.classes), 'class', 'classes')}"
                )

    def top(self, video: str, k: int) -> list[tuple[str, float]]:
        """The k best (name, score) of a video."""
        values = self.scores.get(video, self.scores.get(f"v_{video}"))
        if values is None:
            raise DataError(
                f"no class scores for video {video!r}; there are scores of {plural(len(self.scores), 'video')}"
            )
        order = np.argsort(-np.asarray(values), kind="stable")[:k]
        return [(self.classes[i], float(values[i])) for i in order]


def read_class_scores(path: str | os.PathLike) -> VideoClassScores:
    """Video-level scores in either of the two forms in which the CUHK 2017 classification goes around.

    ``{"results": {id: [{"label", "score"}, …]}}`` (MMAction2's ``cuhk_anet17_pred.json``) or
    ``{"results": {id: [score, …]}, "class": [name, …]}`` (OpenTAD's ``cuhk_val_simp_7.json``).

    Raises:
        DataError: no such file, or another form.
    """
    content = _read_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict) or not results:
        raise DataError(f"{path} has no 'results'; class scores of videos are expected there")
    classes = content.get("class")
    if classes is not None:
        return VideoClassScores(list(classes), {k: np.asarray(v, dtype=np.float64) for k, v in results.items()})
    try:
        names = sorted({entry["label"] for entries in results.values() for entry in entries})
        place = {name: i for i, name in enumerate(names)}
        scores = {}
        for video, entries in results.items():
            scores[video] = np.zeros(len(names))
            for entry in entries:
                scores[video][place[entry["label"]]] = entry["score"]
    except (TypeError, KeyError) as error:
        raise DataError(f"{path}: entries need 'label' and 'score', or a list 'class' of names ({error!r})") from None
    return VideoClassScores(names, scores)


def name_proposals(
    segments: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[tuple[str, float]],
    score: Literal["product", "sqrt", "proposal"] = "product",
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Turn a video's proposals into detections: each proposal once for each class of the video.

    Args:
        segments: (n, 2).
        scores: (n,).
        classes: names and scores of the video's best classes, of :meth:`VideoClassScores.top`. OpenTAD takes two,
            MMAction2 one.
        score: "product" of proposal and class score (OpenTAD), the root of that ("sqrt": ActionFormer, TriDet), or the "proposal"
            score unchanged (MMAction2).

    Returns:
        segments (n · k, 2), scores (n · k,) and labels, sorted by falling score.
    """
    if score not in ("product", "sqrt", "proposal"):
        raise ClipwiseError(f"score was {score!r}; use 'product', 'sqrt' or 'proposal'")
    if not classes:
        raise ClipwiseError("no class was given; proposals cannot be named without one")
    pairs, values = (
        np.asarray(segments, dtype=np.float64).reshape(-1, 2),
        np.asarray(scores, dtype=np.float64),
    )
    factors = [1.0 if score == "proposal" else value for _, value in classes]
    spread = np.concatenate([values * factor for factor in factors])
    if score == "sqrt":
        spread = np.sqrt(spread)
    labels = np.repeat(np.arange(len(classes)), len(values))
    order = np.argsort(-spread, kind="stable")
    return np.tile(pairs, (len(classes), 1))[order], spread[order], [classes[i][0] for i in labels[order]]


def name_results(
    results: Mapping[str, Iterable[Mapping[str, Any]]],
    class_scores: VideoClassScores,
    top_k: int = 2,
    score: Literal["product", "sqrt", "proposal"] = "product",
) -> ActivityNetResults:
    """:func:`name_proposals` for a whole result set in ActivityNet's form."""
    named: ActivityNetResults = {}
    for video, entries in results.items():
        entries = list(entries)
        try:
            segments, scores = [e["segment"] for e in entries], [e["score"] for e in entries]
            pairs, values = np.array(segments, dtype=np.float64).reshape(-1, 2), np.array(scores, dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"video {video!r}: every entry needs 'segment' (start, end) and 'score'; one does not have it: {error!r}"
            ) from None
        detections = name_proposals(pairs, values, class_scores.top(video, top_k), score)
        named[video] = [
            {"segment": p, "score": s, "label": label}
            for p, s, label in zip(detections[0].tolist(), detections[1].tolist(), detections[2])
        ]
    return named


def _read_json(path: str | os.PathLike) -> Any:
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a JSON file: {error}") from None
