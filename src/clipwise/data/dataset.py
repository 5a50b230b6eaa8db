"""The videos of a list as samples for training and evaluation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.videolist import VideoList
from clipwise.errors import ClipwiseWarning, DataError
from clipwise.video.decode import VideoReader


class ClipDataset(Dataset[dict[str, Any]]):
    """Videos of a list as uint8 clips.

    Training keys are (epoch, index), from which all of a sample's random numbers come; a plain index belongs to the epoch
    given to ``set_epoch``. A training video that can't be decoded is tried twice, then another one is drawn in its place and its name is
    reported; in evaluation it is never replaced: the sample says what went wrong.
    """

    MAX_SUBSTITUTES = 8

    def __init__(self, videos: VideoList, spec: ClipSpec, seed: int = 0):
        self.videos, self.spec, self.seed = videos, spec, seed
        self.epoch = 0

    def __repr__(self) -> str:
        return f"ClipDataset({len(self)} videos of {self.videos.root or 'the current folder'!r}, {self.spec.mode})"

    def set_epoch(self, epoch: int) -> None:
        """The epoch of plain indices in training, which decides the crops. Call it before a loader's workers start."""
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
            return {"frames": torch.as_tensor(frames), "label": target}, None
        raise AssertionError("unreachable")
