"""The model as a run trains it: on its device, spread over the processes, with its optimizer and its average."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from clipwise.engine.batch_norm import join_batch_norms
from clipwise.engine.checkpoint import load_tensors
from clipwise.engine.optim import make_optimizer, trainable
from clipwise.models import contract
from clipwise.recipe import Recipe


class Network:
    """A model and everything that changes with it from step to step.

    Attributes:
        bare: the model itself.
        model: what computes: ``bare``, or its wrapper for several processes.
        average: the moving average of its weights, or None.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, accelerator: Accelerator, lr: float):
        self.accelerator, several = accelerator, accelerator.num_processes > 1
        self.bare = model.to(accelerator.device)
        if accelerator.device.type != "cpu":  # a CPU's library has layouts of its own
            from clipwise.engine.kernels import keep_channels_last

            keep_channels_last(self.bare)
        joint = getattr(recipe, "sync_bn", False) and several
        if joint:
            join_batch_norms(self.bare)
        self.average: Any = None
        if recipe.ema_decay:
            from clipwise.engine.average import MovingAverage

            self.average = MovingAverage(self.bare, recipe.ema_decay, recipe.optim.ema_ramp)
        self.sharding: Any = None
        self.model: Any = self.bare
        if recipe.parallel.mode == "fsdp" and several:
            from clipwise.engine import sharding

            self.sharding, self.copy = sharding, copy.deepcopy(self.bare).cpu()
            sharding.shard(self.bare, accelerator.device)
            if self.average is not None:
                sharding.shard(self.average.module, accelerator.device)
        else:
            self.model = accelerator.prepare(self.bare)
        self.optimizer = accelerator.prepare(make_optimizer(self.bare, recipe, lr))
        self.around: Any = None  # of compiled networks: a context for batches of one size
        if recipe.compile:
            from clipwise.engine.compiling import compile_network

            by_block = joint or self.sharding or getattr(recipe, "grad_checkpointing", False)
            self.around = compile_network(self.model, contract.blocks(self.bare) if by_block else [], recipe)

    # -- steps

    @contextmanager
    def collecting(self, step: bool, size: int) -> Iterator[None]:
        """Around forward and backward of a batch of that size; unless a step follows, gradients stay with their process."""
        if self.sharding:
            self.model.set_requires_gradient_sync(step)
        alone = nullcontext() if step or self.sharding else self.accelerator.no_sync(self.model)
        with alone, self.around(size) if self.around else nullcontext():
            yield

    def step(self, grad_clip: float | None) -> torch.Tensor | None:
        """Move the weights and their average; the gradient's norm before it was clipped, if it is."""
        norm = None
        if grad_clip:
            norm = self.accelerator.clip_grad_norm_(list(trainable(self.bare)), grad_clip)
            norm = norm.full_tensor() if self.sharding else norm
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.bare)
        return norm

    # -- validation and checkpoints

    def weights(self) -> dict[str, torch.Tensor]:
        """What is validated and saved: the average if there is one, else the model's weights. All processes call it."""
        return self._gather((self.bare if self.average is None else self.average.module).state_dict())

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
        if not self.sharding:
            yield self.bare if self.average is None else self.average.module
            return
        self.copy.load_state_dict(self.weights())
        try:
            yield self.copy.to(self.accelerator.device)
        finally:
            self.copy.cpu()

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
        whole = self._gather(whole)
        # Batch norm statistics are each process's own; the first one's are among the weights.
        return whole if self.accelerator.is_main_process else {"buffers": dict(self.bare.named_buffers())}

    def restore(self, weights: dict[str, torch.Tensor], state: dict[str, Any], path: Path) -> None:
        """Inverse of :meth:`state` and :meth:`weights`, which were those of the first process."""
        weights, average, moments = state["model"] or weights, state["ema"], state["optimizer"]
        if self.sharding:
            weights = self.sharding.scatter(weights, self.bare.state_dict())
            moments = self.sharding.scatter_optimizer(moments, self.optimizer)
        load_tensors(self.bare, weights, path)
        if self.average is not None and average is not None:
            own = self.average.state_dict()
            self.average.load_state_dict(self.sharding.scatter(average, own) if self.sharding else average)
        self.optimizer.load_state_dict(moments)
        if state["scaler"] is not None and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _gather(self, state: Any) -> Any:
        return self.sharding.gather(state) if self.sharding else state
