"""Progress and drawings in a notebook: one output that changes, instead of a line a step."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

INTERVAL_S = 0.25
"""Between two updates of an output: a browser draws no faster than somebody reads."""


def in_notebook() -> bool:
    """Whether this is a kernel of Jupyter (or of Colab, Kaggle, VS Code)."""
    if "ipykernel" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


class Output:
    """One place in a notebook whose HTML is replaced; no widgets are needed."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.shown = 0.0

    def show(self, text: str, now: bool = False) -> None:
        """Replace what is shown; calls that follow each other fast are left out unless ``now``."""
        if not now and time.monotonic() - self.shown < INTERVAL_S:
            return
        from IPython.display import HTML, display

        self.shown = time.monotonic()
        if self.handle is None:
            self.handle = display(HTML(text), display_id=True)
        else:
            self.handle.update(HTML(text))


def bar(text: str, share: float | None) -> str:
    """HTML of a progress bar: a share from 0 to 1, None where the end is not known."""
    value = "" if share is None else f' value="{min(max(share, 0.0), 1.0):.4f}"'
    return (
        f'<div style="font:13px monospace"><progress{value} style="width:240px"></progress> {html.escape(text)}</div>'
    )


def curves(series: dict[str, list[tuple[float, float]]], width: int = 320, height: int = 140) -> str:
    """SVG charts side by side, one a series of (x, y); at most 200 points each are drawn."""
    parts = []
    for name, points in series.items():
        if not points:
            continue
        step = max(1, -(-len(points) // 200))
        kept = points[::step] + ([points[-1]] if (len(points) - 1) % step else [])
        xs, ys = [x for x, _ in kept], [y for _, y in kept]
        wide, tall = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
        at = " ".join(
            f"{8 + (x - min(xs)) / wide * (width - 16):.1f},{height - 8 - (y - min(ys)) / tall * (height - 36):.1f}"
            for x, y in kept
        )
        parts.append(
            f'<svg width="{width}" height="{height}" style="border:1px solid #ddd;margin:2px;background:#fff">'
            f'<text x="8" y="16" font-size="12" font-family="sans-serif">{html.escape(name)} {ys[-1]:.4g} '
            f"({min(ys):.4g} – {max(ys):.4g})</text>"
            f'<polyline points="{at}" fill="none" stroke="#4c78a8" stroke-width="1.5"/></svg>'
        )
    return "".join(parts)
