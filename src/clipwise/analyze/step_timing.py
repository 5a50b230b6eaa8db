"""The training loop's own steps, with marks of time between their parts.

On an accelerator a mark is an event in the device's queue, so nothing waits for it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from clipwise.analyze.measure import synchronize
from clipwise.data.loader import to_device
from clipwise.engine.device import from_first
from clipwise.engine.train import Run


class Marks:
    """Times between the parts of steps: of the device's queue where it has one, else of the clock."""

    PARTS = ("forward", "backward", "optimizer")

    def __init__(self, device: torch.device):
        self.device = device
        self.clear()

    def clear(self) -> None:
        self.times: list[tuple[str, Any]] = []
        self.waits: list[float] = []

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def mark(self, name: str) -> None:
        if self.device.type == "cpu":
            self.times.append((name, time.perf_counter()))
            return
        event = torch.Event(device=self.device.type, enable_timing=True)
        event.record()
        self.times.append((name, event))

    @contextmanager
    def around(self, run: Run) -> Iterator[None]:
        """Let the run's own loss, backward pass and optimizer step leave a mark behind them."""
        places = (
            (run.task, "loss", "forward"),
            (run.accelerator, "backward", "backward"),
            (run.network, "step", "optimizer"),
        )
        originals = [getattr(owner, attribute) for owner, attribute, _ in places]

        def marked(call: Any, name: str) -> Any:
            def method(*args: Any, **kwargs: Any) -> Any:
                result = call(*args, **kwargs)
                self.mark(name)
                return result

            return method

        for (owner, attribute, name), call in zip(places, originals):
            setattr(owner, attribute, marked(call, name))
        try:
            yield
        finally:
            for owner, attribute, _ in places:
                delattr(owner, attribute)

    def milliseconds(self) -> dict[str, float]:
        """Means over the steps; the device must be idle."""
        sums = dict.fromkeys(self.PARTS, 0.0)
        for (_, before), (name, after) in itertools.pairwise(self.times):
            if name in sums:
                sums[name] += 1000 * (after - before) if self.device.type == "cpu" else before.elapsed_time(after)
        steps = max(len(self.waits), 1)
        return {"data": 1000 * sum(self.waits) / steps, **{name: total / steps for name, total in sums.items()}}


WARM_UP_S = 20.0
"""How long at most workers get to reach their own pace."""


def warm_up(run: Run, batches: Iterator[dict[str, Any]], marks: Marks, steps: int) -> None:
    """So many steps, of which the first compiles and tries kernels out; fewer if they take long."""
    began = time.perf_counter()
    for _ in range(steps):
        take_steps(run, batches, marks, 1)
        if not from_first(time.perf_counter() - began < WARM_UP_S):
            return


def take_steps(run: Run, batches: Iterator[dict[str, Any]], marks: Marks, count: int) -> float:
    """Take so many steps; seconds of one. The device is idle before and after."""
    synchronize(run.accelerator.device)
    began = time.perf_counter()
    for _ in range(count):
        asked = time.perf_counter()
        batch = next(batches)
        marks.waited(time.perf_counter() - asked)
        run.schedule.set(run.network.optimizer, run.step)
        marks.mark("start")
        run.learn(batch, (0, run.step), 1, True)  # looks at the loss before: the clock is not far ahead of the device
        run.step += 1
    synchronize(run.accelerator.device)
    return (time.perf_counter() - began) / count


def copy_ms(batches: Iterator[dict[str, Any]], device: torch.device, runs: int = 10) -> float:
    """Milliseconds of copying one batch from pinned memory, alone."""
    batch = {k: v.cpu().pin_memory() for k, v in next(batches).items() if isinstance(v, torch.Tensor)}
    to_device(batch, device)
    synchronize(device)
    began = time.perf_counter()
    for _ in range(runs):
        to_device(batch, device)
    synchronize(device)
    return 1000 * (time.perf_counter() - began) / runs
