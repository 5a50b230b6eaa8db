"""The analysis of a video: the whole-video prediction, the classes along its time, and segments.

The whole-video prediction is made exactly as ``clipwise predict`` makes it; windows and segments are those of ``clipwise stream``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from clipwise.errors import CheckpointError, ClipwiseError
from clipwise.infer.localize import Localizer
from clipwise.infer.predictor import ClipSpec, VideoReader
from clipwise.infer.segments import THRESHOLD, Segment, WindowScores, find_segments
from clipwise.infer.windows import batches, read_windows, sliding_windows, window_protocol
from clipwise.serve.batching import BatchQueue
from clipwise.tasks.logits import activation_of, to_probabilities

_CHUNK_BYTES = 48 * 2**20  # frames of windows that are held at once
_CURVES = 8  # classes that are given along the whole time


@dataclass(frozen=True)
class Located:
    """What a localizer found in a video.

    Attributes:
        segments: by their start.
        note: why the video is unlike those that the localizer was trained on, or None.
    """

    segments: list[Segment]
    note: str | None = None


LocalizeReader = Callable[[VideoReader], Located]
"""Finds segments in an open video."""


class ServedLocalizer:
    """Segments of a localization network: ``clipwise serve CKPT --localizer CKPT``.

    Args:
        checkpoint: of the localization network.
        recognizer: what the server serves; used if the recognizer that the network remembers is not where it was. It must be
            the one that made its features.
        classes: of the served model, so that segments get its class numbers.
        device: where it computes.

    Raises:
        CheckpointError: the network or its recognizer cannot be used.
    """

    def __init__(
        self, checkpoint: str, recognizer: str | None, classes: Sequence[str] | None, device: str | None = None
    ):
        self.localizer = Localizer(checkpoint, device=device)
        try:
            self.localizer.extractor  # noqa: B018 - loads the recognizer now: the first video should not find it missing
        except CheckpointError:
            if recognizer is None:
                raise
            self.localizer = Localizer(checkpoint, recognizer, device=device)
            self.localizer.extractor  # noqa: B018
        if not self.localizer.rules.labeled:  # it would need names, which an encoder without classes has not
            self.localizer.namer  # noqa: B018
        self.index = {name: i for i, name in enumerate(classes or ())}

    def __call__(self, reader: VideoReader) -> Located:
        """Segments of an open video."""
        found = self.localizer(reader)
        segments = [
            Segment(s.start_s, s.end_s, s.name, min(1.0, s.score), self.index.get(s.name))
            for s in found.in_time
            if math.isfinite(s.score)
        ]
        return Located(segments, found.note)


@dataclass(frozen=True)
class Options:
    """What a request may choose."""

    topk: int = 5
    window_s: float | None = None
    stride_s: float | None = None
    threshold: float = THRESHOLD


class Analyzer:
    """Turns a reader into an answer.

    Args:
        predictor: a :class:`clipwise.infer.predictor.Predictor`, or an exported model with the same attributes.
        batches: the network's queue.
        localizer: where segments come from; None: from the windows.
        max_windows: points of a timeline.
        window_s: length of a window where the request names none; see :func:`clipwise.infer.windows.window_length`.
    """

    def __init__(
        self,
        predictor: Any,
        batches: BatchQueue,
        *,
        localizer: LocalizeReader | None = None,
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
        self.window_spec = window_protocol(self.spec)
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
        window_s, stride_s = options.window_s or self.window_s, options.stride_s
        windows = sliding_windows(
            reader, self.window_spec, window_s=window_s, stride_s=stride_s, max_windows=self.max_windows
        )
        rows = np.empty((len(windows), len(scores)), np.float32)
        done = 0
        clips = read_windows(reader, self.window_spec, windows)
        for places, some in batches(clips, max(1, _CHUNK_BYTES // whole.nbytes)):
            share = 0.2 + 0.75 * done / len(windows)
            rows[places] = self._probabilities(self.batches.score(some, partial(progress, share)))
            done += len(some)
        progress(0.95)
        if self.localizer is None:
            timed = (WindowScores(w.start_s, w.end_s, row) for w, row in zip(windows, rows))
            located = Located(find_segments(timed, self.classes, threshold=options.threshold))
        else:
            located = self.localizer(reader)
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
                "window_s": round(windows[0].end_s - windows[0].start_s, 3),
                "stride_s": round(
                    (windows[1].start_s if len(windows) > 1 else windows[0].end_s) - windows[0].start_s, 3
                ),
                "windows": [
                    {
                        "start_s": round(window.start_s, 3),
                        "end_s": round(window.end_s, 3),
                        "predictions": self.top(row, options.topk),
                    }
                    for window, row in zip(windows, rows)
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
            "segments": [s.to_dict() for s in located.segments],
            "segments_from": "windows" if self.localizer is None else "localizer",
            "note": located.note,
            "seconds": round(time.monotonic() - started, 3),
        }

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(N, num_classes) 0 to 1; a protocol that averages logits gets its softmax (sigmoid for several labels) here."""
        if scores.ndim == 3:  # average_clips "none" leaves the views
            scores = scores.mean(1)
        return to_probabilities(scores, self.average, self.activation)
