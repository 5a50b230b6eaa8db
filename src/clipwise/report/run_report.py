"""Training runs: their logs as curves and times, and their reports with the last validation class by class and the recipe.

Reads clipwise's ``log.jsonl``; ``foreign_logs`` turns others into the same lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError
from clipwise.io.parse import read_json_lines
from clipwise.report.page import FIGURE_NAMES, Language, Section, Series, duration, line_chart, write_page
from clipwise.report.scores import ScoreTable

# what says where a line stands, not how well the run goes
_PLACE = {"mode", "epoch", "epochs", "iter", "iters", "step", "eta"}
_TIMES = {"time", "data_time"}


@dataclass
class LoggedRun:
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


def read_run(path: str | Path, name: str | None = None) -> LoggedRun:
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
    run = LoggedRun(name or (folder.name if ours else foreign_logs.run_name(Path(path), file)), file)
    recipe = folder / "recipe.yaml"
    run.recipe = recipe.read_text(encoding="utf-8") if recipe.is_file() else None
    try:
        lines = read_json_lines(file)
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file} can't be read as a log.") from None
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


def analyze_time(run: LoggedRun, include_outliers: bool = False) -> TimeAnalysis | None:
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


# ---- the report -----------------------------------------------------------------------------------------------------------------------


def run_report(folder: str | Path, result: Any = None, *, name: str | None = None, language: Language = "en") -> Path:
    """A run's ``report.html`` beside its log: figures, curves, the validation's classes, time and recipe.

    Args:
        folder: with ``log.jsonl`` and ``recipe.yaml``.
        result: the last validation's ``TestResult``, if there is one.
        name: of the run; the folder's name by default.
        language: "en" or "zh", in which the page opens.

    Raises:
        DataError: the folder has no log.
    """
    run = read_run(folder, name)
    sections: list[Section | None] = [curves_section([run])]
    if result is not None:
        more = " Confusions, mistakes and calibration: clipwise test CHECKPOINT --report FOLDER."
        sections.append(class_section({"": ScoreTable.of(result)}, more))
    sections.append(time_section([run]))
    if run.recipe:
        sections.append(_recipe_section(run.recipe))
    path = Path(folder) / "report.html"
    return write_page(path, run.name, sections, kind="Training run", tiles=run_tiles(run), language=language)


def curves_report(
    runs: Sequence[LoggedRun], out: str | Path, *, keys: Sequence[str] | None = None, weight: float | None = None
) -> Path:
    """Curves and times of runs on one page."""
    sections = [curves_section(runs, keys=keys, weight=weight), time_section(runs)]
    tiles = run_tiles(runs[0]) if len(runs) == 1 else ()
    return write_page(out, ", ".join(r.name for r in runs), sections, kind="Curves", tiles=tiles)


def curves_section(
    runs: Sequence[LoggedRun], keys: Sequence[str] | None = None, weight: float | None = None
) -> Section:
    """Loss, accuracy, learning rate and time of one or more runs."""
    note = "Thin lines are every logged value, strong ones their moving average, dots are the validation."
    if len(runs) > 1:
        note += " Dashed: training, where the validation is drawn too."
    charts = [run_chart(runs, key, weight) for key in keys or chart_keys(runs)]
    return Section("curves", "Curves", "charts", {"charts": charts}, note)


def chart_keys(runs: Sequence[LoggedRun]) -> list[str]:
    """Figures that are worth a chart: those of the log, less what another one says too."""
    keys = {k for run in runs for mode in ("train", "val") for k in run.keys(mode)} - {"data_time", "memory"}
    if "loss" in keys and not any(k.startswith("loss_") and k != "loss_cls" for k in keys):
        keys.discard("loss_cls")
    return figure_order(keys)


def run_chart(runs: Sequence[LoggedRun], key: str, weight: float | None = None, standalone: bool = False) -> Any:
    """One figure of several runs in one chart, training and validation together.

    Args:
        weight: of the moving average, 0 for none; chosen by the number of points by default.
        standalone: a complete SVG document instead of a part of a page.
    """
    share = "acc" in key or "precision" in key
    return line_chart(
        FIGURE_NAMES.get(key, key),
        [s for n, run in enumerate(runs) for s in _series(run, key, weight, n, len(runs) > 1)],
        percent=share,
        y_min=0.0 if share or key in ("time", "lr") else None,
        y_max=1.0 if share else None,
        standalone=standalone,
    )


def _series(run: LoggedRun, key: str, weight: float | None, n: int, several: bool) -> list[Series]:
    """A run's lines in a chart; ``n`` is its color where there are several."""
    series = []
    prefix = f"{run.name} " if several else ""
    x, y = run.curve(key)
    val_x, val_y = run.curve(key, "val")
    alone = not len(x) or not len(val_x)
    if len(x):
        noisy = key not in ("lr", "time") and len(x) > 20
        w = weight if weight is not None else (0.5 if len(x) < 100 else 0.8) if noisy else 0.0
        if w:
            series.append(Series("", x, y, n, "faint"))
        name = run.name if several and alone else f"{prefix}training"
        style = "dashed" if several and not alone else "line"
        series.append(Series(name, x, smooth(y, w), n, style, in_legend=not several or alone))
    if len(val_x):
        name = run.name if several and alone else f"{prefix}validation"
        series.append(Series(name, val_x, val_y, n if several else 1, "dots"))
    return series


