"""A small drawing surface with two back ends, SVG text and pixels, so that one drawing gives both files. numpy only."""

from __future__ import annotations

import base64
import struct
import zlib
from abc import ABC, abstractmethod
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import ClipwiseError

Color = tuple[int, int, int]


class Canvas(ABC):
    """Coordinates are pixels from the upper left corner."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height

    @abstractmethod
    def rect(self, x: float, y: float, width: float, height: float, fill: Color, opacity: float = 1.0) -> None: ...

    @abstractmethod
    def line(self, x: NDArray, y: NDArray, color: Color, width: float = 1.5) -> None:
        """A line through points (n,), (n,)."""

    @abstractmethod
    def text(
        self, x: float, y: float, words: str, color: Color = (40, 44, 52), size: int = 12, anchor: str = "start"
    ) -> None:
        """One line of text whose middle is at ``y``; ``anchor`` is start, middle or end."""

    @abstractmethod
    def picture(self, x: float, y: float, pixels: NDArray[np.uint8]) -> None:
        """uint8 (H, W, 3)."""

    @abstractmethod
    def encode(self) -> bytes:
        """The file's content."""


class SvgCanvas(Canvas):
    def __init__(self, width: int, height: int):
        super().__init__(width, height)
        self.parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, fill: Color, opacity: float = 1.0) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" fill="{_hex(fill)}" fill-opacity="{opacity:.2f}"/>'
        )

    def line(self, x: NDArray, y: NDArray, color: Color, width: float = 1.5) -> None:
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
        self.parts.append(f'<polyline points="{points}" fill="none" stroke="{_hex(color)}" stroke-width="{width}"/>')

    def text(
        self, x: float, y: float, words: str, color: Color = (40, 44, 52), size: int = 12, anchor: str = "start"
    ) -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" dominant-baseline="central" font-size="{size}" fill="{_hex(color)}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def picture(self, x: float, y: float, pixels: NDArray[np.uint8]) -> None:
        data = base64.b64encode(encode_png(pixels)).decode()
        height, width = pixels.shape[:2]
        self.parts.append(
            f'<image x="{x:.1f}" y="{y:.1f}" width="{width}" height="{height}" href="data:image/png;base64,{data}"/>'
        )

    def encode(self) -> bytes:
        w, h = self.width, self.height
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" font-family="sans-serif">'
        return (head + '<rect width="100%" height="100%" fill="#ffffff"/>' + "".join(self.parts) + "</svg>\n").encode()


class PixelCanvas(Canvas):
    def __init__(self, width: int, height: int):
        super().__init__(width, height)
        self.pixels = np.full((height, width, 3), 255, np.uint8)

    def _blend(self, x: int, y: int, alpha: NDArray, color: Color) -> None:
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + alpha.shape[1], self.width), min(y + alpha.shape[0], self.height)
        if x1 <= x0 or y1 <= y0:
            return
        part = self.pixels[y0:y1, x0:x1]
        a = alpha[y0 - y : y1 - y, x0 - x : x1 - x, None]
        part[:] = (part * (1 - a) + np.array(color) * a + 0.5).astype(np.uint8)

    def rect(self, x: float, y: float, width: float, height: float, fill: Color, opacity: float = 1.0) -> None:
        left, top = round(x), round(y)
        size = max(round(y + height) - top, 1), max(round(x + width) - left, 1)
        self._blend(left, top, np.full(size, opacity), fill)

    def line(self, x: NDArray, y: NDArray, color: Color, width: float = 1.5) -> None:
        x, y = np.asarray(x, float), np.asarray(y, float)
        left, right = max(0, int(np.floor(x.min()))), min(self.width - 1, int(np.ceil(x.max())))
        columns = np.arange(left, right + 1)
        # in each column a stroke from the curve's lowest to its highest value there
        edges = np.interp(np.concatenate([columns - 0.5, columns[-1:] + 0.5]), x, y)
        low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
        top = int(np.floor(low.min() - width))
        rows = np.arange(top, int(np.ceil(high.max() + width)) + 1)[:, None]
        inside = np.minimum(rows + 0.5 - (low - width / 2), (high + width / 2) - (rows - 0.5))
        self._blend(left, top, np.clip(inside, 0, 1), color)

    def text(
        self, x: float, y: float, words: str, color: Color = (40, 44, 52), size: int = 12, anchor: str = "start"
    ) -> None:
        from clipwise.infer.draw import text_mask

        mask = text_mask(words, round(size * 1.3))
        x -= {"start": 0.0, "middle": mask.shape[1] / 2, "end": mask.shape[1]}[anchor]
        self._blend(round(x), round(y - mask.shape[0] / 2), mask, color)

    def picture(self, x: float, y: float, pixels: NDArray[np.uint8]) -> None:
        left, top = round(x), round(y)
        part = self.pixels[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        part[:] = pixels[: part.shape[0], : part.shape[1]]

    def encode(self) -> bytes:
        return encode_png(self.pixels)


def canvas_for(path: str | Path, width: int, height: int) -> Canvas:
    """The canvas for a file's name: .svg or .png.

    Raises:
        ClipwiseError: another kind.
    """
    kinds: dict[str, type[Canvas]] = {".svg": SvgCanvas, ".png": PixelCanvas}
    kind = kinds.get(Path(path).suffix.lower())
    if kind is None:
        raise ClipwiseError(f"{path}: pictures are written as .svg or .png.")
    return kind(width, height)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W, 3) as a PNG file."""
    height, width = pixels.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # filter 0 in each row

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
        + chunk(b"IEND", b"")
    )


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
