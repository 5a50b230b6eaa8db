"""What a run writes: weights with their passport, and its training state beside them.

A resumable checkpoint is two files: the state (optimizer, random states, position) and the weights, a safetensors file
whose passport names the state. A run's folder holds two such pairs, ``last`` and ``previous``, so that a damaged one does
not end the run. Both carry checksums. ``clipwise.engine.checkpoint`` reads them.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

import clipwise
from clipwise.errors import CheckpointError
from clipwise.io.files import atomic_path, flush
from clipwise.io.parse import tensor_digest
from clipwise.io.unfinished import link_or_copy

if TYPE_CHECKING:
    from accelerate import Accelerator

HEADER = "clipwise"
SCHEMA = 1  # of passports; files without one read the same


def _versions() -> dict[str, str]:
    return {"clipwise": clipwise.__version__, "torch": torch.__version__, "python": platform.python_version()}


@dataclass
class Passport:
    """What a checkpoint says about itself: everything that prediction needs, so that a demo can't disagree with the test."""

    model: str
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments that rebuild the model, class count included."""
    classes: list[str] | None = None
    """Class names in the order of the scores."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """Preprocessing, sampling and test protocol among its keys."""
    metrics: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Optimizer steps taken."""
    data: dict[str, Any] = field(default_factory=dict)
    """Fingerprint, path and size of the training list."""
    source: str | None = None
    """Where converted weights came from."""
    state: str | None = None
    """Name of the training state beside this file."""
    versions: dict[str, str] = field(default_factory=_versions)
    schema: int = SCHEMA


def save_weights(
    path: str | Path, tensors: Mapping[str, torch.Tensor], passport: Passport, previous: Path | None = None
) -> None:
    """Write weights and passport to one safetensors file, atomically.

    Args:
        previous: the name under which the file that is replaced stays.
    """
    path = Path(path)
    plain = {k: v.detach().to("cpu").contiguous() for k, v in tensors.items()}
    text = json.dumps(asdict(passport), ensure_ascii=False, default=str)
    checksums = json.dumps([hashlib.sha256(text.encode()).hexdigest(), tensor_digest(plain)])
    with atomic_path(path) as temporary:
        try:
            save_file(plain, temporary, metadata={HEADER: f'{text[:-1]}, "checksums": {checksums}}}'})
        except SafetensorError as error:  # safetensors wraps the operating system's error
            raise OSError(str(error)) from error
        if previous is not None and path.is_file():
            flush(temporary)  # the new file is on the disk before the older one goes
            link_or_copy(path, previous)


def save_state(path: Path, state: dict) -> None:
    """Write a training state atomically."""
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch wraps the operating system's error
            raise OSError(f"{str(error).splitlines()[0]} (is the disk full?)") from error


class Saver:
    """Takes a snapshot at once and writes it in the background.

    State first, then ``last`` (the one before stays as ``previous``), then ``best`` and ``epoch_N``; a run that was killed
    in between writes those two when it resumes (:func:`clipwise.engine.resume.complete`).

    Args:
        folder: the run's folder.
        keep: how many epochs' weights stay beside ``last`` and ``best``.

    Attributes:
        named: the states of ``previous`` and ``last``, as their passports name them.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, keep: int):
        self.folder, self.accelerator, self.keep = folder, accelerator, keep
        self.named: list[str] = []
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.pending: Future | None = None

    def save(
        self, state: dict[str, Any], weights: dict[str, torch.Tensor], passport: Passport, best: bool, whole_epoch: bool
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
        name = str(passport.state)
        save_state(self.folder / name.format(rank=0), state)
        save_weights(self.folder / "last.safetensors", weights, passport, self.folder / "previous.safetensors")
        self.named = [*self.named[-1:], name]
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
        """Delete the states that are not :attr:`named`, and epochs beyond ``keep``.

        Args:
            before: only states of an earlier (epoch, batch), for other processes may be writing the next ones; None, before
                a run writes anything, also deletes later ones and what a killed process left half written.
        """
        named = {name.partition("-rank")[0] for name in self.named}
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
