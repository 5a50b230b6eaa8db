"""Charts as inline SVG: light and dark by CSS classes, a crosshair by the page's script, readable without it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass
class Series:
    """One line of a chart.

    Attributes:
        x, y: points.
        color: number of a palette color.
        style: "line", "dots" (line with a dot a point), "faint" (a thin pale line that is not in the legend) or "dashed".
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
    log: bool = False,
    width: int = 560,
    height: int = 270,
    standalone: bool = False,
) -> str:
    """A line chart.

    Args:
        title: above the chart, and its name for screen readers.
        percent: values are shares, shown as per cent.
        log: logarithmic y axis.
        standalone: make it a complete SVG document with its own colors.
    """
    points = [(s, *_finite(s, log)) for s in series]
    points = [(s, x, y) for s, x, y in points if len(x)]
    entries = [(s.name, s.color, s.style) for s, _, _ in points if s.style != "faint" and s.in_legend]
    beside = sum(_text_width(_cut(name)) + 32 for name, _, _ in entries) + _text_width(title) * 1.25 < width - 20
    left, right, top, bottom = 52, 14, 34 if beside or len(entries) < 2 else 50, 40
    inner_w, inner_h = width - left - right, height - top - bottom
    all_x = np.concatenate([x for _, x, _ in points]) if points else np.array([0.0, 1.0])
    all_y = np.concatenate([y for _, _, y in points]) if points else np.array([0.0, 1.0])
    x_ticks = round_ticks(float(all_x.min()), float(all_x.max()), 6)
    x0, x1 = float(all_x.min()), float(all_x.max())
    if x1 <= x0:
        x0, x1 = x0 - 0.5, x1 + 0.5
    if log:
        y_ticks = [10.0**e for e in range(math.floor(math.log10(all_y.min())), math.ceil(math.log10(all_y.max())) + 1)]
        y0, y1 = math.log10(y_ticks[0]), math.log10(y_ticks[-1])
        y0, y1 = (y0, y1) if y1 > y0 else (y0 - 1, y1 + 1)
    else:
        low = float(all_y.min()) if y_min is None else y_min
        high = float(all_y.max()) if y_max is None else y_max
        y_ticks = round_ticks(low, high if high > low else low + 1, 5)
        y0, y1 = min(low, y_ticks[0]), max(high, y_ticks[-1])

    def sx(x):
        return left + (np.asarray(x) - x0) / (x1 - x0) * inner_w

    def sy(y):
        y = np.log10(y) if log else np.asarray(y)
        return top + inner_h - (y - y0) / (y1 - y0) * inner_h

    out = []
    for tick in y_ticks:
        ty = float(sy(tick))
        text = _number(tick * 100) + "%" if percent else _number(tick)
        out.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{ty:.1f}" y2="{ty:.1f}"/>')
        out.append(f'<text class="tick" x="{left - 8}" y="{ty + 3.5:.1f}" text-anchor="end">{text}</text>')
    for tick in x_ticks:
        if x0 <= tick <= x1:
            out.append(
                f'<text class="tick" x="{float(sx(tick)):.1f}" y="{height - bottom + 18}" text-anchor="middle">{_number(tick)}</text>'
            )
    out.append(
        f'<line class="axis" x1="{left}" x2="{width - right}" y1="{height - bottom}" y2="{height - bottom}"/>'
        f'<text class="tick" x="{width - right}" y="{height - 6}" text-anchor="end">{escape(x_label)}</text>'
    )
    for s, x, y in points:
        path = "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in zip(sx(x), sy(y)))
        out.append(f'<path class="series {s.style} s{s.color % 8}" d="{path}"/>')
        if s.style == "dots" and len(x) <= 80:
            out.extend(
                f'<circle class="dot s{s.color % 8}" cx="{a:.1f}" cy="{b:.1f}" r="2.6"/>' for a, b in zip(sx(x), sy(y))
            )
    shown = [(s, x, y) for s, x, y in points if s.style != "faint"]
    data = {
        "box": [left, top, inner_w, inner_h],
        "x": [x0, x1],
        "percent": percent,
        "xLabel": x_label,
        "series": [
            {
                "name": s.name,
                "c": s.color % 8,
                "x": _short(x),
                "y": _short(y),
                "py": [round(float(v), 1) for v in sy(y)],
            }
            for s, x, y in shown
        ],
    }
    legend = _legend(entries, width, 16 if beside else 33) if len(entries) > 1 else ""
    heading = f'<text class="chart-title" x="{left - 40}" y="16">{escape(title)}</text>'
    if standalone:
        from clipwise.report.page import CHART_CSS

        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
            f"<style>{CHART_CSS}</style><rect width='100%' height='100%' class='paper'/>{heading}{legend}{''.join(out)}</svg>"
        )
    return (
        f'<figure class="chart" tabindex="0" data-chart="{escape(json.dumps(data), quote=True)}">'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}">{heading}{legend}{"".join(out)}'
        '<line class="cross" y1="0" y2="0"/></svg><div class="tip" hidden></div></figure>'
    )


