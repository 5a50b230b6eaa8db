"""Reading checkpoints: safetensors weights whose header carries a passport (``clipwise.engine.saver`` writes them).

``predict``, ``test``, ``export`` and ``serve`` read the same passport. A file whose checksums do not match, with a flipped byte
for instance, is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from clipwise.engine.saver import HEADER, SCHEMA
from clipwise.engine.saver import Passport as Passport
from clipwise.engine.saver import save_weights as save_weights
from clipwise.errors import CheckpointError, RecipeError
from clipwise.io.parse import check_schema, parse_json, tensor_digest
from clipwise.io.plugins import is_foreign, trusting
from clipwise.models.registry import create_model

_CHECKSUMS = re.compile(r', "checksums": \["([0-9a-f]{64})", "([0-9a-f]{64})"\]\}$')
_DAMAGED = "Copy it again from where it came from, or use another checkpoint of the run (best, previous, epoch_…)."


def read_passport(path: str | Path) -> Passport:
    """The passport alone; the weights are not read.

    Raises:
        CheckpointError: not a checkpoint of clipwise, or damaged.
    """
    with _open(path) as file:
        return _passport(file, path)[0]


def read_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], Passport]:
    """Weights (on the CPU) and passport.

    Raises:
        CheckpointError: not a checkpoint of clipwise, or damaged.
    """
    with _open(path) as file:
        passport, digest = _passport(file, path)
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if digest is not None and tensor_digest(tensors) != digest:
        raise CheckpointError(f"{path} is damaged: its weights do not match their checksum. {_DAMAGED}")
    return tensors, passport


@contextlib.contextmanager
def _open(path: str | Path):
    if str(path).startswith("hf:"):
        from clipwise.io.hub import local_copy

        path = local_copy(path)
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        from clipwise.engine.checkpoint_errors import check_file

        path = check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path} can't be read: it is damaged or not a safetensors file ({error}).") from None


def _passport(file, path) -> tuple[Passport, str | None]:
    """The passport, and the checksum of the tensors (None in files of 0.1, which have none)."""
    text = (file.metadata() or {}).get(HEADER)
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file without a clipwise passport, so its model, classes and preprocessing are unknown. "
            f"Convert it first: clipwise convert {path} --recipe RECIPE --out NAME.safetensors"
        )
    return parse_passport(text, path)


def parse_passport(text: str, path: str | Path) -> tuple[Passport, str | None]:
    """Passport and tensor checksum from a passport's text, which may be anything.

    Raises:
        CheckpointError: it is damaged, or not a passport of clipwise.
    """
    found = _CHECKSUMS.search(text)
    if found and hashlib.sha256(f"{text[: found.start()]}}}".encode()).hexdigest() != found[1]:
        raise CheckpointError(f"{path} is damaged: its passport does not match its checksum. {_DAMAGED}")
    try:
        values = parse_json(text)
    except ValueError:
        values = None
    passport = make_passport(values, path)
    if not found and values.keys() - Passport.__dataclass_fields__.keys():  # 0.1 wrote these fields and no checksums
        raise CheckpointError(f"{path} is damaged: its passport has no valid checksum. {_DAMAGED}")
    return passport, found[2] if found else None


def make_passport(values: Any, path: str | Path) -> Passport:
    """A passport from the values of its text.

    Raises:
        CheckpointError: they are no passport of clipwise.
    """
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is damaged or not made by clipwise: its passport can't be read. {_DAMAGED}")
    fields = Passport.__dataclass_fields__
    check_schema(values.get("schema", SCHEMA), SCHEMA, f"{path}, passport", CheckpointError)
    wrong = [key for key, kind in _PASSPORT_TYPES.items() if key in values and not isinstance(values[key], kind)]
    classes = values.get("classes")
    if isinstance(classes, list) and not all(isinstance(name, str) for name in classes):
        wrong.append("classes")
    if values.get("state") and "state" not in wrong and not _STATE_NAME.fullmatch(values["state"]):
        wrong.append("state")
    if wrong or "model" not in values:
        raise CheckpointError(
            f"{path} has a passport that is not clipwise's: {', '.join(wrong) or 'model'} is missing or of the wrong type. {_DAMAGED}"
        )
    recipe = values.get("recipe")
    if recipe and not isinstance(recipe.get("input"), dict):  # 0.1's recipes are flat; all of today's have this group
        from clipwise.recipe import current_form

        values = {**values, "recipe": current_form(recipe, "recipe of the checkpoint")}
    return Passport(**{k: v for k, v in values.items() if k in fields})


_PASSPORT_TYPES: dict[str, Any] = {
    "model": str, "model_args": dict, "classes": list | None, "recipe": dict, "metrics": dict, "epoch": int,
    "step": int, "data": dict, "source": str | None, "state": str | None, "versions": dict, "schema": int,
}  # fmt: skip
_STATE_NAME = re.compile(r"[\w.-]*\{rank\}[\w.-]*")  # a file beside the checkpoint, and no other field to fill in


def load_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], source: str | Path) -> None:
    """Load strictly: every key must match in name and shape.

    Raises:
        CheckpointError: lists the keys that do not match.
    """
    own = model.state_dict()
    if own.keys() != tensors.keys() or any(tensors[key].shape != value.shape for key, value in own.items()):
        from clipwise.engine.checkpoint_errors import mismatch

        raise CheckpointError(f"{source} does not fit {type(model).__name__}: {mismatch(own, tensors)}.")
    model.load_state_dict(dict(tensors), strict=True)


def load_model(
    path: str | Path, device: str | torch.device = "cpu", *, model: nn.Module | None = None, trust: bool = False
) -> nn.Module:
    """The checkpoint's model with its weights, in evaluation mode; its attribute ``passport`` is the checkpoint's.

    Args:
        path: a ``.safetensors`` checkpoint, or the folder of a run (its ``best``, or else ``last``).
        device: where the model goes.
        model: the network to load the weights into, where it was handed to ``train`` as an object.
        trust: whether a model that does not come with clipwise may be imported.

    Raises:
        CheckpointError, RecipeError: the file can't be used; its model is not known, or not trusted.
    """
    with trusting(trust):
        return load_model_and_passport(path, device, model=model)[0]


def load_model_and_passport(
    path: str | Path,
    device: str | torch.device = "cpu",
    *,
    model: nn.Module | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, Passport]:
    """:func:`load_model` and the passport that came with it; ``model_args`` replace some of its own. Also of ``hf:MODEL``, ``timm:MODEL``."""
    if is_foreign(path):
        from clipwise.engine.foreign_models import load_foreign

        return load_foreign(path, device)
    tensors, passport = read_checkpoint(path)
    try:
        model = model or create_model(passport.model, **{**passport.model_args, **(model_args or {})})
    except (RuntimeError, MemoryError, RecipeError) as error:  # sizes that no memory holds, or below zero
        if isinstance(error, RecipeError) and not isinstance(error.__cause__, (RuntimeError, ArithmeticError)):
            raise
        reason = str(error.__cause__ or error).split("\n")[0]
        raise CheckpointError(
            f"{path}: its passport's {passport.model} {passport.model_args} can't be made: {reason}."
        ) from None
    load_tensors(model, tensors, path)
    model.passport = passport  # type: ignore[assignment]
    return model.eval().to(device), passport
