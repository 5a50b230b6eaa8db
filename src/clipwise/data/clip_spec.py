"""How a clip is cut from a video: which frames, as which pixels.

A ``ClipSpec`` comes from the recipe's keys (or the same keys in a checkpoint's passport), so training, validation, test and
prediction differ in nothing but its ``mode``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from clipwise.data.sampling import DENSE_WINDOWS, OutOfBound, Rule, sample_frames
from clipwise.data.transforms import ClipPlan, ClipTransform, normalize_clips
from clipwise.errors import DecodeError, RecipeError
from clipwise.video.decode import VideoReader, open_video

Mode = Literal["train", "val", "test"]

MAX_FRAMES = 2**20
"""Of all views of a video; a stranger's checkpoint that asks for a billion would occupy the machine."""


@dataclass(frozen=True)
class ClipSpec:
    """How a sample is cut from a video."""

    mode: Mode
    modality: str
    sampling: Literal["uniform", "dense", "paddle"]
    clip_len: int
    frame_interval: int
    num_segments: int | None
    num_clips: int
    twice_sample: bool
    keep_tail_frames: bool
    out_of_bound: OutOfBound
    target_fps: float | None
    test_rule: Rule
    mean: tuple[float, ...]
    std: tuple[float, ...]
    transform: ClipTransform
    filename_tmpl: str | None
    start_index: int
    decode_timeout_s: float | None
    flip_label_map: Mapping[int, int] | str | None = None
    temporal_jitter: bool = False
    video_backend: Literal["pyav", "torchcodec"] = "pyav"
    decode_device: str | None = None

    @classmethod
    def from_recipe(cls, recipe: Any, mode: Mode = "train") -> ClipSpec:
        """Read the keys of a recognition recipe (or of a dictionary with every key) for one of its three uses."""
        recipe = recipe if isinstance(recipe, Mapping) else recipe.model_dump()
        train = mode == "train"
        augment, test, given = recipe["augment"], recipe["test"], recipe["input"]
        pixels = augment if train else recipe[mode]
        # Dense sampling is validated as it is tested: windows over the whole video, as MMAction2's pipelines have it.
        tested = mode == "test" or (mode == "val" and recipe["sampling"] == "dense")
        segments = recipe["num_segments"]
        if segments and tested:
            segments = test["num_segments"] or segments
        num_clips = test["num_clips"] if mode == "test" else 1
        if segments and tested and mode == "val":
            num_clips = DENSE_WINDOWS
        if (segments or 1) * recipe["clip_len"] * num_clips > MAX_FRAMES:  # a stranger's passport; recipes have limits
            raise RecipeError(
                f"{num_clips} clips of {segments or 1} x {recipe['clip_len']} frames: a video's views have at most {MAX_FRAMES:,} frames. "
                "Set num_segments, clip_len or test.num_clips."
            )
        transform = ClipTransform(
            resize=_size(pixels["resize"]),
            resize_rule=None if given["resize_rule"] == "short_side" else given["resize_rule"],
            crop=pixels["crop"],
            crop_size=_size(recipe["crop_size"] if train else pixels["crop_size"]),
            area_range=tuple(augment["crop_area"]),
            aspect_range=tuple(augment["crop_ratio"]),
            scales=tuple(augment["crop_scales"]),
            num_fixed_crops=augment["num_fixed_crops"],
            max_scale_gap=augment["max_scale_gap"],
            flip_prob=augment["flip"] if train else 0.0,
            modality=recipe["modality"],
            interpolation=given["interpolation"],
            fused=given["fused_resize"],
        )
        same = ("keep_tail_frames", "out_of_bound", "target_fps", "filename_tmpl", "start_index", "decode_timeout_s")
        return cls(
            mode=mode,
            num_segments=segments,
            num_clips=num_clips,
            twice_sample=test["twice_sample"] and mode == "test",
            test_rule=test["rule"],
            mean=tuple(given["mean"]),
            std=tuple(given["std"]),
            transform=transform,
            flip_label_map=augment["flip_label_map"] if train else None,
            # keys that passports of 0.1 do not have
            temporal_jitter=train and given.get("temporal_jitter", False),
            video_backend=given.get("video_backend", "pyav"),
            **{key: recipe[key] for key in ("sampling", "clip_len", "frame_interval", "modality")},
            **{key: given[key] for key in same},
        )

    @property
    def view_shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, C) of one view that :meth:`read` gives, whatever the video's size."""
        size = self.transform.crop_size
        if size is None:
            raise RecipeError("the recipe crops nothing, so the size of its clips depends on the video.")
        width, height = (size, size) if isinstance(size, int) else size
        channels = 3 if self.modality == "rgb" else 2
        if self.num_segments:
            return self.num_segments, height, width, channels * self.clip_len
        return self.clip_len, height, width, channels

    def normalize(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 (B, V, T, H, W, C) -> what a model takes, float32 (B·V, C, T, H, W), on the device of ``frames``."""
        return normalize_clips(frames.flatten(0, 1), self.mean, self.std)

    def open_video(self, source: Any) -> VideoReader:
        """Open a video file as the recipe says.

        Raises:
            DecodeError: it can't be opened.
            MissingExtraError: the recipe's decoder is not installed.
        """
        return open_video(
            source, backend=self.video_backend, timeout_s=self.decode_timeout_s, device=self.decode_device
        )

    def indices(
        self, num_frames: int, rng: np.random.Generator, fps: float | None = None, pickled: bool = False
    ) -> np.ndarray:
        """Frame numbers, 0-based: (clips or segments, clip_len). ``pickled``: Paddle's reader of pickles centers otherwise."""
        mode: Literal["train", "test"] = "train" if self.mode == "train" else "test"
        count = self.num_segments or self.num_clips
        if self.sampling != "uniform":
            from clipwise.data.sampling_variants import sample_by_name

            return sample_by_name(self, num_frames, count, mode, rng, pickled)
        return sample_frames(
            num_frames,
            clip_len=self.clip_len,
            frame_interval=self.frame_interval,
            num_clips=count,
            mode=mode,
            rule=self.test_rule,
            twice_sample=self.twice_sample,
            keep_tail_frames=self.keep_tail_frames,
            temporal_jitter=self.temporal_jitter,
            out_of_bound=self.out_of_bound,
            target_fps=self.target_fps,
            fps=fps if self.target_fps else None,
            rng=rng,
        )

    def read(self, reader: VideoReader, rng: np.random.Generator) -> tuple[np.ndarray, ClipPlan]:
        """Cut a sample from an open video.

        Returns:
            uint8 (V, T, H, W, C), V = crops x clips with the crops outermost, and the clip's geometry.
            T = segments for TSN and TSM, whose clip_len frames lie in C (x0 y0 x1 y1 … for flow).
        """
        if self.decode_device and hasattr(reader, "frames_there"):
            from clipwise.data.device_clips import read_there

            return read_there(self, reader, rng)  # type: ignore[return-value]
        pickled, promised = getattr(reader, "pickled", False), reader.num_frames
        clips = self.indices(promised, rng, reader.fps, pickled=pickled)
        plan = self.transform.draw(reader.height, reader.width, rng)
        try:
            frames = reader.frames(clips.ravel(), transform=plan.apply)  # (clips·clip_len, crops, h, w, C)
        except DecodeError:
            # Decoding may show that the file holds fewer frames than its packets promised. A training video is tried again anyway.
            if self.mode == "train" or not 0 < reader.num_frames < promised:
                raise
            clips = self.indices(reader.num_frames, rng, reader.fps, pickled=pickled)
            frames = reader.frames(clips.ravel(), transform=plan.apply)
        return self.to_views(frames, clips.shape), plan

    def to_views(self, frames: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Transformed frames in the order of :meth:`indices` -> views as :meth:`read` returns them.

        Args:
            frames: (clips·clip_len, crops, h, w, C).
            shape: of the indices, (clips or segments, clip_len).
        """
        _, crops, h, w, channels = frames.shape
        frames = frames.reshape(*shape, crops, h, w, channels)
        if not self.num_segments:
            frames = frames.transpose(2, 0, 1, 3, 4, 5).reshape(-1, self.clip_len, h, w, channels)
        else:  # (clips, L, crops, h, w, C) -> (crops, clips / S, S, h, w, L·C)
            frames = frames.transpose(2, 0, 3, 4, 1, 5).reshape(-1, self.num_segments, h, w, self.clip_len * channels)
        return np.ascontiguousarray(frames)


def _size(size: int | Sequence[int] | None) -> int | tuple[int, int] | None:
    return tuple(size) if isinstance(size, Sequence) else size  # type: ignore[return-value]
