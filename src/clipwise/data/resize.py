"""Resizing uint8 frames: anti-aliased (torch, the default) or exactly as OpenCV's bilinear does it (parity)."""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from clipwise.data.crops import Box, Size

Interpolation = Literal["antialias", "opencv"]


def resize_frames(
    frames: np.ndarray, size: Size, interpolation: Interpolation = "antialias", region: Box | None = None
) -> np.ndarray:
    """Resize frames to ``size`` and return ``region`` of the result (all of it by default).

    Args:
        frames: uint8 (H, W, C) or (T, H, W, C).
        size: (height, width) of the whole resized frame.
        interpolation: "antialias": bilinear over the whole area that a target pixel covers, as Pillow does it.
            "opencv": cv2.resize INTER_LINEAR on uint8 (two source pixels a side, fixed-point arithmetic), bit for bit.
        region: box within the resized frame.

    Returns:
        uint8, same number of axes.
    """
    if interpolation == "opencv":
        return _resize_opencv(frames, size, region)
    if frames.shape[-3:-1] != size:
        frames = _resize_antialias(frames, size)
    if region is not None:
        left, top, right, bottom = region
        frames = frames[..., top:bottom, left:right, :]
    return frames


def _resize_antialias(frames: np.ndarray, size: Size) -> np.ndarray:
    # Torch's fast path for uint8 wants channels-last memory, which (H, W, C) frames have already.
    frames = np.ascontiguousarray(frames)
    pixels = torch.from_numpy(frames if frames.flags.writeable else frames.copy())
    batch = (pixels if frames.ndim == 4 else pixels[None]).permute(0, 3, 1, 2)
    resized = F.interpolate(batch, size=size, mode="bilinear", align_corners=False, antialias=True)
    result = resized.permute(0, 2, 3, 1).contiguous().numpy()
    return result if frames.ndim == 4 else result[0]


def _resize_opencv(frames: np.ndarray, size: Size, region: Box | None) -> np.ndarray:
    """Rows and columns of the region only; the arithmetic per pixel is that of the whole frame.

    OpenCV (imgproc resize, 8-bit bilinear): weights are fixed-point numbers of 11 bits. Horizontally two products are
    added; vertically the sums are cut to 15 bits, multiplied, cut by 16 bits each, added, and rounded by 2 bits.
    """
    height, width = frames.shape[-3:-1]
    left, top, right, bottom = region or (0, 0, size[1], size[0])
    if (height, width) == size:  # the arithmetic below changes nothing then
        return frames[..., top:bottom, left:right, :]
    x0, x1, wx0, wx1 = (part[left:right] for part in _opencv_weights(width, size[1], True))
    y0, y1, wy0, wy1 = (part[top:bottom] for part in _opencv_weights(height, size[0], False))
    rows, back = np.unique(np.concatenate([y0, y1]), return_inverse=True)
    pixels = frames[..., rows, :, :]
    sums = np.take(pixels, x0, axis=-2).astype(np.int32)
    sums *= wx0[:, None]
    other = np.take(pixels, x1, axis=-2).astype(np.int32)
    other *= wx1[:, None]
    sums += other
    sums >>= 4
    upper = np.take(sums, back[: len(y0)], axis=-3)
    upper *= wy0[:, None, None]
    upper >>= 16
    lower = np.take(sums, back[len(y0) :], axis=-3)
    lower *= wy1[:, None, None]
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    return upper.astype(np.uint8)


@lru_cache(maxsize=256)
def _opencv_weights(source: int, target: int, horizontal: bool) -> tuple[np.ndarray, ...]:
    """Both source positions (int64) and both weights (int32, of 2048) of every target position of one axis."""
    scale = 1.0 / (target / source)
    centre = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(centre).astype(np.int64)
    weight = (centre - first.astype(np.float32)).astype(np.float32)
    if horizontal:  # OpenCV gives all weight to the edge pixel along rows, not along columns
        weight[(first < 0) | (first >= source - 1)] = 0
        first = np.clip(first, 0, source - 1)
    fixed = np.float32(2048)
    return (
        np.clip(first, 0, source - 1),
        np.clip(first + 1, 0, source - 1),
        np.rint((np.float32(1) - weight) * fixed).astype(np.int32),
        np.rint(weight * fixed).astype(np.int32),
    )
