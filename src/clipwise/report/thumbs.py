"""Small film strips of videos, as JPEG data addresses: no picture library, PyAV's encoder does it."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError


@dataclass(frozen=True)
class Strip:
    """Frames of a video side by side in one picture.

    Attributes:
        address: ``data:image/jpeg;base64,…``.
        count: frames.
        width, height: of one frame.
        duration_s: of the video, 0 where unknown.
    """

    address: str
    count: int
    width: int
    height: int
    duration_s: float


def film_strip(path: str | os.PathLike, *, count: int = 10, height: int = 108, max_aspect: float = 2.0) -> Strip | None:
    """Evenly spaced frames of a video (or of a folder of frames) in one picture.

    Args:
        count: frames; fewer where the video has fewer.
        height: of the frames in pixels.
        max_aspect: wider pictures are cut at the sides, upright ones at top and bottom to 4:5 at most.

    Returns:
        None where the video can't be read any more.
    """
    from clipwise.data.transforms import resize_frames
    from clipwise.video.decode import open_frames, open_video

    try:
        with open_frames(path) if Path(path).is_dir() else open_video(path, timeout_s=20) as reader:
            aspect = min(max(reader.width / reader.height, 0.8), max_aspect)
            width = 2 * round(height * aspect / 2)
            scale = max(height / reader.height, width / reader.width)
            size = max(height, round(reader.height * scale)), max(width, round(reader.width * scale))
            top, left = (size[0] - height) // 2, (size[1] - width) // 2

            def shrink(frame: np.ndarray) -> np.ndarray:
                return resize_frames(frame[..., :3], size)[top : top + height, left : left + width]

            picked = np.unique(np.linspace(0, reader.num_frames - 1, count).round().astype(int))
            frames = reader.frames(picked, transform=shrink)
            duration = reader.duration_s
    except (DataError, OSError):
        return None
    if frames.shape[-1] == 2:  # optical flow: show its size and direction in two colors
        frames = np.concatenate([frames, np.full_like(frames[..., :1], 128)], axis=-1)
    return Strip(jpeg_address(np.concatenate(list(frames), axis=1)), len(frames), width, height, duration)


def jpeg_address(picture: NDArray[np.uint8], quality: int = 5) -> str:
    """A picture (H, W, 3) as a data address.

    Args:
        quality: FFmpeg's scale for JPEG, 2 (best) to 31.
    """
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(picture, quality)).decode()


def jpeg_bytes(picture: NDArray[np.uint8], quality: int = 5) -> bytes:
    """A picture (H, W, 3) as JPEG."""
    import av

    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuvj420p", Fraction(1, 25)
    codec.options = {"qmin": str(quality), "qmax": str(quality)}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
    frame = frame.reformat(format="yuvj420p", dst_colorspace="ITU601", dst_color_range="JPEG")
    packets = codec.encode(frame) + codec.encode(None)
    return b"".join(bytes(p) for p in packets)


def film_strips(paths: Sequence[str], **options) -> list[Strip | None]:
    """Strips of several videos, a few at a time (decoding leaves Python's lock)."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda p: film_strip(p, **options), paths))
