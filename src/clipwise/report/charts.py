"""Line charts as SVG: light and dark by CSS classes, a crosshair by the page's script, readable without it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.report.page import render


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
    points = [(s, *_finite(s)) for s in series]
    points = [(s, x, y) for s, x, y in points if len(x)]
    entries = [(_cut(s.name), s.color % 8, s.style) for s, _, _ in points if s.style != "faint" and s.in_legend]
    beside = sum(_text_width(name) + 32 for name, _, _ in entries) + _text_width(title) * 1.25 < width - 20
    left, right, top, bottom = 52, 14, 34 if beside or len(entries) < 2 else 50, 40
    inner_w, inner_h = width - left - right, height - top - bottom
    all_x = np.concatenate([x for _, x, _ in points]) if points else np.array([0.0, 1.0])
    all_y = np.concatenate([y for _, _, y in points]) if points else np.array([0.0, 1.0])
    x0, x1 = float(all_x.min()), float(all_x.max())
    x_ticks = round_ticks(x0, x1, 6)
    if x1 <= x0:
        x0, x1 = x0 - 0.5, x1 + 0.5
    low = float(all_y.min()) if y_min is None else y_min
    high = float(all_y.max()) if y_max is None else y_max
    y_ticks = round_ticks(low, high if high > low else low + 1, 5)
    y0, y1 = min(low, y_ticks[0]), max(high, y_ticks[-1])

    def sx(x: Any) -> Any:
        return left + (np.asarray(x) - x0) / (x1 - x0) * inner_w

    def sy(y: Any) -> Any:
        return top + inner_h - (np.asarray(y) - y0) / (y1 - y0) * inner_h

    lines = [
        {
            "style": s.style,
            "color": s.color % 8,
            "path": "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in zip(sx(x), sy(y))),
            "dots": list(zip(sx(x), sy(y))) if s.style == "dots" and len(x) <= 80 else [],
        }
        for s, x, y in points
    ]
    data = {
        "box": [left, top, inner_w, inner_h],
        "x": [x0, x1],
        "percent": percent,
        "xLabel": x_label,
        "series": [
            {"name": s.name, "c": s.color % 8, "x": _short(x), "y": _short(y)}
            for s, x, y in points
            if s.style != "faint"
        ],
    }
    chart = {
        "title": title,
        "width": width,
        "height": height,
        "box": data["box"],
        "x_label": x_label,
        "y_ticks": [(float(sy(t)), _number(t * 100) + "%" if percent else _number(t)) for t in y_ticks],
        "x_ticks": [(float(sx(t)), _number(t)) for t in x_ticks if x0 <= t <= x1],
        "lines": lines,
        "legend": _legend(entries, width) if len(entries) > 1 else [],
        "legend_y": 16 if beside else 33,
        "data": data,
    }
    return render("chart.svg", c=chart, standalone=standalone)


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


def _legend(entries: Sequence[tuple[str, int, str]], width: int) -> list[dict[str, Any]]:
    """Names with their place, right-aligned beside or below the title."""
    placed = []
    x = width - 14.0
    for text, color, style in reversed(entries):
        x -= _text_width(text)
        placed.append({"x": x, "text": text, "color": color, "style": style})
        x -= 32
    return placed


def _cut(name: str) -> str:
    return name if len(name) <= 26 else name[:25] + "…"


def _text_width(text: str) -> float:
    return sum(11 if ord(c) > 0x2E80 else 6.3 for c in text)


def _number(value: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def _short(values: NDArray) -> list[float]:
    return [float(f"{v:.5g}") for v in values]
