"""Writes a run's checkpoints beside the training, so that no step waits for the disk.

``last.safetensors`` is replaced atomically and names the training state that belongs to it; the state is written
before, the old one is deleted after. Whenever the process is killed, ``last`` and its state are a complete pair.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from clipwise.engine import checkpoint as ckpt


class Saver:
    """Takes a snapshot at once and writes it in the background.

    Args:
        folder: the run's folder.
        keep: how many epochs' weights stay beside ``last`` and ``best``.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, keep: int):
        self.folder, self.accelerator, self.keep = folder, accelerator, keep
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.pending: Future | None = None

    def save(
        self,
        state: dict[str, Any],
        weights: dict[str, torch.Tensor],
        passport: ckpt.Passport,
        *,
        best: bool,
        whole_epoch: bool,
    ) -> None:
        """Write ``last`` with its state, and ``best`` when this is it.

        Args:
            state: this process's optimizer, random states and position.
            weights: what the checkpoint holds (the first process's are written).
        """
        self.wait()
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        name = f"state-{passport.epoch}-{passport.step}-{state['batch']}-rank{{rank}}.pt"
        if rank:
            ckpt.save_state(self.folder / name.format(rank=rank), state)
        # Once the first process names its state, those of the others must be there.
        self.accelerator.wait_for_everyone()
        if rank == 0:
            passport.state = name
            arguments = _to_memory(state), _to_memory(weights), passport, best, whole_epoch, processes
            self.pending = self.thread.submit(self._write, *arguments)

    def wait(self) -> None:
        """Wait for the writing; an error of it (a full disk) is raised here."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()

    def _write(self, state, weights, passport: ckpt.Passport, best: bool, whole_epoch: bool, processes: int) -> None:
        name = passport.state or ""
        ckpt.save_state(self.folder / name.format(rank=0), state)
        ckpt.save_weights(self.folder / "last.safetensors", weights, passport)
        passport.state = None
        if best:
            ckpt.save_weights(self.folder / "best.safetensors", weights, passport)
        if self.keep and whole_epoch:
            ckpt.save_weights(self.folder / f"epoch_{passport.epoch:04d}.safetensors", weights, passport)
            for old in sorted(self.folder.glob("epoch_*.safetensors"))[: -self.keep]:
                old.unlink()
        current = {name.format(rank=r) for r in range(processes)}
        for old in self.folder.glob("state-*.pt"):
            if old.name not in current:
                old.unlink()
        for old in self.folder.glob(".*.tmp"):  # of a run that was killed while it wrote
            old.unlink(missing_ok=True)


def _to_memory(value: Any) -> Any:
    """A copy in the CPU's memory that the next step can't change."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: _to_memory(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_memory(v) for v in value)
    return value
