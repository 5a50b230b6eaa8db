"""Weights, gradients and optimizer moments cut over the processes (FSDP2), for networks that do not fit on one device.

Each block's weights are gathered when it computes and let go after it; the figures are those of a run in which every
process holds everything, up to the order of sums. Checkpoints hold whole tensors, so a run may go on with or without.

Source: ``torch.distributed.fsdp.fully_shard``; Rajbhandari et al. 2020 (ZeRO), stage 3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from clipwise.engine.network import Network
from clipwise.models.contract import blocks


class ShardedNetwork(Network):
    """A network whose weights, gradients and moments are cut over the processes."""

    sharded = True

    def spread(self) -> nn.Module:
        self.copy = copy.deepcopy(self.bare).cpu()  # a whole one, for validation
        shard(self.bare, self.accelerator.device)
        if self.average is not None:
            shard(self.average.module, self.accelerator.device)
        return self.bare

    @contextmanager
    def collecting(self, step: bool, size: int) -> Iterator[None]:
        self.model.set_requires_gradient_sync(step)
        with super().collecting(True, size):
            yield

    def step(self, grad_clip: float | None) -> torch.Tensor | None:
        norm = super().step(grad_clip)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    @contextmanager
    def validated(self) -> Iterator[nn.Module]:
        with super().validated():
            self.copy.load_state_dict(self.weights())
            try:
                yield self.copy.to(self.accelerator.device)
            finally:
                self.copy.cpu()

    def gather(self, state: Any) -> Any:
        return gather(state)


def shard(model: nn.Module, device: torch.device) -> None:
    """Cut a model's parameters over all processes, in place; all start from the first one's weights."""
    for tensor in model.state_dict().values():
        torch.distributed.broadcast(tensor, 0)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module in blocks(model):
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def gather(value: Any) -> Any:
    """A state with whole tensors in the CPU's memory instead of parts. All processes must call it together."""
    if isinstance(value, DTensor):
        return value.full_tensor().detach().cpu()
    if isinstance(value, dict):
        return {key: gather(item) for key, item in value.items()}
    if isinstance(value, list):
        return [gather(item) for item in value]
    return value


def scatter(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """This process's parts of whole tensors, cut as those of the same name in ``own``."""
    return {key: _part(value, own.get(key)) for key, value in tensors.items()}


def scatter_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The same for an optimizer's state: what has the shape of its parameter is cut like it."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    parts = {
        number: {key: _part(value, parameters[number]) for key, value in moments.items()}
        for number, moments in state["state"].items()
    }
    return {**state, "state": parts}


def _part(value: Any, own: torch.Tensor | None) -> Any:
    if not isinstance(own, DTensor) or not isinstance(value, torch.Tensor) or value.shape != own.shape:
        return value
    # Every process has read the whole tensor, so nothing needs to be sent.
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
