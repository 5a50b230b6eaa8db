"""Two results of the same videos: which is better, for which classes, on which videos, and is it more than luck?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.engine.evaluate import TestResult
from clipwise.errors import DataError
from clipwise.io.parse import check_schema, parse_json
from clipwise.io.text import JSON_SCHEMA, plural
from clipwise.report.scores import in_top, label_names, probabilities
from clipwise.tasks.paired import Interval, accuracy_difference, class_accuracy_difference, sign_test


@dataclass(frozen=True)
class Comparison:
    """What changed from ``a`` to ``b``.

    Attributes:
        a, b: the results over the common videos, in one order.
        names: of the two.
        left_out: videos that only one of the two has.
        intervals: measure -> difference b - a with its interval.
        values: measure -> (a, b).
        gained, lost: (N,): b right where a was wrong, and the reverse.
        p_value: exact McNemar (sign) test over gained and lost videos.
    """

    a: TestResult
    b: TestResult
    names: tuple[str, str]
    left_out: int
    intervals: dict[str, Interval]
    values: dict[str, tuple[float, float]]
    gained: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    p_value: float

    @property
    def better(self) -> str | None:
        """The name of the better one, where the difference is more than chance explains."""
        change = self.intervals["top1_acc"]
        if not (change.clear and self.p_value < 0.05):
            return None
        return self.names[1] if change.difference > 0 else self.names[0]

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        points = abs(self.intervals["top1_acc"].difference) * 100
        if self.better is not None:
            return f"{self.better} is better by {points:.2f} points of top-1 accuracy, more than chance explains."
        if not self.gained.any() and not self.lost.any():
            return "Both are right and wrong on the same videos."
        return f"No clear winner: a difference of {points:.2f} points on {plural(len(self.a.paths), 'video')} can be chance."

    def class_flips(self) -> list[dict[str, Any]]:
        """Per class: videos, gained, lost, accuracy of both; the largest change first."""
        labels, k = self.a.truth, self.a.num_classes
        gained, lost = np.bincount(labels[self.gained], minlength=k), np.bincount(labels[self.lost], minlength=k)
        rows = [
            {
                "class": self.a.names[c],
                "videos": int(self.a.class_counts[c]),
                "gained": int(gained[c]),
                "lost": int(lost[c]),
                "a": float(self.a.class_accuracy[c]),
                "b": float(self.b.class_accuracy[c]),
            }
            for c in np.flatnonzero(self.a.class_counts)
        ]
        return sorted(rows, key=lambda r: (-abs(r["gained"] - r["lost"]), -(r["gained"] + r["lost"]), r["class"]))

    def changed(self) -> list[dict[str, Any]]:
        """Videos that one of the two gets right: the surest change of the true class's probability first."""
        own_a, own_b = (probabilities(t)[np.arange(len(t.paths)), np.maximum(t.truth, 0)] for t in (self.a, self.b))
        delta = np.nan_to_num(own_b) - np.nan_to_num(own_a)
        chosen = np.flatnonzero(self.gained | self.lost)
        return [
            {
                "path": self.a.paths[n],
                "label": label_names(self.a, n),
                "a": self._said(self.a, n),
                "b": self._said(self.b, n),
                "change": "gained" if self.gained[n] else "lost",
                "probability_a": None if np.isnan(own_a[n]) else float(own_a[n]),
                "probability_b": None if np.isnan(own_b[n]) else float(own_b[n]),
            }
            for n in chosen[np.argsort(-abs(delta[chosen]), kind="stable")]
        ]

    @staticmethod
    def _said(table: TestResult, n: int) -> str:
        return "could not be decoded" if table.predictions[n] < 0 else table.names[table.predictions[n]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "a": self.names[0],
            "b": self.names[1],
            "videos": len(self.a.paths),
            "left_out": self.left_out,
            "verdict": self.verdict,
            "measures": {
                key: {
                    "a": self.values[key][0],
                    "b": self.values[key][1],
                    "difference": i.difference,
                    "low": i.low,
                    "high": i.high,
                    "confidence": i.confidence,
                }
                for key, i in self.intervals.items()
            },
            "gained": int(self.gained.sum()),
            "lost": int(self.lost.sum()),
            "p_value": self.p_value,
            "classes": self.class_flips(),
            "changed": self.changed(),
        }


