"""Small film strips of videos, as JPEG data addresses."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError


@dataclass(frozen=True)
class Strip:
    """Frames of a video side by side in one image.

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
    """Evenly spaced frames of a video (or of a folder of frames) in one image.

    Args:
        count: frames; fewer where the video has fewer.
        height: of the frames in pixels.
        max_aspect: wider frames are cut at the sides, upright ones at top and bottom to 4:5 at most.

    Returns:
        None where the video can no longer be read.
    """
    from clipwise.data.transforms import resize_frames
    from clipwise.video.backends import open_frames
    from clipwise.video.decode import open_video
    from clipwise.video.even_rate import at_even_rate

    try:
        with open_frames(path) if Path(path).is_dir() else open_video(path, timeout_s=20) as reader:
            aspect = min(max(reader.width / reader.height, 0.8), max_aspect)
            width = 2 * round(height * aspect / 2)
            scale = max(height / reader.height, width / reader.width)
            size = max(height, round(reader.height * scale)), max(width, round(reader.width * scale))
            top, left = (size[0] - height) // 2, (size[1] - width) // 2

            def shrink(frame: np.ndarray) -> np.ndarray:
                return resize_frames(frame[..., :3], size)[top : top + height, left : left + width]

            even = at_even_rate(reader)
            picked = np.unique(np.linspace(0, even.num_frames - 1, count).round().astype(int))
            frames = even.frames(picked, transform=shrink)
            duration = reader.duration_s
    except (DataError, OSError):
        return None
    if frames.shape[-1] == 2:  # optical flow: show its size and direction in two colors
        frames = np.concatenate([frames, np.full_like(frames[..., :1], 128)], axis=-1)
    return Strip(jpeg_address(np.concatenate(list(frames), axis=1)), len(frames), width, height, duration)


def jpeg_address(image: NDArray[np.uint8], quality: int = 75) -> str:
    """An image (H, W, 3) as a data address."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def film_strips(paths: Sequence[str], **options) -> list[Strip | None]:
    """Strips of several videos, a few at a time (decoding leaves Python's lock)."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda p: film_strip(p, **options), paths))
