"""The training state beside a checkpoint's weights, and who writes both.

A resumable checkpoint is two files: the state (optimizer, random states, position) and the weights, whose passport names
the state. A run's folder holds two such pairs, ``last`` and ``previous``, so that a damaged one does not end the run.
States carry the checksums of their archive: a file with a flipped byte is refused.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clipwise.engine.checkpoint import Passport, read_passport, save_weights
from clipwise.errors import CheckpointError
from clipwise.io.files import atomic_path
from clipwise.io.unpickle import read_torch

if TYPE_CHECKING:
    from accelerate import Accelerator


def save_state(path: Path, state: dict) -> None:
    """Write a training state (optimizer, random states, position) atomically."""
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch wraps the operating system's error
            raise OSError(f"{str(error).splitlines()[0]} (is the disk full?)") from error


def load_state(checkpoint: str | Path, passport: Passport, rank: int = 0) -> dict:
    """The training state that belongs to a checkpoint.

    Raises:
        CheckpointError: the checkpoint has none, or it can't be read.
    """
    if passport.state is None:
        raise CheckpointError(
            f"{checkpoint} has no training state beside it, so a run can't resume from it. Use --init {checkpoint} to start from its weights."
        )
    path = Path(checkpoint).parent / passport.state.format(rank=rank)
    if not path.is_file():
        raise CheckpointError(
            f"{path}, the training state of {checkpoint}, is not there. Use --init {checkpoint} to start from the weights alone."
        )
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes checksums and does not look at them
            if (record := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{record} does not match its checksum")
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return read_torch(path)


class Saver:
    """Takes a snapshot at once and writes it in the background.

    State first, then ``last`` (the one before stays as ``previous``), then ``best`` and ``epoch_N``; a run that was killed
    in between writes those two when it resumes (:func:`clipwise.engine.init_resume.complete`).

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
        passport: Passport,
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
        rank = self.accelerator.process_index
        name = f"state-{passport.epoch}-{passport.step}-{state['batch']}-rank{{rank}}.pt"
        if rank:
            save_state(self.folder / name.format(rank=rank), state)
        # Once the first process names its state, those of the others must be there.
        self.accelerator.wait_for_everyone()
        if rank == 0:
            passport.state = name
            arguments = _to_memory(state), _to_memory(weights), passport, best, whole_epoch
            self.pending = self.thread.submit(self._write_again, *arguments)

    def wait(self) -> None:
        """Wait for the writing; an error of it (a full disk) is raised here."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()

    def _write_again(self, *arguments) -> None:
        try:
            self._write(*arguments)
        except (CheckpointError, FileNotFoundError):  # the folder was removed meanwhile: writing makes it again
            self._write(*arguments)

    def _write(self, state, weights, passport: Passport, best: bool, whole_epoch: bool) -> None:
        last = self.folder / "last.safetensors"
        save_state(self.folder / (passport.state or "").format(rank=0), state)
        save_weights(last, weights, passport, previous=self.folder / "previous.safetensors")
        self.write_copies(weights, passport, best, whole_epoch)
        self.tidy(before=(state["epoch"], state["batch"]))

    def write_copies(self, weights, passport: Passport, best: bool, whole_epoch: bool) -> None:
        """``best`` and ``epoch_N``, which need no state."""
        passport = replace(passport, state=None)
        if best:
            save_weights(self.folder / "best.safetensors", weights, passport)
        if self.keep and whole_epoch:
            save_weights(self.folder / f"epoch_{passport.epoch:04d}.safetensors", weights, passport)

    def tidy(self, before: tuple[int, int] | None = None) -> None:
        """Delete the states that no pair of the folder names, and epochs beyond ``keep``.

        Args:
            before: only states of an earlier (epoch, batch), for other processes may be writing the next ones; None, before
                a run writes anything, also deletes later ones and what a killed process left half written.
        """
        named = set()
        for pair in (self.folder / "last.safetensors", self.folder / "previous.safetensors"):
            with contextlib.suppress(CheckpointError):
                if pair.is_file():
                    named.add((read_passport(pair).state or "").partition("-rank")[0])
        for old in self.folder.glob("state-*-rank*.pt"):
            stem = old.name.partition("-rank")[0]
            position = [int(x) for x in stem.split("-")[1:] if x.isdecimal()]
            older = before is None or (len(position) == 3 and (position[0], position[2]) < before)
            if older and stem not in named:
                old.unlink(missing_ok=True)
        for old in sorted(self.folder.glob("epoch_*.safetensors"))[: -self.keep] if self.keep else ():
            old.unlink(missing_ok=True)
        if before is None and any(path.name != ".lock" for path in self.folder.glob(".*")):
            from clipwise.io.unfinished import remove_stale

            remove_stale(self.folder, alone=True)


def _to_memory(value: Any) -> Any:
    """A copy in the CPU's memory that the next step can't change."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: _to_memory(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_memory(v) for v in value)
    return value