def run_tiles(run: LoggedRun) -> list[tuple[str, str, str]]:
    """A run in a line of figures."""
    items = []
    for key in ("top1_acc", "mean_class_accuracy", "mean_average_precision"):
        best = run.best(key)
        if best:
            items.append((f"best {FIGURE_NAMES[key]}", f"{best[1]:.2%}", f"after epoch {best[0]:.0f}"))
    _, loss = run.curve("loss")
    if len(loss):
        items.append(("last loss", f"{loss[-1]:.4g}", f"first {loss[0]:.4g}"))
    if run.train:
        last = run.train[-1]
        items.append(("epochs", f"{last.get('epoch', '–')}", f"{last.get('step', last.get('iter', '–'))} steps"))
    timing = analyze_time(run)
    if timing:
        wait = f"{timing.waiting:.0%} waiting for data" if timing.waiting is not None else ""
        items.append(("time per step", duration(timing.average), wait))
        if timing.total_s:
            items.append(("training time", duration(timing.total_s), "without validation"))
    memory = run.curve("memory")[1]
    if len(memory) and memory.max() > 0:
        items.append(("peak memory", f"{memory.max():,.0f} MB", "of the device"))
    return items


def time_section(runs: Sequence[LoggedRun]) -> Section | None:
    """Time per step, epoch by epoch."""
    rows = []
    for run in runs:
        t = analyze_time(run)
        if t:
            extremes = [f"epoch {epoch}: {duration(mean)}" for epoch, mean in (t.slowest, t.fastest)]
            waiting = "–" if t.waiting is None else f"{t.waiting:.0%}"
            total = "–" if t.total_s is None else duration(t.total_s)
            rows.append((run.name, duration(t.average), *extremes, duration(t.std), waiting, total))
    head = (
        "run",
        "average step",
        "slowest epoch",
        "fastest epoch",
        "spread over epochs",
        "waiting for data",
        "in total",
    )
    return Section.table("time", "Time", head, rows, (1, 2, 3, 4, 5, 6), keep=(0,)) if rows else None


def class_section(results: Mapping[str, ScoreTable], more: str = "") -> Section | None:
    """Accuracy by class as sorted bars, one bar per result; ``more`` ends the note."""
    first = next(iter(results.values()))
    count = first.class_counts
    accuracy = np.nan_to_num(np.stack([r.class_accuracy for r in results.values()]))
    worst = accuracy.min(0)
    wrong = first.confusion - np.diag(first.confusion.diagonal())
    rows = [
        {
            "name": first.classes[k],
            "index": int(k),
            "count": int(count[k]),
            "worst": worst[k],
            "values": accuracy[:, k],
            "taken_for": (first.classes[wrong[k].argmax()], int(wrong[k].max()))
            if len(results) == 1 and wrong[k].any()
            else None,
        }
        for k in sorted(np.flatnonzero(count), key=lambda k: (worst[k], first.classes[k]))
    ]
    if not rows:
        return None
    note = "Share of each class's videos that were classified correctly (accuracy), and how many videos the class has."
    if first.multi_label:
        note = "Average precision of each class, and how many videos have it."
    return Section("classes", "Class by class", "classes", {"names": list(results), "rows": rows}, note + more)


def _recipe_section(text: str) -> Section:
    """The recipe, key by key."""
    import yaml

    from clipwise.io.parse import parse_yaml

    try:
        values = parse_yaml(text)
    except yaml.YAMLError:  # damaged: the text below is all there is
        values = None
    recipe = {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
        for key, value in _flat(values if isinstance(values, dict) else {})
        if value not in (None, [], {}, "")
    }
    note = "Every key that has a value. Training with this file repeats the run."
    return Section("recipe", "Recipe", "recipe", {"recipe": recipe, "text": text}, note)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys of groups with a dot, as the command line takes them."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
