"""torch.compile in training: the whole network or each block, in one of its modes, for batches of the recipe's sizes only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from clipwise.recipe import Recipe


def compile_network(model: Any, blocks: Sequence[nn.Module], recipe: Recipe) -> Callable[[int], AbstractContextManager]:
    """Compile the model as a whole, or each block where something has to happen between or inside them.

    Returns:
        A context for a batch of so many samples: one of another size than the recipe's (an epoch's last) is computed
        without the compiler, which would start again for it.
    """
    mode = None if recipe.compile is True else str(recipe.compile)
    if blocks:  # they share one piece of code, which is compiled for every kind of block
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 8 * len(blocks))
    for block in blocks:
        # dynamic=False: else their different sizes become one with symbols in it, which inductor refuses
        block.compile(dynamic=False, mode=mode)
    if not blocks:
        model.compile(mode=mode)
    sizes = {recipe.batch_size, *(source.batch_size for source in getattr(recipe, "sources", ()))}

    def around(size: int) -> AbstractContextManager:
        return nullcontext() if size in sizes else torch.compiler.set_stance("force_eager")

    return around
