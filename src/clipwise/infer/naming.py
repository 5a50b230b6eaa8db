"""Names for spans of a video: a recognizer looks at each as at a clip of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from clipwise.data.clip_spec import ClipSpec
from clipwise.engine.checkpoint import Passport
from clipwise.infer.windows import FrameGrid, batches, read_windows
from clipwise.tasks.logits import activate, activation_of, score_clip
from clipwise.video.decode import VideoReader


class SegmentClassifier:
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
        grid = FrameGrid(reader)
        windows = [grid.window(self.spec, *grid.span(start, end)) for start, end in spans.tolist()]
        probs = np.zeros((len(spans), 0), np.float32)
        for places, clips in batches(read_windows(reader, self.spec, windows), self.batch_size):
            frames = torch.from_numpy(np.stack(clips)).to(self.device)
            logits = score_clip(self.model, frames, self.spec, amp=self.amp)
            rows = activate(logits, self.activation).mean(1).cpu().numpy()
            if not probs.size:
                probs = np.zeros((len(spans), rows.shape[1]), np.float32)
            probs[places] = rows
        return probs
