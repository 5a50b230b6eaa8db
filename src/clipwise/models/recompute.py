"""Less memory for more time: a block forgets its activations and computes them again in the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(block: nn.Module, x: Tensor, num_frames: int) -> Tensor:
    """``block(x, num_frames)``, of which only the input is kept for the backward pass."""
    return checkpoint(
        block, x, num_frames, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_held(block))
    )


@contextmanager
def _statistics_held(block: nn.Module) -> Iterator[None]:
    """The second pass must not update running statistics a second time."""
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before):
            norm.momentum, norm.num_batches_tracked = momentum, count
