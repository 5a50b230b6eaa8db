"""The parts of a report about training runs: curves, figures, time, recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from clipwise.report.charts import Series, line_chart
from clipwise.report.runs import RunLog, analyze_time, figure_order, smooth
from clipwise.report.sections import FIGURE_NAMES, Section, seconds, table, tiles


def curves_section(
    runs: Sequence[RunLog], anchor: str = "curves", keys: Sequence[str] | None = None, weight: float | None = None
) -> Section:
    """Loss, accuracy, learning rate and time of one or more runs."""
    drawings = [run_chart(runs, key, weight) for key in keys or chart_keys(runs)]
    note = "Thin lines are every logged value, strong ones their moving average, dots are the validation."
    if len(runs) > 1:
        note += " Dashed: training, where the validation is drawn too."
    return Section(anchor, "Curves", f'<div class="charts">{"".join(drawings)}</div>', note)


def chart_keys(runs: Sequence[RunLog]) -> list[str]:
    """Figures that are worth a chart: those of the log, less what another one says too."""
    keys = {k for run in runs for mode in ("train", "val") for k in run.keys(mode)} - {"data_time", "memory"}
    if "loss" in keys and not any(k.startswith("loss_") and k != "loss_cls" for k in keys):
        keys.discard("loss_cls")
    return figure_order(keys)


def run_chart(runs: Sequence[RunLog], key: str, weight: float | None = None, standalone: bool = False) -> str:
    """One figure of several runs in one chart, training and validation together.

    Args:
        weight: of the moving average, 0 for none; chosen by the number of points if not given.
        standalone: a complete SVG document instead of a part of a page.
    """
    share = "acc" in key or "precision" in key
    return line_chart(
        FIGURE_NAMES.get(key, key),
        curve_series(runs, key, weight),
        percent=share,
        y_min=0.0 if share or key in ("time", "lr") else None,
        y_max=1.0 if share else None,
        standalone=standalone,
    )


def curve_series(runs: Sequence[RunLog], key: str, weight: float | None = None) -> list[Series]:
    """The lines of :func:`run_chart`, for any way of drawing them."""
    series = []
    several = len(runs) > 1
    for n, run in enumerate(runs):
        prefix = f"{run.name} " if several else ""
        x, y = run.curve(key)
        val_x, val_y = run.curve(key, "val")
        if len(x):
            noisy = key not in ("lr", "time") and len(x) > 20
            w = weight if weight is not None else (0.5 if len(x) < 100 else 0.8) if noisy else 0.0
            if w:
                series.append(Series("", x, y, n, "faint"))
            name = run.name if several and not len(val_x) else f"{prefix}training"
            series.append(
                Series(
                    name,
                    x,
                    smooth(y, w),
                    n,
                    "dashed" if several and len(val_x) else "line",
                    not several or not len(val_x),
                )
            )
        if len(val_x):
            name = run.name if several and not len(x) else f"{prefix}validation"
            series.append(Series(name, val_x, val_y, n if several else 1, "dots"))
    return series


def sheet(charts: Sequence[str], columns: int = 2, width: int = 560, height: int = 270, gap: int = 24) -> str:
    """Several standalone charts in one SVG document."""
    columns = min(columns, len(charts))
    rows = -(-len(charts) // columns)
    w, h = columns * (width + gap) + gap, rows * (height + gap) + gap
    placed = "".join(
        chart.replace(
            "<svg ", f'<svg x="{gap + n % columns * (width + gap)}" y="{gap + n // columns * (height + gap)}" ', 1
        )
        for n, chart in enumerate(charts)
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}"><rect width="100%" height="100%" fill="#fff"/>{placed}</svg>'


def run_tiles(run: RunLog) -> str:
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
        items.append(("time a step", seconds(timing.average), wait))
        if timing.total_s:
            items.append(("training time", seconds(timing.total_s), "without validation"))
    memory = run.curve("memory")[1]
    if len(memory) and memory.max() > 0:
        items.append(("peak memory", f"{memory.max():,.0f} MB", "of the device"))
    return tiles(items)


def time_section(runs: Sequence[RunLog]) -> Section | None:
    """Time a step, epoch by epoch."""
    rows = []
    for run in runs:
        t = analyze_time(run)
        if t:
            rows.append(
                (run.name, seconds(t.average), f"epoch {t.slowest[0]}: {seconds(t.slowest[1])}",
                 f"epoch {t.fastest[0]}: {seconds(t.fastest[1])}", seconds(t.std),
                 "–" if t.waiting is None else f"{t.waiting:.0%}", "–" if t.total_s is None else seconds(t.total_s))
            )  # fmt: skip
    if not rows:
        return None
    head = (
        "run",
        "average step",
        "slowest epoch",
        "fastest epoch",
        "spread over epochs",
        "waiting for data",
        "in total",
    )
    return Section("time", "Time", table(head, rows, (1, 2, 3, 4, 5, 6)))


def recipe_section(text: str) -> Section:
    """The recipe, key by key."""
    import yaml

    from clipwise.io.parse import parse_yaml

    try:
        values = parse_yaml(text)
    except yaml.YAMLError:  # damaged: the text below is all there is
        values = None
    rows = []
    for key, value in values.items() if isinstance(values, dict) else []:
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)
        if value not in (None, [], {}, ""):
            rows.append(
                f'<div data-name="{escape(key, quote=True)}"><dt>{escape(key)}</dt><dd data-keep>{escape(shown)}</dd></div>'
            )
    body = (
        '<div class="filtered"><input type="search" class="filter" placeholder="find a key" aria-label="find a key">'
        f'<dl class="keys">{"".join(rows)}</dl></div>'
        f'<details><summary>the recipe as YAML</summary><pre tabindex="0">{escape(text)}</pre></details>'
    )
    return Section("recipe", "Recipe", body, "Every key that has a value. Training with this file repeats the run.")
