"""A small video set for ``clipwise demo`` and for tests: real mp4 files whose contents we know.

Four of the six classes come in pairs that are each other's reversal in time ("moves right" and "moves left",
"grows" and "shrinks"): every single frame of one could be a frame of the other, so only a model that sees the order
of frames can tell them apart. The other two ("ring" and "cross") show in any frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipwise.io.progress import Progress, silent

CLASSES = ("moves right", "moves left", "grows", "shrinks", "ring", "cross")
ORDER_CLASSES = CLASSES[:4]
"""Classes that only the order of frames tells apart."""
HEIGHT, WIDTH, FPS = 72, 96, 25


def draw_action(name: str, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Frames of one action, uint8 (num_frames, HEIGHT, WIDTH, 3)."""
    forward = {"moves left": "moves right", "shrinks": "grows"}.get(name, name)
    t = np.linspace(0, 1, num_frames)[:, None, None]
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    base = np.full((num_frames, 1, 1), rng.uniform(20, 52))
    cy = base + rng.uniform(-3, 3) * np.sin(2 * np.pi * t * rng.uniform(0.5, 1.5))
    radius = np.full_like(t, rng.uniform(9, 15))
    cx = np.full_like(t, rng.uniform(28, 68)) + rng.uniform(-6, 6) * np.sin(2 * np.pi * t + rng.uniform(0, 6))
    if forward == "moves right":
        start, end = rng.uniform(8, 24), rng.uniform(68, 88)
        cx = start + (end - start) * t ** rng.uniform(0.8, 1.25)
    elif forward == "grows":
        start, end = rng.uniform(3, 6), rng.uniform(18, 28)
        radius = start + (end - start) * t ** rng.uniform(0.8, 1.25)
    dy, dx = y - cy, x - cx
    distance = np.hypot(dy, dx)
    if forward == "ring":
        shape = np.clip(2.5 - np.abs(distance - radius), 0, 1)
    elif forward == "cross":
        arm = np.minimum(np.abs(dy), np.abs(dx))
        shape = np.clip(3.5 - arm, 0, 1) * np.clip(radius - distance, 0, 1)
    else:
        shape = np.clip(radius - distance, 0, 1)
    back, front = rng.uniform(30, 120, 3), rng.uniform(130, 250, 3)
    texture = 12 * np.sin(x * rng.uniform(0.05, 0.3) + y * rng.uniform(0.05, 0.3) + rng.uniform(0, 6))
    image = back + texture[..., None] + shape[..., None] * (front - back)
    image = image + rng.normal(0, 4, image.shape)
    frames = image.clip(0, 255).astype(np.uint8)
    return frames[::-1] if forward != name else frames


def write_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Encode uint8 (T, H, W, 3) as H.264 in mp4."""
    import av

    from clipwise.video.video_writer import REPRODUCIBLE

    options = {"preset": "veryfast", "crf": "20", "x264-params": REPRODUCIBLE}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())


def make_clips(
    folder: str | Path,
    *,
    train_per_class: int = 40,
    val_per_class: int = 12,
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
    progress: Progress = silent,
) -> Path:
    """Write ``train/CLASS/*.mp4`` and ``val/CLASS/*.mp4`` into a folder; returns the folder."""
    folder = Path(folder)
    total = (train_per_class + val_per_class) * len(classes)
    done = 0
    for part, count in (("train", train_per_class), ("val", val_per_class)):
        for label, name in enumerate(classes):
            target = folder / part / name
            target.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                rng = np.random.default_rng((seed, part == "val", label, i))
                write_video(target / f"{i:03d}.mp4", draw_action(name, int(rng.integers(18, 40)), rng))
                done += 1
                progress(done, total, "")
    return folder


def make_long_videos(
    folder: str | Path,
    count: int,
    *,
    classes: Sequence[str] = ORDER_CLASSES,
    seconds: float = 12.0,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, dict]:
    """Write long videos in which actions happen now and then between stretches of nothing.

    Returns:
        ActivityNet's ``database``: name -> {"duration_second", "fps", "annotations": [{"segment", "label"}]}.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    database = {}
    for n in range(count):
        rng = np.random.default_rng((seed, 7, n))
        total = int(seconds * FPS)
        frames = _background(total, rng)
        annotations, at = [], int(rng.integers(10, 40))
        while True:
            length = int(rng.integers(30, 80))
            if at + length + 5 > total:
                break
            label = str(rng.choice(list(classes)))
            frames[at : at + length] = draw_action(label, length, rng)
            annotations.append({"segment": [at / FPS, (at + length) / FPS], "label": label})
            at += length + int(rng.integers(25, 90))
        name = f"long_{n:03d}"
        write_video(folder / f"{name}.mp4", frames)
        database[name] = {"duration_second": total / FPS, "fps": FPS, "annotations": annotations}
        progress(n + 1, count, "")
    return database


def _background(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """A dull frame that drifts a little, uint8 (T, HEIGHT, WIDTH, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    t = np.arange(num_frames, dtype=np.float32)[:, None, None]
    wave = 12 * np.sin(x * 0.15 + y * 0.1 + t * 0.02)
    image = rng.uniform(40, 110, 3) + wave[..., None]
    noise = rng.normal(0, 4, (num_frames, HEIGHT, WIDTH, 1))
    return (image + noise).clip(0, 255).astype(np.uint8)