def compare(
    a: TestResult,
    b: TestResult,
    names: tuple[str, str] = ("A", "B"),
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two results of single-label videos; videos are matched by path, else by file name.

    Raises:
        DataError: no common videos, other classes, other labels, or several labels a video.
    """
    if a.multi_label or b.multi_label:
        raise DataError("compare works on results with one label a video; these have several.")
    if a.num_classes != b.num_classes:
        raise DataError(
            f"{names[0]} has {plural(a.num_classes, 'class', 'classes')} and {names[1]} has {b.num_classes}: they are not of the same task."
        )
    if a.names != b.names and a.names[0] != "0" and b.names[0] != "0":
        raise DataError(f"{names[0]} and {names[1]} have different class names, or the same in another order.")
    rows_a, rows_b = _matched(a, b, names)
    left_out = len(a.paths) + len(b.paths) - 2 * len(rows_a)
    a, b = _subset(a, rows_a), _subset(b, rows_b)
    if (a.truth != b.truth).any():
        n = int((a.truth != b.truth).argmax())
        raise DataError(
            f"the two files disagree on the label: {a.paths[n]} is {label_names(a, n)} in one, {label_names(b, n)} in the other."
        )
    if (a.truth < 0).all():
        raise DataError("the results have no labels, so accuracy cannot be compared.")
    known = a.truth >= 0
    a, b = _subset(a, np.flatnonzero(known)), _subset(b, np.flatnonzero(known))
    options: dict[str, Any] = dict(confidence=confidence, seed=seed)
    intervals = {"top1_acc": accuracy_difference(a.correct, b.correct, resamples=resamples, **options)}
    values = {"top1_acc": (float(a.correct.mean()), float(b.correct.mean()))}
    if a.num_classes > 5:
        five_a, five_b = in_top(a, 5), in_top(b, 5)
        intervals["top5_acc"] = accuracy_difference(five_a, five_b, resamples=resamples, **options)
        values["top5_acc"] = (float(five_a.mean()), float(five_b.mean()))
    intervals["mean_class_accuracy"] = class_accuracy_difference(
        a.correct, b.correct, a.truth, resamples=min(resamples, 2000), **options
    )
    values["mean_class_accuracy"] = (float(np.nanmean(a.class_accuracy)), float(np.nanmean(b.class_accuracy)))
    gained, lost = b.correct & ~a.correct, a.correct & ~b.correct
    p = sign_test(int(gained.sum()), int(lost.sum()))
    return Comparison(a, b, names, left_out, intervals, values, gained, lost, p)


def _matched(a: TestResult, b: TestResult, names: tuple[str, str]) -> tuple[NDArray, NDArray]:
    """Rows of the common videos in ``a`` and in ``b``. Lists that were moved are matched by the ends of their paths."""
    for parts in (None, 3, 2, 1):
        keys_a, keys_b = ([_end(p, parts) for p in t.paths] for t in (a, b))
        if len(set(keys_a)) < len(keys_a) or len(set(keys_b)) < len(keys_b):
            if parts is None:
                # a list may name a file more than once; the occurrences are matched in their order
                keys_a, keys_b = _numbered(keys_a), _numbered(keys_b)
            else:
                continue
        place = {key: n for n, key in enumerate(keys_b)}
        pairs = [(n, place[key]) for n, key in enumerate(keys_a) if key in place]
        if pairs:
            rows = np.array(pairs)
            return rows[:, 0], rows[:, 1]
    raise DataError(f"{names[0]} and {names[1]} have no video in common ({a.paths[0]} … and {b.paths[0]} …).")


def _end(path: str, parts: int | None) -> str:
    return path if parts is None else "/".join(path.replace("\\", "/").split("/")[-parts:])


def _numbered(keys: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    out = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        out.append(f"{key}#{seen[key]}")
    return out


def _subset(result: TestResult, rows: NDArray) -> TestResult:
    paths, labels, scores = ([values[n] for n in rows] for values in (result.paths, result.labels, result.scores))
    return replace(result, paths=paths, labels=labels, scores=scores, video_seconds=[])


def read_result(path: str | Path) -> TestResult:
    """From a JSON file that ``clipwise test --out`` wrote.

    Raises:
        DataError: not such a file.
    """
    path = Path(path)
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from None
    except ValueError:
        raise DataError(f"{path} is not JSON. Write it with `clipwise test … --out {path.stem}.json`.") from None
    if isinstance(content, dict):
        check_schema(content.get("schema", JSON_SCHEMA), JSON_SCHEMA, path, DataError)
    rows = content.get("results") if isinstance(content, dict) else None
    if isinstance(rows, dict):
        raise DataError(
            f"{path} holds segments of a localizer, not scores of a recognizer. Measure both files under one ground truth: "
            "clipwise eval-detections A B GROUND_TRUTH (eval-proposals for segments without classes)."
        )
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) and "path" in r for r in rows):
        raise DataError(f"{path} is not a result of `clipwise test --out`: it has no list 'results' with videos.")
    try:
        scores = [None if r.get("scores") is None else np.asarray(r["scores"], np.float64) for r in rows]
        width = max((s.shape[-1] for s in scores if s is not None), default=len(content.get("classes") or [0]))
        result = TestResult(
            paths=[str(r["path"]) for r in rows],
            labels=[_multi_hot(r["label"], width) for r in rows],
            scores=[np.full(width, np.nan) if s is None else s for s in scores],
            classes=content.get("classes"),
            failures=content.get("failures") or {},
            metrics=content.get("metrics") or {},
            seconds=float(content.get("seconds") or 0.0),
        )
        result.table, result.truth  # noqa: B018 - shapes that do not fit show here
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: a result has no usable label or scores ({error}).") from None
    return result


def _multi_hot(label: Any, width: int) -> Any:
    """JSON holds several labels as a list of classes."""
    if not isinstance(label, list):
        return label
    hot = np.zeros(width, np.int64)
    hot[label] = 1
    return hot
