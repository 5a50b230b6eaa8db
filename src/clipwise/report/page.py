"""Pages and their charts, from templates.

A page is one file with everything in it, no remote script or font, light and dark, English and Chinese. Charts are SVG: light and
dark by CSS classes, a crosshair by the page's script, readable without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

import clipwise
from clipwise.io.files import atomic_path

Language = Literal["en", "zh"]

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
    "time": "seconds per step",
    "data_time": "seconds waiting for data",
    "memory": "memory (MB)",
}
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        anchor, title: id and heading.
        template: file in ``templates/sections`` that draws ``data``.
        note: a line under the heading.
    """

    anchor: str
    title: str
    template: str
    data: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def table(
        cls, anchor: str, title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "", **data: Any
    ) -> Section:
        """A plain table; of ``data``, ``numeric`` are columns aligned as numbers and ``keep`` those that are never translated."""
        return cls(anchor, title, "table", dict(head=head, rows=rows, **data), note)


@cache
def _environment():
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"duration": duration, "tail": tail}
    environment.globals["source"] = lambda name: Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return environment


def render(template: str, **values: Any) -> Any:
    """A template with its values, as markup that other templates do not escape again."""
    from markupsafe import Markup

    return Markup(_environment().get_template(template).render(values))


def write_page(
    path: str | Path,
    title: str,
    sections: Sequence[Section | None],
    *,
    kind: str,
    tiles: Sequence[tuple[str, str, str]] = (),
    results: Mapping[str, Any] | None = None,
    language: Language = "en",
) -> Path:
    """Write a page; a reader never sees half of it.

    Args:
        path: the HTML file.
        title: name of the run or model.
        sections: in their order; None is left out.
        kind: what the page is, above the title.
        tiles: key figures under the title as (label, value, note).
        results: a table of several results under the title: head, rows.
        language: in which it opens; the reader can switch.

    Raises:
        ClipwiseError: the file cannot be written.
    """
    html = render(
        "page.html",
        title=title,
        sections=[s for s in sections if s is not None],
        kind=kind,
        tiles=tiles,
        results=results,
        language=language,
        version=clipwise.__version__,
        date=time.strftime("%Y-%m-%d %H:%M"),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def tail(path: str, parts: int = 2) -> str:
    """The last parts of a path."""
    return "/".join(str(path).replace("\\", "/").rstrip("/").split("/")[-parts:])


def duration(seconds: float) -> str:
    """A time with three digits in ms, s, min or h."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


# ---- line charts ----------------------------------------------------------------------------------------------------------------------


@dataclass
class Series:
    """One line of a chart.

    Attributes:
        x, y: points.
        color: number of a palette color.
        style: "line", "dots" (line with a dot per point), "faint" (a thin pale line that is not in the legend) or "dashed".
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    color: int = 0
    style: str = "line"
    in_legend: bool = True


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "epoch",
    y_min: float | None = None,
    y_max: float | None = None,
    percent: bool = False,
    width: int = 560,
    height: int = 270,
    standalone: bool = False,
) -> Any:
    """A line chart as markup.

    Args:
        title: above the chart, and its name for screen readers.
        percent: values are shares, shown as percentages.
        standalone: make it a complete SVG document with its own colors.
    """
    drawn = [(s, x, y) for s in series for x, y in [_finite(s)] if len(x)]
    legend = [s for s, _, _ in drawn if s.style != "faint" and s.in_legend]
    words = title + "".join(f" -- {s.name[:26]}" for s in legend)
    # the legend fits beside the title; a Chinese letter, 3 bytes, is twice as wide
    beside = 7.5 * len(words.encode()) < width
    left, top = 52, 34 if beside or len(legend) < 2 else 50
    right, bottom = width - 14, height - 40
    all_x, all_y = (np.concatenate([[0.0, 1.0]] if not drawn else [d[axis] for d in drawn]) for axis in (1, 2))
    x0, x1, low, high = all_x.min(), all_x.max(), all_y.min(), all_y.max()
    x_ticks = [t for t in round_ticks(x0, x1, 6) if x0 <= t <= x1]
    x0, x1 = (x0, x1) if x1 > x0 else (x0 - 0.5, x1 + 0.5)
    low, high = low if y_min is None else y_min, high if y_max is None else y_max
    y_ticks = round_ticks(low, high if high > low else low + 1, 5)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])

    def place(x: Any, y: Any) -> tuple[Any, Any]:
        return left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - low) / (high - low) * (bottom - top)

    chart = {
        "title": title,
        "width": width,
        "height": height,
        "box": [left, top, right - left, bottom - top],
        "x_label": x_label,
        "y_ticks": [(place(x0, t)[1], f"{_number(t * 100)}%" if percent else _number(t)) for t in y_ticks],
        "x_ticks": [(place(t, low)[0], _number(t)) for t in x_ticks],
        "lines": [(s, list(zip(*place(x, y)))) for s, x, y in drawn],
        "legend": legend if len(legend) > 1 else [],
        "legend_y": 16 if beside else 33,
    }
    data = {
        "box": chart["box"],
        "x": [float(x0), float(x1)],
        "percent": percent,
        "xLabel": x_label,
        "series": [
            {"name": s.name, "c": s.color % 8, "x": _short(x), "y": _short(y)}
            for s, x, y in drawn
            if s.style != "faint"
        ],
    }
    return render("chart.svg", c=chart, data=data, standalone=standalone)


def round_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers that cover low to high."""
    span = max(high - low, 1e-12)
    raw = span / max(wanted - 1, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _finite(s: Series) -> tuple[NDArray, NDArray]:
    x, y = np.asarray(s.x, float), np.asarray(s.y, float)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if len(x) > 1500:  # more points than pixels
        pick = np.unique(np.linspace(0, len(x) - 1, 1500).astype(int))
        x, y = x[pick], y[pick]
    return x, y


def _number(value: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def _short(values: NDArray) -> list[float]:
    return [float(f"{v:.5g}") for v in values]
