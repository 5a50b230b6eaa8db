"""Draw predictions into a video and write it: text, bars, a time line. numpy and PyAV only, one frame in memory at a time.

``annotate_video`` does the whole work for a file; ``VideoWriter`` and ``Panel`` serve those who have frames of their own.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from clipwise.data.decode import VideoReader, open_frames, open_video
from clipwise.engine.checkpoint import atomic_path
from clipwise.errors import ClipwiseError
from clipwise.infer.font import ROWS, glyphs

Segment = tuple[float, float, Sequence[tuple[str, float]]]
"""Start and end in seconds, and classes with their scores (0 to 1)."""

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
PALETTE = np.array(
    [(47, 111, 237), (224, 123, 40), (18, 144, 106), (143, 85, 224), (209, 64, 90), (8, 151, 170), (169, 131, 7), (115, 123, 140)],
    np.uint8,
)  # fmt: skip
_COPIED_AUDIO = {"aac", "mp3", "ac3", "eac3", "opus", "alac"}  # an mp4 can hold them as they are
_MAX_ROWS = 6
_said: set[str] = set()


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
        min_height: smaller pictures are enlarged by a whole number, so that text can be read.
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
        panel = Panel(height, width)
        line = TimeLine(height, width, reader.duration_s, segments) if len(segments) > 1 and reader.duration_s else None
        times = reader.pts_s(np.arange(reader.num_frames))
        sound = str(source) if isinstance(source, (str, PathLike)) and Path(source).is_file() else None
        writer = stack.enter_context(VideoWriter(out, height, width, reader.fps or 25.0, sound=sound, crf=crf))
        active = _Active(segments, reader.duration_s)
        count = 0
        for index, frame in reader.iterate():
            t = float(times[index]) if np.isfinite(times[index]) else index / (reader.fps or 25.0)
            picture = enlarge(frame[..., :3], scale)
            rows = active.at(t)
            if rows:
                panel.draw(picture, rows)
            if line is not None:
                line.draw(picture, t)
            writer.write(picture, t)
            count += 1
    return count


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


class VideoWriter:
    """Writes RGB frames as H.264 (yuv420p) with PyAV; the file appears when the ``with`` block ends well.

    Args:
        out: the file; its suffix names the container.
        height, width: of the frames; an odd last row or column is cut off.
        fps: frames per second.
        sound: file whose first sound track goes along: copied where the container can hold it, else encoded as AAC.
        crf: x264's quality, lower is better.
    """

    def __init__(
        self,
        out: str | PathLike,
        height: int,
        width: int,
        fps: float,
        *,
        sound: str | None = None,
        crf: int = 20,
    ):
        self.out, self.sound, self.crf = check_video_path(out), sound, crf
        self.size = height // 2 * 2, width // 2 * 2
        self.fps = Fraction(fps).limit_denominator(1001) if fps else Fraction(25)
        self.count, self._last = 0, -1

    def __enter__(self) -> VideoWriter:
        self._atomic = atomic_path(self.out)
        temporary = self._atomic.__enter__()
        options = {"movflags": "+faststart"} if CONTAINERS[self.out.suffix.lower()] != "matroska" else {}
        try:
            self._container = av.open(str(temporary), "w", format=CONTAINERS[self.out.suffix.lower()], options=options)
            stream = self._container.add_stream(
                "libx264", rate=self.fps, options={"crf": str(self.crf), "preset": "veryfast"}
            )
        except (av.error.FFmpegError, ValueError) as error:
            self._atomic.__exit__(type(error), error, None)
            raise ClipwiseError(f"{self.out}: this build of PyAV can't write H.264 ({error}).") from None
        stream.height, stream.width, stream.pix_fmt = *self.size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        self._stream = stream
        self._track = SoundTrack(self.sound, self._container) if self.sound else None
        return self

    def write(self, frame: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Add a frame.

        Args:
            frame: uint8 (H, W, 3).
            time_s: when it is shown; by the frame rate if not given. Times must rise.
        """
        height, width = self.size
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        stamp = round((self.count / float(self.fps) if time_s is None else time_s) * 90_000)
        stamp = max(stamp, self._last + 1)
        picture.pts, picture.time_base = stamp, Fraction(1, 90_000)
        if self._track is not None:
            self._track.up_to(stamp / 90_000)
        self._container.mux(self._stream.encode(picture))
        self.count, self._last = self.count + 1, stamp

    def __exit__(self, kind, error, trace) -> None:
        empty = kind is None and not self.count
        if empty:
            kind, error = ClipwiseError, ClipwiseError(f"{self.out}: there was no frame to write.")
        own = empty
        try:
            if kind is None:
                self._finish()
            self._container.close()
        except (av.error.FFmpegError, OSError) as late:
            if kind is None:
                kind, error = ClipwiseError, ClipwiseError(f"{self.out} can't be written: {late}.")
                own = True
        self._atomic.__exit__(kind, error, trace)
        if own:
            raise error

    def _finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        if self._track is not None:
            self._track.up_to(self._last / 90_000 + 1 / float(self.fps))
            self._track.close()


