"""Long files, streams and cameras: scores of sliding windows as they come, segments when they end, in bounded memory.

Each window is sampled, resized and cropped as the checkpoint's passport says, and scored by the predictor's own
function. Only pictures that a coming window samples are converted and kept, so memory depends on the window, not on the source.

>>> streamer = Streamer(clipwise.load("best.safetensors"), window_s=2.0)
>>> for window in streamer(Source("rtsp://camera/1")): print(window.start_s, window.scores.argmax())
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from clipwise.data.transforms import ClipPlan, normalize_clips
from clipwise.engine.evaluate import autocast
from clipwise.errors import ClipwiseError
from clipwise.infer.predictor import Predictor
from clipwise.models import contract
from clipwise.tasks.views import activate, to_probabilities
from clipwise.video.decode import FrameSink, VideoReader
from clipwise.video.live import Picture, Source, resample

DEFAULT_WINDOW_S = 3.0  # of models whose frames spread over a whole video (TSN, TSM) and so have no length of their own


@dataclass
class WindowScores:
    """What the model says of one stretch of a source."""

    start_s: float
    end_s: float
    scores: np.ndarray
    """(num_classes,) probabilities."""


@dataclass
class Segment:
    """A stretch in which a class was seen without a break."""

    start_s: float
    end_s: float
    class_index: int
    score: float
    """Mean of the smoothed scores."""


class Streamer:
    """Sliding windows over a source.

    Args:
        predictor: a recognizer with its protocol.
        window_s: seconds a window; what one clip spans (or ``DEFAULT_WINDOW_S``) if not given.
        stride_s: seconds from a window to the next; half a window if not given.
        fps: pictures a second that are looked at; the source's own rate if not given.
        num_clips: clips that a window's scores average over, spread as at test.
        online: TSM with the online shift: one picture a step, the shift's state is kept from step to step.

    Raises:
        ClipwiseError: values that make no sense, or a model that can't work online.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        window_s: float | None = None,
        stride_s: float | None = None,
        fps: float | None = None,
        num_clips: int = 1,
        online: bool = False,
    ):
        for name, value in (("window", window_s), ("stride", stride_s), ("fps", fps)):
            if value is not None and not value > 0:
                raise ClipwiseError(f"--{name} {value:g}: it must be more than 0.")
        if predictor.spec.modality != "rgb":
            raise ClipwiseError("streams are read as RGB; a model of optical flow can't look at them.")
        self.predictor, self.window_s, self.stride_s, self.fps = predictor, window_s, stride_s, fps
        spec = replace(predictor.spec, num_clips=num_clips, twice_sample=False)
        if num_clips > 1 and spec.num_segments and spec.sampling != "dense":
            raise ClipwiseError("--clips: a model of segments sees a window in one clip.")
        self.spec = spec
        self.online: Any = None
        if online:
            self.online = contract.online(predictor.model, spec.num_segments or spec.clip_len)
        self.frames_read = 0
        self.windows = 0
        self.seconds_model = 0.0

    def __call__(self, source: Source) -> Iterator[WindowScores]:
        """Windows in the order of time. A source shorter than a window gives one window.

        Raises:
            DecodeError: the source can't be opened or shows no picture.
            WorkError: it broke off.
        """
        pictures = iter(source)
        first = next(pictures, None)
        if first is None:
            raise ClipwiseError(f"{source.name} shows no picture.")
        rate = self.fps or source.fps or 25.0
        everything = _chain(first, pictures)
        if self.fps or source.live:  # pictures of live sources come unevenly
            everything = resample(everything, rate)
        rgb = first.rgb()
        plan = self.spec.transform.draw(*rgb.shape[:2])
        return (self._step_by_step if self.online else self._slide)(everything, rate, plan)

    def window_frames(self, fps: float) -> int:
        """Pictures that a window spans."""
        spec = self.spec
        if self.window_s is not None:
            return max(1, round(self.window_s * fps))
        if spec.num_segments:
            return 64 if spec.sampling == "dense" else max(spec.num_segments, round(DEFAULT_WINDOW_S * fps))
        span = spec.clip_len * spec.frame_interval
        return max(1, round(span * fps / spec.target_fps) if spec.target_fps else span)

    def stride_frames(self, fps: float) -> int:
        """Pictures from a window to the next."""
        return max(1, self.window_frames(fps) // 2 if self.stride_s is None else round(self.stride_s * fps))

    def _slide(self, pictures: Iterable[Picture], fps: float, plan: ClipPlan) -> Iterator[WindowScores]:
        window, stride = self.window_frames(fps), self.stride_frames(fps)
        offsets = np.unique(self.spec.indices(window, np.random.default_rng(0), fps))
        wanted = {int(offset) % stride for offset in offsets}  # picture n is sampled by a window if n % stride is here
        kept: dict[int, np.ndarray] = {}  # picture number -> (crops, h, w, C)
        times: deque[float] = deque(maxlen=window)
        start = number = 0
        for picture in pictures:
            self.frames_read += 1
            if times and picture.time_s - times[-1] > max(1.0, 4 / fps):  # a hole: no window spans it
                kept.clear()
                times.clear()
                start = number = 0
            # Until the first window is full every picture is kept: the source may end, and is then looked at as it is.
            if number < window or number % stride in wanted:
                kept[number] = plan.apply(picture.rgb())
            times.append(picture.time_s)
            number += 1
            if number == start + window:
                yield self._score(kept, start, window, fps, times[0], times[-1] + 1 / fps)
                start += stride
                for old in [n for n in kept if n < start or n % stride not in wanted]:
                    del kept[old]
        if start == 0 and number:
            yield self._score(kept, 0, number, fps, times[0], times[-1] + 1 / fps)

    def _score(
        self, kept: dict[int, np.ndarray], start: int, length: int, fps: float, start_s: float, end_s: float
    ) -> WindowScores:
        began = time.perf_counter()
        frames, _ = self.spec.read(_Window(kept, start, length, fps), np.random.default_rng(0))
        scores = self.predictor.score(torch.from_numpy(frames)[None])[0]
        self._count(began)
        return WindowScores(start_s, end_s, to_probabilities(scores, self.predictor.average, self.predictor.activation))

    @torch.inference_mode()
    def _step_by_step(self, pictures: Iterable[Picture], fps: float, plan: ClipPlan) -> Iterator[WindowScores]:
        """Online: one picture each 1/num_segments of a window, as the segments of a clip lie."""
        spec, window = self.spec, self.window_frames(fps)
        assert spec.num_segments
        step = max(1, window // spec.num_segments)
        every = max(1, self.stride_frames(fps) // step) if self.stride_s is not None else 1
        times: deque[float] = deque(maxlen=spec.num_segments)
        previous: float | None = None
        self.online.reset()
        for number, picture in enumerate(pictures):
            self.frames_read += 1
            if previous is not None and picture.time_s - previous > max(1.0, 4 / fps):
                self.online.reset()
                times.clear()
            previous = picture.time_s
            if number % step:
                continue
            began = time.perf_counter()
            views = torch.from_numpy(plan.apply(picture.rgb())).to(self.predictor.device)  # (crops, h, w, C)
            with autocast(views.device, self.predictor.amp):
                logits = self.online(normalize_clips(views[:, None], spec.mean, spec.std)[:, :, 0])
            times.append(picture.time_s)
            if (number // step) % every == 0:
                scores = activate(logits.float(), self.predictor.activation).mean(0).cpu().numpy()
                self._count(began)
                yield WindowScores(times[0], picture.time_s + step / fps, scores)

    def _count(self, began: float) -> None:
        self.windows += 1
        self.seconds_model += time.perf_counter() - began


class _Window(VideoReader):
    """Pictures of the ring as a video, already cropped, so that the passport's own sampling reads them."""

    def __init__(self, kept: dict[int, np.ndarray], start: int, length: int, fps: float):
        self.kept, self.start = kept, start
        self.name, self.num_frames, self.fps = "window", length, fps
        _, height, width, _ = next(iter(kept.values())).shape
        self._size = (height, width)

    def frames(self, indices, transform=None) -> np.ndarray:
        return np.stack([self.kept[self.start + int(i)] for i in indices])

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        raise NotImplementedError("frames() is overridden")


class Segmenter:
    """Windows' scores to segments: centerd mean over ``smooth`` windows, then two thresholds for each class.

    A segment of a class begins where its score reaches ``threshold`` and ends where it falls below ``release``.
    A window stands for the stretch around its middle, half way to its neighbors.

    Args:
        smooth: windows, made odd.
        threshold, release: in [0, 1], release not above threshold; 0.6 of it if not given.
        min_s: shorter segments are left out.

    Raises:
        ClipwiseError: values outside of this.
    """

    def __init__(self, *, smooth: int = 3, threshold: float = 0.5, release: float | None = None, min_s: float = 0.0):
        self.release = 0.6 * threshold if release is None else release
        if not 0 < threshold <= 1:
            raise ClipwiseError(f"--threshold {threshold:g}: it is a probability, above 0 and up to 1.")
        if not 0 <= self.release <= threshold:
            raise ClipwiseError(f"--release {self.release:g}: it must lie between 0 and --threshold ({threshold:g}).")
        if smooth < 1:
            raise ClipwiseError(f"--smooth {smooth}: at least 1 window (no smoothing).")
        self.half, self.threshold, self.min_s = smooth // 2, threshold, min_s
        self.lag = max(self.half, 1)  # windows to wait before one is judged: its neighbors must be known
        self.recent: deque[WindowScores] = deque(maxlen=self.half + self.lag + 1)
        self.ahead = 0  # windows in ``recent`` that are not judged yet
        self.edge: float | None = None  # up to here segments are settled
        self.open: dict[int, tuple[float, list[float]]] = {}

    def update(self, window: WindowScores) -> list[Segment]:
        """Take the next window; returns segments that are over."""
        ended: list[Segment] = []
        if self.recent and window.start_s - self.recent[-1].end_s > 1.0:
            ended = self.finish()  # a hole in the source
        self.recent.append(window)
        self.ahead += 1
        if self.ahead > self.lag:
            ended += self._judge(len(self.recent) - 1 - self.lag)
        return ended

    def finish(self) -> list[Segment]:
        """The source is over: judge what is left and close all segments."""
        ended: list[Segment] = []
        while self.ahead:
            ended += self._judge(len(self.recent) - self.ahead)
        for index in sorted(self.open):
            ended += self._close(index, self.edge or 0.0)
        self.recent.clear()
        self.edge = None
        return ended

    def _judge(self, at: int) -> list[Segment]:
        """Decide on the window at this place of ``recent``."""
        self.ahead -= 1
        recent = list(self.recent)
        around = recent[max(0, at - self.half) : at + self.half + 1]
        scores = np.mean([w.scores for w in around], axis=0)
        window = recent[at]
        middle = (window.start_s + window.end_s) / 2
        start = window.start_s if self.edge is None else self.edge
        end = window.end_s
        if at + 1 < len(recent):
            following = recent[at + 1]
            end = (middle + (following.start_s + following.end_s) / 2) / 2
        self.edge = end
        ended: list[Segment] = []
        for index in [i for i in self.open if scores[i] < self.release]:
            ended += self._close(index, start)
        for index in np.flatnonzero(scores >= self.threshold).tolist():
            self.open.setdefault(index, (start, []))
        for index, (_, seen) in self.open.items():
            seen.append(float(scores[index]))
        return ended

    def _close(self, index: int, end_s: float) -> list[Segment]:
        start_s, seen = self.open.pop(index)
        if end_s - start_s < self.min_s:
            return []
        return [Segment(start_s, end_s, index, float(np.mean(seen)))]


def srt_block(number: int, segment: Segment, name: str) -> str:
    """One subtitle."""
    return f"{number}\n{_clock(segment.start_s)} --> {_clock(segment.end_s)}\n{name} ({segment.score:.2f})\n\n"


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3600000:02d}:{whole // 60000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"


def _chain(first: Picture, rest: Iterator[Picture]) -> Iterator[Picture]:
    yield first
    yield from rest
