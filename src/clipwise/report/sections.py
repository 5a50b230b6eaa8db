"""What all reports are made of: sections, tables, tiles, film strips, time lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from clipwise.report.charts import Series, line_chart, round_ticks
from clipwise.report.thumbs import Strip, film_strips

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
    "time": "seconds a step",
    "data_time": "seconds waiting for data",
    "memory": "memory (MB)",
}


@dataclass(frozen=True)
class Section:
    """A part of a page: anchor, heading, HTML, and whether it may share a row with the next."""

    anchor: str
    title: str
    body: str
    note: str = ""


def tiles(items: Sequence[tuple[str, str, str]]) -> str:
    """Key figures as (label, value, note)."""
    cells = "".join(
        f'<div class="tile"><dt>{escape(label)}</dt><dd>{escape(value)}</dd><small>{escape(note)}</small></div>'
        for label, value, note in items
    )
    return f'<dl class="tiles">{cells}</dl>'


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[int] = ()) -> str:
    """A plain table; cells are text (escaped) or ``Html``."""

    def cell(n: int, value: Any, tag: str = "td") -> str:
        text = value.text if isinstance(value, Html) else escape("" if value is None else str(value))
        return f"<{tag}{' class=num' if n in numeric else ''}>{text}</{tag}>"

    head = "".join(cell(n, h, "th") for n, h in enumerate(header))
    body = "".join("<tr>" + "".join(cell(n, v) for n, v in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Html:
    """A cell that is markup already."""

    text: str


def words_section(anchor: str, title: str, paragraphs: Sequence[str]) -> Section:
    """Plain text."""
    return Section(anchor, title, "".join(f"<p>{escape(p)}</p>" for p in paragraphs))


def strip_html(strip: Strip | None, path: str) -> str:
    """A strip that plays on hover, focus and Enter."""
    if strip is None:
        return '<div class="strip gone"><span>the file is not there any more</span></div>'
    length = strip.duration_s if 0.8 <= strip.duration_s <= 4 else 1.6
    return (
        f'<div class="strip" tabindex="0" role="button" aria-pressed="false" aria-label="play {escape(tail(path), quote=True)}" '
        f'style="--n:{strip.count};--w:{strip.width};--h:{strip.height};--t:{length:.2f}s;background-image:url({strip.address})"></div>'
    )


def predictions_section(predictions: Sequence[Mapping[str, Any]], anchor: str = "predictions") -> Section:
    """What a model says about new files.

    Args:
        predictions: each with ``source`` and ``top``: pairs of class and share.
    """
    strips = film_strips([str(p["source"]) for p in predictions])
    cards = []
    for p, strip in zip(predictions, strips):
        bars = "".join(
            f'<li><span class="name" data-keep>{escape(str(name))}</span><span class="track"><i class="s{0 if n == 0 else 7}" style="width:{float(score) * 100:.1f}%"></i></span><span class="num">{float(score):.1%}</span></li>'
            for n, (name, score) in enumerate(p["top"])
        )
        cards.append(
            f'<li class="prediction">{strip_html(strip, str(p["source"]))}<div><p class="path" data-keep>{escape(tail(str(p["source"])))}</p><ol class="bars few plain">{bars}</ol></div></li>'
        )
    return Section(anchor, "Predictions on new files", f'<ul class="predictions">{"".join(cards)}</ul>')


def timeline_section(
    videos: Sequence[Mapping[str, Any]], anchor: str = "timeline", title: str = "What happens when"
) -> Section:
    """Segments along the time of long videos.

    Args:
        videos: each with ``video`` (its name), ``segments`` (found), and where known ``truth``, ``duration_s`` and
            ``curves`` (``time_s``, ``start``, ``end``: how sure the model is that something starts or ends); a segment
            has ``start_s``, ``end_s``, and where known ``class`` and ``score``.
    """
    names: dict[str, int] = {}
    parts = []
    for video in videos:
        everything = [*video["segments"], *video.get("truth", ())]
        length = float(video.get("duration_s") or max((float(s["end_s"]) for s in everything), default=1.0)) or 1.0
        rows = []
        for kind, key in (("truth", "truth"), ("found", "segments")):
            if not video.get(key):
                continue
            placed = _lanes(video[key])
            blocks = "".join(_block(s, lane, length, names) for lane, s in placed)
            lanes = 1 + max(lane for lane, _ in placed)
            rows.append(f'<div class="lane-name">{kind}</div><div class="lane" style="--lanes:{lanes}">{blocks}</div>')
        marks = "".join(
            f'<span style="left:{t / length * 100:.2f}%">{t:g} s</span>'
            for t in round_ticks(0, length, 8)
            if t <= length * 1.0001
        )
        name = escape(tail(str(video["video"])))
        parts.append(
            f'<div class="timeline"><h3 data-keep>{name}</h3>{"".join(rows)}<div></div><div class="scale">{marks}</div>{_boundaries(video)}</div>'
        )
    return Section(anchor, title, "".join(parts))


def _boundaries(video: Mapping[str, Any]) -> str:
    curves = video.get("curves")
    if not curves:
        return ""
    chart = line_chart(
        "does something start or end here?",
        [Series("start", curves["time_s"], curves["start"], 2), Series("end", curves["time_s"], curves["end"], 4)],
        x_label="s",
        y_min=0.0,
        y_max=1.0,
        width=1080,
        height=190,
    )
    return f'<div class="below">{chart}</div>'


def _block(segment: Mapping[str, Any], lane: int, length: float, names: dict[str, int]) -> str:
    label, score = str(segment.get("class") or ""), segment.get("score")
    start, end = float(segment["start_s"]), float(segment["end_s"])
    color = names.setdefault(label, len(names)) % 8
    shown = f"{label} {float(score):.2f}" if score is not None else label
    tip = f"{label} {start:.2f}–{end:.2f} s" + (f", {float(score):.2f}" if score is not None else "")
    strength = 0.35 + 0.65 * min(max(float(score), 0.0), 1.0) if score is not None else 1.0
    return (
        f'<div class="block s{color}" tabindex="0" title="{escape(tip, quote=True)}" style="left:{start / length * 100:.2f}%;'
        f'width:{max(end - start, 0) / length * 100:.2f}%;--lane:{lane};--o:{strength:.2f}"><span data-keep>{escape(shown.strip())}</span></div>'
    )


def _lanes(segments: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Overlapping segments go below one another."""
    ends: list[float] = []
    placed = []
    for s in sorted(segments, key=lambda s: float(s["start_s"])):
        lane = next((n for n, end in enumerate(ends) if end <= float(s["start_s"]) + 1e-9), len(ends))
        if lane == len(ends):
            ends.append(0.0)
        ends[lane] = float(s["end_s"])
        placed.append((lane, s))
    return placed


def json_text(value: Any) -> str:
    """JSON that can stand inside a script element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def tail(path: str, parts: int = 2) -> str:
    return "/".join(path.replace("\\", "/").rstrip("/").split("/")[-parts:])


def seconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 120:
        return f"{value:.3g} s"
    if value < 7200:
        return f"{value / 60:.3g} min"
    return f"{value / 3600:.3g} h"
