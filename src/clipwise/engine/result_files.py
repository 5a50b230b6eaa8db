"""Files of test results, and whether they can be written."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipwise.errors import ClipwiseError
from clipwise.io.files import atomic_path
from clipwise.io.text import JSON_SCHEMA, csv_text

if TYPE_CHECKING:
    from clipwise.engine.evaluate import TestResult


def rows_of(result: TestResult) -> list[dict[str, Any]]:
    """``TestResult.rows``: one flat dictionary a video."""
    rows = []
    for path, label, one in zip(result.paths, result.labels, result.means):
        failed = bool(np.isnan(one).any())
        best = -1 if failed else int(one.argmax())
        row: dict[str, Any] = {
            "path": path,
            "label": label if np.ndim(label) == 0 else np.flatnonzero(label).tolist(),
        }
        row["prediction"] = None if failed else best
        if result.classes:
            row["label_name"] = result.classes[label] if np.ndim(label) == 0 and label is not None else None
            row["prediction_name"] = None if failed else result.classes[best]
        row["score"] = None if failed else float(one[best])
        row["correct"] = bool(best == label) if np.ndim(label) == 0 else None
        row["error"] = result.failures.get(path)
        rows.append(row)
    return rows


def write_result(result: TestResult, path: str | Path) -> None:
    """``TestResult.save``: ``.json`` (everything), ``.csv`` (a row a video with its scores) or ``.pkl`` (MMAction2's list of arrays)."""
    path = Path(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".json":
            content = {
                "schema": JSON_SCHEMA,
                "classes": result.classes,
                "metrics": result.metrics,
                "failures": result.failures,
                "results": [
                    {**row, "scores": None if row["prediction"] is None else s.tolist()}
                    for row, s in zip(result.rows(), result.scores)
                ],
            }
            temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        elif path.suffix == ".csv":
            rows = result.rows()
            width = result.scores[0].shape[-1] if result.scores else 0
            names = [f"score_{result.classes[i]}" if result.classes else f"score_{i}" for i in range(width)]
            header = [*rows[0], *names] if rows else names
            body = ([*row.values(), *score.tolist()] for row, score in zip(rows, result.means))
            temporary.write_text(csv_text([header, *body]), encoding="utf-8", newline="")
        else:
            temporary.write_bytes(pickle.dumps([s.astype(np.float32) for s in result.scores]))


def check_result_path(path: str | Path) -> Path:
    """Refuse a result file of an unknown kind before the work starts, not after it."""
    path = Path(path)
    if path.suffix not in (".json", ".csv", ".pkl"):
        raise ClipwiseError(f"--out {path}: results can be written as .json, .csv or .pkl.")
    check_writable(path, "--out")
    return path


def check_writable(path: str | Path, option: str) -> None:
    """Refuse a result file that can't be written before the work starts, not after it."""
    if Path(path).is_dir():
        raise ClipwiseError(f"{option} {path} is a folder; give a file name.")
    place = next(p for p in Path(path).absolute().parents if p.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ClipwiseError(f"{option} {path}: {place} is not a folder that can be written to; give another place.")
