"""Less memory for more time: a block forgets its activations and computes them again in the backward pass."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from clipwise.errors import ClipwiseError


class Recomputing(nn.Module):
    """Mixed into a block's class: it does so by itself whenever it trains."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """As the block's own."""
        forward = super().forward
        if self.training and torch.is_grad_enabled():
            return _checkpointed(forward, self, *inputs, **options)
        return forward(*inputs, **options)


def recompute_forward(block: nn.Module) -> None:
    """Make a block a recomputing one; its class changes, so that copies of it compute with their own weights."""
    kind = type(block)
    block.__class__ = type(kind.__name__, (Recomputing, kind), {"__module__": kind.__module__})


def blocks(model: nn.Module) -> list[nn.Module]:
    """The units of activation checkpointing, weight sharding and compiling, in order; empty if nothing repeats."""
    if inspect.isroutine(getattr(type(model), "blocks", None)):
        return list(model.blocks())  # type: ignore[operator]
    found: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        children = list(module.children())
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(children) > 1:
            kinds = {type(child) for child in children}
            if len(kinds) == 1 and any(children[0].children()):
                found.extend(children)
                return
        for child in children:
            walk(child)

    walk(model)
    return found


def recompute_blocks(model: nn.Module) -> None:
    """Activation checkpointing for a model without a setting of its own for it.

    Raises:
        ClipwiseError: nothing in it repeats.
    """
    units = blocks(model)
    if not units:
        name = type(model).__name__
        raise ClipwiseError(
            f"{name} has no repeated blocks whose activations could be recomputed. Add `blocks(self) -> list of modules` to {name}; "
            "see docs/en/models.md."
        )
    for block in units:
        recompute_forward(block)


def _checkpointed(call: Callable[..., Any], block: nn.Module, *inputs: Any, **options: Any) -> Any:
    contexts = lambda: (nullcontext(), _statistics_held(block))  # noqa: E731 - torch wants a pair of new ones each time
    return checkpoint(call, *inputs, use_reentrant=False, context_fn=contexts, **options)


@contextmanager
def _statistics_held(block: nn.Module) -> Iterator[None]:
    """The second pass must not update running statistics a second time."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before):
            norm.momentum, norm.num_batches_tracked = momentum, count
