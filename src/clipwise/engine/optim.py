"""Optimizers, parameter groups and learning rate schedules of the recipes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from clipwise.errors import RecipeError
from clipwise.models import contract
from clipwise.recipe import RunRecipe

_FUSED = ("cuda", "xpu")
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def parameter_groups(
    model: nn.Module, kind: str, lr: float, weight_decay: float, layer_decay: float | None = None
) -> list[dict]:
    """Parameter groups, each with ``params``, ``lr``, ``weight_decay``, ``name``.

    Args:
        kind: ``all``: one group, decay on norms and biases too (SlowOnly, TSN, TPN in MMAction2);
            ``no_norm_bias``: no decay on norms, biases and what a module names in ``no_weight_decay`` (scales);
            ``tsm``: TSM's seven groups (Lin et al. 2019; MMAction2's TSMOptimizerConstructor with fc_lr5): first
            convolution x1, its bias x2, other weights x1, their biases x2, norms x1 without decay, classifier x5,
            its bias x10; biases without decay.
        layer_decay: the learning rate of a stage is multiplied by this once for each stage above it.
    """
    if kind not in ("all", "no_norm_bias"):
        return _tsm_groups(model, lr, weight_decay)
    groups: dict[tuple, dict] = {}
    stages = _stage_of(model) if layer_decay else {}
    top = max(stages.values(), default=0)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            small = (
                isinstance(module, _NORMS) or name.endswith("bias") or name in getattr(module, "no_weight_decay", ())
            )
            plain = kind == "all" or not small
            stage = stages.get(id(parameter), top)
            factor = layer_decay ** (top - stage) if layer_decay else 1.0
            key = (plain, stage if layer_decay else 0)
            group = groups.setdefault(
                key,
                {
                    "params": [],
                    "lr": lr * factor,
                    "weight_decay": weight_decay if plain else 0.0,
                    "name": ("" if plain else "no decay, ") + f"x{factor:g}",
                },
            )
            group["params"].append(parameter)
    return list(groups.values())


def _stage_of(model: nn.Module) -> dict[int, int]:
    """Stage of each parameter, the stem's 0."""
    parts = contract.stages(model)
    if len(parts) < 2 or (outside := contract.missing_from(parts, model)):
        raise RecipeError(
            f"layer_decay needs the parts of {type(model).__name__} from stem to head, each parameter in one of them; "
            + (f"{outside[0]} is in none or several" if len(parts) > 1 else "it has only one")
            + ". Add `stages(self)` to it, or leave layer_decay out."
        )
    return {id(parameter): number for number, part in enumerate(parts) for parameter in part.parameters()}


def _tsm_groups(model: nn.Module, lr: float, weight_decay: float) -> list[dict]:
    first, last = contract.first_conv(model), contract.classifier(model)
    names = ["first conv", "first conv bias", "weights", "biases", "norms", "classifier", "classifier bias"]
    factors, decays = [1, 2, 1, 2, 1, 5, 10], [1, 0, 1, 0, 0, 1, 0]
    members: list[list[nn.Parameter]] = [[] for _ in names]
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            bias = int(name.endswith("bias"))
            if isinstance(module, _NORMS):
                members[4].append(parameter)
            else:
                members[(0 if module is first else 5 if module is last else 2) + bias].append(parameter)
    return [
        {"params": p, "lr": lr * f, "weight_decay": weight_decay * d, "name": n}
        for n, f, d, p in zip(names, factors, decays, members)
        if p
    ]


def make_optimizer(model: nn.Module, recipe: RunRecipe, lr: float) -> torch.optim.Optimizer:
    """The recipe's optimizer over its parameter groups; each group remembers its own ``base_lr``."""
    more = recipe.optim
    groups = parameter_groups(model, more.param_groups, lr, recipe.weight_decay, more.layer_decay)
    for group in groups:
        group["base_lr"] = group["lr"]
    first = next(model.parameters())
    # None: one kernel for the whole step where that is faster; a CPU's differs from the plain step in last bits
    fast = first.device.type in _FUSED and not hasattr(first, "placements")  # not of FSDP's tensors
    fused = (fast if more.fused is None else more.fused) or None
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=more.momentum, nesterov=more.nesterov, fused=fused)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(groups, lr=lr, betas=more.betas, fused=fused)


class Schedule:
    """Learning rate factor of each step; a pure function of the step, so resuming needs no state.

    MMAction2 0.x: the regular schedule runs from the first epoch and the warm-up multiplies it
    (``regular * (1 - (1 - step / warmup) * (1 - warmup_start))``). With ``schedule.after_warmup`` (1.x) the
    schedule starts when the warm-up ends and has only the remaining epochs.
    """

    def __init__(self, recipe: RunRecipe, steps_per_epoch: int):
        self.recipe, self.steps_per_epoch = recipe, max(steps_per_epoch, 1)
        self.warmup_steps = recipe.warmup_epochs * self.steps_per_epoch
        if recipe.schedule.warmup_to_last:
            self.warmup_steps = max(self.warmup_steps - 1, 0)
        self.floor = recipe.schedule.min_lr / recipe.lr

    def factor(self, step: int) -> float:
        """Factor for the base learning rate at a 0-based optimizer step."""
        recipe, schedule = self.recipe, self.recipe.schedule
        warm = 1.0
        if step < self.warmup_steps:
            warm = 1 - (1 - step / self.warmup_steps) * (1 - schedule.warmup_start)
        epoch = step // self.steps_per_epoch if schedule.by == "epoch" else step / self.steps_per_epoch
        epochs: float = recipe.epochs
        if schedule.after_warmup:
            epoch, epochs = max(epoch - recipe.warmup_epochs, 0), epochs - recipe.warmup_epochs
        return warm * self._regular(epoch, epochs)

    def _regular(self, epoch: float, epochs: float) -> float:
        recipe = self.recipe
        if recipe.lr_schedule == "step":
            return recipe.schedule.gamma ** sum(epoch >= m for m in recipe.schedule.milestones)
        if recipe.lr_schedule == "cosine":
            return self.floor + 0.5 * (1 - self.floor) * (1 + math.cos(math.pi * min(epoch / epochs, 1)))
        return 1.0

    def set(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Write the step's learning rates into the optimizer; returns the first group's."""
        factor = self.factor(step)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        return optimizer.param_groups[0]["lr"]


def trainable(model: nn.Module) -> Iterator[nn.Parameter]:
    return (p for p in model.parameters() if p.requires_grad)
