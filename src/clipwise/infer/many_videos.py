"""What a ``Predictor`` takes besides a path: frames in memory in any layout, addresses, and many videos at once."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import torch

from clipwise.data.videolist import is_video
from clipwise.errors import CheckpointError, ClipwiseError, DataError
from clipwise.io.text import plural
from clipwise.video.backends import ArrayReader
from clipwise.video.reader import VideoReader

Layout = Literal["THWC", "TCHW", "CTHW"]
LAYOUTS = {"THWC": (0, 1, 2, 3), "TCHW": (0, 2, 3, 1), "CTHW": (1, 2, 3, 0)}


def several(video: Any) -> Iterable[Any] | None:
    """The videos where it is several: a list that is not a list of frames, a ``VideoList``, a column of names, an array with an axis more."""
    if isinstance(video, (list, tuple)):
        return None if len(video) and all(_is_frame(item) for item in video) else video
    if hasattr(video, "paths") and hasattr(video, "entry"):
        return video.paths()
    if hasattr(video, "to_list") and getattr(video, "ndim", 0) == 1:  # pandas
        return video.to_list()
    if isinstance(video, np.ndarray) and video.ndim == 1 and video.dtype.kind in "OU":
        return video.tolist()
    return video if isinstance(video, (np.ndarray, torch.Tensor)) and video.ndim == 5 else None


def _is_frame(item: Any) -> bool:
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return item.ndim == 3
    return hasattr(item, "convert") and hasattr(item, "size")  # a Pillow image


def frames_reader(video: Any, layout: Layout, fps: float | None) -> ArrayReader | None:
    """A reader of frames in memory; None for what is not frames.

    Args:
        video: array or tensor with the axes of ``layout``, or a list of frames: arrays or tensors (of ``layout`` without T), Pillow images.
        fps: frames per second, if known.

    Raises:
        DataError: not uint8, of another shape, frames of several sizes, or an unknown layout.
    """
    if layout not in LAYOUTS:
        raise DataError(f"layout is {layout!r}; allowed: {', '.join(map(repr, LAYOUTS))}.")
    if isinstance(video, (list, tuple)) and video:
        frames = [_frame(item, layout) for item in video]
        if len(shapes := {frame.shape for frame in frames}) > 1:
            raise DataError(
                f"the frames have {plural(len(shapes), 'size')}: {', '.join(map(str, sorted(shapes)[:3]))}; resize them to one."
            )
        array, axes = np.stack(frames), "(T, H, W, C)"
    elif isinstance(video, (np.ndarray, torch.Tensor)):
        array, axes = _array(video), f"({', '.join(layout)})"
        if array.ndim == 4:
            array = array.transpose(LAYOUTS[layout])
    elif isinstance(video, (str, bytes, bytearray, memoryview)) or hasattr(video, "read"):
        return None
    else:
        raise DataError(
            f"a video is a path, an address, the bytes of a file, an open file or reader, or frames (an array or tensor of four axes, a list of "
            f"frames), and was given as {type(video).__name__}. Several videos: a list of these, or predictor.stream(…) for what is iterated."
        )
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (2, 3) or not array.size:
        given = tuple(video.shape) if hasattr(video, "shape") else array.shape
        raise DataError(
            f"frames in memory are uint8 {axes} with 3 channels (RGB; 2 for flow), given {array.dtype} {given}. "
            f"Another order of axes: layout={' or '.join(repr(name) for name in LAYOUTS)}; floats: (x * 255).round() as uint8."
        )
    return ArrayReader(np.ascontiguousarray(array), fps=fps or 0.0, name="frames")


def _frame(item: Any, layout: str) -> np.ndarray:
    if hasattr(item, "convert"):
        return np.asarray(item.convert("RGB"))
    array = _array(item)
    return array.transpose(1, 2, 0) if layout in ("TCHW", "CTHW") else array


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


@contextmanager
def fetched(video: Any) -> Iterator[Any]:
    """The file behind an http(s) address that names a video file, for as long as the block runs; everything else stays as it is.

    Raises:
        DataError: it cannot be downloaded.
    """
    if not (isinstance(video, str) and video.startswith(("http://", "https://")) and is_video(urlsplit(video).path)):
        yield video
        return
    from clipwise.io.download import download
    from clipwise.io.progress import silent

    with tempfile.TemporaryDirectory(prefix="clipwise-") as folder:
        target = Path(folder) / f"video{Path(urlsplit(video).path).suffix}"
        try:
            file = download(video, target, "", silent)
        except CheckpointError as error:
            reason = str(error).split("\n")[1:2]
            raise DataError(f"{video} cannot be downloaded: {(reason or [str(error)])[0].strip()}.") from None
        yield file


def predict_many(
    predictor: Any,
    videos: Iterable[Any],
    *,
    layout: Layout = "THWC",
    fps: float | None = None,
    batch_size: int | None = None,
    workers: int = 2,
    errors: Literal["raise", "yield"] = "raise",
) -> Iterator[Any]:
    """Predictions of many videos, in their order; reading runs ahead in threads, and clips of one shape go through the network together.

    Args:
        predictor: reads (``cut``) and scores (``score``).
        batch_size: videos at once; by default 1 on a CPU, where each video then gets the bits that it gets alone, else 8.
        workers: threads that read.
        errors: "yield" gives the error in place of a prediction.
    """
    if errors not in ("raise", "yield"):
        raise ClipwiseError(f"errors is {errors!r}; allowed: 'raise' and 'yield'.")
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if value is not None and value < 1:
            raise ClipwiseError(f"{name} is {value}; it must be at least 1.")
    size = batch_size or (1 if predictor.device.type == "cpu" else 8)

    def cut(video: Any) -> Any:
        try:
            return predictor.cut(video, layout, fps)
        except (DataError, OSError) as error:
            return error

    def scored(cuts: Sequence[Any]) -> Iterator[Any]:
        """In order; neighbors of one shape are one batch."""
        for _, group in groupby(cuts, key=lambda c: type(c) if isinstance(c, Exception) else c[0].shape):
            part = list(group)
            if isinstance(part[0], Exception):
                for error in part:
                    if errors == "raise":
                        raise error
                    yield error
                continue
            scores = predictor.score(torch.stack([torch.as_tensor(frames) for frames, _ in part]))
            for (_, prediction), row in zip(part, scores):
                prediction.scores = row
                yield prediction

    ahead: deque[Future] = deque()
    source = iter(videos)
    with ThreadPoolExecutor(workers, "clipwise-read") as pool:
        try:
            while True:
                while len(ahead) < size + workers and (video := next(source, ahead)) is not ahead:
                    ahead.append(pool.submit(cut, video))
                if not ahead:
                    return
                yield from scored([ahead.popleft().result() for _ in range(min(size, len(ahead)))])
        finally:
            for future in ahead:
                future.cancel()


def poster(reader: VideoReader) -> np.ndarray | None:
    """The middle frame of frames in memory, at most 160 pixels wide: what a notebook shows of them."""
    if not isinstance(reader, ArrayReader) or reader.channels != 3:
        return None
    frame = reader.array[len(reader) // 2]
    step = -(-frame.shape[1] // 160)
    return frame[::step, ::step].copy()
