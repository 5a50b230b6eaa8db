"""Weight files of other projects: their tensors by name, and what else they hold. Nothing in them is run (``unpickle``)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipwise.errors import CheckpointError
from clipwise.io.unpickle import read_pickle, read_torch


@dataclass(frozen=True)
class ForeignCheckpoint:
    """A file's tensors by their own names, and what else it held.

    Attributes:
        path: the file.
        tensors: name to tensor, without what torch's wrappers put in (``module.``, ``_orig_mod.``, …).
        meta: the rest of the file: ``meta`` of MMAction2, ``arch`` of TSM, …
    """

    path: Path
    tensors: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)


def read_foreign_checkpoint(path: str | Path) -> ForeignCheckpoint:
    """Read a weight file of another project: ``.pth``/``.pt``/``.tar`` of torch, ``.pdparams`` of Paddle, ``.safetensors``.

    Raises:
        CheckpointError: no such file, truncated, no weights in it, or a pickle that asks for code outside the allow list.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty: 0 bytes. Download it again")
    if path.suffix == ".safetensors":
        content = _read_safetensors(path)
    elif path.suffix in (".pdparams", ".pdmodel", ".pkl"):
        content = _read_paddle(path)
    else:
        content = read_torch(path)
    tensors, meta = split_checkpoint(content)
    if not tensors:
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{path} holds no weights (found: {found}); a dictionary of named tensors is expected")
    return ForeignCheckpoint(path, tensors, meta)


WEIGHTS_TAKEN = "weights_taken"  # in ``meta``: which of a file's two sets of weights


def split_checkpoint(content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Separate named tensors from everything else; accepts a bare state dict or one under 'state_dict', 'model' or 'params'.

    Of a file that has both, the moving average ('state_dict_ema') is taken: it is what was evaluated.
    """
    if isinstance(content, ForeignCheckpoint):
        return content.tensors, content.meta
    if not isinstance(content, Mapping):
        return {}, {}
    meta: dict[str, Any] = {}
    for key in ("state_dict_ema", "state_dict", "model_state", "model_state_dict", "model", "params"):
        if isinstance(content.get(key), Mapping):
            meta = {str(k): v for k, v in content.items() if k != key}
            if key == "state_dict_ema":
                meta[WEIGHTS_TAKEN] = key
            content = content[key]
            break
    tensors = {}
    for key, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(np.ascontiguousarray(value))
        if isinstance(value, Tensor):
            tensors[str(key)] = value.detach()
        else:
            meta.setdefault(str(key), value)
    return _unwrapped(tensors), meta


# What compile, FSDP and activation checkpointing put into names, and DataParallel and Lightning before all of them.
_INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_BEFORE = ("module.", "model.")


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that they had before any wrapper."""
    names = {key: key for key in tensors}
    for inside in _INSIDE:
        names = {key: name.replace(inside, "") for key, name in names.items()}
    while names and (word := next((w for w in _BEFORE if all(n.startswith(w) for n in names.values())), None)):
        names = {key: name.removeprefix(word) for key, name in names.items()}
    if len(set(names.values())) < len(names):  # two copies of a network in one file
        return tensors
    return {names[key]: tensor for key, tensor in tensors.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} can't be read: it is truncated or not a safetensors file ({error})") from None


def _read_paddle(path: Path) -> dict[str, Any]:
    content = read_pickle(path, CheckpointError)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; a dictionary of named arrays is expected")
    # Paddle 2 stores a dynamic tensor as (name, array).
    pairs = {
        k: v[1] if isinstance(v, tuple) and len(v) == 2 and isinstance(v[1], np.ndarray) else v
        for k, v in content.items()
    }
    pairs.pop("StructuredToParameterName@@", None)
    return pairs
