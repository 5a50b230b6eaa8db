"""How fast a recipe trains, and where its time goes: the training loop's own step, on frames that lie on the device, on the
first batches of real files kept in memory, or on real files all the way.

The loop is :class:`clipwise.engine.train.Run`; only marks of time are put around its parts. On an accelerator they are
events in the device's queue, so nothing waits for them.
"""

from __future__ import annotations

import itertools
import json
import math
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from clipwise.analyze.measure import start_memory
from clipwise.analyze.peak import matmul_peak
from clipwise.analyze.step_timing import Marks, copy_ms, take_steps, warm_up
from clipwise.analyze.training_advice import advise, fastest_decoder, reading_gain, waits
from clipwise.data.loader import prefetch, to_device
from clipwise.engine.device import from_first, make_accelerator, peak_memory_mb, seed_everything, world
from clipwise.engine.kernels import choose_kernels
from clipwise.engine.log import RunLog
from clipwise.engine.task import TASKS
from clipwise.engine.train import Run
from clipwise.errors import ClipwiseError, DataError
from clipwise.io.plugins import at_place
from clipwise.io.text import plural
from clipwise.models.cost import training_flops
from clipwise.models.recipe_model import build_model
from clipwise.recipe import Recipe

Source = Literal["device", "cached", "files"]
KEPT_BATCHES = 4
"""Batches of real files that ``cached`` keeps."""


@dataclass
class TrainingSpeed:
    """Training steps of one recipe on one device (with torchrun: on each of several)."""

    source: Source
    clips_per_s: float
    """Median of the repeats, over all processes."""
    repeats: list[float]
    """Clips per second of each."""
    steps: int
    """Of each repeat."""
    batch_size: int
    processes: int
    precision: str
    compile: str
    step_ms: float
    ms: dict[str, float]
    """Milliseconds of a step: data (the loop waits for a batch), forward (with loss and augmentation), backward,
    optimizer; and copy, of one batch to the device, which runs beside the others."""
    gflops_per_clip: float
    """Forward and backward pass; one multiplication with its addition are two."""
    tflops: float
    """Of one device."""
    peak_tflops: float
    """The same device's matrix product in the same precision, measured."""
    memory_mb: int
    device: str
    advice: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def share_of_peak(self) -> float:
        return self.tflops / self.peak_tflops

    @property
    def spread(self) -> float:
        """(largest - smallest) / median of the repeats."""
        return (max(self.repeats) - min(self.repeats)) / self.clips_per_s

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "share_of_peak": self.share_of_peak, "spread": self.spread}


def precision_of(recipe: Recipe, device: torch.device) -> str:
    """Name of what the convolutions compute in."""
    if recipe.amp != "no":
        return recipe.amp
    return "tf32" if recipe.tf32 and device.type == "cuda" else "fp32"


def with_precision(recipe: Recipe, precision: str) -> Recipe:
    """The recipe in ``fp32``, ``tf32``, ``bf16`` or ``fp16``."""
    amp = precision if precision in ("bf16", "fp16") else "no"
    return recipe.model_copy(update={"amp": amp, "tf32": precision == "tf32"})


def measure_training(
    recipe: Recipe,
    *,
    source: Source = "device",
    data: str | None = None,
    device: str | None = None,
    repeats: int = 3,
    min_s: float = 3.0,
    min_steps: int = 5,
    warmup: int = 3,
    peak_tflops: float | None = None,
) -> TrainingSpeed:
    """Time a recipe's training steps.

    Args:
        source: ``device``: one batch of noise on the device; ``cached``: the first batches of the data, in memory;
            ``files``: the run's loader, from the files on.
        data: folder or list; needed but for ``device``.
        device: ``cpu`` to keep off an accelerator.
        repeats, min_s, min_steps: so often so many seconds and steps.
        warmup: steps that are not timed; from files more, until the workers have used up their head start.
        peak_tflops: the device's matrix product, if it was measured before.

    Raises:
        ClipwiseError: no data where there must be some.
    """
    if source != "device" and not data:
        raise ClipwiseError(f"measuring training from {source!r} needs data: a folder or a list.")
    accelerator = make_accelerator(device, recipe)
    place = accelerator.device
    seed_everything(recipe.seed, recipe.deterministic)
    if place.type == "cuda":
        choose_kernels(tf32=recipe.tf32, deterministic=recipe.deterministic)
    with tempfile.TemporaryDirectory(prefix="clipwise-bench-") as name:
        plan = at_place(TASKS[recipe.task]).plan(recipe)
        if not data:
            recipe, data = placeholder_data(recipe, plan, Path(name))
        log = RunLog(None, active=False, quiet=True)
        task = at_place(TASKS[recipe.task])(recipe, accelerator, log, data=data, validate=False)
        recipe = task.recipe
        run = Run(recipe, task, accelerator, log, Path(name), recipe.lr)
        run.network.model.train()
        batches = _batches(run, source, noise=source == "device")
        marks = Marks(place)
        start_memory(place)
        with marks.around(run):
            warm_up(run, batches, marks, max(warmup, 3 * recipe.num_workers) if source == "files" else warmup)
            probe = take_steps(run, batches, marks, min_steps)
            # all processes take the same number of steps: they wait for each other in each of them
            per_repeat = from_first(max(min_steps, math.ceil(min_s / probe)))
            marks.clear()
            step_s = [take_steps(run, batches, marks, per_repeat) for _ in range(repeats)]
            speeds = [recipe.batch_size * world()[1] / seconds for seconds in step_s]
        run.check_finite()
        run.watchdog.close()
        ms = marks.milliseconds()
        ms["copy"] = copy_ms(batches, place) if place.type != "cpu" else 0.0
        memory = peak_memory_mb()
        classes = getattr(task, "num_classes", None) or plan.num_classes
        clips = getattr(task, "train_videos", None) if hasattr(task, "spec") and source == "files" else None
        paths = (
            [clips.path(n) for n in range(min(len(clips), 3))] if clips is not None and clips.kind == "video" else []
        )
        flops = training_flops(lambda: build_model(recipe, classes), plan.train)
        del run, task, batches
    precision = precision_of(recipe, place)
    clips_per_s = float(np.median(speeds))
    speed = TrainingSpeed(
        source=source,
        clips_per_s=clips_per_s,
        repeats=speeds,
        steps=per_repeat,
        batch_size=recipe.batch_size,
        processes=world()[1],
        precision=precision,
        compile={"False": "no", "True": "default"}.get(str(recipe.compile), str(recipe.compile)),
        step_ms=1000 * float(np.median(step_s)),
        ms=ms,
        gflops_per_clip=flops / 1e9,
        tflops=flops * clips_per_s / world()[1] / 1e12,
        peak_tflops=peak_tflops or matmul_peak(place, precision),
        memory_mb=memory,
        device=device_name(place),
        versions=versions(),
    )
    speed.advice = advise(speed, recipe, reading_gain(recipe, paths) if paths and waits(speed) else None)
    if paths and waits(speed) and (line := fastest_decoder(recipe, paths)):
        speed.advice.append(line)
    return speed


