"""The model as a run trains it: on its device, spread over the processes, with its average, optimizer and learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from clipwise.engine.batch_norm import NORMS, join_batch_norms
from clipwise.models import contract
from clipwise.recipe import Recipe, RunRecipe

_FUSED = ("cuda", "xpu")

LARGE = 8_000_000  # weights from which on a CPU's training is worth special kernels


class Network:
    """A model and everything that changes with it from step to step; ``sharding.ShardedNetwork`` is one cut over the processes.

    Attributes:
        bare: the model itself.
        model: what computes: ``bare``, or its wrapper for several processes.
        average: the moving average of its weights, or None.
    """

    sharded = False

    def __init__(self, model: nn.Module, recipe: Recipe, accelerator: Accelerator, lr: float):
        self.accelerator, several = accelerator, accelerator.num_processes > 1
        self.bare = model.to(accelerator.device)
        if accelerator.device.type != "cpu":  # a CPU's library has layouts of its own
            from clipwise.engine.kernels import keep_channels_last

            keep_channels_last(self.bare)
        elif recipe.parallel.mode != "fsdp" and sum(p.numel() for p in self.bare.parameters()) >= LARGE:
            from clipwise.engine.cpu_kernels import prepare_training

            prepare_training(self.bare, recipe)
        joint = getattr(recipe, "sync_bn", False) and several
        if joint:
            join_batch_norms(self.bare)
        self.average: Any = None
        if recipe.ema_decay:
            from clipwise.engine.average import MovingAverage

            self.average = MovingAverage(self.bare, recipe.ema_decay, recipe.optim.ema_ramp)
        self.model: Any = self.spread()
        self.optimizer = accelerator.prepare(make_optimizer(self.bare, recipe, lr))
        self.around: Any = None  # of compiled networks: a context for batches of one size
        if recipe.compile:
            from clipwise.engine.compiling import compile_network

            by_block = joint or self.sharded or getattr(recipe, "grad_checkpointing", False)
            self.around = compile_network(self.model, contract.blocks(self.bare) if by_block else [], recipe)

    def spread(self) -> nn.Module:
        """What computes where each process holds the whole network."""
        return self.accelerator.prepare(self.bare)

    # -- steps

    @contextmanager
    def collecting(self, step: bool, size: int) -> Iterator[None]:
        """Around forward and backward of a batch of that size; unless a step follows, gradients stay with their process."""
        alone = nullcontext() if step else self.accelerator.no_sync(self.model)
        with alone, self.around(size) if self.around else nullcontext():
            yield

    def step(self, grad_clip: float | None) -> torch.Tensor | None:
        """Move the weights and their average; the gradient's norm before it was clipped, if it is."""
        norm = self.accelerator.clip_grad_norm_(list(trainable(self.bare)), grad_clip) if grad_clip else None
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.bare)
        return norm

    # -- validation and checkpoints

    def weights(self) -> dict[str, torch.Tensor]:
        """What is validated and saved: the average if there is one, else the model's weights. All processes call it."""
        return self.gather((self.bare if self.average is None else self.average.module).state_dict())

    @contextmanager
    def validated(self) -> Iterator[nn.Module]:
        """The network with these weights, each process's own: they validate different videos.

        All take the first one's batch norm statistics, as MMAction2 does before it validates.
        """
        if self.accelerator.num_processes > 1:
            average = [] if self.average is None else self.average.module.buffers()
            for buffer in (*self.bare.buffers(), *average):
                torch.distributed.broadcast(buffer, 0)
        self.model.eval()
        yield self.bare if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides :meth:`weights`. All processes call it; the first one's is complete."""
        scaler, average = self.accelerator.scaler, self.average
        whole = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            # The file of weights holds the average when there is one; the run itself goes on from these.
            "model": None if average is None else self.bare.state_dict(),
            "ema": None if average is None else average.state_dict(),
        }
        whole = self.gather(whole)
        # Batch norm statistics are each process's own; the first one's are among the weights.
        return whole if self.accelerator.is_main_process else {"buffers": dict(self.bare.named_buffers())}

    def gather(self, state: Any) -> Any:
        """A state with whole tensors, as it is here; all processes call it."""
        return state


def parameter_groups(
    model: nn.Module,
    kind: str,
    lr: float,
    weight_decay: float,
    layer_decay: float | None = None,
    first_stage_decay: float = 1.0,
) -> list[dict]:
    """Parameter groups, each with ``params``, ``lr``, ``weight_decay``, ``name``.

    Args:
        kind: ``all``: one group, decay on norms and biases too (SlowOnly, TSN, TPN in MMAction2);
            ``no_norm_bias``: no decay on norms, biases and what a module names in ``no_weight_decay`` (scales);
            ``tsm``: TSM's seven groups (Lin et al. 2019; MMAction2's TSMOptimizerConstructor with fc_lr5): first
            convolution x1, its bias x2, other weights x1, their biases x2, norms x1 without decay, classifier x5,
            its bias x10; biases without decay.
        layer_decay: the learning rate of a stage is multiplied by this once for each stage above it.
        first_stage_decay: factor of the first stage's weight decay.
    """
    stages: dict[int, int] = {}
    by_decay = kind in ("all", "no_norm_bias")
    if layer_decay or first_stage_decay != 1 or not by_decay:
        from clipwise.engine.param_groups import stage_of, tsm_groups

        if not by_decay:
            return tsm_groups(model, lr, weight_decay)
        stages = stage_of(model)
    top = max(stages.values(), default=0)
    groups: dict[tuple, dict] = {}
    for module in model.modules():
        norm, exempt = isinstance(module, NORMS), getattr(module, "no_weight_decay", ())
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            decays = kind == "all" or not (norm or name.endswith("bias") or name in exempt)
            stage = stages.get(id(parameter), top)
            factor = layer_decay ** (top - stage) if layer_decay else 1.0
            if (decays, stage) not in groups:
                label = f"{'' if decays else 'no decay, '}x{factor:g}"
                decay = weight_decay * (first_stage_decay if stages and not stage else 1) if decays else 0.0
                groups[decays, stage] = {"params": [], "lr": lr * factor, "weight_decay": decay, "name": label}
            groups[decays, stage]["params"].append(parameter)
    return list(groups.values())


def make_optimizer(model: nn.Module, recipe: RunRecipe, lr: float) -> torch.optim.Optimizer:
    """The recipe's optimizer over its parameter groups; each group remembers its own ``base_lr``."""
    more = recipe.optim
    groups = parameter_groups(
        model, more.param_groups, lr, recipe.weight_decay, more.layer_decay, more.first_stage_decay
    )
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
