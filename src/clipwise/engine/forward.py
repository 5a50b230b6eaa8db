"""The one path from pixels to logits: validation, ``test``, ``predict`` and all that look at windows call ``score_clip``.

At test it goes video by video, so the same file gets the same scores from each of them, bit for bit on a CPU.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from clipwise.data.dataset import ClipSpec
from clipwise.data.transforms import normalize_clips

_VIEW_BUDGET = 2**27  # pixels of input that go through the network at once unless the user says otherwise


def autocast(device: torch.device, amp: str):
    """Mixed precision of a forward pass; ``no`` leaves everything in fp32."""
    if amp == "no":
        return nullcontext()
    return torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[amp])


@torch.inference_mode()
def score_clip(
    model: nn.Module, frames: torch.Tensor, spec: ClipSpec, *, max_views: int | None = None, amp: str = "no"
) -> torch.Tensor:
    """Logits of all views, in bounded memory.

    Args:
        model: takes normalized clips; or uint8 frames, if its ``takes_frames`` says so (exported models).
        frames: uint8 (B, V, T, H, W, C) on the model's device.
        spec: gives mean and std.
        max_views: views that go through the network at once; None chooses by their size.

    Returns:
        float32 (B, V, num_classes).
    """
    batch, views = frames.shape[:2]
    flat = frames.flatten(0, 1)
    chunk = max_views or max(1, _VIEW_BUDGET // flat[0].numel())
    takes_frames = getattr(model, "takes_frames", False)
    logits = []
    for part in flat.split(chunk):
        clips = part if takes_frames else normalize_clips(part, spec.mean, spec.std)
        with autocast(frames.device, amp):
            logits.append(model(clips).float())
    return torch.cat(logits).view(batch, views, -1)
