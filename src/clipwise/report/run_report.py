"""Reports of training runs: curves, best figures, the last validation class by class, time, recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.report.charts import Series, line_chart
from clipwise.report.page import FIGURE_NAMES, Language, Section, duration, write_page
from clipwise.report.runs import RunLog, analyze_time, figure_order, read_run, smooth
from clipwise.report.scores import ScoreTable


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
    runs: Sequence[RunLog], out: str | Path, *, keys: Sequence[str] | None = None, weight: float | None = None
) -> Path:
    """Curves and times of runs on one page."""
    sections = [curves_section(runs, keys=keys, weight=weight), time_section(runs)]
    tiles = run_tiles(runs[0]) if len(runs) == 1 else ()
    return write_page(out, ", ".join(r.name for r in runs), sections, kind="Curves", tiles=tiles)


def curves_section(runs: Sequence[RunLog], keys: Sequence[str] | None = None, weight: float | None = None) -> Section:
    """Loss, accuracy, learning rate and time of one or more runs."""
    note = "Thin lines are every logged value, strong ones their moving average, dots are the validation."
    if len(runs) > 1:
        note += " Dashed: training, where the validation is drawn too."
    charts = [run_chart(runs, key, weight) for key in keys or chart_keys(runs)]
    return Section("curves", "Curves", "charts", {"charts": charts}, note)


def chart_keys(runs: Sequence[RunLog]) -> list[str]:
    """Figures that are worth a chart: those of the log, less what another one says too."""
    keys = {k for run in runs for mode in ("train", "val") for k in run.keys(mode)} - {"data_time", "memory"}
    if "loss" in keys and not any(k.startswith("loss_") and k != "loss_cls" for k in keys):
        keys.discard("loss_cls")
    return figure_order(keys)


def run_chart(runs: Sequence[RunLog], key: str, weight: float | None = None, standalone: bool = False) -> Any:
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


def _series(run: RunLog, key: str, weight: float | None, n: int, several: bool) -> list[Series]:
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


def run_tiles(run: RunLog) -> list[tuple[str, str, str]]:
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


def time_section(runs: Sequence[RunLog]) -> Section | None:
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
