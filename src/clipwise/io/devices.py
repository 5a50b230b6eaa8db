"""The device that a user names, or the machine's own."""

from __future__ import annotations

import torch

from clipwise.errors import ClipwiseError


def default_device() -> torch.device:
    """The machine's accelerator, or the CPU where there is none."""
    return (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or torch.device(
        "cpu"
    )


def pick_device(name: str | None) -> torch.device:
    """The device of a user's ``--device`` (``cpu``, ``cuda:1``, ``npu``), or the default one.

    Raises:
        ClipwiseError: the name is not a device, or there is no such device here.
    """
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it computes nothing")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        here = default_device().type
        raise ClipwiseError(
            f"device {name!r} can't be used here ({str(error).splitlines()[0]}). This machine has: {here}."
        ) from None
    return device
