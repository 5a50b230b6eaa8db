"""Resizing uint8 frames: anti-aliased by torch, or as OpenCV does it."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from clipwise.data.crops import Box, Size
from clipwise.data.resize_opencv import resize_opencv

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
        return resize_opencv(frames, size, region)
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
