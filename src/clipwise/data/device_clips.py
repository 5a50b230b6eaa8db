"""Clips that never leave the device: decoded, resized, cropped and mirrored there (``input.video_backend: torchcodec`` with NVDEC)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipwise.data.crops import box_in_source
from clipwise.data.transforms import ClipPlan
from clipwise.errors import DataError

if TYPE_CHECKING:
    from clipwise.data.clip_spec import ClipSpec


def decoded_on(spec: ClipSpec, device: torch.device, num_workers: int = 0) -> ClipSpec:
    """The same clips, decoded on the device where that is possible: by TorchCodec, on CUDA, in the process that owns the device."""
    if spec.video_backend != "torchcodec" or device.type != "cuda" or num_workers:
        return spec
    return replace(spec, decode_device=str(device))


def read_there(spec: ClipSpec, reader: Any, rng: np.random.Generator) -> tuple[Tensor, ClipPlan]:
    """As ``spec.read`` of a reader that decodes on a device: uint8 (V, T, H, W, C) there, at most 2 levels off."""
    clips = spec.indices(reader.num_frames, rng, reader.fps)
    plan = spec.transform.draw(reader.height, reader.width, rng)
    distinct, places = np.unique(clips.ravel(), return_inverse=True)
    frames = apply_there(plan, reader.frames_there(distinct))[:, torch.from_numpy(places).to(spec.decode_device)]
    crops, _, h, w, channels = frames.shape
    frames = frames.reshape(crops, *clips.shape, h, w, channels)
    if not spec.num_segments:  # (crops, clips, L, h, w, C)
        return frames.reshape(-1, spec.clip_len, h, w, channels).contiguous(), plan
    stacked = frames.permute(0, 1, 3, 4, 2, 5)  # (crops, clips, h, w, L, C)
    return stacked.reshape(-1, spec.num_segments, h, w, spec.clip_len * channels).contiguous(), plan


def apply_there(plan: ClipPlan, frames: Tensor) -> Tensor:
    """``plan.apply`` for frames on a device.

    Args:
        frames: uint8 (T, H, W, C) of the size that the plan was drawn for.

    Returns:
        uint8 (num_crops, T, h, w, C), float32 with ``interpolation: float``.

    Raises:
        DataError: frames of another size.
    """
    if tuple(frames.shape[1:3]) != plan.source:
        raise DataError(
            f"the frame size changes within the video, from {plan.source[0]} x {plan.source[1]} to {frames.shape[1]} x {frames.shape[2]}."
        )
    views = []
    whole = _resize(frames, plan.resized, plan) if plan.num_crops > 1 else None
    for (left, top, right, bottom), flip in zip(plan.boxes, plan.flips):
        box = left, top, right, bottom
        if whole is not None:
            view = whole[:, top:bottom, left:right]
        elif (bottom - top, right - left) == plan.output:
            view = _resize(frames, plan.resized, plan)[:, top:bottom, left:right]
        elif plan.fused:
            left, top, right, bottom = box_in_source(box, plan.source, plan.resized)
            view = _resize(frames[:, top:bottom, left:right], plan.output, plan)
        else:
            view = _resize(_resize(frames, plan.resized, plan)[:, top:bottom, left:right], plan.output, plan)
        if flip:
            view = view.flip(2)
            if plan.invert_flow_x:
                view[..., 0::2] = 255 - view[..., 0::2]
        views.append(view)
    return torch.stack(views)


def _resize(frames: Tensor, size: tuple[int, int], plan: ClipPlan) -> Tensor:
    """In float32: devices have no resize of whole numbers. Rounded again, unless the recipe wants it not."""
    if tuple(frames.shape[1:3]) == size:
        return frames.float() if plan.interpolation == "float" else frames
    mode = "bicubic" if plan.interpolation == "bicubic" else "bilinear"
    resized = F.interpolate(
        frames.permute(0, 3, 1, 2).float(),
        size,
        mode=mode,
        align_corners=False,
        antialias=plan.interpolation != "opencv",
    ).permute(0, 2, 3, 1)
    return resized if plan.interpolation == "float" else resized.round().clamp(0, 255).to(torch.uint8)
