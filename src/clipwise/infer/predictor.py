"""Predict: a checkpoint knows how to look at a video, so ``load(checkpoint)(video)`` is all there is to say.

Sampling, pixels and the views' average come from the checkpoint's passport, and the scores from the same function
as ``clipwise test``: the same file gives the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipwise.data.dataset import ClipSpec
from clipwise.data.videolist import VIDEO_SUFFIXES, is_video
from clipwise.engine.checkpoint import Passport, load_model_and_passport
from clipwise.engine.device import pick_device
from clipwise.errors import CheckpointError, DataError
from clipwise.io.plugins import trusting
from clipwise.tasks.logits import activation_of, average_views, score_clip
from clipwise.video.decode import VideoReader


@dataclass
class Prediction:
    """What a model says about one video."""

    source: str
    scores: np.ndarray
    """(num_classes,): probabilities, or mean logits where the protocol averages scores."""
    classes: list[str] | None
    duration_s: float
    num_frames: int

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k best classes with their scores; never more than there are classes. Without names, the index."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return [(self.classes[i] if self.classes else str(i), float(self.scores[i])) for i in order]

    @property
    def name(self) -> str:
        """The best class."""
        return self.top(1)[0][0]

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """For JSON."""
        top = [
            {"class": name, "index": int(i), "score": score}
            for (name, score), i in zip(self.top(k), np.argsort(-self.scores, kind="stable"))
        ]
        return {
            "source": self.source,
            "duration_s": round(self.duration_s, 3),
            "num_frames": self.num_frames,
            "predictions": top,
        }


class Predictor:
    """A recognizer with the protocol of its passport.

    Args:
        model: the network in evaluation mode.
        passport: says what it was trained for.
        device: where it computes.
        amp: ``no``, ``bf16`` or ``fp16``.
        max_views: views that go through the network at once.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        passport: Passport,
        *,
        device: torch.device,
        amp: str = "no",
        max_views: int | None = None,
    ):
        if passport.recipe.get("task", "recognition") != "recognition":
            raise CheckpointError(f"{passport.model} is not a recognizer; use `clipwise localize` with it.")
        if not passport.recipe:
            raise CheckpointError(
                "the checkpoint has no recipe, so its preprocessing is unknown; convert it again with --recipe."
            )
        self.model, self.passport, self.device, self.amp = model, passport, device, amp
        self.spec = ClipSpec.from_recipe(passport.recipe, "test")
        self.average, self.activation = passport.recipe["test"]["average_clips"], activation_of(passport.recipe)
        self.max_views = max_views or passport.recipe["test"]["max_views"]
        self.classes = passport.classes

    def __call__(self, video: Any) -> Prediction:
        """Predict one video.

        Args:
            video: path, address (http, rtsp), bytes or file object, uint8 array (T, H, W, 3), or an open reader.

        Raises:
            DecodeError: it can't be decoded.
        """
        if isinstance(video, VideoReader):
            return self._read(video, getattr(video, "name", "video"))
        if self.spec.modality == "flow" and not isinstance(video, np.ndarray):
            from clipwise.video.backends import FrameFolderReader

            template, start = self.spec.filename_tmpl, self.spec.start_index
            reader: VideoReader = FrameFolderReader(video, template=template, modality="flow", start_index=start)
        elif isinstance(video, (str, os.PathLike)) and Path(video).is_dir():
            from clipwise.video.backends import FrameFolderReader

            reader = FrameFolderReader(video, template=self.spec.filename_tmpl, start_index=self.spec.start_index)
        else:
            reader = self.spec.open_video(video)
        with reader:
            return self._read(reader, str(video) if isinstance(video, (str, os.PathLike)) else "video")

    def _read(self, reader: VideoReader, source: str) -> Prediction:
        frames, _ = self.spec.read(reader, np.random.default_rng(0))
        scores = self.score(torch.from_numpy(frames)[None])[0]
        return Prediction(source, scores, self.classes, reader.duration_s, reader.num_frames)

    def logits(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 (B, V, T, H, W, C) -> (B, V, num_classes) on the model's device."""
        return score_clip(self.model, frames.to(self.device), self.spec, max_views=self.max_views, amp=self.amp)

    def score(self, frames: torch.Tensor) -> np.ndarray:
        """uint8 (B, V, T, H, W, C) -> (B, num_classes)."""
        logits = self.logits(frames)
        mode = "prob" if self.average == "none" else self.average
        together = getattr(self.model, "views_before_softmax", False)
        return average_views(logits, mode, self.activation, together).cpu().numpy()


def load(
    checkpoint: str | Path,
    device: str | None = None,
    *,
    amp: str = "no",
    max_views: int | None = None,
    trust: bool = False,
) -> Predictor:
    """A predictor from a checkpoint, or from a name in the zoo.

    >>> predictor = clipwise.load("runs/mine/best.safetensors")
    >>> predictor("video.mp4").top(3)

    ``trust=True`` allows to import a model that does not come with clipwise.

    Raises:
        CheckpointError: the file can't be used.
    """
    place = pick_device(device)
    with trusting(trust):
        if not (Path(checkpoint).suffix == ".safetensors" and Path(checkpoint).is_file()):
            from clipwise.engine import pretrained

            checkpoint = pretrained.resolve(checkpoint)
        model, passport = load_model_and_passport(checkpoint, place)
    return Predictor(model, passport, device=place, amp=amp, max_views=max_views)


def expand_inputs(inputs: Sequence[str]) -> Iterator[str]:
    """Files and addresses from what a user names: files, folders (searched through), and lists (.txt, one path a line).

    A folder of numbered images is one video.

    Raises:
        DataError: something named does not exist, or a folder holds no video.
    """
    for item in inputs:
        path = Path(item)
        if not item:
            raise DataError("an empty name was given. Give a video, a folder, a list (.txt) or an address.")
        if "://" in item:
            yield item
        elif path.is_dir():
            videos = sorted(p for p in path.rglob("*") if is_video(p.name) and p.is_file())
            if not videos:
                images = [p for p in path.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
                if not images:
                    raise DataError(
                        f"{item}: no video in this folder (looked for {', '.join(sorted(VIDEO_SUFFIXES))})."
                    )
                yield item
            yield from map(str, videos)
        elif path.suffix == ".txt" and path.is_file():
            yield from _list_lines(path)
        elif path.exists():
            yield item
        elif item.isdecimal():
            raise DataError(f"{item} is no file. A camera never ends: `clipwise stream CKPT {item}` watches it.")
        else:
            raise DataError(f"{item} does not exist. Give a video, a folder, a list (.txt) or an address.")


def _list_lines(path: Path) -> Iterator[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text list.") from None
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise DataError(f"{path} is empty: a list has one path a line.")
    for line in lines:
        name = line.split("\t")[0]
        candidates = [name, name.rsplit(maxsplit=1)[0]] if " " in name else [name]
        found = next((c for n in candidates for c in (path.parent / n, Path(n)) if c.exists()), None)
        yield str(found) if found else candidates[-1]
