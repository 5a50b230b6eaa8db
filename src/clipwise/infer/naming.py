"""Names for spans of a video: a recognizer looks at each as at a clip of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from clipwise.data.dataset import ClipSpec
from clipwise.engine.checkpoint import Passport
from clipwise.engine.evaluate import score_clip
from clipwise.tasks.views import activate, activation_of
from clipwise.video.decode import VideoReader


class SpanNamer:
    """Class probabilities of spans of a video, as the recognizer's validation looks at a whole clip."""

    def __init__(self, model: torch.nn.Module, passport: Passport, device: torch.device, amp: str, batch_size: int):
        self.model, self.device, self.amp, self.batch_size = model, device, amp, batch_size
        self.classes, self.activation = passport.classes, activation_of(passport.recipe)
        spec = ClipSpec.from_recipe(passport.recipe, "val")
        if spec.transform.num_crops > 1:
            spec = replace(spec, transform=replace(spec.transform, crop="center"))
        self.spec = spec

    def __call__(self, reader: VideoReader, spans: NDArray) -> NDArray[np.float32]:
        """(n, 2) seconds -> (n, num_classes)."""
        if not len(spans):
            return np.zeros((0, len(self.classes or ())), np.float32)
        rng = np.random.default_rng(0)
        fps = reader.fps
        first = np.clip(np.floor(spans[:, 0] * fps).astype(np.int64), 0, reader.num_frames - 1)
        last = np.clip(np.ceil(spans[:, 1] * fps).astype(np.int64), first + 1, reader.num_frames)
        local = [self.spec.indices(int(n), rng, fps) for n in last - first]
        plan = self.spec.transform.draw(reader.height, reader.width, rng)
        probs = []
        for at in range(0, len(spans), self.batch_size):
            some = range(at, min(at + self.batch_size, len(spans)))
            wanted = np.concatenate([(local[i] + first[i]).ravel() for i in some])
            frames = reader.frames(wanted, transform=plan.apply)  # (n·indices, 1, h, w, C)
            parts = np.split(frames, np.cumsum([local[i].size for i in some])[:-1])
            clips = [self._clip(part, local[i].shape) for part, i in zip(parts, some)]
            logits = score_clip(self.model, torch.from_numpy(np.stack(clips)).to(self.device), self.spec, amp=self.amp)
            probs.append(activate(logits, self.activation).mean(1).cpu().numpy())
        return np.concatenate(probs)

    def _clip(self, frames: NDArray, shape: tuple[int, ...]) -> NDArray:
        """(clips·L, 1, h, w, C) -> (V, T, h, w, C), as ``ClipSpec.read`` lays it out."""
        _, _, h, w, channels = frames.shape
        frames = frames.reshape(*shape, h, w, channels)
        if not self.spec.num_segments:
            return frames
        return frames.transpose(0, 2, 3, 1, 4).reshape(-1, self.spec.num_segments, h, w, shape[1] * channels)
