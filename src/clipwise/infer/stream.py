"""Long files, streams and cameras: scores of sliding windows as they come, segments when they end, in bounded memory.

Each window is sampled, resized and cropped as the checkpoint's passport says, and scored by the predictor's own function. A file is
read by the window reader that all commands share; of other sources only frames that a coming window needs are kept, so memory depends
on the window, not on the source.

>>> streamer = Streamer(clipwise.load("best.safetensors"), window_s=2.0)
>>> for window in streamer(Source("rtsp://camera/1")): print(window.start_s, window.scores.argmax())
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from clipwise.data.transforms import ClipPlan, normalize_clips
from clipwise.engine.device import autocast
from clipwise.errors import ClipwiseError
from clipwise.infer.predictor import Predictor
from clipwise.infer.segments import WindowScores
from clipwise.infer.windows import (
    FrameGrid,
    frames_in_order,
    read_windows,
    sliding_windows,
    window_length,
    window_protocol,
    window_stride,
)
from clipwise.models import contract
from clipwise.tasks.logits import activate, to_probabilities
from clipwise.video.decode import VideoReader
from clipwise.video.live import Source, TimedFrame, resample


class Streamer:
    """Sliding windows over a source.

    Args:
        predictor: a recognizer with its protocol.
        window_s: seconds a window; see :func:`clipwise.infer.windows.window_length` if not given.
        stride_s: seconds from a window to the next; half a window if not given.
        fps: frames per second that are looked at; the source's own rate if not given.
        num_clips: clips that a window's scores average over, spread as at test.
        online: TSM with the online shift: one frame a step, the shift's state is kept from step to step.

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
        spec = window_protocol(predictor.spec, num_clips)
        if num_clips > 1 and spec.num_segments and spec.sampling != "dense":
            raise ClipwiseError("--clips: a model of segments sees a window in one clip.")
        self.spec = spec
        self.online: Any = None
        if online:
            self.online = contract.online(predictor.model, spec.num_segments or spec.clip_len)
        self.damage: str | None = None
        """What was found wrong with a file, once it is read."""
        self.frames_read = 0
        self.windows = 0
        self.seconds_model = 0.0

    def __call__(self, source: Source) -> Iterator[WindowScores]:
        """Windows in the order of time. A source shorter than a window gives one window; the last one of a file ends with it.

        Raises:
            DecodeError: the source can't be opened or delivers no frames.
            WorkError: it broke off.
        """
        if not source.live and not source.scheme and source.format is None:
            return self._file(source.name)
        return self._source(source)

    def _file(self, path: str) -> Iterator[WindowScores]:
        """A file: every frame by its number, as all other commands read it."""
        with self.spec.open_video(path) as reader:
            if self.online:
                yield from self._step_by_step(self._file_steps(reader))
            else:
                windows = sliding_windows(
                    reader, self.spec, window_s=self.window_s, stride_s=self.stride_s, fps=self.fps
                )
                for number, clip in read_windows(reader, self.spec, windows):
                    window = windows[number]
                    self.frames_read = int(window.frames.max()) + 1
                    yield self._score(clip, window.start_s, window.end_s)
            self.frames_read, self.damage = reader.num_frames, reader.damage

    def _source(self, source: Source) -> Iterator[WindowScores]:
        """A stream or a camera: frames as they come."""
        frames = iter(source)
        first = next(frames, None)
        if first is None:
            raise ClipwiseError(f"{source.name} delivers no frames.")
        rate = self.fps or source.fps or 25.0
        duration_s = None if source.live else source.duration_s
        everything: Iterator[TimedFrame] = itertools.chain([first], frames)
        if self.fps or source.live:  # frames of live sources come unevenly
            everything = resample(everything, rate)
        plan = self.spec.transform.draw(*first.rgb().shape[:2])
        if self.online:
            yield from self._step_by_step(self._source_steps(everything, rate, plan, duration_s))
        else:
            yield from self._slide(everything, rate, plan, duration_s, to_end=not source.live)

    def _slide(
        self,
        frames: Iterable[TimedFrame],
        fps: float,
        plan: ClipPlan,
        duration_s: float | None = None,
        to_end: bool = False,
    ) -> Iterator[WindowScores]:
        """Windows over frames that come one after the other.

        Args:
            to_end: the last window ends with the source. As its end is not known before, every frame is then transformed.
        """
        window = window_length(self.spec, fps, self.window_s, duration_s)
        stride = window_stride(window, fps, self.stride_s)
        offsets = np.unique(self.spec.indices(window, np.random.default_rng(0), fps))
        # frame n is sampled by a window if n % stride is here
        wanted = set(range(stride)) if to_end else {int(offset) % stride for offset in offsets}
        kept: dict[int, np.ndarray] = {}  # frame number -> (crops, h, w, C)
        times: deque[float] = deque(maxlen=window)
        start = number = 0
        for frame in frames:
            self.frames_read += 1
            if times and frame.time_s - times[-1] > max(1.0, 4 / fps):  # a hole: no window spans it
                kept.clear()
                times.clear()
                start = number = 0
            # Until the first window is full every frame is kept: the source may end, and is then looked at as it is.
            if number < window or number % stride in wanted:
                kept[number] = plan.apply(frame.rgb())
            times.append(frame.time_s)
            number += 1
            if number == start + window:
                yield self._score(self._clip(kept, start, window, fps), times[0], times[-1] + 1 / fps)
                start += stride
            first = number - window if to_end else start
            if number >= window:
                for old in [n for n in kept if n < first or n % stride not in wanted]:
                    del kept[old]
        if number and (start == 0 or (to_end and start - stride + window < number)):
            length = min(window, number)
            yield self._score(self._clip(kept, number - length, length, fps), times[0], times[-1] + 1 / fps)

    def _clip(self, kept: dict[int, np.ndarray], start: int, length: int, fps: float) -> np.ndarray:
        local = self.spec.indices(length, np.random.default_rng(0), fps)
        return self.spec.to_views(np.stack([kept[start + i] for i in local.ravel().tolist()]), local.shape)

    def _score(self, clip: np.ndarray, start_s: float, end_s: float) -> WindowScores:
        began = time.perf_counter()
        scores = self.predictor.score(torch.from_numpy(clip)[None])[0]
        self._count(began)
        return WindowScores(start_s, end_s, to_probabilities(scores, self.predictor.average, self.predictor.activation))

    def _step(self, fps: float, duration_s: float | None) -> tuple[int, int]:
        """Online: frames from a step to the next, as the segments of a clip lie, and steps from an answer to the next."""
        assert self.spec.num_segments
        length = window_length(self.spec, fps, self.window_s, duration_s)
        step = max(1, length // self.spec.num_segments)
        return step, max(1, round(self.stride_s * fps) // step) if self.stride_s is not None else 1

    def _file_steps(self, reader: VideoReader) -> Iterator[_Step]:
        grid = FrameGrid(reader, self.fps, assumed=25.0)
        step, every = self._step(grid.rate, grid.length / grid.rate)
        plan = self.spec.transform.draw(reader.height, reader.width, np.random.default_rng(0))
        positions = np.arange(0, grid.length, step)
        numbers = grid.frames(positions)
        views = frames_in_order(reader, np.unique(numbers), plan)
        shown, frame = next(views)
        for at, (position, number) in enumerate(zip(positions.tolist(), numbers.tolist())):
            while shown < number:
                shown, frame = next(views)
            yield _Step(position / grid.rate, step / grid.rate, frame, at == 0, at % every == 0)

    def _source_steps(
        self, frames: Iterable[TimedFrame], fps: float, plan: ClipPlan, duration_s: float | None
    ) -> Iterator[_Step]:
        step, every = self._step(fps, duration_s)
        previous, restart = 0.0, True
        for number, frame in enumerate(frames):
            self.frames_read += 1
            restart = restart or frame.time_s - previous > max(1.0, 4 / fps)
            previous = frame.time_s
            if number % step == 0:
                views = plan.apply(frame.rgb())
                yield _Step(frame.time_s, step / fps, views, restart, (number // step) % every == 0)
                restart = False

    @torch.inference_mode()
    def _step_by_step(self, steps: Iterable[_Step]) -> Iterator[WindowScores]:
        """Online: one frame each 1/num_segments of a window."""
        spec = self.spec
        times: deque[float] = deque(maxlen=spec.num_segments)
        for step in steps:
            if step.restart:
                self.online.reset()
                times.clear()
            began = time.perf_counter()
            views = torch.from_numpy(step.views).to(self.predictor.device)  # (crops, h, w, C)
            with autocast(views.device, self.predictor.amp):
                logits = self.online(normalize_clips(views[:, None], spec.mean, spec.std)[:, :, 0])
            times.append(step.time_s)
            if step.answers:
                scores = activate(logits.float(), self.predictor.activation).mean(0).cpu().numpy()
                self._count(began)
                yield WindowScores(times[0], step.time_s + step.length_s, scores)

    def _count(self, began: float) -> None:
        self.windows += 1
        self.seconds_model += time.perf_counter() - began


@dataclass
class _Step:
    """What the online network sees next: views (crops, h, w, C) for ``length_s`` from ``time_s`` on."""

    time_s: float
    length_s: float
    views: np.ndarray
    restart: bool
    """The source begins, or has a hole here."""
    answers: bool
    """Whether the scores are wanted."""
