"""The report of a training run: its curves, the last validation class by class, the recipe.

Reads clipwise's ``log.jsonl``; ``foreign_logs`` turns others into the same lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from clipwise.engine.evaluate import TestResult
from clipwise.errors import DataError
from clipwise.io.parse import read_json_lines
from clipwise.recipe import parse_yaml
from clipwise.report.page import FIGURE_NAMES, Language, Section, Series, duration, line_chart, write_page

# what says where a line stands, not how well the run goes
_PLACE = {"mode", "epoch", "epochs", "iter", "iters", "step", "eta", "at"}


def run_report(
    folder: str | Path, result: TestResult | None = None, *, name: str | None = None, language: Language = "en"
) -> Path:
    """A run's ``report.html`` beside its log.

    Args:
        folder: with ``log.jsonl`` and ``recipe.yaml``.
        result: of the last validation, if there is one.
        name: of the run; the folder's name by default.
        language: "en" or "zh", in which the page opens.

    Raises:
        DataError: the folder has no log.
    """
    run = read_run(folder, name)
    sections: list[Section | None] = [curves_section([run])]
    if result is not None:
        more = " Confusions, mistakes and calibration: clipwise test CHECKPOINT --report FOLDER."
        sections.append(class_section({"": result}, more))
    if run.recipe:
        sections.append(_recipe_section(run.recipe))
    path = Path(folder) / "report.html"
    return write_page(path, run.name, sections, kind="Training run", tiles=run_tiles(run), language=language)


# ---- the log --------------------------------------------------------------------------------------------------------------------------


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
        return [k for k in names if k not in _PLACE]

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


# ---- sections of a page ---------------------------------------------------------------------------------------------------------------


def run_tiles(run: LoggedRun) -> list[tuple[str, str, str]]:
    """A run in a line of figures."""
    items = []
    for key in ("top1_acc", "mean_class_accuracy", "mean_average_precision"):
        if best := run.best(key):
            items.append((f"best {FIGURE_NAMES[key]}", f"{best[1]:.2%}", f"after epoch {best[0]:.0f}"))
    _, loss = run.curve("loss")
    if len(loss):
        items.append(("last loss", f"{loss[-1]:.4g}", f"first {loss[0]:.4g}"))
    if run.train:
        last = run.train[-1]
        items.append(("epochs", f"{last.get('epoch', '–')}", f"{last.get('step', last.get('iter', '–'))} steps"))
    times, waits = run.curve("time")[1], run.curve("data_time")[1]
    if len(times):
        wait = f"{waits.sum() / times.sum():.0%} waiting for data" if len(waits) == len(times) and times.any() else ""
        items.append(("time per step", duration(float(np.median(times))), wait))
    if total := training_time(run):
        items.append(("training time", duration(total), "without validation"))
    memory = run.curve("memory")[1]
    if memory.any():
        items.append(("peak memory", f"{memory.max():,.0f} MB", "of the device"))
    return items


def training_time(run: LoggedRun) -> float:
    """Seconds of all iterations; 0 where the log does not say how many an epoch has."""
    total, before = 0.0, (0, 0)
    for line in run.train:
        epoch, count = line.get("epoch", 1), line.get("iter", 0)
        if line.get("iters") and "time" in line:
            total += line["time"] * max(count - (before[1] if before[0] == epoch else 0), 0)
        before = epoch, count
    return total


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
    """Figures that are worth a chart, less what another one says too: losses, accuracies, the rest, time."""
    keys = {k for run in runs for mode in ("train", "val") for k in run.keys(mode)} - {"data_time", "memory"}
    if "loss" in keys and not any(k.startswith("loss_") and k != "loss_cls" for k in keys):
        keys.discard("loss_cls")
    order = (lambda k: k == "loss", lambda k: "loss" in k, _is_share, lambda k: k != "time", lambda k: True)
    return sorted(keys, key=lambda key: (next(n for n, fits in enumerate(order) if fits(key)), key))


def _is_share(key: str) -> bool:
    return "acc" in key or "precision" in key


def run_chart(runs: Sequence[LoggedRun], key: str, weight: float | None = None, standalone: bool = False) -> Any:
    """One figure of several runs in one chart, training and validation together.

    Args:
        weight: of the moving average, 0 for none; chosen by the number of points by default.
        standalone: a complete SVG document instead of a part of a page.
    """
    share = _is_share(key)
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


def class_section(results: Mapping[str, TestResult], more: str = "") -> Section | None:
    """Accuracy by class as sorted bars, one bar per result; ``more`` ends the note."""
    first = next(iter(results.values()))
    count = first.class_counts
    accuracy = np.nan_to_num(np.stack([r.class_accuracy for r in results.values()]))
    worst = accuracy.min(0)
    wrong = first.confusion - np.diag(first.confusion.diagonal())
    rows = [
        {
            "name": first.names[k],
            "index": int(k),
            "count": int(count[k]),
            "worst": worst[k],
            "values": accuracy[:, k],
            "taken_for": (first.names[wrong[k].argmax()], int(wrong[k].max()))
            if len(results) == 1 and wrong[k].any()
            else None,
        }
        for k in sorted(np.flatnonzero(count), key=lambda k: (worst[k], first.names[k]))
    ]
    if not rows:
        return None
    note = "Share of each class's videos that were classified correctly (accuracy), and how many videos the class has."
    if first.multi_label:
        note = "Average precision of each class, and how many videos have it."
    return Section("classes", "Class by class", "classes", {"names": list(results), "rows": rows}, note + more)


def _recipe_section(text: str) -> Section:
    """The recipe, key by key."""
    try:
        values = parse_yaml(text)
    except yaml.YAMLError:  # damaged: the text is all there is
        values = None
    data = {"recipe": values if isinstance(values, dict) else {}, "text": text}
    note = "Every key that has a value. Training with this file repeats the run."
    return Section("recipe", "Recipe", "recipe", data, note)
