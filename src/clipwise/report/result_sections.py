"""The parts of a report about test results: classes, confusions, mistakes, calibration, time, failures."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from clipwise.report import charts
from clipwise.report.charts import Series, line_chart
from clipwise.report.scores import ScoreTable, calibration, similarity_order
from clipwise.report.sections import FIGURE_NAMES, Html, Section, json_text, seconds, strip_html, table, tail, tiles
from clipwise.report.thumbs import film_strips

_SMALL_MATRIX = 24  # classes up to which a confusion matrix is a table with numbers


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
            ("time a video", seconds(result.seconds / max(len(result), 1)), f"{seconds(result.seconds)} in all")
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
        speed = seconds(r.seconds / max(len(r), 1)) if r.seconds else "–"
        rows.append((Html(f'<i class="key s{n % 8}"></i>{escape(name)}'), *figures, len(r), speed))
    head = ("model", *(FIGURE_NAMES.get(k, k) for k in keys), "videos", "time a video")
    return table(head, rows, range(1, len(head)))


def class_section(results: Mapping[str, ScoreTable], anchor: str = "classes") -> Section:
    """Accuracy by class as sorted bars, one bar a result."""
    first = next(iter(results.values()))
    count = first.class_counts
    shown = [k for k in range(first.num_classes) if count[k]]
    worst = np.nan_to_num(np.stack([r.class_accuracy for r in results.values()])).min(0)
    order = sorted(shown, key=lambda k: (worst[k], first.classes[k]))
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
            f'<li data-name="{escape(first.classes[k], quote=True)}" data-value="{worst[k]:.4f}" '
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
    small = (" few" if len(order) <= 24 else "") + (" multi" if len(results) > 1 else "")
    body = f'<div class="filtered">{tools if len(order) > 8 else ""}{legend}<ol class="bars{small}" style="--results:{len(results)}" tabindex="0">{"".join(rows)}</ol></div>'
    note = f"Share of each class's videos that were named rightly ({figure}), and how many videos the class has."
    if first.multi_label:
        note = "Average precision of each class, and how many videos have it."
    return Section(anchor, "Class by class", body, note)


def confusion_section(results: Mapping[str, ScoreTable], anchor: str = "confusion") -> Section | None:
    """Confusion matrices: numbers for a few classes, pictures to zoom into for many."""
    shown = {name: r for name, r in results.items() if not r.multi_label and r.confusion.any()}
    if not shown:
        return None
    parts = []
    for n, (name, r) in enumerate(shown.items()):
        heading = f"<h3 data-keep>{escape(name)}</h3>" if name else ""
        drawing = _small_matrix(r) if r.num_classes <= _SMALL_MATRIX else _large_matrix(r, f"{anchor}-{n}")
        parts.append(f"<div>{heading}{drawing}</div>")
    note = "Rows are the truth, columns what the model said. Blue: right; red: wrong, the stronger the larger the share of its class."
    return Section(anchor, "Confusion matrix", f'<div class="matrices">{"".join(parts)}</div>', note)


def _large_matrix(result: ScoreTable, name: str) -> str:
    counts = result.confusion
    i, j = np.nonzero(counts)
    data = {
        "names": result.classes,
        "cells": np.stack([i, j, counts[i, j]], 1).ravel().tolist(),
        "similar": similarity_order(counts).tolist(),
        "accuracy": np.argsort(np.nan_to_num(result.class_accuracy, nan=2.0), kind="stable").tolist(),
    }
    options = "".join(f"<option>{escape(c)}</option>" for c in result.classes)
    return (
        '<div class="matrix" data-matrix><div class="tools-line">'
        '<label><span>order</span> <select class="order" aria-label="order"><option value="similar">similar classes together</option>'
        '<option value="list">as in the list</option><option value="accuracy">worst first</option></select></label>'
        f'<input type="search" class="find" list="names-{name}" placeholder="find a class" aria-label="find a class">'
        '<span class="zoom"><button type="button" data-zoom="-1" aria-label="smaller">−</button>'
        '<button type="button" data-zoom="1" aria-label="larger">+</button><button type="button" data-zoom="0">whole</button></span></div>'
        f'<datalist id="names-{name}">{options}</datalist>'
        '<div class="canvas-box"><canvas tabindex="0" role="img" aria-label="Confusion matrix; arrow keys move, plus and minus zoom"></canvas></div>'
        '<p class="readout" aria-live="polite">Point at a cell, or use the arrow keys. Double click, Ctrl and the wheel, + and − zoom; drag to move.</p>'
        f'<script type="application/json">{json_text(data)}</script></div>'
    )


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
            f'<p class="path" data-keep title="{escape(result.paths[n], quote=True)}">{escape(tail(result.paths[n]))}</p></li>'
        )
    note = "Wrong, and sure of it: the largest lead of the wrong class over the true one. A strip plays while you point at it or when it is focused; Enter keeps it playing."
    return Section(anchor, title, f'<ul class="strips">{"".join(cards)}</ul>', note)


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
        ("in all", seconds(result.seconds)),
        ("a video, on average", seconds(mean)),
        ("videos a second", f"{1 / mean:.2f}"),
    ]
    extra = ""
    if result.video_seconds is not None:
        times = result.video_seconds
        rows += [
            (f"{q} % of the videos take at most", seconds(float(np.nanpercentile(times, q)))) for q in (50, 90, 99)
        ]
        slow = np.argsort(-np.nan_to_num(times))[:worst]
        extra = "<h3>Slowest videos</h3>" + table(
            ("video", "time"), [(tail(result.paths[n]), seconds(float(times[n]))) for n in slow], (1,)
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
