"""The parts of a report. Each function takes plain results and gives a ``Section``; every report is a choice of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from clipwise.report import charts
from clipwise.report.charts import Series, line_chart
from clipwise.report.runs import RunLog, analyze_time, figure_order, smooth
from clipwise.report.scores import ScoreTable, calibration, similarity_order
from clipwise.report.thumbs import film_strips

_SMALL_MATRIX = 24  # classes up to which a confusion matrix is a table with numbers
FIGURE_NAMES = {
    "top1_acc": "top-1 accuracy",
    "top5_acc": "top-5 accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "mean_average_precision": "mean average precision",
    "mmit_mean_average_precision": "mAP by video",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "loss_cls": "classification loss",
    "loss_aux": "auxiliary loss",
    "time": "seconds a step",
    "data_time": "seconds waiting for data",
    "memory": "memory (MB)",
}


@dataclass(frozen=True)
class Section:
    """A part of a page: anchor, heading, HTML, and whether it may share a row with the next."""

    anchor: str
    title: str
    body: str
    note: str = ""


def tiles(items: Sequence[tuple[str, str, str]]) -> str:
    """Key figures as (label, value, note)."""
    cells = "".join(
        f'<div class="tile"><dt>{escape(label)}</dt><dd>{escape(value)}</dd><small>{escape(note)}</small></div>'
        for label, value, note in items
    )
    return f'<dl class="tiles">{cells}</dl>'


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[int] = ()) -> str:
    """A plain table; cells are text (escaped) or ``Html``."""

    def cell(n: int, value: Any, tag: str = "td") -> str:
        text = value.text if isinstance(value, Html) else escape("" if value is None else str(value))
        return f"<{tag}{' class=num' if n in numeric else ''}>{text}</{tag}>"

    head = "".join(cell(n, h, "th") for n, h in enumerate(header))
    body = "".join("<tr>" + "".join(cell(n, v) for n, v in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Html:
    """A cell that is markup already."""

    text: str


# -- runs


def curves_section(runs: Sequence[RunLog], anchor: str = "curves") -> Section:
    """Loss, accuracy, learning rate and time of one or more runs."""
    drawings = [run_chart(runs, key) for key in chart_keys(runs)]
    note = "Thin lines are every logged value, strong ones their moving average, dots are the validation."
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
    """
    series = []
    share = "acc" in key or "precision" in key
    for n, run in enumerate(runs):
        x, y = run.curve(key)
        in_val = len(run.curve(key, "val")[0]) > 0
        prefix = f"{run.name} " if len(runs) > 1 else ""
        if len(x):
            noisy = key not in ("lr", "time") and len(x) > 20
            w = weight if weight is not None else (0.6 if len(x) < 100 else 0.9) if noisy else 0.0
            if w:
                series.append(Series("", x, y, n, "faint"))
            name = f"{prefix}training" if in_val or len(runs) == 1 else run.name
            series.append(Series(name, x, smooth(y, w), n, "dashed" if in_val and len(runs) > 1 else "line"))
        x, y = run.curve(key, "val")
        if len(x):
            colour = n if len(runs) > 1 else 1
            series.append(
                Series(
                    f"{prefix}validation" if len(runs) == 1 or len(run.curve(key)[0]) else run.name,
                    x,
                    y,
                    colour,
                    "dots",
                )
            )
    lowest = 0.0 if share or key in ("time", "lr") else None
    return line_chart(
        FIGURE_NAMES.get(key, key),
        series,
        percent=share,
        y_min=lowest,
        y_max=1.0 if share else None,
        standalone=standalone,
    )


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
        items.append(("time a step", _seconds(timing.average), wait))
        if timing.total_s:
            items.append(("training time", _seconds(timing.total_s), "without validation"))
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
                (run.name, _seconds(t.average), f"epoch {t.slowest[0]}: {_seconds(t.slowest[1])}",
                 f"epoch {t.fastest[0]}: {_seconds(t.fastest[1])}", _seconds(t.std),
                 "–" if t.waiting is None else f"{t.waiting:.0%}", "–" if t.total_s is None else _seconds(t.total_s))
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

    values = yaml.safe_load(text)
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


# -- results


