"""``clipwise.transforms_for``: from frames to what a model takes, with the sampling and the pixels of its recipe."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import nn

from clipwise.data.augment import BatchAugment
from clipwise.data.clip_spec import ClipSpec
from clipwise.data.transforms import normalize_clips
from clipwise.errors import ClipwiseError, DataError
from clipwise.recipe import Recipe, load_recipe
from clipwise.video.decode import VideoReader, open_video


class FrameTransform:
    """uint8 frames (T, H, W, C) of one video -> float32 (V, C, T', H', W'), which the model takes as a batch of V views.

    Args:
        spec: how clips are cut.
        augment: color changes and erasing of training; mixing, which needs a batch, is left out.
        sample: choose frames from the whole video, as the recipe says; False takes all frames as they come: they are the clip.
    """

    def __init__(self, spec: ClipSpec, augment: BatchAugment | None = None, sample: bool = True):
        self.spec, self.augment, self.sample = spec, augment, sample

    def __call__(self, frames: Any, rng: np.random.Generator | None = None) -> torch.Tensor:
        """Cut, resize and normalize.

        Args:
            frames: uint8 array or tensor (T, H, W, C), or an open reader.
            rng: random numbers of training; drawn from the operating system if not given.

        Raises:
            DataError: not uint8, or of another shape.
        """
        rng = rng or np.random.default_rng(None if self.spec.mode == "train" else 0)
        reader = frames if isinstance(frames, VideoReader) else open_video(self._array(frames))
        if self.sample:
            views, _ = self.spec.read(reader, rng)
        else:
            plan = self.spec.transform.draw(reader.height, reader.width, rng)
            every = reader.frames(range(reader.num_frames), transform=plan.apply)  # (T, crops, h, w, C)
            views = np.ascontiguousarray(every.swapaxes(0, 1))
        pixels = torch.from_numpy(views)
        if self.augment is None:
            return normalize_clips(pixels, self.spec.mean, self.spec.std)
        clips = normalize_clips(self.augment.pixels(pixels, rng), self.spec.mean, self.spec.std)
        return self.augment.blend(clips, torch.zeros(len(clips), dtype=torch.int64), rng)[0]

    def __repr__(self) -> str:
        shape = self.spec.transform
        frames = self.spec.num_segments or self.spec.clip_len
        return (
            f"FrameTransform({self.spec.mode}: {frames if self.sample else 'all'} frames, resize {shape.resize}, {shape.crop} crop "
            f"{shape.crop_size}, mean {list(self.spec.mean)}, std {list(self.spec.std)})"
        )

    @staticmethod
    def _array(frames: Any) -> np.ndarray:
        array = frames.detach().cpu().numpy() if isinstance(frames, torch.Tensor) else np.asarray(frames)
        if array.ndim != 4 or array.dtype != np.uint8:
            given = repr(frames) if isinstance(frames, (str, os.PathLike)) else f"{array.dtype} {array.shape}"
            raise DataError(
                f"frames are {given}; a transform takes uint8 (T, H, W, C), RGB: clipwise.open_video(path)[:]."
            )
        return array


def transforms_for(
    model: nn.Module | str | Any, train: bool = False, *, recipe: Recipe | str | None = None, sample: bool = True
) -> FrameTransform:
    """What turns the frames of a video into a model's input; at test the same pixels as ``Predictor`` and ``clipwise test``.

    >>> model = clipwise.create_model("tsm_r50", pretrained=True)
    >>> views = clipwise.transforms_for(model)(frames)  # uint8 (T, H, W, 3) -> (V, 3, 8, 224, 224)
    >>> model(views).softmax(1).mean(0)

    Args:
        model: made by ``create_model`` or ``load_model``; a ``Predictor``; or a name of ``list_models(pretrained=True)``.
        train: random crops, mirroring and colors of training.
        recipe: instead of the model's own, needed where it has none.
        sample: choose frames from the whole video; False: the frames are the clip.

    Raises:
        ClipwiseError: nothing says how the model's input has to look.
    """
    if isinstance(recipe, str):
        recipe = load_recipe(recipe)
    if recipe is not None:
        values = recipe.model_dump()
    elif isinstance(model, str):
        from clipwise.engine.model_factory import pretrained_recipe

        values = pretrained_recipe(model)
    else:
        values = getattr(getattr(model, "passport", None), "recipe", None) or {}
    if not values or values.get("task", "recognition") != "recognition":
        raise ClipwiseError(
            f"{model if isinstance(model, str) else type(model).__name__} has no recipe of a recognizer, so its preprocessing is unknown. "
            "Give recipe=, for instance recipe='tsm_tiny'; clipwise.list_recipes() has the names."
        )
    augment = None
    more = values["augment"]
    if train and (more["color_jitter"] or more["randaugment"] or more["random_erasing"]):
        augment = BatchAugment(
            color_jitter=more["color_jitter"],
            rand_augment=more["randaugment"],
            random_erasing=more["random_erasing"],
        )
    return FrameTransform(ClipSpec.from_recipe(values, "train" if train else "test"), augment, sample)
