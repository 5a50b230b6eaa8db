"""Checkpoints: safetensors weights whose header carries a passport, and the training state beside them.

The passport says everything that prediction needs: model and its arguments, class names, preprocessing,
sampling and test protocol (the recipe holds them), metrics, versions, a fingerprint of the data. ``predict``,
``test``, ``export`` and ``serve`` read the same passport, so a demo can't disagree with the test.

A resumable checkpoint is two files. The state (optimizer, random states, position) is written first under a
new name, then the weights atomically replace the old ones and name their state in the passport. A kill at
any moment therefore leaves either the old pair or the new one. A run's ``Saver`` does this beside the training, so
that no step waits for the disk.
"""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

import clipwise
from clipwise.errors import CheckpointError
from clipwise.io.files import atomic_path
from clipwise.io.plugins import trusting
from clipwise.io.unpickle import read_torch
from clipwise.models.registry import create_model

if TYPE_CHECKING:
    from accelerate import Accelerator

HEADER = "clipwise"


@dataclass
class Passport:
    """What a checkpoint says about itself."""

    model: str
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments that rebuild the model, class count included."""
    classes: list[str] | None = None
    """Class names in the order of the scores."""
    recipe: dict[str, Any] = field(default_factory=dict)
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
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if not self.versions:
            self.versions = {
                "clipwise": clipwise.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            }


def save_weights(path: str | Path, tensors: Mapping[str, torch.Tensor], passport: Passport) -> None:
    """Write weights and passport to one safetensors file, atomically."""
    plain = {k: v.detach().to("cpu").contiguous() for k, v in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(
                plain, temporary, metadata={HEADER: json.dumps(asdict(passport), ensure_ascii=False, default=str)}
            )
        except SafetensorError as error:  # safetensors wraps the operating system's error
            raise OSError(str(error)) from error


def read_passport(path: str | Path) -> Passport:
    """The passport alone; the weights are not read.

    Raises:
        CheckpointError: not a checkpoint of clipwise, or damaged.
    """
    with _open(path) as file:
        return _passport(file, path)


def read_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], Passport]:
    """Weights (on the CPU) and passport.

    Raises:
        CheckpointError: not a checkpoint of clipwise, or damaged.
    """
    with _open(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, _passport(file, path)  # noqa: SIM118


@contextlib.contextmanager
def _open(path: str | Path):
    path = Path(path)
    if path.is_dir():
        inside = sorted(path.glob("*.safetensors"))
        hint = f"for example {inside[0]}" if inside else "a .safetensors file"
        raise CheckpointError(f"checkpoint {path} is a folder; give {hint}.")
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist.")
    if path.suffix in (".pth", ".pt", ".pdparams", ".tar", ".pkl"):
        raise CheckpointError(
            f"{path} is not a clipwise checkpoint. Convert it first: clipwise convert {path} --recipe RECIPE --out NAME.safetensors"
        )
    if path.suffix in (".onnx", ".pt2", ".xml"):
        raise CheckpointError(
            f"{path} is an exported file. `clipwise predict`, `test` and `localize` take its network; what is asked for here needs the "
            "checkpoint (.safetensors) that it was made from."
        )
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path} can't be read: it is damaged or not a safetensors file ({error}).") from None


def _passport(file, path) -> Passport:
    text = (file.metadata() or {}).get(HEADER)
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file without a clipwise passport, so its model, classes and preprocessing are unknown. "
            f"Convert it first: clipwise convert {path} --recipe RECIPE --out NAME.safetensors"
        )
    values = json.loads(text)
    return Passport(**{k: v for k, v in values.items() if k in Passport.__dataclass_fields__})


def load_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], source: str | Path) -> None:
    """Load strictly: every key must match in name and shape.

    Raises:
        CheckpointError: lists the keys that do not match.
    """
    own = model.state_dict()
    missing = [k for k in own if k not in tensors]
    unused = [k for k in tensors if k not in own]
    shapes = [
        f"{k} {tuple(tensors[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]
    if missing or unused or shapes:

        def some(keys):
            return f"{len(keys)} ({', '.join(keys[:4])}{', …' if len(keys) > 4 else ''})" if keys else "0"

        raise CheckpointError(
            f"{source} does not fit {type(model).__name__}: {some(missing)} keys missing, {some(unused)} unknown, {some(shapes)} of another shape."
        )
    model.load_state_dict(dict(tensors), strict=True)


def load_model(path: str | Path, device: str | torch.device = "cpu", *, trust: bool = False) -> nn.Module:
    """The checkpoint's model with its weights, in evaluation mode.

    Args:
        path: a ``.safetensors`` checkpoint.
        device: where the model goes.
        trust: whether a model that does not come with clipwise may be imported.

    Raises:
        CheckpointError: the file can't be used.
        RecipeError: its model is not known, or not trusted.
    """
    with trusting(trust):
        return load_model_and_passport(path, device)[0]


def load_model_and_passport(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, Passport]:
    """:func:`load_model` and the passport that came with it."""
    tensors, passport = read_checkpoint(path)
    model = create_model(passport.model, **passport.model_args)
    load_tensors(model, tensors, path)
    return model.eval().to(device), passport


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
    return read_torch(path)


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
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        name = f"state-{passport.epoch}-{passport.step}-{state['batch']}-rank{{rank}}.pt"
        if rank:
            save_state(self.folder / name.format(rank=rank), state)
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

    def _write(self, state, weights, passport: Passport, best: bool, whole_epoch: bool, processes: int) -> None:
        name = passport.state or ""
        save_state(self.folder / name.format(rank=0), state)
        save_weights(self.folder / "last.safetensors", weights, passport)
        passport.state = None
        if best:
            save_weights(self.folder / "best.safetensors", weights, passport)
        if self.keep and whole_epoch:
            save_weights(self.folder / f"epoch_{passport.epoch:04d}.safetensors", weights, passport)
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
