"""Copies of batches to an accelerator, beside its computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class SideStream:
    """Copies batches on a stream of their own, so that they need not wait for what the device is told to compute before.

    The pinned memory that they come from is torch's: a block is used again when its copy has ended.

    Args:
        move: puts a batch on the device, without waiting.
        streams: the device's module (``torch.cuda``).
    """

    def __init__(self, device: torch.device, move: Callable[[dict[str, Any]], dict[str, Any]], streams: Any):
        self.device, self.move, self.streams, self.stream = device, move, streams, streams.Stream(device)

    def copy(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Start copying; what is computed with the result waits for it on the device, and nothing on the host."""
        with self.streams.stream(self.stream):
            moved = self.move(batch)
            copied = self.stream.record_event()
        computing = self.streams.current_stream(self.device)
        computing.wait_event(copied)
        for value in moved.values():
            if isinstance(value, torch.Tensor):
                value.record_stream(computing)  # its memory is not given to the next copy before this use has ended
        return moved
