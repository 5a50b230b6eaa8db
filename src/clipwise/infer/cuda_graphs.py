"""CUDA graphs for a network that sees the same shapes again and again: one launch replays all its kernels (``--cuda-graphs``).

A shape is computed eagerly until it has come ``WARM`` times, then captured; what follows copies its input into the graph's own and replays. The
kernels and their order are those of the eager network, so the numbers are the same bits.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

WARM = 3
"""Eager calls of a shape before it is captured: libraries choose their kernels in them."""
MOST = 8
"""Shapes that are captured; each keeps its memory."""


class GraphedNetwork(nn.Module):
    """A network in evaluation mode that takes one tensor; everything else is asked of the network itself.

    Args:
        network: what is captured.
        streams: the device's module (``torch.cuda``), or a stand-in for tests.
        say: called with what is captured, and what is not and why.
    """

    def __init__(
        self, network: nn.Module, *, streams: Any = torch.cuda, say: Callable[[str], None] = lambda text: None
    ):
        super().__init__()
        self.network, self.streams, self.say = network, streams, say
        self.seen: Counter[tuple] = Counter()
        self.graphs: dict[tuple, tuple[Any, Tensor, Any]] = {}
        self.refused: dict[tuple, str] = {}
        self.lock = threading.Lock()  # two threads of a server must not share a graph's input

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, x: Tensor) -> Any:
        autocast = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else None
        key = (tuple(x.shape), x.dtype, x.stride(), autocast)
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.network.parameters()):
            return self.network(x)
        with self.lock:
            if key not in self.graphs and not self._capture(key, x, autocast):
                return self.network(x)
            graph, given, result = self.graphs[key]
            given.copy_(x)
            graph.replay()
            return _copied(result)

    def _capture(self, key: tuple, x: Tensor, autocast: torch.dtype | None) -> bool:
        """Capture a shape that is due; whether it is there now."""
        self.seen[key] += 1
        if key in self.refused or self.seen[key] <= WARM:
            return False
        if len(self.graphs) >= MOST:
            self.refused[key] = f"{MOST} shapes are captured already"
            self.say(f"CUDA graphs: input {key[0]} is computed eagerly: {self.refused[key]}.")
            return False
        given = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)
        streams = self.streams
        # weights cast inside a graph must be cast again at each replay, so they are not cached
        casting = torch.autocast(x.device.type, autocast, cache_enabled=False) if autocast else nullcontext()
        try:
            with casting:
                beside = streams.Stream()
                beside.wait_stream(streams.current_stream())
                with streams.stream(beside):  # capture wants kernels that were chosen on a stream of their own
                    self.network(given)
                streams.current_stream().wait_stream(beside)
                graph = streams.CUDAGraph()
                with streams.graph(graph):
                    result = self.network(given)
        except RuntimeError as error:
            self.refused[key] = str(error).splitlines()[0]
            self.say(f"CUDA graphs: input {key[0]} is computed eagerly: {self.refused[key]}")
            return False
        self.graphs[key] = graph, given, result
        self.say(f"CUDA graphs: input {key[0]} is captured.")
        return True


def with_graphs(owner: Any, say: Callable[[str], None] = lambda text: None) -> Any:
    """Let a predictor or localizer (whatever has ``model`` and ``device``) replay its network's kernels; elsewhere than on CUDA this is reported."""
    if owner.device.type != "cuda":
        say(f"--cuda-graphs has no effect on {owner.device.type}.")
    elif not isinstance(owner.model, nn.Module) or getattr(owner.model, "takes_frames", False):
        say("--cuda-graphs has no effect on an exported model.")
    else:
        owner.model = GraphedNetwork(owner.model, say=say)
    return owner


def _copied(result: Any) -> Any:
    """The next replay writes into the graph's own tensors."""
    if isinstance(result, Tensor):
        return result.clone()
    if isinstance(result, dict):
        return {k: _copied(v) for k, v in result.items()}
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*map(_copied, result))
    return type(result)(map(_copied, result)) if isinstance(result, (list, tuple)) else result
