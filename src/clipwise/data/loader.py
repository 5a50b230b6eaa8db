"""Batches for the training loop: an order that can resume anywhere, workers, and copies that run ahead.

The order is a pure function of (seed, epoch), cut into global batches first and then among processes, so the
same global batch gives the same order on one process or many, and a run can resume at any batch. Random
numbers of a sample come from (seed, epoch, index): neither the number of workers nor a restart changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Yields this process's batches of (epoch, index) keys, from any position of an epoch on.

    Args:
        num_samples: size of the training list.
        batch_size: samples of one process and batch.
        seed: seed of the order.
        rank, world: this process, and how many there are.
        drop_last: leave out the last, smaller global batch. Otherwise it is filled up from the epoch's start,
            so that all processes take the same number of steps.
        labels, class_power: draw with replacement, class probability proportional to (its share)^class_power
            (MMAction2's ClassSpecificDistributedSampler).
        shards: for each sample the number of its shard: a few random shards at a time are shuffled together, so that
            reading stays within them.
    """

    SHARDS_AT_ONCE = 8

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        labels: np.ndarray | None = None,
        class_power: float | None = None,
        shards: np.ndarray | None = None,
    ):
        self.shards = shards
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.rank, self.world, self.drop_last = rank, world, drop_last
        self.epoch, self.start = 0, 0
        self.probabilities = None
        if class_power is not None and labels is not None:
            counts = np.bincount(labels)
            share = counts / counts.sum()
            of_class = np.where(counts > 0, share**class_power, 0.0)
            each = (of_class / of_class.sum() / np.maximum(counts, 1))[labels]
            self.probabilities = each / each.sum()

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """The next iteration gives this epoch's batches from ``batch`` on."""
        self.epoch, self.start = epoch, batch

    def order(self, epoch: int) -> np.ndarray:
        """The epoch's order of indices, before it is cut into batches."""
        rng = np.random.default_rng((self.seed, epoch))
        if self.probabilities is not None:
            return rng.choice(self.num_samples, self.num_samples, p=self.probabilities)
        if self.shards is not None:
            rank_of = rng.permutation(int(self.shards.max()) + 1)[self.shards] // self.SHARDS_AT_ONCE
            return np.lexsort((rng.random(self.num_samples), rank_of))
        return rng.permutation(self.num_samples)

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        whole = self.batch_size * self.world
        return max(self.num_samples // whole, 1) if self.drop_last else -(-self.num_samples // whole)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self.order(self.epoch)
        whole = self.batch_size * self.world
        # The smallest filling gives every process as many samples as the others, and at least one.
        tail = self.num_samples % whole
        filling = 0 if self.drop_last and self.num_samples >= whole else -tail % self.world
        order = np.concatenate([order, np.resize(order, filling)]) if filling else order
        for batch in range(self.start, len(self)):
            part = order[batch * whole : (batch + 1) * whole]
            yield [(self.epoch, int(i)) for i in part[self.rank :: self.world]]


class ShardSampler(Sampler[int]):
    """Every ``world``-th index from ``rank`` on: each sample exactly once over all processes, for evaluation."""

    def __init__(self, num_samples: int, rank: int = 0, world: int = 1):
        self.indices = range(rank, num_samples, world)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack the tensors of samples; everything else becomes a list."""
    batch: dict[str, Any] = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        same = all(isinstance(v, torch.Tensor) and v.shape == values[0].shape for v in values)
        batch[key] = torch.stack(values) if same else values
    return batch


def make_loader(
    dataset: Dataset,
    *,
    batch_sampler: Sampler | None = None,
    sampler: Sampler | list[int] | None = None,
    batch_size: int = 1,
    num_workers: int = 2,
    pin_memory: bool = False,
    collate_fn: Callable = collate,
    persistent: bool = True,
) -> DataLoader:
    """A DataLoader for training (``batch_sampler``) or evaluation (``sampler`` and ``batch_size``)."""
    start: Callable | None = None
    if num_workers:
        from clipwise.data.worker import start_worker as start
    common: dict[str, Any] = dict(
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=collate_fn,
        worker_init_fn=start,
        persistent_workers=persistent and num_workers > 0 and batch_sampler is not None,
        prefetch_factor=3 if num_workers else None,
        # A generator of its own: making an iterator would else draw from the run's random numbers, and a resumed
        # run makes one where the undisturbed run does not.
        generator=torch.Generator(),
    )
    if batch_sampler is not None:
        return DataLoader(dataset, batch_sampler=batch_sampler, **common)
    return DataLoader(dataset, sampler=sampler, batch_size=batch_size, **common)


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Copy a batch's tensors; from pinned memory without waiting for it."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def prefetch(loader: Any, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield batches on the device. Where it has streams, a batch is copied while the one before is computed with."""
    move: Callable[[dict[str, Any]], dict[str, Any]] = partial(to_device, device=device)
    if device.type != "cpu" and hasattr(streams := torch.get_device_module(device), "current_stream"):
        from clipwise.data.side_stream import SideStream

        move = SideStream(device, move, streams).copy
    try:
        yield from map(move, loader)
    except Exception as error:
        from clipwise.data.worker import without_workers

        raise without_workers(error, getattr(loader, "num_workers", 0) > 0) from None
