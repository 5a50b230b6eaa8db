"""Which decoder reads a recipe's clips faster here: PyAV, TorchCodec, or TorchCodec on the device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from clipwise.data.clip_spec import ClipSpec
from clipwise.errors import ClipwiseError

MARGIN = 1.15  # below this the difference is no reason to change


def decoder_speeds(paths: Sequence[str], spec: ClipSpec, *, clips: int = 24, repeats: int = 2) -> dict[str, float]:
    """Milliseconds a clip of each decoder that is installed; empty where only PyAV is, or the files can't be read.

    On a device as its clips are used: each decoder's clips end there.

    Args:
        paths: video files; the first eight are read in turn.
    """
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return {}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    forms = {"pyav": replace(spec, video_backend="pyav", decode_device=None)}
    forms["torchcodec"] = replace(forms["pyav"], video_backend="torchcodec")
    if device.type == "cuda":
        forms["torchcodec on the device"] = replace(forms["torchcodec"], decode_device="cuda")
    files = list(paths)[:8]
    best: dict[str, float] = {}
    try:
        for _ in range(repeats + 1):  # the first round opens libraries and fills caches
            for name, form in forms.items():
                seconds = _read(form, files, clips, device)
                best[name] = min(best.get(name, seconds), seconds)
    except (ClipwiseError, OSError):
        return {}
    return {name: 1000 * seconds / clips for name, seconds in best.items()}


def _read(spec: ClipSpec, files: Sequence[str], clips: int, device: torch.device) -> float:
    began = time.perf_counter()
    for number in range(clips):
        with spec.open_video(files[number % len(files)]) as reader:
            frames: Any = spec.read(reader, np.random.default_rng(number))[0]
        torch.as_tensor(frames).to(device)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def decoder_advice(speeds: dict[str, float], backend: str) -> str | None:
    """A line for people; None where nothing was measured.

    Args:
        backend: the recipe's ``input.video_backend``.
    """
    if not speeds:
        return None
    fastest = min(speeds, key=lambda name: speeds[name])
    figures = ", ".join(f"{name} {ms:.1f}" for name, ms in speeds.items())
    own = speeds[backend]
    if fastest.startswith(backend) or own < MARGIN * speeds[fastest]:
        return f"input.video_backend={backend} is the right decoder for these videos here (ms a clip: {figures})."
    key, _, there = fastest.partition(" ")
    more = " num_workers=0" if there else ""
    return f"input.video_backend={key}{more} reads these videos {own / speeds[fastest]:.1f} times faster here (ms a clip: {figures})."
