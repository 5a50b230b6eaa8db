"""Auxiliary training sources beside the main list (OmniSource, Duan et al. 2020).

Every ``every``-th step on the main list is followed by one whole step on a batch of the source: web images repeated
to clips, positive parts of untrimmed videos, another data set. The schedule moves with the main list alone.

Source: MMAction2's OmniSourceRunner and OmniSourceDistSamplerSeedHook, by behavior.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.lists import read_part
from clipwise.data.loader import EpochSampler, make_loader, prefetch
from clipwise.engine.soft_labels import read_soft_labels
from clipwise.errors import DataError
from clipwise.io.text import plural
from clipwise.recipe import RecognitionRecipe, Source


class SourceStream:
    """Endless batches of one source; where it stands follows from how many were taken before."""

    def __init__(
        self,
        source: Source,
        number: int,
        recipe: RecognitionRecipe,
        accelerator: Accelerator,
        spec: ClipSpec,
        classes,
        num_classes: int,
    ):
        formats = {"image": "image", "untrimmed": "untrimmed", "rawframes": "rawframes", "video": source.list_format}
        list_format = source.list_format if source.list_format != "auto" else formats[source.kind]
        self.source, self.number, self.device = source, number, accelerator.device
        keys = {"data_root": source.data_root, "multi_label": recipe.multi_label, "lists": {"format": list_format}}
        self.videos = read_part(source.data, keys, "train", classes=classes, num_classes=num_classes)
        if self.videos.num_classes is not None and self.videos.num_classes > num_classes:
            raise DataError(
                f"source {source.name}: {source.data} has {plural(self.videos.num_classes, 'class', 'classes')}, the model {plural(num_classes, 'output')}."
            )
        self.soft = read_soft_labels(source.soft_labels, self.videos, num_classes) if source.soft_labels else None
        seed = recipe.seed + 1000 * (number + 1)  # the sources draw from lists of like order: their seeds must differ
        self.sampler = EpochSampler(
            len(self.videos),
            source.batch_size or recipe.batch_size,
            seed=seed,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            labels=self.videos.labels if source.class_power is not None else None,
            class_power=source.class_power,
        )
        dataset = ClipDataset(self.videos, spec, seed)
        pinned = self.device.type != "cpu"
        self.loader = make_loader(
            dataset, batch_sampler=self.sampler, num_workers=min(recipe.num_workers, 1), pin_memory=pinned
        )
        self.batches: Iterator[dict[str, Any]] | None = None
        self.taken = 0

    def due(self, main_batch: int) -> bool:
        """Whether a batch follows the main list's 0-based batch (counted from the run's start)."""
        return main_batch % self.source.every == 0

    def next(self, main_batch: int) -> dict[str, Any]:
        """The batch that follows a main batch; after a restart the stream finds its place by itself."""
        visit = main_batch // self.source.every
        if self.batches is None or visit != self.taken:
            self.batches, self.taken = self._from(visit), visit
        self.taken += 1
        return next(self.batches)

    def _from(self, visit: int) -> Iterator[dict[str, torch.Tensor]]:
        epoch, start = divmod(visit, len(self.sampler))
        while True:
            self.sampler.set_position(epoch, start)
            yield from prefetch(self.loader, self.device)
            epoch, start = epoch + 1, 0
