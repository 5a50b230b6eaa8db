"""Bar charts, stacked or not, as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipwise.report.page import render, round_ticks


def bar_chart(
    title: str,
    labels: Sequence[str],
    stacks: Mapping[str, tuple[int, Sequence[float]]],
    *,
    x_label: str = "",
    y_max: float | None = None,
    reference: float | None = None,
    width: int = 560,
    height: int = 300,
) -> Any:
    """A bar for each label; shares, shown as percentages.

    Args:
        stacks: what the bars are made of, from below: name -> (palette color, a value for each label); one alone has no legend,
            but its values written over the bars.
        reference: a dashed line at this height.
    """
    alone = len(stacks) == 1
    left, right, bottom = 52, width - 14, height - 40
    names = {} if alone else {name: color for name, (color, _) in stacks.items()}
    top = 38 + 18 * (-(-len(names) // 3))
    totals = [sum(column) for column in zip(*(values for _, values in stacks.values()))]
    low, high = min(0.0, *totals), max(y_max or 0.0, reference or 0.0, *totals)
    ticks = round_ticks(low, high if high > low else low + 0.01, 5)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def at(value: float) -> float:
        return top + (high - value) / (high - low) * (bottom - top)

    step = (right - left) / max(len(labels), 1)
    bar_width = min(step * 0.7, 64)
    bars = []
    for n, label in enumerate(labels):
        y, pieces = 0.0, []
        for name, (color, values) in stacks.items():
            ends = sorted((at(y), at(y + values[n])))
            pieces.append((ends[0], ends[1] - ends[0], color, f"{name}: {values[n]:.1%}"))
            y += values[n]
        bars.append(
            {
                "x": left + (n + 0.5) * step - bar_width / 2,
                "pieces": pieces,
                "top": at(max(y, 0.0)),
                "value": f"{y * 100:.1f}" if alone else "",
                "label": label,
            }
        )
    third = (right - left) / 3
    chart = {
        "title": title,
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "bottom": bottom,
        "legend": [
            (left + n % 3 * third, 36 + 18 * (n // 3), color, name) for n, (name, color) in enumerate(names.items())
        ],
        "ticks": [(at(t), f"{t * 100:.4g}%") for t in ticks],
        "bars": bars,
        "bar_width": bar_width,
        "reference": None if reference is None else at(reference),
        "x_label": x_label,
    }
    return render("bars.svg", c=chart)
