"""OpenCV's bilinear resize of uint8 frames (cv2.INTER_LINEAR), bit for bit: for parity with MMAction2's pixels."""

from functools import lru_cache

import numpy as np

from clipwise.data.crops import Box, Size


def resize_opencv(frames: np.ndarray, size: Size, region: Box | None) -> np.ndarray:
    """``resize_frames`` with "opencv". Only rows and columns of the region are made; each pixel is that of the whole frame.

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
    center = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(center).astype(np.int64)
    weight = (center - first.astype(np.float32)).astype(np.float32)
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
