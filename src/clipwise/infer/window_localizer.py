"""Localization without a localization network: the segments that a recognizer's own windows give.

They are those of ``clipwise stream`` and of the server: the same windows, segmenter and defaults.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from clipwise.errors import ClipwiseError, DataError
from clipwise.infer.features import open_for
from clipwise.infer.predictor import Predictor
from clipwise.infer.segments import THRESHOLD, Localization, Segment, Segmenter, WindowScores, find_segments
from clipwise.infer.windows import read_windows, sliding_windows, window_protocol
from clipwise.tasks.logits import to_probabilities
from clipwise.video.reader import VideoReader


class WindowLocalizer:
    """Finds and names segments by a recognizer alone.

    Args:
        predictor: a recognizer with its protocol.
        threshold: score at which a segment begins.
        say: gets each segment as soon as it is over.
    """

    time_base, channels_first = "duration", False

    def __init__(
        self, predictor: Predictor, threshold: float = THRESHOLD, say: Callable[[Segment], None] = lambda _: None
    ):
        Segmenter(threshold=threshold)  # refuses wrong values
        self.predictor, self.threshold, self.say = predictor, threshold, say
        self.made = {"modality": predictor.spec.modality}

    @property
    def spec(self) -> Any:
        """How a video is opened for the recognizer."""
        return self.predictor.spec

    def __call__(
        self, video: Any, *, frame_rate: float | None = None, name: str | None = None, **_: Any
    ) -> Localization:
        """Localize in one video.

        Args:
            video: path, address, uint8 array, open reader or folder of frames.
            frame_rate: of a folder of frames.
            name: what the video is called in the answer.

        Raises:
            DataError: features, which a recognizer can't look at; a video without a frame rate.
        """
        if isinstance(video, np.ndarray) and video.ndim == 2:
            raise DataError(f"{name or 'features'}: features were given, but a recognizer looks at videos.")
        source = str(video) if isinstance(video, (str, os.PathLike)) else name or "video"
        if isinstance(video, VideoReader):
            return self._read(video, video.name)
        with open_for(self.spec, video, frame_rate) as reader:
            return self._read(reader, source)

    def _read(self, reader: VideoReader, source: str) -> Localization:
        if not reader.fps:
            raise DataError(
                f"{source}: its frame rate is not known, so times in seconds can't be given. Set --frame-rate."
            )
        segments = find_segments(self._windows(reader), self.predictor.classes, say=self.say, threshold=self.threshold)
        detections = sorted((replace(s, class_score=s.score) for s in segments), key=lambda s: -s.score)
        rows = np.array([(s.start_s, s.end_s, s.score) for s in detections]).reshape(-1, 3)
        none = np.zeros(0, np.float32)
        best_first = sorted(segments, key=lambda s: -s.score)
        return Localization(source, reader.duration_s, best_first, detections, rows, none, none, reader.damage)

    def _windows(self, reader: VideoReader):
        predictor, spec = self.predictor, window_protocol(self.spec)
        windows = sliding_windows(reader, spec)
        for number, clip in read_windows(reader, spec, windows):
            scores = predictor.score(torch.from_numpy(clip)[None])[0]
            probabilities = to_probabilities(scores, predictor.average, predictor.activation)
            yield WindowScores(windows[number].start_s, windows[number].end_s, probabilities)


def check_options(checkpoint: str, given: dict[str, Any]) -> None:
    """Refuse options that only mean something to a localization network.

    Raises:
        ClipwiseError: names them.
    """
    used = [option for option, value in given.items() if value not in (None, False)]
    if used:
        raise ClipwiseError(
            f"{checkpoint} is a recognizer, which finds and names segments by its own windows; {', '.join(used)} "
            "has an effect with localization networks (BMN, …) alone. Leave it out."
        )
