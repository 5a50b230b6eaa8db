"""What the server says about a video: the whole-video prediction, the classes along its time, and segments.

The whole-video prediction is made exactly as ``clipwise predict`` makes it. The timeline cuts the video into windows
that overlap by half, and looks at each with the validation protocol (one clip, one crop).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from clipwise.errors import ClipwiseError
from clipwise.infer.predictor import ClipSpec, VideoReader
from clipwise.serve.batching import BatchQueue
from clipwise.serve.segment_json import Segment, segments_from_windows
from clipwise.tasks.views import activation_of, to_probabilities
from clipwise.video.even_rate import at_even_rate

_CHUNK_BYTES = 48 * 2**20  # frames of windows that are held at once
_CURVES = 8  # classes that are given along the whole time


class Localizer(Protocol):
    """Finds segments in a video; ``clipwise serve --localizer`` makes one, see :mod:`clipwise.serve.localizer`."""

    def __call__(self, reader: VideoReader) -> list[Segment]: ...


@dataclass(frozen=True)
class Options:
    """What a request may choose."""

    topk: int = 5
    window_s: float | None = None
    stride_s: float | None = None
    threshold: float = 0.4


class Analyzer:
    """Turns a reader into an answer.

    Args:
        predictor: a :class:`clipwise.infer.predictor.Predictor`, or an exported model with the same attributes.
        batches: the network's queue.
        localizer: where segments come from; None: from the windows.
        max_windows: points of a timeline.
        window_s: length of a window where the request names none; None: the clip's own length for models that see a
            dense clip, and 2 s for models that see segments of the whole video.
    """

    def __init__(
        self,
        predictor: Any,
        batches: BatchQueue,
        *,
        localizer: Localizer | None = None,
        max_windows: int = 240,
        window_s: float | None = None,
    ):
        self.spec: ClipSpec = predictor.spec
        if self.spec.modality != "rgb":
            raise ClipwiseError(
                f"the model sees {self.spec.modality}, which is not in a video file; serve an RGB model."
            )
        recipe = predictor.passport.recipe
        self.average, self.activation = recipe["test"]["average_clips"], activation_of(recipe)
        self.classes: list[str] | None = predictor.classes
        # An exported model takes only the shape of its test protocol; a network takes the lighter one of validation.
        exported = hasattr(predictor.model, "description")
        center = replace(self.spec.transform, crop="center") if self.spec.transform.num_crops > 1 else None
        self.window_spec = (
            replace(self.spec, num_clips=1, twice_sample=False, transform=center or self.spec.transform)
            if exported
            else ClipSpec.from_recipe(recipe, "val")
        )
        self.batches, self.localizer = batches, localizer
        self.max_windows, self.window_s = max_windows, window_s

    def name(self, index: int) -> str:
        """Name of a class, or its number."""
        return self.classes[index] if self.classes else str(index)

    def top(self, scores: np.ndarray, k: int) -> list[dict[str, Any]]:
        order = np.argsort(-scores, kind="stable")[:k]
        return [{"class": self.name(i), "index": int(i), "score": round(float(scores[i]), 5)} for i in order]

    def __call__(
        self, reader: VideoReader, options: Options, progress: Callable[[float], None] = lambda share: None
    ) -> dict[str, Any]:
        """Analyze a video.

        Args:
            progress: called with the share that is done, 0 to 1, also while waiting; what it raises ends the analysis.

        Returns:
            The ``Result`` of the OpenAPI document, without its source.
        """
        started = time.monotonic()
        progress(0.05)
        whole, _ = self.spec.read(reader, np.random.default_rng(0))
        scores = self._probabilities(self.batches.score([whole], lambda: progress(0.05)))[0]
        progress(0.2)
        times, window_s, stride_s = self._plan(reader, options)
        rows = np.empty((len(times), len(scores)), np.float32)
        done = 0
        for chunk in self._read_windows(reader, times):
            share = 0.2 + 0.75 * done / len(times)
            rows[done : done + len(chunk)] = self._probabilities(self.batches.score(chunk, partial(progress, share)))
            done += len(chunk)
        progress(0.95)
        if self.localizer is None:
            edges = _edges(times)
            found = segments_from_windows(edges, rows, options.threshold, single=self.activation == "softmax")
            segments = [replace(s, name=self.name(s.index)) for s in found if s.index is not None]
        else:
            segments = self.localizer(reader)
        peaks = rows.max(0)
        curves = np.argsort(-peaks, kind="stable")[:_CURVES]
        return {
            "video": {
                "duration_s": round(reader.duration_s, 3),
                "num_frames": reader.num_frames,
                "fps": round(reader.fps, 3),
                "width": reader.width,
                "height": reader.height,
                "codec": getattr(reader, "codec", ""),
                "damage": reader.damage,
            },
            "predictions": self.top(scores, options.topk),
            "timeline": {
                "window_s": round(window_s, 3),
                "stride_s": round(stride_s, 3),
                "windows": [
                    {
                        "start_s": round(float(start), 3),
                        "end_s": round(float(end), 3),
                        "predictions": self.top(row, options.topk),
                    }
                    for (start, end), row in zip(times, rows)
                ],
                "curves": [
                    {
                        "class": self.name(c),
                        "index": int(c),
                        "scores": [round(float(v), 4) for v in rows[:, c]],
                    }
                    for c in curves
                ],
            },
            "segments": [s.to_dict() for s in segments],
            "segments_from": "windows" if self.localizer is None else "localizer",
            "seconds": round(time.monotonic() - started, 3),
        }

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(N, num_classes) 0 to 1; a protocol that averages logits gets its softmax (sigmoid for several labels) here."""
        if scores.ndim == 3:  # average_clips "none" leaves the views
            scores = scores.mean(1)
        return to_probabilities(scores, self.average, self.activation)

    def _plan(self, reader: VideoReader, options: Options) -> tuple[np.ndarray, float, float]:
        """Windows (W, 2) in seconds, at most ``max_windows``; a short video still gets several."""
        duration = reader.duration_s or reader.num_frames / 25.0
        spec = self.window_spec
        window = options.window_s or self.window_s
        if window is None:
            dense = spec.clip_len * spec.frame_interval / (reader.fps or 25.0)
            window = 2.0 if spec.num_segments else dense
            window = min(window, max(duration / 3, 0.4))
        window = min(window, duration)
        stride = options.stride_s or window / 2
        if duration > window:
            stride = max(stride, (duration - window) / max(1, self.max_windows - 1))
        count = int((duration - window) / stride + 1e-6) + 1
        starts = np.arange(count) * stride
        if duration - (starts[-1] + window) > 1e-3:  # the end is always seen
            starts = np.append(starts, duration - window)
        return np.stack([starts, starts + window], 1)[: self.max_windows + 1], window, stride

    def _read_windows(self, reader: VideoReader, times: np.ndarray) -> Iterator[list[np.ndarray]]:
        """Clips of the windows, in chunks; a chunk's frames are asked for at once, each decoded only once."""
        spec, rng = self.window_spec, np.random.default_rng(0)
        reader = at_even_rate(reader)
        stamps = reader.pts_s(np.arange(reader.num_frames))
        stamps = np.where(np.isfinite(stamps), stamps, np.arange(reader.num_frames) / 25.0)
        first = np.searchsorted(stamps, times[:, 0] - 1e-6).clip(0, reader.num_frames - 1)
        after = np.searchsorted(stamps, times[:, 1] - 1e-6).clip(first + 1, reader.num_frames)
        plan = spec.transform.draw(reader.height, reader.width, rng)
        indices = [start + spec.indices(int(end - start), rng, reader.fps).ravel() for start, end in zip(first, after)]
        height, width = plan.output
        per_window = max(1, len(indices[0]) * height * width * 3)
        step = max(1, _CHUNK_BYTES // per_window)
        for at in range(0, len(indices), step):
            part = indices[at : at + step]
            frames = reader.frames(np.concatenate(part), transform=plan.apply)
            cuts = np.split(frames, np.cumsum([len(p) for p in part])[:-1])
            yield [
                spec.read(_Ready(cut, int(after[at + i] - first[at + i]), reader), rng)[0] for i, cut in enumerate(cuts)
            ]


class _Ready(VideoReader):
    """A window whose transformed frames are there already, so that ``ClipSpec.read`` alone knows their layout."""

    def __init__(self, rows: np.ndarray, num_frames: int, source: VideoReader):
        self.name, self.num_frames, self.fps = source.name, num_frames, source.fps
        self._rows, self._size = rows, (source.height, source.width)

    def frames(self, indices: Any, transform: Any = None) -> np.ndarray:
        return self._rows

    def _read(self, indices: np.ndarray, sink: Any) -> None:
        raise NotImplementedError("frames() has them")


def _edges(times: np.ndarray) -> np.ndarray:
    """(W + 1,) borders between windows: the middle of two neighbors' centers."""
    centers = times.mean(1)
    return np.concatenate([times[:1, 0], (centers[1:] + centers[:-1]) / 2, times[-1:, 1]])
