"""The chart of a localization: frames, boundary curves, proposals, named segments and the ground truth over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipwise.data.transforms import resize_frames
from clipwise.infer.segments import Localization
from clipwise.report.chart_files import write_chart
from clipwise.report.page import render, round_ticks
from clipwise.report.thumbs import jpeg_address
from clipwise.video.decode import VideoReader
from clipwise.video.even_rate import at_even_rate

_COLORS = ("#1f77b4", "#d66014", "#2c8c3c", "#be283c", "#7850b4", "#8c564b", "#c85aa0", "#5a6e78")
_INK, _START, _END = "#282c34", "#2c8c3c", "#be283c"
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
    """Draw a localization and write it.

    Args:
        path: .svg, .png or .pdf.
        found: the localization.
        reader: the open video, for a strip of its frames.
        truth: what really happens: ``{"segment": [start, end], "label"}`` each.
        width: of the drawing in pixels.
        num_proposals: lines of the best proposals.

    Returns:
        The path.
    """
    inner = width - _LEFT - _RIGHT
    duration = found.duration_s

    def at(seconds: Any) -> Any:
        return _LEFT + np.asarray(seconds) / duration * inner

    true = sorted(_within(truth or [], duration), key=lambda a: a["segment"][0])
    names = [a.get("label", "action") for a in true] + [s.name for s in found.in_time]
    colors = {name: _COLORS[n % len(_COLORS)] for n, name in enumerate(dict.fromkeys(names))}
    placed = [_Block.of(at, s.start_s, s.end_s, f"{s.name} {s.score:.2f}", width) for s in found.in_time]
    true_placed = [_Block.of(at, a["segment"][0], a["segment"][1], a.get("label", "action"), width) for a in true]
    rows = [("found", placed, [colors[s.name] for s in found.in_time], 0.85)]
    if true:
        rows.append(("truth", true_placed, [colors[a.get("label", "action")] for a in true], 0.45))
    y = 34.0
    strip = None
    if reader is not None:
        strip = {"y": y, "address": jpeg_address(frame_strip(reader, inner, _STRIP), 90)}
        y += _STRIP + _GAP
    given = [(c, color) for c, color in ((found.start, _START), (found.end, _END)) if len(c)]
    top = max([1e-6, *(float(c.max()) for c, _ in given)])
    curves = [
        (
            color,
            " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(at(found.times_s), y + _CURVES - 3 - c / top * (_CURVES - 8))),
        )
        for c, color in given
    ]
    curves_y = y
    y += _CURVES + _GAP if given else 0
    proposals_y = y
    best = found.proposals[0, 2] if len(found.proposals) else 1.0
    proposals = []
    for start, end, score in found.proposals[:num_proposals].tolist():
        proposals.append((float(at(start)), y + 1, float(at(end) - at(start)), 0.15 + 0.6 * score / (best or 1.0)))
        y += 5
    y += _GAP
    groups = []
    for label, blocks, fills, opacity in rows:
        lanes = _lanes(blocks)
        shown = [
            {"block": block, "y": y + lane * _LANE, "fill": fill, "opacity": opacity}
            for block, lane, fill in zip(blocks, lanes, fills)
        ]
        groups.append({"label": label, "y": y, "blocks": shown})
        y += (max(lanes, default=0) + 1) * _LANE + _GAP
    ticks = round_ticks(0, duration, 10)
    svg = render(
        "timeline.svg",
        title=f"{Path(found.source).name}, {duration:.2f} s",
        width=width,
        height=y + 26,
        left=_LEFT,
        inner=inner,
        lane=_LANE,
        strip=strip,
        strip_height=_STRIP,
        curves=curves,
        curves_y=curves_y,
        curves_height=_CURVES,
        start_color=_START,
        end_color=_END,
        ink=_INK,
        proposals=proposals,
        proposals_y=proposals_y,
        groups=groups,
        axis_y=y,
        ticks=[(float(at(t)), f"{t:g} s") for t in ticks if t <= duration * 1.0001],
    )
    return write_chart(path, svg, "".join(names) + Path(found.source).name)


def frame_strip(reader: VideoReader, width: int, height: int) -> NDArray[np.uint8]:
    """Frames of a video side by side, evenly spaced in time: uint8 (height, width, 3)."""
    each = max(8, round(reader.width / reader.height * height))
    count = max(1, width // each)
    reader = at_even_rate(reader)  # the strip's axis is time
    places = ((np.arange(count) + 0.5) / count * reader.num_frames).astype(np.int64)
    each = width // count

    def small(frame: NDArray) -> NDArray:
        image = frame[..., :3] if frame.shape[-1] >= 3 else np.repeat(frame[..., :1], 3, axis=-1)
        return resize_frames(np.ascontiguousarray(image)[None], (height, each))[0]

    tiles = reader.frames(places, transform=small)
    strip = np.full((height, width, 3), 255, np.uint8)
    for n, tile in enumerate(tiles):
        strip[:, n * each : (n + 1) * each] = tile
    return strip


@dataclass(frozen=True)
class _Block:
    """A span's rectangle with its label: inside if it fits, else behind it, or before it at the drawing's edge."""

    x: float
    width: float
    label: str
    text_x: float
    anchor: Literal["start", "end"]
    inside: bool

    @classmethod
    def of(cls, at: Any, start: float, end: float, label: str, limit: int) -> _Block:
        x, width = float(at(start)), float(at(end) - at(start))
        room = len(label) * _CHARACTER
        if room + 6 < width:
            return cls(x, width, label, x + 4, "start", True)
        if x + width + 3 + room <= limit:
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