class SoundTrack:
    """The first sound track of a file on its way into another, packet by packet."""

    def __init__(self, source: str, target: Any):
        self._packets = self._resampler = None
        try:
            self._input = av.open(source)
        except (av.error.FFmpegError, OSError, ValueError):
            return
        if not self._input.streams.audio:
            self._input.close()
            return
        stream = self._input.streams.audio[0]
        video = self._input.streams.video
        self._offset = float((video[0].start_time or 0) * (video[0].time_base or 0)) if video else 0.0
        self._target = target
        if stream.codec_context is not None and stream.codec_context.name.removesuffix("float") in _COPIED_AUDIO:
            self._stream = target.add_stream_from_template(stream)
        else:
            self._stream = target.add_stream("aac", rate=stream.codec_context.sample_rate)
            self._resampler = av.AudioResampler("fltp", "stereo", stream.codec_context.sample_rate)
        self._packets = self._input.demux(stream)
        self._waiting: Any = None

    def up_to(self, time_s: float) -> None:
        """Hand over everything until a time, so that sound and picture lie side by side in the file."""
        if self._packets is None:
            return
        while True:
            packet = self._waiting
            if packet is None:
                try:
                    packet = next(self._packets, None)
                except (av.error.FFmpegError, OSError):  # the sound is damaged from here on; the pictures matter
                    packet = None
            if packet is None or packet.dts is None:
                self._packets = None
                return
            if float(packet.dts * packet.time_base) - self._offset > time_s:
                self._waiting = packet
                return
            self._waiting = None
            self._hand_over(packet)

    def _hand_over(self, packet: Any) -> None:
        shift = round(self._offset / packet.time_base)
        if self._resampler is None:
            packet.dts -= shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            if packet.pts < 0:
                return
            packet.stream = self._stream
            self._target.mux(packet)
            return
        try:
            frames = [f for frame in packet.decode() for f in self._resampler.resample(frame)]
        except av.error.FFmpegError:
            return
        for frame in frames:
            frame.pts = None  # the encoder counts samples
            self._target.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the track."""
        if getattr(self, "_stream", None) is not None and self._resampler is not None:
            self._target.mux(self._stream.encode(None))
        if getattr(self, "_input", None) is not None:
            self._input.close()


class Panel:
    """A box with classes and bars in the lower left corner of frames of one size.

    Args:
        height, width: of the frames.
        above: free rows at the bottom, in pixels.
    """

    def __init__(self, height: int, width: int, above: int = 0):
        self.height, self.width, self.above = height, width, above
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
        colour, alpha = self._cache[key]
        h, w = alpha.shape
        margin = max(4, self.text // 2)
        bottom = self.height - margin - self.above
        top, left = max(0, bottom - h), margin
        blend(frame[top : top + h, left : left + w], colour, alpha)

    def _render(self, rows: Sequence[tuple[str, float]]) -> tuple[NDArray, NDArray]:
        text, pad = self.text, max(3, self.text // 3)
        line = round(text * 1.55)
        numbers = [text_mask(f"{score:.0%}" if 0 <= score <= 1 else f"{score:.2f}", text) for _, score in rows]
        room = max(20, self.width - 2 * max(4, text // 2) - 4 * pad - max(n.shape[1] for n in numbers))
        names = [fit_text(name, text, room) for name, _ in rows]
        inner = max(n.shape[1] for n in names) + 2 * pad + max(n.shape[1] for n in numbers)
        inner = min(max(inner, min(self.width // 3, room)), self.width - 2 * max(4, text // 2) - 2 * pad)
        h, w = line * len(rows) + 2 * pad, inner + 2 * pad
        colour, alpha = np.full((h, w, 3), 14, np.float32), np.full((h, w), 0.62, np.float32)
        for n, (_, score) in enumerate(rows):
            y = pad + n * line
            length = round(inner * float(np.clip(score, 0, 1)))
            colour[y : y + line - 2, pad : pad + length] = PALETTE[0] if n == 0 else (92, 104, 128)
            alpha[y : y + line - 2, pad : pad + length] = 0.9
            for mask, x in ((names[n], pad + pad // 2), (numbers[n], pad + inner - numbers[n].shape[1] - pad // 2)):
                _ink(colour, alpha, mask, y + (line - 2 - mask.shape[0]) // 2, x)
        return colour, alpha


class TimeLine:
    """A bar at the top with the segments as blocks and a mark where the video is."""

    def __init__(self, height: int, width: int, duration_s: float, segments: Sequence[Segment]):
        self.rows, self.width, self.duration = max(6, height // 60), width, max(duration_s, 1e-6)
        self.colour = np.full((self.rows, width, 3), 20, np.float32)
        self.alpha = np.full((self.rows, width), 0.55, np.float32)
        names: dict[str, int] = {}
        for start, end, top in segments:
            if not top:
                continue
            number = names.setdefault(top[0][0], len(names))
            x0, x1 = (int(np.clip(v / self.duration, 0, 1) * width) for v in (start, end))
            self.colour[1:-1, x0 : max(x1, x0 + 2)] = PALETTE[number % len(PALETTE)]
            self.alpha[1:-1, x0 : max(x1, x0 + 2)] = 0.95

    def draw(self, frame: NDArray[np.uint8], time_s: float) -> None:
        """Draw into a frame, in place."""
        blend(frame[: self.rows], self.colour, self.alpha)
        x = int(np.clip(time_s / self.duration, 0, 1) * (self.width - 3))
        frame[: self.rows + 3, x : x + 3] = 255


def blend(region: NDArray[np.uint8], colour: NDArray, alpha: NDArray) -> None:
    """Mix a colour into a part of a frame, in place; what sticks out is cut off."""
    h, w = region.shape[:2]
    a = alpha[:h, :w, None]
    region[:] = (region * (1 - a) + colour[:h, :w] * a + 0.5).astype(np.uint8)


def enlarge(frame: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """A writable copy of a frame, ``scale`` times as large (bicubic)."""
    if scale == 1:
        return np.array(frame, order="C")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    size = dict(height=frame.shape[0] * scale, width=frame.shape[1] * scale)
    pixels: NDArray[Any] = picture.reformat(**size, format="rgb24", interpolation="BICUBIC").to_ndarray()
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
    """One line of text as ink from 0 to 1, (height, width).

    ASCII is drawn with the built-in letters. Other scripts need Pillow and a font of the system that has them (the
    extra ``plot``); without these, accents are dropped and other characters become ``?``, which is said once.
    """
    if not text.isascii():
        drawn = _with_pillow(text, height)
        if drawn is not None:
            return drawn
        plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        text = "".join(c if " " <= c <= "~" else "?" for c in plain)
        if "?" in text and "script" not in _said:
            _said.add("script")
            warnings.warn(
                "some class names can't be drawn and appear as '?': install Pillow (pip install 'clipwise[plot]') and a font with their letters.",
                stacklevel=2,
            )
    table = glyphs()
    ink = (np.concatenate([table.get(c, table["?"]) for c in text or " "], axis=1) / 255).astype(np.float32)
    return _resize(ink, height, max(1, round(ink.shape[1] * height / ROWS)))


def _with_pillow(text: str, height: int) -> NDArray[np.float32] | None:
    path = _font_for("".join(sorted(set(text))))
    if path is None:
        return None
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(path, round(height * 0.8))
    image = Image.new("L", (max(1, round(font.getlength(text)) + 2), height))
    ImageDraw.Draw(image).text((0, height // 2), text, fill=255, font=font, anchor="lm")
    return np.asarray(image, np.float32) / np.float32(255)


@lru_cache(maxsize=64)
def _font_for(characters: str) -> str | None:
    """A font of this system that has all of the characters; None without matplotlib and Pillow, or without a font."""
    try:
        import PIL.ImageFont  # noqa: F401
        from matplotlib import font_manager
        from matplotlib.ft2font import FT2Font
    except ImportError:
        return None
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda e: ("Sans" not in e.name, e.weight != 400)):
        try:
            font = FT2Font(entry.fname)
            if all(font.get_char_index(ord(c)) for c in characters if not c.isspace()):
                return str(entry.fname)
        except (OSError, RuntimeError):
            continue
    return None


def _resize(ink: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    import torch
    import torch.nn.functional as F

    if ink.shape == (height, width):
        return ink
    tensor = torch.from_numpy(np.ascontiguousarray(ink))[None, None]
    return F.interpolate(tensor, (height, width), mode="bilinear", antialias=True)[0, 0].clamp(0, 1).numpy()


def _ink(colour: NDArray, alpha: NDArray, mask: NDArray, y: int, x: int) -> None:
    """White letters onto a panel."""
    h, w = min(mask.shape[0], colour.shape[0] - y), min(mask.shape[1], colour.shape[1] - x)
    m = mask[:h, :w]
    part, opacity = colour[y : y + h, x : x + w], alpha[y : y + h, x : x + w]
    part += (255 - part) * m[..., None]
    np.maximum(opacity, m, out=opacity)


def check_video_path(out: str | PathLike) -> Path:
    """Refuse a file of an unknown kind before the work starts.

    Raises:
        ClipwiseError: names the kinds that can be written.
    """
    path = Path(out)
    if path.suffix.lower() not in CONTAINERS:
        raise ClipwiseError(f"--out {path}: the video can be written as {', '.join(CONTAINERS)}.")
    if path.is_dir():
        raise ClipwiseError(f"--out {path} is a folder; give a file name.")
    return path
