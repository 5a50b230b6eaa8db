"""How predictions look where somebody reads them: a short table in a terminal, the clip with its bars in a notebook, a data frame."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipwise.errors import DataError
from clipwise.io.tables import data_frame, text_table

if TYPE_CHECKING:
    from clipwise.infer.predictor import Prediction

POSTER_WIDTH = 240
"""Of the frame that a notebook gets, in pixels: as JPEG some ten kilobytes."""


class Predictions(list["Prediction"]):
    """A list of ``Prediction`` that prints as a table."""

    def __repr__(self) -> str:
        rows = [(short_name(p.source), *[f"{name} {score:.3f}" for name, score in p.top(3)]) for p in self[:20]]
        more = f"\n… and {len(self) - 20} more" if len(self) > 20 else ""
        return text_table(rows, ("video", "1st", "2nd", "3rd")) + more

    def _repr_html_(self) -> str:
        more = f"<p>… and {len(self) - 12} more</p>" if len(self) > 12 else ""
        return "".join(card(p) for p in self[:12]) + more

    def to_pandas(self) -> Any:
        """A data frame with a row a video: source, class, score, duration, and the score of each class."""
        rows = []
        for p in self:
            scores = {f"score_{name}": score for name, score in p.top(len(p.scores))}
            name, score = p.top(1)[0]
            rows.append({"source": p.source, "class": name, "score": score, "duration_s": p.duration_s, **scores})
        return data_frame(rows, "Predictions.to_pandas()")


def short_name(source: str, width: int = 48) -> str:
    """A path's last ``width`` characters."""
    return source if len(source) <= width else "…" + source[1 - width :]


def card(prediction: Any, k: int = 5) -> str:
    """HTML of one prediction: its clip and a bar a class. A file is shown by reference, frames in memory by a small image."""
    bars = "".join(
        f'<tr><td style="text-align:right;padding:1px 6px">{html.escape(name)}</td><td style="width:220px;padding:1px">'
        f'<div style="background:#4c78a8;height:12px;width:{100 * min(max(score, 0.0), 1.0):.1f}%"></div></td>'
        f'<td style="padding:1px 6px">{score:.3f}</td></tr>'
        for name, score in prediction.top(k)
    )
    title = html.escape(short_name(prediction.source))
    return (
        '<div style="display:inline-block;margin:4px;vertical-align:top;font:13px sans-serif">'
        f"{_clip(prediction)}<div>{title}</div><table>{bars}</table></div>"
    )


def _clip(prediction: Any) -> str:
    frame = prediction.poster if prediction.poster is not None else _middle_frame(prediction.source)
    image = f"data:image/jpeg;base64,{_jpeg(frame)}" if frame is not None else ""
    path = Path(prediction.source)
    if path.is_file():
        try:
            place = path.resolve().relative_to(Path.cwd()).as_posix()  # what a notebook's server gives out
        except ValueError:
            place = ""
        if place:
            return f'<video controls loop muted width="{POSTER_WIDTH}" poster="{image}" src="{html.escape(place)}"></video>'
    return f'<img width="{POSTER_WIDTH}" src="{image}">' if image else ""


def _middle_frame(source: str) -> np.ndarray | None:
    from clipwise.video import open as open_any

    if not os.path.exists(source):
        return None
    try:
        with open_any(source) as reader:
            return reader[len(reader) // 2]
    except (DataError, OSError):
        return None


def _jpeg(frame: np.ndarray) -> str:
    from PIL import Image

    image = Image.fromarray(frame)
    image.thumbnail((POSTER_WIDTH, 2 * POSTER_WIDTH))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


def table_of(prediction: Any, k: int = 5) -> str:
    """The best classes, one a line."""
    rows: Sequence[tuple[str, ...]] = [(name, f"{score:.3f}") for name, score in prediction.top(k)]
    return f"{short_name(prediction.source)}\n{text_table(rows, ('class', 'score'))}"


def as_dict(prediction: Prediction, k: int) -> dict[str, Any]:
    """A prediction with its k best classes, for JSON."""
    top = [
        {"class": name, "index": int(i), "score": score}
        for (name, score), i in zip(prediction.top(k), np.argsort(-prediction.scores, kind="stable"))
    ]
    return {
        "source": prediction.source,
        "duration_s": round(prediction.duration_s, 3),
        "num_frames": prediction.num_frames,
        "predictions": top,
    }
