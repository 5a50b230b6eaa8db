"""Charts as files: SVG as it is, PNG and PDF rasterized by resvg."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipwise.errors import ClipwiseError
from clipwise.infer.fonts import find_font
from clipwise.io.files import atomic_path
from clipwise.report.page import render

KINDS = (".svg", ".png", ".pdf")
_ZOOM = {".png": 2.0, ".pdf": 4.0}  # pixels of the file per unit of the drawing


def check_chart_path(path: str | Path, option: str = "") -> str:
    """The kind of a chart's file.

    Raises:
        ClipwiseError: another kind.
    """
    kind = Path(path).suffix.lower()
    if kind not in KINDS:
        raise ClipwiseError(f"{option} {path}: charts are written as .svg, .png or .pdf.".lstrip())
    return kind


def sheet(charts: Sequence[Any], columns: int = 2, width: int = 560, height: int = 270, gap: int = 24) -> Any:
    """Several standalone charts in one SVG document."""
    columns = min(columns, len(charts))
    rows = -(-len(charts) // columns)
    placed = [
        (gap + n % columns * (width + gap), gap + n // columns * (height + gap), chart)
        for n, chart in enumerate(charts)
    ]
    return render("sheet.svg", charts=placed, width=columns * (width + gap) + gap, height=rows * (height + gap) + gap)


def write_chart(path: str | Path, svg: str, texts: str = "") -> Path:
    """Write a complete SVG document as .svg, .png (two pixels per unit) or .pdf (an image of 4 pixels per unit).

    Args:
        texts: names of classes and runs in the drawing; a font that has all of their characters is looked for.
    """
    kind = check_chart_path(path)
    content = str(svg).encode() if kind == ".svg" else _rasterize(str(svg), _ZOOM[kind], texts)
    if kind == ".pdf":
        from PIL import Image

        pdf = io.BytesIO()
        Image.open(io.BytesIO(content)).convert("RGB").save(pdf, "PDF", resolution=72 * _ZOOM[kind])
        content = pdf.getvalue()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def _rasterize(svg: str, zoom: float, texts: str) -> bytes:
    import resvg_py

    font = find_font("".join(sorted(set(texts))))
    svg = svg.translate({ord(c): "?" for c in font.missing(texts)})
    with tempfile.TemporaryDirectory() as folder:
        file = font.path or Path(folder) / "font.ttf"
        if font.path is None:
            file.write_bytes(font.at(16).path.getvalue())
        png = resvg_py.svg_to_bytes(
            svg_string=svg,
            zoom=zoom,
            font_files=[str(file)],
            font_family=font.family,
            sans_serif_family=font.family,
        )
    return bytes(png)
