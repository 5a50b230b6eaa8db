"""Copies of batches to an accelerator, beside its computation."""

from __future__ import annotations

from typing import Any

import torch

from clipwise.data.loader import to_device


class SideStream:
    """Copies batches on a stream of their own, so that they need not wait for what the device is told to compute before.

    The pinned memory that they come from is torch's: a block is used again when its copy has ended.

    Args:
        streams: the device's module (``torch.cuda``).
    """

    def __init__(self, device: torch.device, streams: Any):
        self.device, self.streams, self.stream = device, streams, streams.Stream(device)

    def copy(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Start copying; what is computed with the result waits for it on the device, and nothing on the host."""
        with self.streams.stream(self.stream):
            moved = to_device(batch, self.device)
            copied = self.stream.record_event()
        computing = self.streams.current_stream(self.device)
        computing.wait_event(copied)
        for value in moved.values():
            if isinstance(value, torch.Tensor):
                value.record_stream(computing)  # its memory is not given to the next copy before this use has ended
        return moved
