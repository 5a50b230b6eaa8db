"""Readers of entries that are neither a whole video file nor a frame folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipwise.data.formats.published import read_paddle_pickle
from clipwise.errors import DataError
from clipwise.video.backends import ArrayReader, PictureDecoder
from clipwise.video.decode import FrameSink, Transform, VideoReader


def read_image(path: str | Path) -> VideoReader:
    """A picture as a video of one frame."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return ArrayReader(PictureDecoder().rgb(data, str(path))[None], name=str(path))


class SpanReader(VideoReader):
    """A part of a video, from ``start_s`` to ``end_s`` seconds (cut to the video), as a video of its own."""

    def __init__(self, video: VideoReader, start_s: float, end_s: float):
        if not video.fps:
            raise DataError(f"{video.name}: its frame rate is unknown, so a part given in seconds cannot be found.")
        # Outward to whole frames, so that an instance shorter than a frame still has one.
        self.first = max(0, math.floor(start_s * video.fps + 1e-6))
        last = min(video.num_frames, math.ceil(end_s * video.fps - 1e-6))
        if self.first >= video.num_frames:
            raise DataError(
                f"{video.name}: the part from {start_s:g} to {end_s:g} s begins after the end ({video.duration_s:g} s)."
            )
        self.video, self._size = video, (video.height, video.width)
        self.num_frames = max(1, last - self.first)
        self.name, self.fps, self.channels, self.damage = video.name, video.fps, video.channels, video.damage

    def frames(self, indices: Sequence[int] | np.ndarray, transform: Transform | None = None) -> np.ndarray:
        return self.video.frames(self._check_indices(indices) + self.first, transform)

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        for index in indices.tolist():
            sink(index, self.video.frames([index + self.first])[0])

    def close(self) -> None:
        self.video.close()


class PickledFrames(VideoReader):
    """PaddleCV's pickle of one clip: (id, label, [JPEG …]); pictures are decoded when asked for."""

    fps = 0.0

    def __init__(self, path: str | Path):
        self.name = str(path)
        _, self.label, self._pictures = read_paddle_pickle(path)
        if not self._pictures:
            raise DataError(f"{path}: the pickle holds no frames.")
        self.num_frames = len(self._pictures)
        self._decoder = PictureDecoder()
        height, width, _ = self._decoder.rgb(self._pictures[0], self.name).shape
        self._size = (height, width)

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        for index in indices.tolist():
            sink(index, self._decoder.rgb(self._pictures[index], f"{self.name}, frame {index}"))