def placeholder_data(recipe: Recipe, plan: Any, folder: Path) -> tuple[Recipe, str]:
    """Data with which a task can be made where none is given: a list of clips that are never opened, or files of features."""
    if len(plan.train) == 4:
        rows = [f"{n}.mp4 {n % plan.num_classes}" for n in range(max(recipe.batch_size, 2))]
        (folder / "list.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
        changes = {"num_classes": plan.num_classes, "num_workers": 0, "sources": []}
        return recipe.model_copy(update=changes), str(folder / "list.txt")
    channels, length = plan.train
    rng = np.random.default_rng(0)
    (folder / "features").mkdir()
    database = {}
    for n in range(recipe.batch_size):
        np.save(folder / "features" / f"v_{n}.npy", rng.normal(size=(length, channels)).astype(np.float32))
        spans = [[10 * start, 10 * start + 8.0] for start in range(0, 10, 3)]
        segments = [{"segment": span, "label": "action"} for span in spans]
        database[f"v_{n}"] = {"duration": 100.0, "subset": "training", "annotations": segments}
    (folder / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    return recipe.model_copy(update={"num_workers": 0, "feat_dim": channels}), str(folder)


def _batches(run: Run, source: Source, noise: bool) -> Iterator[dict[str, Any]]:
    """Endless batches on the device."""
    task, device = run.task, run.accelerator.device
    if noise and hasattr(task, "spec"):
        shape = (run.recipe.batch_size, 1, *task.spec.view_shape)
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(0, task.num_classes, shape[:1], generator=generator)
        if getattr(run.recipe, "multi_label", False):
            labels = torch.nn.functional.one_hot(labels, task.num_classes).float()
        batch = {
            "frames": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
            "label": labels,
            "index": [n % len(task.train_videos) for n in range(shape[0])],
            "failed": [[] for _ in range(shape[0])],
        }
        return itertools.repeat(to_device(batch, device))
    real = _epochs(run)
    if source == "files":
        return real
    kept = [batch for batch, _ in zip(real, range(KEPT_BATCHES))]
    real.close()
    return itertools.cycle(kept)


def _epochs(run: Run) -> Any:
    """Batches of one epoch after the other; the smaller last one of an epoch is left out."""
    for epoch in itertools.count():
        run.task.sampler.set_position(epoch)
        whole = 0
        for batch in prefetch(run.task.loader, run.accelerator.device):
            if len(batch["index"]) == run.recipe.batch_size:
                whole += 1
                yield batch
        if not whole:
            raise DataError(f"the data has fewer samples than batch_size {run.recipe.batch_size}.")


def device_name(device: torch.device) -> str:
    """Its product name, or for a CPU its kind and the number of threads."""
    if device.type == "cpu":
        return f"cpu ({platform.machine()}, {plural(torch.get_num_threads(), 'thread')})"
    module = torch.get_device_module(device)
    return str(module.get_device_name(device)) if hasattr(module, "get_device_name") else str(device)


def versions() -> dict[str, str]:
    """Of what decides speed."""
    import clipwise

    found = {"clipwise": clipwise.__version__, "torch": torch.__version__, "python": platform.python_version()}
    if torch.version.cuda:
        found |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return found


def loader_speed(
    recipe: Recipe, data: str, *, warmup: int = 8, min_s: float = 5.0, device: str | None = None, limit: int | None = None
) -> float:  # fmt: skip
    """Clips a second that the loader gives when nothing else is done, with the recipe's workers.

    Args:
        data: folder or list.
        warmup: batches before the clock starts.
        min_s: how long.
        limit: batches at most.
    """
    accelerator = make_accelerator(device)
    task = at_place(TASKS[recipe.task])(recipe, accelerator, RunLog(None, active=False, quiet=True), data=data, validate=False)  # fmt: skip
    clips, began = 0, time.perf_counter()
    for epoch in itertools.count():
        task.sampler.set_position(epoch)
        for number, batch in enumerate(task.loader):
            if epoch == 0 and number < warmup:
                began = time.perf_counter()
                continue
            clips += len(batch["index"])
            spent = time.perf_counter() - began
            if (limit and clips >= limit * recipe.batch_size) or (not limit and spent >= min_s):
                return clips / spent
    raise AssertionError("unreachable")
