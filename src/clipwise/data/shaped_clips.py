"""Batches of clips whose shape changes during a run (``multigrid.shapes``), and several clips of a decoded video (``augment.repeat``).

The training list is one endless stream of videos, pass after pass, each in an order of its own. Which part of it a batch takes, and in
which shape, follows from the batch's number in the run: a run resumes at any batch, at a change of shape too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.loader import EpochSampler, collate
from clipwise.errors import DataError
from clipwise.recipe.clip_shapes import ClipShape, ShapeStage
from clipwise.video.views import read_views

Key = tuple[int, int, int, int]


class ShapeSchedule:
    """The stages of a run, in steps."""

    def __init__(self, stages: Sequence[ShapeStage], steps: int):
        self.stages, self.steps = list(stages), steps
        self.starts = np.array([round(stage.start * steps) for stage in stages])

    def stage_at(self, step: int) -> int:
        """Number of the stage at a 0-based step."""
        return int(np.searchsorted(self.starts, step, side="right")) - 1

    def at(self, step: int) -> tuple[int, int]:
        """Stage, and shape within it."""
        stage = self.stage_at(step)
        return stage, step % len(self.stages[stage].shapes)

    def batch_factors(self) -> np.ndarray:
        """(steps,) factors of the batch size."""
        steps = np.arange(self.steps)
        of_stage = np.searchsorted(self.starts, steps, side="right") - 1
        factors = np.empty(self.steps, np.int64)
        for number, stage in enumerate(self.stages):
            mine = of_stage == number
            factors[mine] = np.array([s.batch for s in stage.shapes])[steps[mine] % len(stage.shapes)]
        return factors


class ShapedSampler(EpochSampler):
    """Yields this process's batches of (pass, index, stage, shape) keys.

    Args:
        base: gives list size, order, batch size and processes.
        batches: of an epoch.
        accumulate: batches of a step, which have one shape.
        repeat: clips of a video.
    """

    def __init__(self, base: EpochSampler, schedule: ShapeSchedule, *, batches: int, accumulate: int, repeat: int):
        self.__dict__.update(base.__dict__)
        self.whole_clips = base  # for whoever wants the list in the recipe's own shape
        self.schedule, self.batches, self.accumulate, self.repeat = schedule, batches, accumulate, repeat

    def __len__(self) -> int:
        return self.batches

    @cached_property
    def offsets(self) -> np.ndarray:
        """(batches of the run,) videos taken before each, by all processes."""
        videos = self.batch_size * self.world // self.repeat * self.schedule.batch_factors().repeat(self.accumulate)
        return np.concatenate([[0], np.cumsum(videos)])

    def __iter__(self) -> Iterator[list[Key]]:  # type: ignore[override]
        order = lru_cache(2)(self.order)
        for batch in range(self.start, self.batches):
            position = self.epoch * self.batches + batch
            stage, shape = self.schedule.at(position // self.accumulate)
            first, end = self.offsets[position : position + 2].tolist()
            places = (divmod(n, self.num_samples) for n in range(first + self.rank, end, self.world))
            yield [(turn, int(order(turn)[place]), stage, shape) for turn, place in places]


class ShapedDataset(ClipDataset):
    """Clips in the shape that their key names; a list of ``repeat`` samples for each such key."""

    def __init__(self, base: ClipDataset, stages: Sequence[ShapeStage], repeat: int):
        super().__init__(base.videos, base.spec, base.seed)
        self.whole, self.stages, self.repeat = base.spec, stages, repeat

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, tuple) or len(key) == 2:  # in the recipe's own shape
            self.spec, self.views = self.whole, 1
            return super().__getitem__(key)
        turn, index, stage, shape = key
        self.spec, self.views = self._spec(self.stages[stage].shapes[shape], turn, index), self.repeat
        sample = super().__getitem__((turn, index))
        views = sample.pop("views", [{}])
        return [{**sample, **view, "failed": sample["failed"] if n == 0 else []} for n, view in enumerate(views)]

    def _spec(self, shape: ClipShape, turn: int, index: int) -> ClipSpec:
        spec = shaped_spec(self.whole, shape)
        if spec.num_segments or spec.clip_len == self.whole.clip_len:
            return spec
        # Fewer frames lie as far apart as the whole clip's, or further, up to its span (random strides).
        rng = np.random.default_rng((self.seed, turn, index, 1))
        furthest = spec.frame_interval * self.whole.clip_len // spec.clip_len
        return replace(spec, frame_interval=int(rng.integers(spec.frame_interval, furthest + 1)))

    def _try(self, index: int, rng: np.random.Generator, attempts: int = 1) -> tuple[dict[str, Any] | None, str | None]:
        if self.views == 1:
            return super()._try(index, rng, attempts)
        spec, label = self.spec, self.videos.label(index)
        for attempt in range(attempts):
            try:
                with self._open(index, rng) as reader:
                    pickled = getattr(reader, "pickled", False)
                    clips = [
                        spec.indices(reader.num_frames, rng, reader.fps, pickled=pickled) for _ in range(self.views)
                    ]
                    plans = [spec.transform.draw(reader.height, reader.width, rng) for _ in clips]
                    frames = read_views(reader, [c.ravel() for c in clips], [p.apply for p in plans])
            except (DataError, OSError, MemoryError) as error:
                if attempt + 1 == attempts:
                    return None, str(error) or type(error).__name__
                continue
            views = []
            for clip, plan, pixels in zip(clips, plans, frames):
                target = label
                if plan.flipped and spec.flip_label_map:
                    from clipwise.data.flip_labels import flip_label

                    target = flip_label(label, spec.flip_label_map)  # type: ignore[type-var]
                given = torch.tensor(-1) if target is None else torch.as_tensor(target)
                views.append({"frames": torch.from_numpy(spec.to_views(pixels, clip.shape)), "label": given})
            return {"views": views}, None
        raise AssertionError("unreachable")


@lru_cache(64)
def shaped_spec(spec: ClipSpec, shape: ClipShape) -> ClipSpec:
    """A recipe's training clips in another shape, of the same part of the frame."""
    transform, (width, height) = spec.transform, shape.size
    full = transform.crop_size
    full_width, full_height = full if isinstance(full, tuple) else (full, full)
    size = width if isinstance(full, int) and width == height else (width, height)
    resize = transform.resize
    if transform.crop in ("random", "center") and (width, height) != (full_width, full_height):
        # boxes of these crops are cut at their size from the resized frame; the other crops draw a share of it
        if isinstance(resize, int):
            resize = max(round(resize * max(width / full_width, height / full_height)), width, height)  # type: ignore[operator]
        elif resize is not None:
            resize = (
                max(round(resize[0] * width / full_width), width),  # type: ignore[operator]
                max(round(resize[1] * height / full_height), height),  # type: ignore[operator]
            )
    frames = {"num_segments": shape.frames} if spec.num_segments else {"clip_len": shape.frames}
    return replace(spec, transform=replace(transform, crop_size=size, resize=resize), **frames)  # type: ignore[arg-type]


def collate_views(samples: Iterable[list[dict[str, Any]]]) -> dict[str, Any]:
    """Batches of lists of samples, as of the samples."""
    return collate(list(chain.from_iterable(samples)))
