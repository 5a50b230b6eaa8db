"""Predict: a checkpoint knows how to look at a video, so ``load(checkpoint)(video)`` is all there is to say.

Sampling, pixels and the views' average come from the checkpoint's passport, and the scores from the same function
as ``clipwise test``: the same file gives the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.videolist import is_video
from clipwise.engine.checkpoint import Passport, load_model_and_passport
from clipwise.errors import CheckpointError, DataError
from clipwise.io.devices import pick_device
from clipwise.io.plugins import trusting
from clipwise.tasks.logits import activation_of, average_views, check_finite, score_clip
from clipwise.video.decode import VideoReader

if TYPE_CHECKING:
    from clipwise.infer.many_videos import Layout
    from clipwise.infer.show import Predictions


@dataclass(repr=False)
class Prediction:
    """What a model says about one video; prints as a short table, in a notebook as the clip with its bars."""

    source: str
    scores: np.ndarray
    """(num_classes,): probabilities, or mean logits where the protocol averages scores."""
    classes: list[str] | None
    duration_s: float
    num_frames: int
    poster: np.ndarray | None = None  # of frames in memory a small one, to show

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k best classes with their scores; never more than there are classes. Without names, the index."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return [(self.classes[i] if self.classes else str(i), float(self.scores[i])) for i in order]

    def __repr__(self) -> str:
        return f"Prediction({self.source!r}: {', '.join(f'{name} {score:.3f}' for name, score in self.top(3))})"

    def __str__(self) -> str:
        from clipwise.infer.show import table_of

        return table_of(self)

    def _repr_html_(self) -> str:
        from clipwise.infer.show import card

        return card(self)

    @property
    def name(self) -> str:
        """The best class."""
        return self.top(1)[0][0]

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """For JSON."""
        from clipwise.infer.show import as_dict

        return as_dict(self, k)


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
        if self.spec.video_backend == "torchcodec":
            from clipwise.data.device_clips import decoded_on

            self.spec = decoded_on(self.spec, device)
        self.average, self.activation = passport.recipe["test"]["average_clips"], activation_of(passport.recipe)
        self.max_views = max_views or passport.recipe["test"]["max_views"]
        self.classes = named_outputs(passport)

    @overload
    def __call__(
        self, video: str | os.PathLike[str] | bytes | VideoReader, *, layout: Layout = ..., fps: float | None = ...
    ) -> Prediction: ...

    @overload
    def __call__(self, video: list[str] | list[Path], *, batch_size: int | None = ...) -> Predictions: ...

    @overload
    def __call__(
        self, video: Any, *, layout: Layout = ..., fps: float | None = ..., batch_size: int | None = ...
    ) -> Any: ...

    def __call__(
        self, video: Any, *, layout: Layout = "THWC", fps: float | None = None, batch_size: int | None = None
    ) -> Any:
        """Predict a video, or several.

        Args:
            video: path, folder of frames, address (http, rtsp), bytes, binary file object, or an open reader; uint8 frames in memory:
                array or tensor with the axes of ``layout``, or a list of frames (arrays, tensors, Pillow images). A list of any of
                these, a ``VideoList``, a column of paths, or an array with an axis more, is several videos.
            layout: axes of frames in memory, "THWC", "TCHW" or "CTHW".
            fps: of frames in memory, for the duration.
            batch_size: of several videos, how many go through the network at once; 1 on a CPU and 8 elsewhere if not given.

        Returns:
            A ``Prediction``; of several videos a list of them, in order.

        Raises:
            DataError: it can't be decoded or fetched, or has another shape.
        """
        if not isinstance(video, (str, os.PathLike, bytes, VideoReader)):
            from clipwise.infer.many_videos import several
            from clipwise.infer.show import Predictions

            if (videos := several(video)) is not None:
                return Predictions(self.stream(videos, layout=layout, fps=fps, batch_size=batch_size))
        frames, prediction = self.cut(video, layout, fps)
        prediction.scores = self.score(torch.as_tensor(frames)[None])[0]
        return prediction

    def stream(self, videos: Iterable[Any], **options: Any) -> Iterator[Prediction]:
        """Predictions of many videos one by one, in their order, while the next ones are read.

        Args:
            videos: paths, or whatever else a call takes; an iterator is read as far as needed.
            options: ``layout``, ``fps``, ``batch_size`` as in a call; ``workers``, threads that read (2); ``errors``: "raise" (the
                default) or "yield", which gives the error in place of a prediction.
        """
        from clipwise.infer.many_videos import predict_many

        return predict_many(self, videos, **options)

    def cut(self, video: Any, layout: Layout = "THWC", fps: float | None = None) -> tuple[np.ndarray, Prediction]:
        """A video's clips, uint8 (V, T, H, W, C), and a prediction without scores."""
        if isinstance(video, VideoReader):
            return self._cut(video, getattr(video, "name", "video"))
        if not isinstance(video, (str, os.PathLike, bytes)) or (isinstance(video, str) and "://" in video):
            from clipwise.infer.many_videos import fetched, frames_reader, poster

            if (reader := frames_reader(video, layout, fps)) is not None:
                frames, prediction = self._cut(reader, "frames")
                prediction.poster = poster(reader)
                return frames, prediction
            with fetched(video) as file, self._open(file) as reader:
                return self._cut(reader, str(video) if isinstance(video, str) else str(getattr(video, "name", "video")))
        with self._open(video) as reader:
            return self._cut(reader, "video" if isinstance(video, bytes) else str(video))

    def _open(self, video: Any) -> VideoReader:
        flow = self.spec.modality == "flow"
        if flow or (isinstance(video, (str, os.PathLike)) and Path(video).is_dir()):
            from clipwise.video.backends import FrameFolderReader

            if video == "":
                raise DataError("an empty name was given; a video is a path, an address, or frames.")
            template, start = self.spec.filename_tmpl, self.spec.start_index
            try:
                return FrameFolderReader(
                    video, template=template, modality="flow" if flow else "rgb", start_index=start
                )
            except DataError:
                if found := next((p for p in Path(video).rglob("*") if is_video(p.name)), None):
                    raise DataError(
                        f"{video} is a folder of videos ({found.relative_to(video)}, …), not of frames; give them as a list of paths."
                    ) from None
                raise
        return self.spec.open_video(video)

    def _cut(self, reader: VideoReader, source: str) -> tuple[np.ndarray, Prediction]:
        frames, _ = self.spec.read(reader, np.random.default_rng(0))
        return frames, Prediction(source, np.empty(0, np.float32), self.classes, reader.duration_s, reader.num_frames)

    def __repr__(self) -> str:
        names = f" ({', '.join(self.classes[:3])}{', …' if len(self.classes) > 3 else ''})" if self.classes else ""
        count = len(self.classes or ()) or self.passport.model_args.get("num_classes", "?")
        return f"Predictor({self.passport.model}, {count} classes{names}, {self.device})"

    def logits(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 (B, V, T, H, W, C) -> (B, V, num_classes) on the model's device."""
        return score_clip(self.model, frames.to(self.device), self.spec, max_views=self.max_views, amp=self.amp)

    def score(self, frames: torch.Tensor) -> np.ndarray:
        """uint8 (B, V, T, H, W, C) -> (B, num_classes)."""
        logits = self.logits(frames)
        mode = "prob" if self.average == "none" else self.average
        together = getattr(self.model, "views_before_softmax", False)
        scores = average_views(logits, mode, self.activation, together).cpu().numpy()
        check_finite(scores, self.passport.model)
        return scores


def named_outputs(passport: Passport) -> list[str] | None:
    """The class names; outputs beyond them (0.1 trained such networks) are called by their numbers."""
    names, count = passport.classes, passport.model_args.get("num_classes")
    if not names or not isinstance(count, int) or len(names) >= count:
        return names
    return [*names, *map(str, range(len(names), count))]


def load(
    checkpoint: str | Path,
    device: str | None = None,
    *,
    amp: str = "no",
    max_views: int | None = None,
    trust: bool = False,
    model: torch.nn.Module | None = None,
) -> Predictor:
    """A predictor from a checkpoint, or from a name in the zoo.

    >>> predictor = clipwise.load("runs/mine/best.safetensors")
    >>> predictor("video.mp4").top(3)

    ``trust=True`` allows to import a model that does not come with clipwise; ``model`` is the network of a checkpoint whose training got
    it as an object.

    Raises:
        CheckpointError: the file can't be used.
    """
    place = pick_device(device)
    with trusting(trust):
        if not (Path(checkpoint).suffix == ".safetensors" and Path(checkpoint).is_file()):
            from clipwise.engine import pretrained

            checkpoint = pretrained.resolve(checkpoint)
        network, passport = load_model_and_passport(checkpoint, place, model=model)
    return Predictor(network, passport, device=place, amp=amp, max_views=max_views)
