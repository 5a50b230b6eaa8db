"""What a run's log says: curves and time. Reads clipwise's ``log.jsonl`` and MMAction2's logs.

MMAction2 0.x writes ``TIMESTAMP.log.json`` (train and val lines with epoch and iteration), 1.x
``TIMESTAMP/vis_data/scalars.json`` (train lines with a running iteration, val lines without one). All become lines
with clipwise's names, so that runs of three systems stand in one picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError
from clipwise.io.parse import parse_json

# MMAction2 1.x name -> ours
_RENAMED = {"acc/top1": "top1_acc", "acc/top5": "top5_acc", "acc/mean1": "mean_class_accuracy"}
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
        name: for legends; the folder's name if not given.

    Raises:
        DataError: no log there, or no line of it can be used.
    """
    given = Path(path)
    file = find_log(given)
    run = RunLog(name or _name(given, file), file)
    recipe = file.parent / "recipe.yaml"
    run.recipe = recipe.read_text(encoding="utf-8") if recipe.is_file() else None
    lines = list(_objects(file))
    running = not any(line.get("mode") for line in lines)  # MMAction2 1.x has no mode
    per_epoch = _iterations_per_epoch(lines, running)
    for line in lines:
        line = {_RENAMED.get(k, k): v for k, v in line.items()}
        mode = line.get("mode") or ("train" if any("loss" in k for k in line) else "val")
        if "epoch" not in line and "step" not in line:
            continue  # the head of a 0.x log: environment and configuration
        if mode == "train":
            epoch = float(line.get("epoch", 1))
            place = line.get("iter", per_epoch)
            within = (place - (epoch - 1) * per_epoch if running else place) / (line.get("iters") or per_epoch)
            run.train.append({**line, "at": epoch - 1 + min(max(float(within), 0.0), 1.0)})
        elif mode == "val":
            run.val.append({**line, "at": float(line.get("epoch", line.get("step", 0)))})
    if not run.train and not run.val:
        raise DataError(f"{file} holds no line of a training run.")
    return run


def find_log(path: Path) -> Path:
    """The log file that a path means; the newest where a folder has several."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path} does not exist. Give a run's folder, a log.jsonl, a *.log.json or a scalars.json.")
    for pattern in ("log.jsonl", "*.log.json", "*/vis_data/scalars.json", "vis_data/scalars.json"):
        found = sorted(path.glob(pattern))
        if found:
            return found[-1]
    raise DataError(f"{path} holds no log (log.jsonl, *.log.json or */vis_data/scalars.json).")


@dataclass(frozen=True)
class TimeAnalysis:
    """Seconds an iteration, by epoch, as MMAction2's ``analyze_logs.py cal_train_time`` prints them.

    Attributes:
        epochs: (E,) epoch numbers.
        means: (E,) average seconds an iteration of each epoch.
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

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "slowest_epoch": self.slowest[0],
            "slowest_epoch_s_per_iter": self.slowest[1],
            "fastest_epoch": self.fastest[0],
            "fastest_epoch_s_per_iter": self.fastest[1],
            "std_over_epochs": self.std,
            "average_s_per_iter": self.average,
            "waiting_for_data": self.waiting,
            "total_s": self.total_s,
        }


def analyze_time(run: RunLog, include_outliers: bool = False) -> TimeAnalysis | None:
    """Time a step, by epoch; None where the log has no times.

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


def _objects(file: Path) -> Iterable[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file} can't be read as a log.") from None
    for line in text.splitlines():
        try:
            value = parse_json(line)
        except ValueError:  # a line that a kill cut
            continue
        if isinstance(value, dict):
            yield value


def _iterations_per_epoch(lines: list[dict[str, Any]], running: bool) -> float:
    """Iterations an epoch, from the lines themselves where they don't say it."""
    places = [(line["epoch"], line["iter"]) for line in lines if line.get("mode", "train") == "train" and "iter" in line and "epoch" in line]  # fmt: skip
    if not places:
        return 1.0
    if not running:
        return float(max(i for _, i in places))
    # a running count: the last line of epoch e is near e * iterations
    last: dict[int, int] = {}
    for epoch, i in places:
        last[epoch] = max(i, last.get(epoch, 0))
    return max(i / epoch for epoch, i in last.items())


def _name(given: Path, file: Path) -> str:
    if given.is_dir():
        return given.resolve().name
    if file.name in ("log.jsonl",):
        return file.resolve().parent.name
    if file.name == "scalars.json":
        return file.resolve().parent.parent.name
    return file.name.removesuffix(".log.json").removesuffix(".json")
