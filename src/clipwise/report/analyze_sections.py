"""The parts of a report about what a model looks at; from the dictionary of ``clipwise analyze --json``."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from clipwise.report.charts import Series, line_chart
from clipwise.report.sections import Html, Section, table, tiles

EXPLAINED = {
    "ordered": "as it is",
    "shuffled": "the same frames in another order",
    "reversed": "played backwards",
    "frozen": "the middle frame, repeated",
    "single frame": "one frame, repeated; mean over all frames",
    "background": "the middle of the picture hidden",
    "centre": "only the middle of the picture",
    "still scene": "everything that moves removed (median over time)",
}
KINDS = {
    "motion": "It sees motion",
    "mixed": "Motion and scene",
    "scene": "It sees the scene",
    "unclear": "No verdict yet",
}


def analyze_tiles(facts: Mapping[str, Any]) -> str:
    """The accuracies in a line of figures."""
    items = [("verdict", KINDS[facts["verdict"]], f"{facts['videos']} videos")]
    for v in facts["variants"][:5]:
        note = f"{_change(v['lost'])} points" if "lost" in v else f"chance {facts['chance']:.0%}"
        items.append((v["variant"], f"{v['accuracy']:.1%}", note))
    return tiles(items)


def verdict_section(facts: Mapping[str, Any]) -> Section:
    """The verdict in words and every variant as a bar."""
    words = "".join(f"<p>{escape(w)}</p>" for w in facts["words"])
    rows = []
    for v in facts["variants"]:
        change = _change(v["lost"]) if "lost" in v else ""
        if "low" in v:
            change += f" ({_change(v['high'])} … {_change(v['low'])})"
        color = 0 if v["variant"] == "ordered" else 1
        rows.append(
            f'<li><span class="name">{escape(v["variant"])}</span><span class="track"><i class="s{color}" style="width:{v["accuracy"] * 100:.1f}%"></i></span>'
            f'<span class="num">{v["accuracy"]:.1%}</span><span class="num wide" data-keep>{change}</span><small>{escape(EXPLAINED.get(v["variant"], ""))}</small></li>'
        )
    body = f'<div class="verdict">{words}</div><ol class="bars few variants">{"".join(rows)}</ol>'
    note = "Accuracy on the same videos in disguise, and the change against the ordered frames with its 95% bootstrap interval."
    return Section("verdict", "Motion or scene?", body, note)


def importance_section(facts: Mapping[str, Any]) -> Section | None:
    """What each moment of the clip is worth."""
    points = facts["importance"]
    if not points:
        return None
    x = [p["position"] * 100 for p in points]
    lost = line_chart(
        "lost without this frame (points)",
        [
            Series("accuracy", x, [p["accuracy_lost"] * 100 for p in points], 0, "dots"),
            Series("confidence", x, [p["probability_lost"] * 100 for p in points], 1, "dots"),
        ],
        x_label="% of the clip",
    )
    alone = line_chart(
        "right with this frame alone",
        [
            Series("alone", x, [p["accuracy_alone"] for p in points], 2, "dots"),
            Series("chance", [x[0], x[-1]], [facts["chance"]] * 2, 7, "dashed"),
            Series("all frames", [x[0], x[-1]], [facts["variants"][0]["accuracy"]] * 2, 0, "dashed"),
        ],
        x_label="% of the clip",
        percent=True,
        y_min=0.0,
        y_max=1.0,
    )
    note = "Left: a frame is replaced by its neighbor. Right: one frame stands at every position."
    return Section("importance", "Which moment matters?", f'<div class="charts">{lost}{alone}</div>', note)


def class_table_section(facts: Mapping[str, Any]) -> Section:
    """Every class in every disguise, as a table with shades."""
    names = [v["variant"] for v in facts["variants"]]
    head = "".join(f"<th>{escape(n)}</th>" for n in ("class", *names))
    rows = "".join(
        f'<tr data-name="{escape(c["class"], quote=True)}"><td data-keep>{escape(c["class"])}</td>'
        + "".join(f'<td style="--v:{c[n]:.3f}">{c[n]:.0%}</td>' for n in names)
        + "</tr>"
        for c in facts["classes"]
    )
    search = (
        '<input type="search" class="filter" placeholder="find a class" aria-label="find a class">'
        if len(facts["classes"]) > 8
        else ""
    )
    body = f'<div class="filtered"><div class="tools-line">{search}</div><div class="scroll tall" tabindex="0"><table class="heat"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></div>'
    return Section("classes", "Class by class", body, "The class that needs the order of frames most comes first.")


def failures_section(facts: Mapping[str, Any]) -> Section | None:
    """Files that could not be decoded."""
    if not facts["failures"]:
        return None
    rows = [
        (Html(f"<span data-keep>{escape(p)}</span>"), Html(f"<span data-keep>{escape(r)}</span>"))
        for p, r in facts["failures"].items()
    ]
    return Section(
        "failures", "Files that could not be decoded", table(("file", "reason"), rows), "They are not counted."
    )


def _change(lost: float) -> str:
    """What is lost, as a change in points."""
    return f"{0.0 - lost * 100:+.1f}".replace("-0.0", "+0.0")
