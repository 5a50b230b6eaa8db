"""Logs of runs: curves, best figures and time. Reads clipwise's ``log.jsonl``; ``foreign_logs`` turns others into the same lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError
from clipwise.io.parse import parse_json

# what says where a line stands, not how well the run goes
_PLACE = {"mode", "epoch", "epochs", "iter", "iters", "step", "eta"}
_TIMES = {"time", "data_time"}


@dataclass
class RunLog:
    """The lines of one run.

    Attributes:
        name: for legends.
        source: the file.
        train, val: lines; each has ``at``, its place in epochs.
        recipe: the text of recipe.yaml, where there is one.
    """

    name: str
    source: Path
    train: list[dict[str, Any]] = field(default_factory=list)
    val: list[dict[str, Any]] = field(default_factory=list)
    recipe: str | None = None

    def keys(self, mode: str = "train") -> list[str]:
        """Names of the figures, in order of appearance."""
        lines = self.train if mode == "train" else self.val
        names = dict.fromkeys(k for line in lines for k, v in line.items() if isinstance(v, (int, float)))
        return [k for k in names if k not in _PLACE and k != "at"]

    def curve(self, key: str, mode: str = "train") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(epochs, values) of a figure; empty where the log has none."""
        lines = self.train if mode == "train" else self.val
        points = [(line["at"], line[key]) for line in lines if isinstance(line.get(key), (int, float))]
        values = np.array(points, float).reshape(-1, 2)
        return values[:, 0], values[:, 1]

    def best(self, key: str) -> tuple[float, float] | None:
        """(epoch, value) of the highest validation figure."""
        at, values = self.curve(key, "val")
        return (float(at[values.argmax()]), float(values.max())) if len(values) else None


def read_run(path: str | Path, name: str | None = None) -> RunLog:
    """Read a run's folder or log file.

    Args:
        path: a run's folder (clipwise or MMAction2), a ``log.jsonl``, a ``*.log.json`` or a ``scalars.json``.
        name: for legends; the folder's name by default.

    Raises:
        DataError: no log there, or no line of it can be used.
    """
    file = Path(path) / "log.jsonl" if Path(path).is_dir() else Path(path)
    ours = file.name == "log.jsonl" and file.is_file()
    if not ours:
        from clipwise.report import foreign_logs

        file = foreign_logs.find_log(Path(path))
    folder = file.resolve().parent
    run = RunLog(name or (folder.name if ours else foreign_logs.run_name(Path(path), file)), file)
    recipe = folder / "recipe.yaml"
    run.recipe = recipe.read_text(encoding="utf-8") if recipe.is_file() else None
    lines = read_lines(file)
    for line in lines if ours else foreign_logs.unify(lines):
        if line.get("mode") in ("train", "val"):
            (run.train if line["mode"] == "train" else run.val).append({"at": _place(line), **line})
    if not run.train and not run.val:
        raise DataError(f"{file} holds no line of a training run.")
    return run


def _place(line: dict[str, Any]) -> float:
    """Where a line of ours stands, in epochs."""
    epoch = float(line.get("epoch", 1))
    if line["mode"] == "val" or "iter" not in line:
        return epoch
    return epoch - 1 + min(line["iter"] / (line.get("iters") or line["iter"] or 1), 1.0)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The JSON objects of a log, one per line; a line that a kill cut is left out."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file} can't be read as a log.") from None
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            lines.append(parse_json(line))
    return [line for line in lines if isinstance(line, dict)]


@dataclass(frozen=True)
class TimeAnalysis:
    """Seconds per iteration, by epoch, as MMAction2's ``analyze_logs.py cal_train_time`` prints them.

    Attributes:
        epochs: (E,) epoch numbers.
        means: (E,) average seconds per iteration of each epoch.
        average: over all lines.
        std: of ``means``.
        waiting: share of the time that the loop waited for data, or None.
        total_s: seconds of all iterations, where the log allows to say so, or None.
    """

    epochs: NDArray[np.int64]
    means: NDArray[np.float64]
    average: float
    std: float
    waiting: float | None
    total_s: float | None

    @property
    def slowest(self) -> tuple[int, float]:
        return int(self.epochs[self.means.argmax()]), float(self.means.max())

    @property
    def fastest(self) -> tuple[int, float]:
        return int(self.epochs[self.means.argmin()]), float(self.means.min())


def analyze_time(run: RunLog, include_outliers: bool = False) -> TimeAnalysis | None:
    """Time per step, by epoch; None where the log has no times.

    Args:
        include_outliers: keep the first line of each epoch, which has the loader's start in it. Without it that line
            is left out where the epoch has more than one.

    Source: MMAction2 0.24 tools/analysis/analyze_logs.py.
    """
    by_epoch: dict[int, list[dict[str, Any]]] = {}
    for line in run.train:
        if isinstance(line.get("time"), (int, float)):
            by_epoch.setdefault(int(line.get("epoch", 1)), []).append(line)
    if not by_epoch:
        return None
    # differs: MMAction2 fails when epochs have different numbers of lines; here each epoch has its own mean
    kept = {e: lines if include_outliers or len(lines) == 1 else lines[1:] for e, lines in by_epoch.items()}
    times = {e: np.array([line["time"] for line in lines]) for e, lines in kept.items()}
    means = np.array([t.mean() for t in times.values()])
    everything = np.concatenate(list(times.values()))
    waits = [line["data_time"] for lines in kept.values() for line in lines if "data_time" in line]
    total = 0.0
    for lines in by_epoch.values():
        before = 0
        for line in lines:
            count = line.get("iter", 0) - before if line.get("iters") else 0
            total += line["time"] * max(count, 0)
            before = line.get("iter", before)
    return TimeAnalysis(
        epochs=np.array(list(times)),
        means=means,
        average=float(everything.mean()),
        std=float(means.std()),
        waiting=float(np.sum(waits) / everything.sum()) if len(waits) == len(everything) and everything.sum() else None,
        total_s=total or None,
    )


def smooth(values: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Exponential moving average, run forwards and backwards so that it does not lag; ``weight`` 0 leaves the values."""
    if not 0 < weight < 1 or len(values) < 3:
        return values
    return (_forward(values, weight) + _forward(values[::-1], weight)[::-1]) / 2


def _forward(values: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    out, state = np.empty(len(values)), 0.0
    for n, value in enumerate(values):
        state = weight * state + (1 - weight) * value
        out[n] = state / (1 - weight ** (n + 1))  # without the start's bias
    return out


def figure_order(keys: Iterable[str]) -> list[str]:
    """Losses, then accuracies, then the rest; times last."""

    def rank(key: str) -> tuple[int, str]:
        if "loss" in key:
            return (0 if key == "loss" else 1, key)
        if "acc" in key or "precision" in key or key == "auc":
            return (2, key)
        return (4 if key in _TIMES or key == "memory" else 3, key)

    return sorted(keys, key=rank)