def result_tiles(result: ScoreTable) -> str:
    """A test result in a line of figures."""
    items = [(FIGURE_NAMES.get(k, k), f"{v:.2%}", "") for k, v in result.metrics.items()]
    if not items and len(result):
        items.append(("right", f"{result.correct.mean():.2%}", ""))
    items.append(("videos", f"{len(result):,}", f"{int((result.class_counts > 0).sum())} classes"))
    if result.failures:
        items.append(("not decodable", f"{len(result.failures):,}", "counted as wrong"))
    if result.seconds:
        items.append(
            ("time a video", _seconds(result.seconds / max(len(result), 1)), f"{_seconds(result.seconds)} in all")
        )
    known = calibration(result)
    if known:
        items.append(("calibration error", f"{known.ece:.2%}", "ECE, 15 bins"))
    return tiles(items)


def comparison_tiles(results: Mapping[str, ScoreTable]) -> str:
    """The same figures of several results, one row each."""
    keys = list(dict.fromkeys(k for r in results.values() for k in r.metrics))
    rows = []
    for n, (name, r) in enumerate(results.items()):
        figures = [f"{r.metrics[k]:.2%}" if k in r.metrics else "–" for k in keys]
        speed = _seconds(r.seconds / max(len(r), 1)) if r.seconds else "–"
        rows.append((Html(f'<i class="key s{n % 8}"></i>{escape(name)}'), *figures, len(r), speed))
    head = ("model", *(FIGURE_NAMES.get(k, k) for k in keys), "videos", "time a video")
    return table(head, rows, range(1, len(head)))


def class_section(results: Mapping[str, ScoreTable], anchor: str = "classes") -> Section:
    """Accuracy by class as sorted bars, one bar a result."""
    first = next(iter(results.values()))
    count = first.class_counts
    shown = [k for k in range(first.num_classes) if count[k]]
    order = sorted(shown, key=lambda k: (np.nan_to_num(first.class_accuracy[k]), first.classes[k]))
    rows = []
    for k in order:
        bars, numbers = [], []
        for n, r in enumerate(results.values()):
            value = float(np.nan_to_num(r.class_accuracy[k]))
            bars.append(f'<i class="s{n % 8}" style="width:{value * 100:.1f}%"></i>')
            numbers.append(f"{value:.0%}")
        note = ""
        row = first.confusion[k].copy()
        row[k] = 0
        if len(results) == 1 and row.any():
            most = int(row.argmax())
            note = f"<small><span>mostly taken for</span> <b data-keep>{escape(first.classes[most])}</b> ({int(row[most])}×)</small>"
        rows.append(
            f'<li data-name="{escape(first.classes[k], quote=True)}" data-value="{float(np.nan_to_num(first.class_accuracy[k])):.4f}" '
            f'data-index="{k}" data-count="{int(count[k])}"><span class="name" data-keep title="{escape(first.classes[k], quote=True)}">{escape(first.classes[k])}</span>'
            f'<span class="track">{"".join(bars)}</span><span class="num">{" · ".join(numbers)}</span>'
            f'<span class="num count">{int(count[k])}</span>{note}</li>'
        )
    legend = ""
    if len(results) > 1:
        legend = (
            '<p class="legend-line">'
            + "".join(
                f'<span><i class="key s{n % 8}"></i><span data-keep>{escape(name)}</span></span>'
                for n, name in enumerate(results)
            )
            + "</p>"
        )
    figure = "average precision" if first.multi_label else "accuracy"
    tools = (
        '<div class="tools-line"><input type="search" class="filter" placeholder="find a class" aria-label="find a class">'
        '<label><span>order</span> <select class="sorter" aria-label="order"><option value="value">worst first</option>'
        '<option value="-value">best first</option><option value="name">by name</option>'
        '<option value="index">as in the list</option><option value="-count">most videos first</option></select></label></div>'
    )
    small = " few" if len(order) <= 24 else ""
    body = f'<div class="filtered">{tools if len(order) > 8 else ""}{legend}<ol class="bars{small}" tabindex="0">{"".join(rows)}</ol></div>'
    note = f"Share of each class's videos that were named rightly ({figure}), and how many videos the class has."
    if first.multi_label:
        note = "Average precision of each class, and how many videos have it."
    return Section(anchor, "Class by class", body, note)


