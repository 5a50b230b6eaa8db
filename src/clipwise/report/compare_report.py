"""Report of two results of the same videos."""

from __future__ import annotations

from pathlib import Path

from clipwise.io.text import plural
from clipwise.report.comparison import Comparison
from clipwise.report.page import FIGURE_NAMES, Language, Section, round_ticks, write_page
from clipwise.report.result_report import confusion_section
from clipwise.report.thumbs import film_strips

_STRIPS, _ROWS = 24, 500  # videos shown as strips, and after them in a table


def compare_report(comparison: Comparison, folder: str | Path, *, language: Language = "en") -> Path:
    """``index.html`` in a folder for a comparison."""
    a, b = comparison.names
    sections = [
        _verdict_section(comparison),
        _flips_section(comparison),
        _changed_section(comparison),
        confusion_section({a: comparison.a, b: comparison.b}),
    ]
    path, tiles = Path(folder) / "index.html", _tiles(comparison)
    return write_page(path, f"{a} → {b}", sections, kind="Comparison", tiles=tiles, language=language)


def _tiles(c: Comparison) -> list[tuple[str, str, str]]:
    change = c.intervals["top1_acc"]
    a, b = c.values["top1_acc"]
    return [
        (c.names[0], f"{a:.2%}", "top-1 accuracy"),
        (c.names[1], f"{b:.2%}", "top-1 accuracy"),
        (
            "difference",
            f"{change.difference * 100:+.2f}",
            f"{change.low * 100:+.2f} to {change.high * 100:+.2f} points",
        ),
        ("gained", f"{int(c.gained.sum())}", f"of {plural(len(c.a.paths), 'video')}"),
        ("lost", f"{int(c.lost.sum())}", f"of {plural(len(c.a.paths), 'video')}"),
        ("p-value", f"{c.p_value:.2g}", "McNemar, exact"),
    ]


def _verdict_section(c: Comparison) -> Section:
    """The verdict in words, and the intervals."""
    rows = [(FIGURE_NAMES.get(k, k), i.difference, i.low, i.high) for k, i in c.intervals.items()]
    reach = max([abs(v) for _, *values in rows for v in values] + [0.005]) * 1.15
    data = {
        "better": c.better or "",
        "verdict": c.verdict.removeprefix(c.better or "").strip(),
        "left_out": c.left_out,
        "intervals": rows,
        "reach": reach,
        "ticks": round_ticks(-reach, reach, 6),
    }
    share = next(iter(c.intervals.values())).confidence
    note = f"Difference in percentage points, second minus first, with the {share:.0%} interval of a paired bootstrap over the videos."
    return Section("verdict", "Which is better?", "comparison", data, note)


def _flips_section(c: Comparison) -> Section | None:
    """Videos gained and lost, class by class."""
    flips = [f for f in c.class_flips() if f["gained"] or f["lost"]]
    most = max((max(f["gained"], f["lost"]) for f in flips), default=0)
    data = {"flips": flips, "most": most, "names": c.names}
    note = "Videos that became wrong (left) and correct (right) in each class."
    return Section("flips", "Flips by class", "flips", data, note) if flips else None


def _changed_section(c: Comparison) -> Section | None:
    """The videos that changed: the clearest ones as strips, the rest as a list."""
    changed = c.changed()
    strips = film_strips([v["path"] for v in changed[:_STRIPS]])
    data = {
        "names": c.names,
        "shown": [{**v, "strip": strip} for v, strip in zip(changed, strips)],
        "listed": [(v["path"], v["label"], v["a"], v["b"], v["change"]) for v in changed[_STRIPS : _STRIPS + _ROWS]],
        "rest": len(changed) - _STRIPS - _ROWS,
    }
    note = "Correct in one, wrong in the other; the largest change of the true class's probability (in percent) first."
    return Section("changed", "Videos that changed", "changed", data, note) if changed else None
