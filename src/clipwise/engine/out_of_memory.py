"""What to do when a training step does not fit into the device's memory: the batch that would."""

from __future__ import annotations

from typing import Any

import torch

from clipwise.errors import WorkError
from clipwise.io.text import plural
from clipwise.models.cost import measure_cost
from clipwise.models.recipe_model import build_model

USABLE, HALF, BESIDES = 0.92, 0.6, 1.25
"""Shares: of the memory that tensors can have; of activations that reduced precision keeps; of what libraries take besides."""


def device_memory(device: torch.device) -> int | None:
    """Bytes of the device; None where it does not tell."""
    module = torch.get_device_module(device)
    return int(module.mem_get_info(device)[1]) if hasattr(module, "mem_get_info") else None


def batch_that_fits(task: Any, total: int) -> int:
    """Largest batch_size of a task's recipe that a device of ``total`` bytes should hold; 0 if not even one sample fits.

    The activations of a step are counted on the meta device; see the constants for the rest.
    """
    recipe = task.recipe
    plan = type(task).plan(recipe, getattr(task, "num_classes", None))
    cost = measure_cost(lambda: build_model(recipe, plan.num_classes), plan.view, plan.train)
    fixed = cost.training_bytes(0, recipe.optimizer) + (cost.weight_bytes if recipe.ema_decay else 0)
    each = cost.saved_bytes * BESIDES * (1.0 if recipe.amp == "no" else HALF)
    return max(0, int((USABLE * total - fixed) / each))


def explain(task: Any, device: torch.device) -> WorkError:
    """The error to raise in place of torch's."""
    recipe, total = task.recipe, device_memory(device)
    text = f"a training step with batch_size {recipe.batch_size} does not fit into the memory of {device}"
    more = [key for key, set_ in (("amp=bf16", recipe.amp != "no"), ("grad_checkpointing=true", getattr(recipe, "grad_checkpointing", True))) if not set_]  # fmt: skip
    others = f" {' and '.join(more)} need{'s' * (len(more) == 1)} less for the same batch." if more else ""
    if total is None:
        return WorkError(f"{text}. Use a smaller batch_size.{others}")
    fits = min(batch_that_fits(task, total), max(recipe.batch_size - 1, 0))
    text += f" ({total / 2**30:.0f} GiB). "
    if not fits:
        return WorkError(f"{text}Not even one sample does: use smaller or fewer frames.{others}")
    parts = -(-recipe.batch_size * recipe.accumulate // fits)
    return WorkError(
        f"{text}About batch_size={fits} fits, unless other programs use the device; with accumulate={parts} a step then has the gradients of "
        f"{plural(fits * parts, 'sample')}.{others} Nothing is lost: a run with checkpoints resumes with --resume."
    )
