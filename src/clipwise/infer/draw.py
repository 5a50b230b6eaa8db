"""Draw predictions into a video and write it: text, bars, a time line. one frame in memory at a time.

``annotate_video`` does the whole work for a file; ``Panel`` and ``TimeLine`` serve those who have frames of their own, with
``clipwise.video.video_writer``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from clipwise.infer.fonts import find_font
from clipwise.video.backends import open_frames
from clipwise.video.decode import VideoReader, open_video
from clipwise.video.video_writer import VideoWriter, check_video_path

__all__ = ["Panel", "Segment", "TimeLine", "VideoWriter", "annotate_video", "check_video_path", "text_mask"]

Segment = tuple[float, float, Sequence[tuple[str, float]]]
"""Start and end in seconds, and classes with their scores (0 to 1)."""

PALETTE = np.array(
    [(47, 111, 237), (224, 123, 40), (18, 144, 106), (143, 85, 224), (209, 64, 90), (8, 151, 170), (169, 131, 7), (115, 123, 140)],
    np.uint8,
)  # fmt: skip
_MAX_ROWS = 6


def annotate_video(
    source: Any,
    out: str | PathLike,
    segments: Sequence[Segment],
    *,
    min_height: int = 360,
    crf: int = 20,
) -> int:
    """Write a video with the classes of its segments drawn into it, at the source's own times, with its sound.

    Args:
        source: what ``open_video`` takes, a folder of frames, or an open reader.
        out: .mp4, .m4v, .mov or .mkv; H.264. It appears only when it is complete.
        segments: what to draw when; segments that overlap are shown together. Several segments also get a time line.
        min_height: smaller frames are enlarged by a whole number, so that text can be read.
        crf: x264's quality, lower is better.

    Returns:
        Frames written.

    Raises:
        DecodeError: the source can't be decoded.
        ClipwiseError: the file can't be written as asked.
    """
    check_video_path(out)
    with ExitStack() as stack:
        if isinstance(source, VideoReader):
            reader = source
        elif isinstance(source, (str, PathLike)) and Path(source).is_dir():
            reader = stack.enter_context(open_frames(source))
        else:
            reader = stack.enter_context(open_video(source))
        scale = max(1, -(-min_height // reader.height))
        height, width = reader.height * scale, reader.width * scale
        numbers = class_numbers(segments)
        panel = Panel(height, width, numbers=numbers)
        line = TimeLine(height, width, reader.duration_s, segments) if len(segments) > 1 and reader.duration_s else None
        times = reader.pts_s(np.arange(reader.num_frames))
        sound = str(source) if isinstance(source, (str, PathLike)) and Path(source).is_file() else None
        writer = stack.enter_context(VideoWriter(out, height, width, reader.fps or 25.0, sound=sound, crf=crf))
        active = _Active(segments, reader.duration_s)
        count = 0
        for index, frame in reader.iterate():
            t = float(times[index]) if np.isfinite(times[index]) else index / (reader.fps or 25.0)
            shown = enlarge(frame[..., :3], scale)
            rows = active.at(t)
            if rows:
                panel.draw(shown, rows)
            if line is not None:
                line.draw(shown, t)
            writer.write(shown, t)
            count += 1
    return count


def class_numbers(segments: Sequence[Segment]) -> dict[str, int]:
    """A number for each segment's class, in their order: the color that stands for it."""
    names = dict.fromkeys(top[0][0] for _, _, top in segments if top)
    return {name: number for number, name in enumerate(names)}


class _Active:
    """The segments that are on at rising times, each looked at twice at most."""

    def __init__(self, segments: Sequence[Segment], duration_s: float):
        # a segment up to the end of the video (or of one without known duration) includes the last frame
        self.waiting = sorted(
            ((s, float("inf") if e >= duration_s else e, top) for s, e, top in segments),
            key=lambda segment: segment[0],
            reverse=True,
        )
        self.on: list[Segment] = []

    def at(self, time_s: float) -> list[tuple[str, float]]:
        """Classes and scores to show; times must not fall."""
        while self.waiting and self.waiting[-1][0] <= time_s:
            self.on.append(self.waiting.pop())
        self.on = [segment for segment in self.on if time_s < segment[1]]
        return [pair for _, _, top in self.on for pair in top]