def confusion_section(name: str, result: ScoreTable, anchor: str = "confusion") -> Section | None:
    """The confusion matrix: numbers for a few classes, a picture to zoom into for many."""
    if result.multi_label or not result.confusion.any():
        return None
    counts, k = result.confusion, result.num_classes
    title = f"Confusion matrix{': ' + name if name else ''}"
    if k <= _SMALL_MATRIX:
        return Section(anchor, title, _small_matrix(result), "Rows are the truth, columns what the model said.")
    i, j = np.nonzero(counts)
    data = {
        "names": result.classes,
        "cells": np.stack([i, j, counts[i, j]], 1).ravel().tolist(),
        "similar": similarity_order(counts).tolist(),
        "accuracy": np.argsort(np.nan_to_num(result.class_accuracy, nan=2.0), kind="stable").tolist(),
    }
    body = (
        '<div class="matrix" data-matrix><div class="tools-line">'
        '<label><span>order</span> <select class="order" aria-label="order"><option value="similar">similar classes together</option>'
        '<option value="list">as in the list</option><option value="accuracy">worst first</option></select></label>'
        '<input type="search" class="find" list="names-'
        + anchor
        + '" placeholder="find a class" aria-label="find a class">'
        '<span class="zoom"><button type="button" data-zoom="-1" aria-label="smaller">−</button><button type="button" data-zoom="1" aria-label="larger">+</button>'
        '<button type="button" data-zoom="0">whole</button></span></div>'
        f'<datalist id="names-{anchor}">{"".join(f"<option>{escape(c)}</option>" for c in result.classes)}</datalist>'
        '<div class="canvas-box"><canvas tabindex="0" role="img" aria-label="Confusion matrix; arrow keys move, plus and minus zoom"></canvas></div>'
        '<p class="readout" aria-live="polite">Point at a cell, or use the arrow keys. The wheel, + and − zoom; drag to move.</p>'
        f'<script type="application/json">{_json(data)}</script></div>'
    )
    note = "Rows are the truth, columns what the model said. Blue: right; red: wrong, the stronger the larger the share of its class."
    return Section(anchor, title, body, note)


def _small_matrix(result: ScoreTable) -> str:
    counts, names = result.confusion, result.classes
    shown = [k for k in range(len(names)) if counts[k].any() or counts[:, k].any()]
    total = np.maximum(counts.sum(1), 1)
    head = "".join(f'<th scope="col"><span data-keep>{escape(names[k])}</span></th>' for k in shown)
    rows = []
    for i in shown:
        cells = []
        for j in shown:
            n, share = int(counts[i, j]), counts[i, j] / total[i]
            kind = "hit" if i == j else "miss"
            text = f"{n}" if n else "·"
            deep = " deep" if share > 0.55 else ""
            cells.append(
                f'<td class="{kind if n else "none"}{deep}" style="--v:{share:.3f}" title="{escape(names[i], quote=True)} → {escape(names[j], quote=True)}: {n} ({share:.0%})">{text}</td>'
            )
        rows.append(f'<tr><th scope="row" data-keep>{escape(names[i])}</th>{"".join(cells)}</tr>')
    return f'<div class="scroll"><table class="small-matrix"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def pairs_section(result: ScoreTable, anchor: str = "pairs", limit: int = 20) -> Section | None:
    """The pairs of classes that are mistaken for one another most."""
    pairs = result.confused_pairs(limit) if not result.multi_label else []
    if not pairs:
        return None
    most = max(a + b for _, _, a, b in pairs)
    rows = []
    for i, j, there, back in pairs:
        share = there / max(int(result.class_counts[i]), 1)
        bar = f'<span class="track two"><i class="s4" style="width:{there / most * 100:.1f}%"></i><i class="s1" style="width:{back / most * 100:.1f}%"></i></span>'
        rows.append(
            (
                Html(f"<span data-keep>{escape(result.classes[i])}</span>"),
                Html(f"<span data-keep>{escape(result.classes[j])}</span>"),
                there,
                back,
                f"{share:.0%}",
                Html(bar),
            )
        )
    head = ("class", "taken for", "videos", "and the reverse", "share of the class", "")
    return Section(anchor, "Most confused pairs", table(head, rows, (2, 3, 4)))


