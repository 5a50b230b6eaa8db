"""Open what an entry of a list names: a video, a part of one, a frame folder, a picture, a pickle of JPEG frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipwise.data.backends import ArrayReader, FrameFolderReader, PictureDecoder
from clipwise.data.decode import FrameSink, Transform, VideoReader, open_video
from clipwise.data.sampling import Rng, draw_integers
from clipwise.data.sources import read_paddle_pickle
from clipwise.data.videolist import VideoList
from clipwise.errors import DataError


def open_entry(
    videos: VideoList,
    index: int,
    *,
    modality: str = "rgb",
    template: str | None = None,
    start_index: int | None = 1,
    timeout_s: float | None = None,
    rng: Rng | None = None,
) -> VideoReader:
    """Open an entry, whatever kind of list it is from.

    Args:
        modality: "rgb" or "flow" (frame folders only).
        template: name of a frame in its folder; the list's own, or the usual one, if not given.
        start_index: number of the first frame file.
        timeout_s: limit for decoding a video.
        rng: chooses among the positive parts of an untrimmed video (OmniSource); without it the first is taken.

    Returns:
        A reader whose frame 0 is the entry's first frame. A picture is a video of one frame, which samplers repeat.

    Raises:
        DataError: flow is wanted from something that is no frame folder; a part of a video lies beyond its end.
        DecodeError: missing or broken files.
    """
    path = videos.path(index)
    if videos.kind == "rawframes":
        if template is None and modality == "rgb":
            template = videos.frame_template
        return FrameFolderReader(
            path,
            num_frames=videos.num_frames(index),
            modality=modality,
            template=template,
            start_index=start_index,
            offset=videos.offset(index),
        )
    if modality == "flow":
        raise DataError(f"{path}: flow is read from frame folders; extract it with `clipwise prepare flow`.")
    if videos.kind == "image":
        return read_image(path)
    if videos.kind == "pickle":
        return PickledFrames(path)
    if videos.kind == "untrimmed":
        positives = videos.positive_clips(index)
        chosen = 0 if rng is None else int(draw_integers(rng, 0, len(positives)))
        return open_video(videos.clip_path(index, int(positives[chosen])), timeout_s=timeout_s)
    reader = open_video(path, timeout_s=timeout_s)
    span = videos.span(index)
    return reader if span is None else SpanReader(reader, *span)


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
