"""A page from sections: one file with everything in it, no remote script or font, light and dark, English and Chinese."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import clipwise
from clipwise.io.files import atomic_path

if TYPE_CHECKING:
    from clipwise.report.sections import Section

Language = Literal["en", "zh"]

# What a chart needs when it stands alone as an SVG file.
CHART_CSS = (
    "text{font:11px system-ui,sans-serif;fill:#5b6473}.chart-title{font-size:13px;font-weight:600;fill:#1a1d24}.legend{fill:#1a1d24}"
    ".grid{stroke:#e4e7ec}.axis{stroke:#98a2b3}.paper{fill:#fff}.series{fill:none;stroke-width:2;stroke-linejoin:round}"
    ".series.faint{stroke-width:1;opacity:.28}.series.dashed{stroke-dasharray:4 3}.dot{stroke:none}"
    + "".join(
        f".series.s{n}{{stroke:{c}}}.dot.s{n}{{fill:{c}}}"
        for n, c in enumerate(("#2f6fed", "#e07b28", "#12906a", "#8f55e0", "#d1405a", "#0897aa", "#a98307", "#737b8c"))
    )
)


def render_page(
    title: str, sections: Sequence[Section | None], *, kind: str, lead: str = "", language: Language = "en"
) -> str:
    """A complete HTML document.

    Args:
        title: name of the run or model.
        sections: in their order; None is left out.
        kind: what the page is, above the title.
        lead: HTML under the title: key figures.
        language: in which it opens; the reader can switch.
    """
    assets = Path(__file__).parent / "assets"
    css, script = ((assets / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    present = [s for s in sections if s is not None]
    contents = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in present)
    parts = "".join(
        f'<section id="{s.anchor}" class="card"><h2>{escape(s.title)}</h2>'
        + (f'<p class="note">{escape(s.note)}</p>' if s.note else "")
        + f"{s.body}</section>"
        for s in present
    )
    from clipwise.report.sections import json_text
    from clipwise.report.words import CHINESE

    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)} – clipwise</title><style>{css}</style></head><body>'
        f'<a class="skip" href="#main">Skip to the contents</a>'
        f'<header><div class="bar"><span class="kind">{escape(kind)}</span><span class="buttons"><button type="button" id="language" data-keep lang="zh">中文</button>'
        f'<button type="button" id="theme" aria-label="light or dark">◐</button></span></div>'
        f'<h1 data-keep>{escape(title)}</h1>{lead}<nav aria-label="sections">{contents}</nav></header>'
        f'<main id="main">{parts}</main>'
        f"<footer><span data-keep>clipwise {clipwise.__version__}</span> · <span data-keep>{time.strftime('%Y-%m-%d %H:%M')}</span></footer>"
        f'<script type="application/json" id="words">{json_text(CHINESE)}</script><script>{script}</script></body></html>'
    )


def write_page(path: str | Path, html: str) -> Path:
    """Write a page so that a reader never sees half of it.

    Raises:
        CheckpointError, WorkError: it can't be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)