def mistakes_section(
    result: ScoreTable, anchor: str = "mistakes", limit: int = 24, title: str = "Worst mistakes"
) -> Section | None:
    """The mistakes that the model was surest of, as strips that play."""
    chosen = result.worst_mistakes(limit)
    if not chosen:
        return None
    strips = film_strips([result.paths[n] for n in chosen])
    cards = []
    p = result.probabilities
    for n, strip in zip(chosen, strips):
        said = int(result.predictions[n])
        true = result.label_names(n)
        own = "" if result.multi_label else f"{p[n, int(result.labels[n])]:.0%}"
        cards.append(
            f'<li>{strip_html(strip, result.paths[n])}<p class="said"><span>said</span> <b data-keep>{escape(result.classes[said])}</b> {p[n, said]:.0%}</p>'
            f'<p class="true"><span>is</span> <b data-keep>{escape(true)}</b> {own}</p>'
            f'<p class="path" data-keep title="{escape(result.paths[n], quote=True)}">{escape(_tail(result.paths[n]))}</p></li>'
        )
    note = "Wrong, and sure of it: the largest lead of the wrong class over the true one. A strip plays while you point at it or when it is focused; Enter keeps it playing."
    return Section(anchor, title, f'<ul class="strips">{"".join(cards)}</ul>', note)


def strip_html(strip, path: str) -> str:
    """A strip that plays on hover, focus and Enter."""
    if strip is None:
        return '<div class="strip gone"><span>the file is not there any more</span></div>'
    length = strip.duration_s if 0.8 <= strip.duration_s <= 4 else 1.6
    return (
        f'<div class="strip" tabindex="0" role="button" aria-pressed="false" aria-label="play {escape(_tail(path), quote=True)}" '
        f'style="--n:{strip.count};--w:{strip.width};--h:{strip.height};--t:{length:.2f}s;background-image:url({strip.address})"></div>'
    )


def calibration_section(result: ScoreTable, anchor: str = "calibration") -> Section | None:
    """Reliability diagram and what it means."""
    known = calibration(result)
    if known is None:
        return None
    gap = known.overall_confidence - known.overall_accuracy
    if abs(gap) < 0.02:
        words = "On the whole its confidence is about right."
    elif gap > 0:
        words = "It is surer than it should be."
    else:
        words = "It is less sure than it could be."
    picture = charts.reliability_chart(known.edges, known.counts, known.accuracy, known.confidence)
    p, right = result.probabilities[result.usable].max(1), result.correct[result.usable]
    order = np.argsort(-p, kind="stable")
    kept = np.arange(1, len(order) + 1)
    cumulative = np.cumsum(right[order]) / kept
    curve = line_chart(
        "accuracy when only the surest videos are answered",
        [Series("accuracy", kept / len(order) * 100, cumulative, 0)],
        x_label="% of videos answered", percent=True, y_max=1.0, width=520, height=260,
    )  # fmt: skip
    facts = table(
        ("figure", "value"),
        [("mean confidence", f"{known.overall_confidence:.2%}"), ("accuracy", f"{known.overall_accuracy:.2%}"),
         ("expected calibration error", f"{known.ece:.2%}"), ("Brier score", f"{known.brier:.4f}"),
         ("negative log-likelihood", f"{known.nll:.4f}")], (1,),
    )  # fmt: skip
    body = f'<div class="split"><div>{picture}</div><div><p class="lead">{words}</p>{facts}{curve}</div></div>'
    note = "Bars on the diagonal: when it says 80 %, it is right 8 times of 10. Red gaps: surer than right; green gaps: righter than sure. Below: how many videos have that confidence."
    return Section(anchor, "Can its confidence be believed?", body, note)


def speed_section(result: ScoreTable, anchor: str = "speed", worst: int = 10) -> Section | None:
    """Time a video; its distribution where each video was timed."""
    if not result.seconds:
        return None
    mean = result.seconds / max(len(result), 1)
    rows = [
        ("in all", _seconds(result.seconds)),
        ("a video, on average", _seconds(mean)),
        ("videos a second", f"{1 / mean:.2f}"),
    ]
    extra = ""
    if result.video_seconds is not None:
        times = result.video_seconds
        rows += [
            (f"{q} % of the videos take at most", _seconds(float(np.nanpercentile(times, q)))) for q in (50, 90, 99)
        ]
        slow = np.argsort(-np.nan_to_num(times))[:worst]
        extra = "<h3>Slowest videos</h3>" + table(
            ("video", "time"), [(_tail(result.paths[n]), _seconds(float(times[n]))) for n in slow], (1,)
        )
    return Section(anchor, "Time a video", table(("decoding, network and averaging", ""), rows, (1,)) + extra)


def failures_section(result: ScoreTable, anchor: str = "failures") -> Section | None:
    """Files that could not be decoded, and why."""
    if not result.failures:
        return None
    rows = [
        (Html(f"<span data-keep>{escape(path)}</span>"), Html(f"<span data-keep>{escape(reason)}</span>"))
        for path, reason in result.failures.items()
    ]
    return Section(anchor, "Files that could not be decoded", table(("file", "reason"), rows), "They count as wrong.")


