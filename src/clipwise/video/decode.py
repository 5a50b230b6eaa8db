"""Opens whatever holds frames; see :mod:`clipwise.video.reader` for what every reader promises."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np

from clipwise.errors import DecodeError
from clipwise.video.reader import FrameSink, Transform, VideoReader

__all__ = ["Backend", "FrameSink", "Transform", "VideoReader", "open_frames", "open_video"]

Backend = Literal["auto", "pyav", "torchcodec"]


def open_video(source: Any, *, backend: Backend = "auto", timeout_s: float | None = None, rotate: bool = True,
               device: Any = None, verify: bool = False) -> VideoReader:  # fmt: skip
    """Opens a video for reading frames by number.

    Args:
        source: a path, a URL, the bytes of a file, a binary file object, or an array (T, H, W, C) uint8.
        backend: ``"auto"`` and ``"pyav"`` read with PyAV; ``"torchcodec"`` needs the extra ``codec``.
        timeout_s: limit in seconds for opening and for each call of ``frames``; None: no limit.
        rotate: honor the rotation tag (see :mod:`clipwise.video.reader`).
        device: where TorchCodec decodes, for instance an accelerator with a hardware decoder; only for that back-end.
        verify: decode the whole file once, so that all damage is known that the decoder reports, and ``num_frames`` is sure; only for
            PyAV.

    Raises:
        DecodeError: the source cannot be opened, or holds no frame that can be decoded.
        MissingExtraError: the back-end is not installed.
    """
    if isinstance(source, np.ndarray):
        from clipwise.video.backends import ArrayReader

        return ArrayReader(source)
    if backend == "torchcodec":
        from clipwise.video.backends import TorchCodecReader

        return TorchCodecReader(source, timeout_s=timeout_s, rotate=rotate, device=device)
    if backend not in ("auto", "pyav"):
        raise DecodeError(f"there is no decoder {backend!r}; choose auto, pyav or torchcodec")
    if device is not None:
        raise DecodeError(f"device={device!r} works only with backend='torchcodec'; PyAV decodes on the CPU")
    from clipwise.video.pyav_reader import PyAVReader

    return PyAVReader(source, timeout_s=timeout_s, rotate=rotate, verify=verify)


def open_frames(folder: str | os.PathLike, *, num_frames: int | None = None, modality: str = "rgb", template: str | None = None,
                start_index: int | None = 1, offset: int = 0, fps: float = 0.0) -> VideoReader:  # fmt: skip
    """Opens a folder of frames; see :class:`clipwise.video.backends.FrameFolderReader` for the arguments.

    Raises:
        DecodeError: there is no such folder, or no frame in it that fits the template.
    """
    from clipwise.video.backends import FrameFolderReader

    return FrameFolderReader(
        folder,
        num_frames=num_frames,
        modality=modality,
        template=template,
        start_index=start_index,
        offset=offset,
        fps=fps,
    )