class Panel:
    """A box with classes and bars in the lower left corner of frames of one size.

    Args:
        height, width: of the frames.
        above: free rows at the bottom, in pixels.
        numbers: class to color, as a :class:`TimeLine` beside it has them.
    """

    def __init__(self, height: int, width: int, above: int = 0, numbers: Mapping[str, int] | None = None):
        self.height, self.width, self.above, self.numbers = height, width, above, numbers or {}
        self.text = int(np.clip(height / 20, 11, 34))
        self._cache: dict[Any, tuple[NDArray, NDArray]] = {}

    def draw(self, frame: NDArray[np.uint8], rows: Sequence[tuple[str, float]]) -> None:
        """Draw into a frame, in place.

        Args:
            frame: uint8 (H, W, 3), writable.
            rows: classes and scores, the best first.
        """
        key = tuple((name, round(float(score), 3)) for name, score in rows[:_MAX_ROWS])
        if key not in self._cache:
            if len(self._cache) > 64:
                self._cache.clear()
            self._cache[key] = self._render(key)
        color, alpha = self._cache[key]
        h, w = alpha.shape
        margin = max(4, self.text // 2)
        bottom = self.height - margin - self.above
        top, left = max(0, bottom - h), margin
        blend(frame[top : top + h, left : left + w], color, alpha)

    def _render(self, rows: Sequence[tuple[str, float]]) -> tuple[NDArray, NDArray]:
        text, pad = self.text, max(3, self.text // 3)
        line = round(text * 1.55)
        numbers = [text_mask(f"{score:.0%}" if 0 <= score <= 1 else f"{score:.2f}", text) for _, score in rows]
        room = max(20, self.width - 2 * max(4, text // 2) - 4 * pad - max(n.shape[1] for n in numbers))
        names = [fit_text(name, text, room) for name, _ in rows]
        inner = max(n.shape[1] for n in names) + 2 * pad + max(n.shape[1] for n in numbers)
        inner = min(max(inner, min(self.width // 3, room)), self.width - 2 * max(4, text // 2) - 2 * pad)
        h, w = line * len(rows) + 2 * pad, inner + 2 * pad
        color, alpha = np.full((h, w, 3), 14, np.float32), np.full((h, w), 0.62, np.float32)
        for n, (name, score) in enumerate(rows):
            y = pad + n * line
            length = round(inner * float(np.clip(score, 0, 1)))
            own = PALETTE[self.numbers.get(name, 0) % len(PALETTE)]
            color[y : y + line - 2, pad : pad + length] = own if n == 0 or name in self.numbers else (92, 104, 128)
            alpha[y : y + line - 2, pad : pad + length] = 0.9
            for mask, x in ((names[n], pad + pad // 2), (numbers[n], pad + inner - numbers[n].shape[1] - pad // 2)):
                _ink(color, alpha, mask, y + (line - 2 - mask.shape[0]) // 2, x)
        return color, alpha


class TimeLine:
    """A bar at the top with the segments as blocks and a mark where the video is."""

    def __init__(self, height: int, width: int, duration_s: float, segments: Sequence[Segment]):
        self.rows, self.width, self.duration = max(6, height // 60), width, max(duration_s, 1e-6)
        self.color = np.full((self.rows, width, 3), 20, np.float32)
        self.alpha = np.full((self.rows, width), 0.55, np.float32)
        numbers = class_numbers(segments)
        for start, end, top in segments:
            if not top:
                continue
            number = numbers[top[0][0]]
            x0, x1 = (int(np.clip(v / self.duration, 0, 1) * width) for v in (start, end))
            self.color[1:-1, x0 : max(x1, x0 + 2)] = PALETTE[number % len(PALETTE)]
            self.alpha[1:-1, x0 : max(x1, x0 + 2)] = 0.95

    def draw(self, frame: NDArray[np.uint8], time_s: float) -> None:
        """Draw into a frame, in place."""
        blend(frame[: self.rows], self.color, self.alpha)
        x = int(np.clip(time_s / self.duration, 0, 1) * (self.width - 3))
        frame[: self.rows + 3, x : x + 3] = 255


def blend(region: NDArray[np.uint8], color: NDArray, alpha: NDArray) -> None:
    """Mix a color into a part of a frame, in place; what sticks out is cut off."""
    h, w = region.shape[:2]
    a = alpha[:h, :w, None]
    region[:] = (region * (1 - a) + color[:h, :w] * a + 0.5).astype(np.uint8)


def enlarge(frame: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """A writable copy of a frame, ``scale`` times as large (bicubic)."""
    if scale == 1:
        return np.array(frame, order="C")
    small = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    size = dict(height=frame.shape[0] * scale, width=frame.shape[1] * scale)
    pixels: NDArray[Any] = small.reformat(**size, format="rgb24", interpolation="BICUBIC").to_ndarray()
    return np.array(pixels, np.uint8)


def fit_text(text: str, height: int, width: int) -> NDArray[np.float32]:
    """:func:`text_mask`, shortened with dots to fit into ``width`` pixels."""
    mask = text_mask(text, height)
    while mask.shape[1] > width and len(text) > 1:
        text = text[: max(1, min(len(text) - 1, int(len(text) * width / mask.shape[1])))]
        mask = text_mask(text.rstrip() + "...", height)
    return mask[:, : max(width, 1)]


@lru_cache(maxsize=512)
def text_mask(text: str, height: int) -> NDArray[np.float32]:
    """One line of text as ink from 0 to 1, (height, width), in a font that has its characters."""
    from PIL import Image, ImageDraw

    found = find_font("".join(sorted(set(text))))
    text, font = found.drawable(text), found.at(round(height * 0.8))
    image = Image.new("L", (max(1, round(font.getlength(text)) + 2), height))
    ImageDraw.Draw(image).text((0, height // 2), text, fill=255, font=font, anchor="lm")
    return np.asarray(image, np.float32) / np.float32(255)


def _ink(color: NDArray, alpha: NDArray, mask: NDArray, y: int, x: int) -> None:
    """White letters onto a panel."""
    h, w = min(mask.shape[0], color.shape[0] - y), min(mask.shape[1], color.shape[1] - x)
    m = mask[:h, :w]
    part, opacity = color[y : y + h, x : x + w], alpha[y : y + h, x : x + w]
    part += (255 - part) * m[..., None]
    np.maximum(opacity, m, out=opacity)
