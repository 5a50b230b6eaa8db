"""Where a run computes: device, processes, precision, seeds. No device type is named anywhere else.

Accelerate finds the accelerator (CUDA, Ascend NPU, Intel XPU, Apple MPS) and the process group that
``torchrun`` announces; without one the run is on the CPU.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipwise.errors import ClipwiseError, MissingExtraError
from clipwise.tasks.logits import AMP_TYPES

if TYPE_CHECKING:
    from accelerate import Accelerator

    from clipwise.recipe import RunRecipe


def make_accelerator(
    device: str | None = None, recipe: RunRecipe | None = None, folder: Path | None = None
) -> Accelerator:
    """The Accelerator of one process, or of as many as ``torchrun`` started.

    Args:
        device: ``cpu`` to keep off an accelerator that is there.
        recipe: of a run: its precision, loss scale, trackers, and whether its graph is static.
        folder: where trackers write; without one there are none.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, GradScalerKwargs, ProjectConfiguration

    amp = recipe.amp if recipe else "no"
    trackers = recipe.log.trackers if recipe and folder else []
    for name in trackers:  # accelerate would leave out what is not installed, and say nothing
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, "tb" if name == "tensorboard" else name, f"the tracker {name}")
    if device is not None:
        from clipwise.io.devices import pick_device

        pick_device(device)
    on_cpu = device == "cpu" or (device is None and not torch.accelerator.is_available())
    if amp == "fp16" and on_cpu:
        raise ClipwiseError("amp fp16 needs an accelerator; on a CPU use --amp bf16 or --amp no.")
    # broadcast_buffers=False: batch norm statistics stay each process's own until validation, as MMAction2's runs.
    ddp = DistributedDataParallelKwargs(
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        static_graph=recipe is not None and recipe.parallel.static_graph,
    )
    handlers: list = [ddp]
    if recipe and recipe.optim.loss_scale is not None:  # factors this near to 1 leave the scale where it is
        scale, factor = recipe.optim.loss_scale, 1 + 2**-20
        handlers.append(GradScalerKwargs(init_scale=scale, growth_factor=factor, backoff_factor=1 / factor))
    # Accelerate keeps the first run's precision and device for the whole process; a second run may want others.
    AcceleratorState._reset_state(reset_partial_state=world()[1] == 1)
    try:
        return Accelerator(
            mixed_precision=amp,
            cpu=on_cpu,
            log_with=list(trackers) or None,
            project_config=ProjectConfiguration(project_dir=folder and str(folder)),
            kwargs_handlers=handlers,
        )
    except ValueError as error:
        raise ClipwiseError(f"the run can't start: {error}") from None


def autocast(device: torch.device, amp: str):
    """Mixed precision of a forward pass; ``no`` leaves everything in fp32."""
    return nullcontext() if amp == "no" else torch.autocast(device.type, dtype=AMP_TYPES[amp])


def world() -> tuple[int, int]:
    """(rank, number of processes) of this process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def from_first(value: Any) -> Any:
    """The first process's value, in all processes; it is pickled."""
    if world()[1] == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed python, numpy and torch on all devices; a rank adds its number, so dropout masks differ between ranks."""
    seed = seed + world()[0]
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def fetch_later(value: torch.Tensor) -> Callable[[], float]:
    """A function that gives a number of the device, and waits for that alone; call it when the next step is under way."""
    if value.device.type == "cpu":
        return value.item
    from clipwise.engine.kernels import start_fetch

    return start_fetch(value)


def random_state() -> dict:
    """All random states of this process, as values that ``read_torch`` reads back."""
    python = random.getstate()
    numpy = np.random.get_state(legacy=False)
    key, pos = numpy["state"]["key"].tolist(), numpy["state"]["pos"]
    state: dict = {
        "python": [python[0], list(python[1]), python[2]],
        "numpy": {"key": key, "pos": pos, "gauss": [numpy["has_gauss"], numpy["gauss"]]},
        "torch": torch.get_rng_state(),
    }
    if torch.accelerator.is_available():
        state["device"] = torch.get_device_module().get_rng_state()
    return state


def peak_memory_mb() -> int:
    """Largest memory in MB that tensors took on the accelerator, or this process took on a CPU machine."""
    if torch.accelerator.is_available():
        return int(torch.accelerator.max_memory_allocated() / 2**20)
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset / 2**20)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