def reliability_chart(edges: NDArray, counts: NDArray, accuracy: NDArray, confidence: NDArray, size: int = 300) -> str:
    """Accuracy against confidence, with the share of videos below."""
    left, top, plot, strip = 40, 12, size, 54
    width, height = left + plot + 14, top + plot + strip + 44
    base = top + plot

    def sx(v: float) -> float:
        return left + v * plot

    out = []
    for v in (0, 0.25, 0.5, 0.75, 1):
        out.append(f'<line class="grid" x1="{left}" x2="{left + plot}" y1="{base - v * plot}" y2="{base - v * plot}"/>')
        out.append(f'<text class="tick" x="{left - 6}" y="{base - v * plot + 4}" text-anchor="end">{v:.0%}</text>')
        out.append(f'<text class="tick" x="{sx(v)}" y="{height - 20}" text-anchor="middle">{v:.0%}</text>')
    total = max(int(counts.sum()), 1)
    tallest = max(int(counts.max()), 1)
    for n, count in enumerate(counts):
        if not count:
            continue
        x, w = sx(float(edges[n])) + 1, plot * float(edges[n + 1] - edges[n]) - 2
        a, c = float(accuracy[n]), float(confidence[n])
        tip = f"{edges[n]:.0%}–{edges[n + 1]:.0%}: {count} videos, {a:.1%} right, confidence {c:.1%}"
        out.append(
            f'<g><title>{tip}</title><rect class="bar" x="{x:.1f}" y="{base - a * plot:.1f}" width="{w:.1f}" height="{a * plot:.1f}"/>'
            f'<rect class="{"gap over" if c > a else "gap under"}" x="{x:.1f}" y="{base - max(a, c) * plot:.1f}" width="{w:.1f}" '
            f'height="{abs(a - c) * plot:.1f}"/>'
            f'<rect class="count" x="{x:.1f}" y="{base + 8 + (strip - 12) * (1 - count / tallest):.1f}" width="{w:.1f}" '
            f'height="{(strip - 12) * count / tallest:.1f}"/></g>'
        )
    out.append(f'<line class="ideal" x1="{left}" y1="{base}" x2="{left + plot}" y2="{top}"/>')
    out.append(f'<text class="tick" x="{left + plot}" y="{height - 4}" text-anchor="end">confidence</text>')
    return (
        f'<svg class="reliability" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Accuracy against confidence of {total} videos">{"".join(out)}</svg>'
    )


def interval_chart(rows: Sequence[tuple[str, float, float, float]], width: int = 640) -> str:
    """Differences with their intervals around a zero line, in points of per cent: (name, value, low, high) as shares."""
    left, right, step = 190, 90, 40
    reach = max([abs(v) for _, *values in rows for v in values] + [0.005]) * 1.15
    inner = width - left - right
    height = step * len(rows) + 34

    def sx(v: float) -> float:
        return left + (v + reach) / (2 * reach) * inner

    out = []
    for tick in round_ticks(-reach, reach, 6):
        if -reach <= tick <= reach:
            zero = "axis" if abs(tick) < 1e-12 else "grid"
            out.append(f'<line class="{zero}" x1="{sx(tick):.1f}" x2="{sx(tick):.1f}" y1="4" y2="{height - 26}"/>')
            text = f"{tick * 100:+.3g}" if tick else "0"
            out.append(f'<text class="tick" x="{sx(tick):.1f}" y="{height - 8}" text-anchor="middle">{text}</text>')
    for n, (name, value, low, high) in enumerate(rows):
        y = step * n + 24
        color = "good" if low > 0 else "bad" if high < 0 else "even"
        out.append(f'<text class="label" x="{left - 14}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        out.append(f'<line class="whisker {color}" x1="{sx(low):.1f}" x2="{sx(high):.1f}" y1="{y}" y2="{y}"/>')
        out.append(f'<circle class="dot {color}" cx="{sx(value):.1f}" cy="{y}" r="5.5"/>')
        out.append(f'<text class="value" x="{width - right + 14}" y="{y + 4}">{value * 100:+.2f}</text>')
    return f'<svg class="intervals" viewBox="0 0 {width} {height}" role="img" aria-label="Differences with intervals">{"".join(out)}</svg>'


def _finite(s: Series, log: bool) -> tuple[NDArray, NDArray]:
    x, y = np.asarray(s.x, float), np.asarray(s.y, float)
    keep = np.isfinite(x) & np.isfinite(y) & ((y > 0) if log else True)
    x, y = x[keep], y[keep]
    if len(x) > 1500:  # more points than pixels
        pick = np.unique(np.linspace(0, len(x) - 1, 1500).astype(int))
        x, y = x[pick], y[pick]
    return x, y


def _legend(entries: Sequence[tuple[str, int, str]], width: int, y: int) -> str:
    """Names with a stroke of their color, right-aligned beside or below the title."""
    out: list[str] = []
    x = width - 14.0
    for name, color, style in reversed(entries):
        text = _cut(name)
        x -= _text_width(text)
        out.append(f'<text class="legend" x="{x:.0f}" y="{y}">{escape(text)}</text>')
        out.append(
            f'<line class="series {style} s{color % 8}" x1="{x - 20:.0f}" x2="{x - 6:.0f}" y1="{y - 4}" y2="{y - 4}"/>'
        )
        x -= 32
    return "".join(out)


def _cut(name: str) -> str:
    return name if len(name) <= 26 else name[:25] + "…"


def _text_width(text: str) -> float:
    return sum(11 if ord(c) > 0x2E80 else 6.3 for c in text)


def round_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers that cover low to high."""
    span = max(high - low, 1e-12)
    raw = span / max(wanted - 1, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _number(value: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


def _short(values: NDArray) -> list[float]:
    return [float(f"{v:.5g}") for v in values]
