"""Samples: which frames of which video, as which pixels.

``ClipSpec`` is built from the recipe's keys (or from the same keys in a checkpoint's passport), so training,
validation, test and prediction differ in nothing but its ``mode``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from clipwise.data.lists import VideoList
from clipwise.data.sampling import OutOfBound, Rule, sample_frames
from clipwise.data.transforms import ClipPlan, ClipTransform, normalize_clips
from clipwise.errors import ClipwiseWarning, DataError, DecodeError, RecipeError
from clipwise.video.decode import VideoReader, open_video

Mode = Literal["train", "val", "test"]


DENSE_WINDOWS = 10  # in a test with dense sampling: MMAction2's num_sample_positions


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
        return open_video(source, backend=self.video_backend, timeout_s=self.decode_timeout_s)

    def indices(
        self, num_frames: int, rng: np.random.Generator, fps: float | None = None, pickled: bool = False
    ) -> np.ndarray:
        """Frame numbers, 0-based: (clips or segments, clip_len). ``pickled``: Paddle's reader of pickles centers otherwise."""
        mode: Literal["train", "test"] = "train" if self.mode == "train" else "test"
        count = self.num_segments or self.num_clips
        if self.sampling == "dense":
            from clipwise.data.sampling_variants import dense_sample_frames

            return dense_sample_frames(
                num_frames,
                clip_len=self.clip_len,
                frame_interval=self.frame_interval,
                num_clips=count,
                num_sample_positions=self.num_clips if self.num_segments else DENSE_WINDOWS,
                mode=mode,
                out_of_bound=self.out_of_bound,
                rng=rng,
            )
        if self.sampling == "paddle":
            from clipwise.data.sampling_variants import paddle_sample_frames

            source: Literal["pkl", "mp4"] = "pkl" if pickled else "mp4"
            return paddle_sample_frames(
                num_frames, num_segments=count, segment_len=self.clip_len, mode=mode, source=source, rng=rng
            )
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


class ClipDataset(Dataset):
    """Videos of a list as uint8 clips.

    Training keys are (epoch, index), from which all of a sample's random numbers come; a plain index is one of the epoch that
    ``set_epoch`` told. A training video that can't be decoded is tried twice, then another one is drawn in its place and its name is
    reported; in evaluation it is never replaced: the sample says what went wrong.
    """

    MAX_SUBSTITUTES = 8

    def __init__(self, videos: VideoList, spec: ClipSpec, seed: int = 0):
        self.videos, self.spec, self.seed = videos, spec, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """For plain indices in training: another epoch has other crops. To be told before a loader's workers start."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """A sample: frames uint8 (V, T, H, W, C), label and index; in evaluation ``error``, empty unless it can't be decoded (frames are
        None then); in training with a pair as key ``failed``, pairs of path and reason, which are warnings with a plain index."""
        if not isinstance(key, tuple):
            if self.spec.mode == "train":
                drawn = self[self.epoch, key]
                for _, reason in drawn.pop("failed"):
                    warnings.warn(f"skipped in training: {reason}", ClipwiseWarning, stacklevel=2)
                return drawn
            read, error = self._try(key, np.random.default_rng((self.seed, key)))
            return {**(read or {"frames": None, "label": self.videos.label(key)}), "index": key, "error": error or ""}
        epoch, index = key
        failed: list[tuple[str, str | None]] = []
        for attempt in range(self.MAX_SUBSTITUTES):
            rng = np.random.default_rng((self.seed, epoch, key[1], attempt))
            if attempt:
                index = int(rng.integers(len(self)))
            sample, error = self._try(index, rng, attempts=2)
            if sample is not None:
                return {**sample, "index": index, "failed": failed}
            failed.append((self.videos.path(index), error))
        raise DataError(
            f"{self.MAX_SUBSTITUTES} training videos in a row can't be decoded; the first: {str(failed[0][1]).rstrip('.')}. Run `clipwise check` on the data."
        )

    def _open(self, index: int, rng: np.random.Generator) -> VideoReader:
        spec, videos = self.spec, self.videos
        if videos.kind == "video" and videos.spans_s is None and spec.modality == "rgb":
            return spec.open_video(videos.path(index))
        from clipwise.data.entries import open_entry

        return open_entry(
            videos,
            index,
            modality=spec.modality,
            template=spec.filename_tmpl,
            start_index=spec.start_index,
            open_file=spec.open_video,
            rng=rng if spec.mode == "train" else None,
        )

    def _try(self, index: int, rng: np.random.Generator, attempts: int = 1) -> tuple[dict[str, Any] | None, str | None]:
        label = self.videos.label(index)
        for attempt in range(attempts):
            try:
                with self._open(index, rng) as reader:
                    frames, plan = self.spec.read(reader, rng)
            except (DataError, OSError, MemoryError) as error:
                message = str(error) or type(error).__name__
                if attempt + 1 == attempts:
                    return None, message
                continue
            if plan.flipped and self.spec.flip_label_map:
                from clipwise.data.flip_labels import flip_label

                label = flip_label(label, self.spec.flip_label_map)  # type: ignore[type-var]
            target = torch.tensor(-1) if label is None else torch.as_tensor(label)
            return {"frames": torch.from_numpy(frames), "label": target}, None
        raise AssertionError("unreachable")
