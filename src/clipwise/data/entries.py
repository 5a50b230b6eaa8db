"""Entries that are not a whole video file: frame folders, parts of videos, images, pickles, samples of tar shards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.data.formats.published import read_paddle_pickle
from clipwise.data.formats.tar_shards import read_sample
from clipwise.data.sampling import Rng, draw_integers
from clipwise.data.videolist import VideoList
from clipwise.errors import DataError
from clipwise.video.backends import ArrayReader, FrameFolderReader, PictureDecoder
from clipwise.video.decode import FrameSink, Transform, VideoReader, open_video
from clipwise.video.even_rate import at_even_rate

_NOT_VIDEO = ("cls", "json", "txt", "__key__")
_IMAGES = ("jpg", "jpeg", "png", "webp", "bmp")


def read_image(path: str | Path) -> VideoReader:
    """An image as a video of one frame."""
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
        video = at_even_rate(video)
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


class EncodedFrames(VideoReader):
    """Frames that are encoded images in memory; each is decoded when asked for."""

    fps = 0.0

    def __init__(self, name: str, images: Sequence[bytes]):
        if not images:
            raise DataError(f"{name} holds no frames.")
        self.name, self._images, self._decoder = name, images, PictureDecoder()
        self.num_frames = len(images)
        height, width, _ = self._decoder.rgb(images[0], name).shape
        self._size = (height, width)

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        for index in indices.tolist():
            sink(index, self._decoder.rgb(self._images[index], self.name))


class PickledFrames(EncodedFrames):
    """PaddleCV's pickle of one clip: (id, label, [JPEG …])."""

    pickled = True

    def __init__(self, path: str | Path):
        _, self.label, images = read_paddle_pickle(path)
        super().__init__(str(path), images)


def open_sample(entry: str) -> VideoReader:
    """The video of a sample in a tar shard: a video file, or images that are its frames.

    Raises:
        DataError: the shard can't be read, or the sample holds neither.
    """
    files = read_sample(entry)
    images = [data for name, data in sorted(files.items()) if name.rpartition(".")[2] in _IMAGES]
    if images:
        return EncodedFrames(entry, images)
    videos = [data for name, data in files.items() if name not in _NOT_VIDEO]
    if len(videos) != 1:
        raise DataError(f"{entry} holds {', '.join(sorted(files)) or 'nothing'}; expected one video, or images.")
    return open_video(videos[0])


def open_entry(
    videos: VideoList,
    index: int,
    *,
    modality: str = "rgb",
    template: str | None = None,
    start_index: int | None = 1,
    open_file: Callable[[Any], VideoReader] = open_video,
    rng: Rng | None = None,
) -> VideoReader:
    """Open an entry, whatever kind of list it is from.

    Args:
        modality: "rgb" or "flow" (frame folders only).
        template: name of a frame in its folder; the list's own, or the usual one, if not given.
        start_index: number of the first frame file.
        open_file: opens a video file.
        rng: chooses among the positive parts of an untrimmed video (OmniSource); without it the first is taken.

    Returns:
        A reader whose frame 0 is the entry's first frame. An image is a video of one frame, which samplers repeat.

    Raises:
        DataError: flow is wanted from something that is not a frame folder; a part of a video lies beyond its end.
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
    if videos.kind == "shard":
        video = open_sample(videos.entry(index))
        span = videos.span(index)
        return video if span is None else SpanReader(video, *span)
    if videos.kind == "untrimmed":
        positives = videos.positive_clips(index)
        chosen = 0 if rng is None else int(draw_integers(rng, 0, len(positives)))
        return open_file(videos.clip_path(index, int(positives[chosen])))
    reader = open_file(path)
    span = videos.span(index)
    return reader if span is None else SpanReader(reader, *span)
