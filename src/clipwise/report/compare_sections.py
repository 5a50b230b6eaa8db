"""The parts of a report about two results of the same videos."""

from __future__ import annotations

from html import escape

from clipwise.report.charts import interval_chart
from clipwise.report.comparison import Comparison
from clipwise.report.sections import FIGURE_NAMES, Html, Section, strip_html, table, tail, tiles
from clipwise.report.thumbs import film_strips


def compare_tiles(c: Comparison) -> str:
    """The comparison in a line of figures."""
    change = c.intervals["top1_acc"]
    a, b = c.values["top1_acc"]
    return tiles(
        [
            (c.names[0], f"{a:.2%}", "top-1 accuracy"),
            (c.names[1], f"{b:.2%}", "top-1 accuracy"),
            ("difference", f"{change.difference * 100:+.2f}", f"{change.low * 100:+.2f} to {change.high * 100:+.2f} points"),
            ("gained", f"{int(c.gained.sum())}", f"of {len(c.a)} videos"),
            ("lost", f"{int(c.lost.sum())}", f"of {len(c.a)} videos"),
            ("p-value", f"{c.p_value:.2g}", "McNemar, exact"),
        ]
    )  # fmt: skip


def verdict_section(c: Comparison) -> Section:
    """What the figures say, and the intervals."""
    rows = [(FIGURE_NAMES.get(k, k), i.difference, i.low, i.high) for k, i in c.intervals.items()]
    share = next(iter(c.intervals.values())).confidence
    left = f"<p>{c.left_out} videos are in only one of the files and were left out.</p>" if c.left_out else ""
    body = f'<div class="verdict"><p>{escape(c.verdict)}</p>{left}</div>{interval_chart(rows)}'
    note = f"Difference in points of per cent, {c.names[1]} minus {c.names[0]}, with the {share:.0%} interval of a paired bootstrap over the videos."
    return Section("verdict", "Which is better?", body, note)


def flips_section(c: Comparison) -> Section | None:
    """Videos gained and lost, class by class."""
    flips = [f for f in c.class_flips() if f["gained"] or f["lost"]]
    if not flips:
        return None
    most = max(max(f["gained"], f["lost"]) for f in flips)
    rows = []
    for f in flips:
        bar = (
            f'<div class="diverging"><span class="down"><i style="width:{f["lost"] / most * 100:.1f}%"></i></span>'
            f'<span class="up"><i style="width:{f["gained"] / most * 100:.1f}%"></i></span></div>'
        )
        name = Html(f"<span data-keep>{escape(f['class'])}</span>")
        rows.append((name, f["videos"], f"{f['a']:.0%}", f"{f['b']:.0%}", f["lost"], Html(bar), f["gained"]))
    head = ("class", "videos", c.names[0], c.names[1], "lost", "", "gained")
    note = "Videos that became wrong (left) and right (right) in each class."
    return Section("flips", "Flips by class", table(head, rows, (1, 2, 3, 4)), note)


def changed_section(c: Comparison, strips: int = 24, rows: int = 500) -> Section | None:
    """The videos that changed: the clearest ones as strips, the rest as a list."""
    changed = c.changed()
    if not changed:
        return None
    cards = []
    for item, strip in zip(changed, film_strips([v["path"] for v in changed[:strips]])):
        right, wrong = ("wrong", "right") if item["change"] == "gained" else ("right", "wrong")
        cards.append(
            f"<li>{strip_html(strip, item['path'])}<p><span>is</span> <b data-keep>{escape(item['label'])}</b></p>"
            f'<p><span data-keep>{escape(c.names[0])}:</span> <b class="{right}" data-keep>{escape(item["a"])}</b> {_share(item["probability_a"])}</p>'
            f'<p><span data-keep>{escape(c.names[1])}:</span> <b class="{wrong}" data-keep>{escape(item["b"])}</b> {_share(item["probability_b"])}</p>'
            f'<p class="path" data-keep>{escape(tail(item["path"]))}</p></li>'
        )
    listed = [
        (Html(f"<span data-keep>{escape(v['path'])}</span>"), v["label"], v["a"], v["b"], v["change"])
        for v in changed[strips : strips + rows]
    ]
    more = f"<h3>And these</h3>{table(('video', 'truth', *c.names, ''), listed)}" if listed else ""
    rest = len(changed) - strips - rows
    more += f"<p>… and {rest} more videos; the JSON has them all.</p>" if rest > 0 else ""
    note = "Right in one, wrong in the other; the largest change of the true class's probability (in per cent) first."
    return Section("changed", "Videos that changed", f'<ul class="strips">{"".join(cards)}</ul>{more}', note)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
