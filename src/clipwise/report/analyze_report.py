"""Report of what a model looks at; from the dictionary of ``clipwise analyze --json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipwise.io.text import plural
from clipwise.report.page import Language, Section, Series, line_chart, write_page
from clipwise.report.result_report import failures_section

_EXPLAINED = {
    "ordered": "unchanged",
    "shuffled": "the same frames in another order",
    "reversed": "played backwards",
    "frozen": "the middle frame, repeated",
    "single frame": "one frame, repeated; mean over all frames",
    "background": "the middle of the frame hidden",
    "centre": "only the middle of the frame",
    "still scene": "everything that moves removed (median over time)",
}
_VERDICTS = {
    "motion": "It sees motion",
    "mixed": "Motion and scene",
    "scene": "It sees the scene",
    "unclear": "No verdict yet",
}


def analyze_report(facts: Mapping[str, Any], folder: str | Path, *, language: Language = "en") -> Path:
    """``index.html`` in a folder for what ``clipwise analyze`` found (its JSON)."""
    names = [v["variant"] for v in facts["variants"]]
    heat = {"classes": facts["classes"], "names": names}
    sections = [
        _verdict_section(facts),
        _importance_section(facts) if facts["importance"] else None,
        Section(
            "classes", "Class by class", "heat", heat, "The class that needs the order of frames most comes first."
        ),
        failures_section(facts["failures"], "They are not counted."),
    ]
    tiles = [("verdict", _VERDICTS[facts["verdict"]], f"{plural(facts['videos'], 'video')}")]
    for v in facts["variants"][:5]:
        note = f"{_change(v['lost'])} points" if "lost" in v else f"chance {facts['chance']:.0%}"
        tiles.append((v["variant"], f"{v['accuracy']:.1%}", note))
    path = Path(folder) / "index.html"
    kind = "What the model looks at"
    return write_page(path, facts["model"], sections, kind=kind, tiles=tiles, language=language)


def _verdict_section(facts: Mapping[str, Any]) -> Section:
    """The verdict in words and every variant as a bar."""
    variants = []
    for v in facts["variants"]:
        change = _change(v["lost"]) if "lost" in v else ""
        if "low" in v:
            change += f" ({_change(v['high'])} … {_change(v['low'])})"
        variants.append({**v, "change": change, "explained": _EXPLAINED.get(v["variant"], "")})
    note = "Accuracy on the same videos under each perturbation, and the change against the ordered frames with its 95% bootstrap interval."
    data = {"words": facts["words"], "variants": variants}
    return Section("verdict", "Motion or scene?", "perturbations", data, note)


def _importance_section(facts: Mapping[str, Any]) -> Section:
    """What each moment of the clip is worth."""
    points = facts["importance"]
    x = [p["position"] * 100 for p in points]
    ends = [x[0], x[-1]]
    lost = [
        Series("accuracy", x, [p["accuracy_lost"] * 100 for p in points], 0, "dots"),
        Series("confidence", x, [p["probability_lost"] * 100 for p in points], 1, "dots"),
    ]
    alone = [
        Series("alone", x, [p["accuracy_alone"] for p in points], 2, "dots"),
        Series("chance", ends, [facts["chance"]] * 2, 7, "dashed"),
        Series("all frames", ends, [facts["variants"][0]["accuracy"]] * 2, 0, "dashed"),
    ]
    charts = [
        line_chart("lost without this frame (points)", lost, x_label="% of the clip"),
        line_chart(
            "accuracy with this frame alone", alone, x_label="% of the clip", percent=True, y_min=0.0, y_max=1.0
        ),
    ]
    note = "Left: a frame is replaced by its neighbor. Right: one frame stands at every position."
    return Section("importance", "Which moment matters?", "charts", {"charts": charts}, note)


def _change(lost: float) -> str:
    """What is lost, as a change in points."""
    return f"{0.0 - lost * 100:+.1f}".replace("-0.0", "+0.0")