def timeline_section(
    videos: Sequence[Mapping[str, Any]], anchor: str = "timeline", title: str = "What happens when"
) -> Section:
    """Segments along the time of long videos.

    Args:
        videos: each with ``source``, ``duration_s``, ``segments`` (found) and optionally ``truth``; a segment has
            ``start``, ``end`` (seconds), and ``label`` and ``score`` where known.
    """
    names: dict[str, int] = {}
    parts = []
    for video in videos:
        length = max(float(video["duration_s"]), 1e-6)
        rows = []
        for kind, key in (("truth", "truth"), ("found", "segments")):
            if not video.get(key):
                continue
            blocks = []
            for lane, s in _lanes(video[key]):
                label = str(s.get("label") or "")
                colour = names.setdefault(label, len(names)) % 8
                start, end = float(s["start"]), float(s["end"])
                score = s.get("score")
                tip = f"{label} {start:.2f}–{end:.2f} s" + (f", {score:.2f}" if score is not None else "")
                text = f"{label} {score:.2f}" if score is not None else label
                blocks.append(
                    f'<div class="block s{colour}" tabindex="0" title="{escape(tip, quote=True)}" style="left:{start / length * 100:.2f}%;width:{max(end - start, 0) / length * 100:.2f}%;'
                    f'--lane:{lane};--o:{0.35 + 0.65 * float(score if score is not None else 1):.2f}"><span data-keep>{escape(text.strip())}</span></div>'
                )
            lanes = 1 + max(lane for lane, _ in _lanes(video[key]))
            rows.append(
                f'<div class="lane-name">{kind}</div><div class="lane" style="--lanes:{lanes}">{"".join(blocks)}</div>'
            )
        marks = "".join(
            f'<span style="left:{t / length * 100:.2f}%">{t:g} s</span>'
            for t in charts._ticks(0, length, 8)
            if t <= length * 1.0001
        )
        parts.append(
            f'<div class="timeline"><h3 data-keep>{escape(_tail(str(video["source"])))}</h3>{"".join(rows)}<div></div><div class="scale">{marks}</div></div>'
        )
    return Section(anchor, title, "".join(parts))


def predictions_section(predictions: Sequence[Mapping[str, Any]], anchor: str = "predictions") -> Section:
    """What a model says about new files.

    Args:
        predictions: each with ``source`` and ``top``: pairs of class and share.
    """
    strips = film_strips([str(p["source"]) for p in predictions])
    cards = []
    for p, strip in zip(predictions, strips):
        bars = "".join(
            f'<li><span class="name" data-keep>{escape(str(name))}</span><span class="track"><i class="s{0 if n == 0 else 7}" style="width:{float(score) * 100:.1f}%"></i></span><span class="num">{float(score):.1%}</span></li>'
            for n, (name, score) in enumerate(p["top"])
        )
        cards.append(
            f'<li class="prediction">{strip_html(strip, str(p["source"]))}<div><p class="path" data-keep>{escape(_tail(str(p["source"])))}</p><ol class="bars few plain">{bars}</ol></div></li>'
        )
    return Section(anchor, "Predictions on new files", f'<ul class="predictions">{"".join(cards)}</ul>')


def words_section(anchor: str, title: str, paragraphs: Sequence[str]) -> Section:
    """Plain text."""
    return Section(anchor, title, "".join(f"<p>{escape(p)}</p>" for p in paragraphs))


def _lanes(segments: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Overlapping segments go below one another."""
    ends: list[float] = []
    placed = []
    for s in sorted(segments, key=lambda s: float(s["start"])):
        lane = next((n for n, end in enumerate(ends) if end <= float(s["start"]) + 1e-9), len(ends))
        if lane == len(ends):
            ends.append(0.0)
        ends[lane] = float(s["end"])
        placed.append((lane, s))
    return placed


def _json(value: Any) -> str:
    """JSON that can stand inside a script element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _tail(path: str, parts: int = 2) -> str:
    return "/".join(path.replace("\\", "/").rstrip("/").split("/")[-parts:])


def _seconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 120:
        return f"{value:.3g} s"
    if value < 7200:
        return f"{value / 60:.3g} min"
    return f"{value / 3600:.3g} h"
