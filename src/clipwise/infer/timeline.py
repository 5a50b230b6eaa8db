"""The picture of a localization: frames, boundary curves, proposals, named segments and the ground truth over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipwise.data.transforms import resize_frames
from clipwise.infer.canvas import Canvas, Color, canvas_for
from clipwise.infer.segments import Localization
from clipwise.io.files import atomic_path
from clipwise.video.decode import VideoReader

PALETTE: tuple[Color, ...] = (
    (31, 119, 180), (214, 96, 20), (44, 140, 60), (190, 40, 60), (120, 80, 180), (140, 86, 75), (200, 90, 160), (90, 110, 120),
)  # fmt: skip
_INK: Color = (40, 44, 52)
_START: Color = (44, 140, 60)
_END: Color = (190, 40, 60)
_LEFT, _RIGHT, _LANE, _GAP = 96, 16, 20, 10
_STRIP, _CURVES, _PROPOSALS = 54, 70, 12
_CHARACTER = 6.5  # width of a label's letter


def save_timeline(
    path: str | Path,
    found: Localization,
    *,
    reader: VideoReader | None = None,
    truth: Sequence[Mapping[str, Any]] | None = None,
    width: int = 1100,
    num_proposals: int = _PROPOSALS,
) -> Path:
    """Draw and write a picture.

    Args:
        path: .svg or .png.
        found: the localization.
        reader: the open video, for a strip of its frames.
        truth: what really happens: ``{"segment": [start, end], "label"}`` each.
        width: of the picture in pixels.
        num_proposals: lines of the best proposals.

    Returns:
        The path.
    """
    inner = width - _LEFT - _RIGHT
    duration = found.duration_s

    def at(seconds: Any) -> Any:
        return _LEFT + np.asarray(seconds) / duration * inner

    true = sorted(_within(truth or [], duration), key=lambda a: a["segment"][0])
    blocks = [_Block.of(at, s.start_s, s.end_s, f"{s.name} {s.score:.2f}", width) for s in found.in_time]
    true_blocks = [_Block.of(at, a["segment"][0], a["segment"][1], a.get("label", "action"), width) for a in true]
    lanes, true_lanes = _lanes(blocks), _lanes(true_blocks)
    rows = min(num_proposals, len(found.proposals))
    strip = frame_strip(reader, inner, _STRIP) if reader is not None else None
    height = 34 + (len(strip) + _GAP if strip is not None else 0) + _CURVES + _GAP + rows * 5 + _GAP
    height += (max(lanes, default=0) + 1) * _LANE + _GAP + ((max(true_lanes) + 1) * _LANE + _GAP if true else 0) + 26
    canvas = canvas_for(path, width, height)
    canvas.text(_LEFT, 16, f"{Path(found.source).name}, {duration:.2f} s", size=13)
    y = 34.0
    if strip is not None:
        canvas.picture(_LEFT, y, strip)
        y += len(strip) + _GAP
    y = _draw_curves(canvas, found, at, y)
    canvas.text(_LEFT - 8, y + rows * 2.5, "proposals", anchor="end")
    best = found.proposals[0, 2] if len(found.proposals) else 1.0
    for start, end, score in found.proposals[:rows].tolist():
        canvas.rect(at(start), y + 1, at(end) - at(start), 3, _INK, 0.15 + 0.6 * score / (best or 1.0))
        y += 5
    y += _GAP
    colors: dict[str, Color] = {}
    for name in [a.get("label", "action") for a in true] + [s.name for s in found.in_time]:
        colors.setdefault(name, PALETTE[len(colors) % len(PALETTE)])
    canvas.text(_LEFT - 8, y + _LANE / 2, "found", anchor="end")
    for segment, block, lane in zip(found.in_time, blocks, lanes):
        block.draw(canvas, y + lane * _LANE, colors[segment.name], 0.85)
    y += (max(lanes, default=0) + 1) * _LANE + _GAP
    if true:
        canvas.text(_LEFT - 8, y + _LANE / 2, "truth", anchor="end")
        for action, block, lane in zip(true, true_blocks, true_lanes):
            block.draw(canvas, y + lane * _LANE, colors[action.get("label", "action")], 0.45)
        y += (max(true_lanes) + 1) * _LANE + _GAP
    _draw_axis(canvas, at, duration, y)
    with atomic_path(path) as temporary:
        temporary.write_bytes(canvas.encode())
    return Path(path)


def frame_strip(reader: VideoReader, width: int, height: int) -> NDArray[np.uint8]:
    """Frames of a video side by side, evenly spaced in time: uint8 (height, width, 3)."""
    each = max(8, round(reader.width / reader.height * height))
    count = max(1, width // each)
    places = ((np.arange(count) + 0.5) / count * reader.num_frames).astype(np.int64)
    each = width // count

    def small(frame: NDArray) -> NDArray:
        picture = frame[..., :3] if frame.shape[-1] >= 3 else np.repeat(frame[..., :1], 3, axis=-1)
        return resize_frames(np.ascontiguousarray(picture)[None], (height, each))[0]

    tiles = reader.frames(places, transform=small)
    strip = np.full((height, width, 3), 255, np.uint8)
    for n, tile in enumerate(tiles):
        strip[:, n * each : (n + 1) * each] = tile
    return strip


def _draw_curves(canvas: Canvas, found: Localization, at: Any, y: float) -> float:
    canvas.rect(_LEFT, y, canvas.width - _LEFT - _RIGHT, _CURVES, (245, 246, 248))
    canvas.text(_LEFT - 8, y + 18, "start", _START, anchor="end")
    canvas.text(_LEFT - 8, y + 36, "end", _END, anchor="end")
    top = max(float(found.start.max()), float(found.end.max()), 1e-6)
    for curve, color in ((found.start, _START), (found.end, _END)):
        canvas.line(at(found.times_s), y + _CURVES - 3 - curve / top * (_CURVES - 8), color)
    return y + _CURVES + _GAP


def _draw_axis(canvas: Canvas, at: Any, duration: float, y: float) -> None:
    canvas.rect(_LEFT, y, canvas.width - _LEFT - _RIGHT, 1, (150, 155, 165))
    raw = duration / 10
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    for tick in np.arange(0, duration * 1.0001, step):
        canvas.rect(float(at(tick)), y, 1, 5, (150, 155, 165))
        canvas.text(float(at(tick)), y + 14, f"{tick:g} s", size=11, anchor="middle")


@dataclass(frozen=True)
class _Block:
    """A span's rectangle with its label: inside if it fits, else behind it, or before it at the picture's edge."""

    x: float
    width: float
    label: str
    text_x: float
    anchor: Literal["start", "end"]
    inside: bool

    @classmethod
    def of(cls, at: Any, start: float, end: float, label: str, picture: int) -> _Block:
        x, width = float(at(start)), float(at(end) - at(start))
        room = len(label) * _CHARACTER
        if room + 6 < width:
            return cls(x, width, label, x + 4, "start", True)
        if x + width + 3 + room <= picture:
            return cls(x, width, label, x + width + 3, "start", False)
        return cls(x, width, label, x - 3, "end", False)

    @property
    def extent(self) -> tuple[float, float]:
        """From and to where nothing else may be drawn."""
        if self.inside:
            return self.x, self.x + self.width
        room = len(self.label) * _CHARACTER
        ends = (self.text_x, self.text_x + room) if self.anchor == "start" else (self.text_x - room, self.text_x)
        return min(self.x, ends[0]), max(self.x + self.width, ends[1])

    def draw(self, canvas: Canvas, y: float, color: Color, opacity: float) -> None:
        canvas.rect(self.x, y + 2, self.width, _LANE - 4, color, opacity)
        ink = (255, 255, 255) if self.inside and opacity > 0.6 else _INK
        canvas.text(self.text_x, y + _LANE / 2, self.label, ink, size=11, anchor=self.anchor)


def _within(actions: Sequence[Mapping[str, Any]], duration: float) -> list[dict[str, Any]]:
    """Actions cut at the video's end; those behind it are left out."""
    cut = [{**a, "segment": [float(a["segment"][0]), min(float(a["segment"][1]), duration)]} for a in actions]
    return [a for a in cut if a["segment"][0] <= a["segment"][1]]


def _lanes(blocks: Sequence[_Block]) -> list[int]:
    """A row for each block, so that neither blocks nor labels lie over each other."""
    taken: list[list[tuple[float, float]]] = []
    lanes = []
    for left, right in (block.extent for block in blocks):
        lane = next((n for n, row in enumerate(taken) if all(right <= a or left >= b for a, b in row)), len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((left, right + 2))
        lanes.append(lane)
    return lanes
