"""Open strangers' weight files without running anything that is in them.

A ``.pth`` and a ``.pdparams`` are pickles, and a pickle can call any function. Both are read here with an allow list: tensors,
arrays, plain containers, and inert stand-ins for the few classes that MMAction2 and Paddle leave in their files.
"""

import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipwise.errors import CheckpointError


@dataclass(frozen=True)
class ForeignCheckpoint:
    """A file's tensors by their own names, and what else it held.

    Attributes:
        path: the file.
        tensors: name to tensor; a leading ``module.`` (DataParallel) is removed.
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
        content = _read_torch(path)
    tensors, meta = split_checkpoint(content)
    if not tensors:
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{path} holds no weights (found: {found}); a dictionary of named tensors is expected")
    return ForeignCheckpoint(path, tensors, meta)


def split_checkpoint(content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Separate named tensors from everything else; accepts a bare state dict or one under 'state_dict', 'model' or 'params'."""
    if isinstance(content, ForeignCheckpoint):
        return content.tensors, content.meta
    if not isinstance(content, Mapping):
        return {}, {}
    meta: dict[str, Any] = {}
    for key in ("state_dict", "model_state", "model", "params"):
        if isinstance(content.get(key), Mapping):
            meta = {str(k): v for k, v in content.items() if k != key}
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
    if tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors, meta


class _HistoryBuffer:
    """Stands in for mmengine's class of that name, which 1.x checkpoints contain; holds its state, does nothing."""

    def __setstate__(self, state: object) -> None:
        self.state = state


def _attribute(*_: object) -> None:
    """Stands in for ``getattr``, which a pickled HistoryBuffer asks for; returns nothing."""


_TORCH_ALLOWED: list[Any] = [
    (_HistoryBuffer, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_attribute, "builtins.getattr"),
    (_attribute, "__builtin__.getattr"),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),  # type: ignore[attr-defined]
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # type: ignore[attr-defined]
    (np._core.multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),  # type: ignore[attr-defined]
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"},
]


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_TORCH_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = _asked_for(str(error))
        if asked:
            raise CheckpointError(
                f"{path} was not opened: its pickle asks for {asked}, which is neither a tensor nor plain data, and "
                "loading it could run code. Get the file from a source you trust, as a state dict"
            ) from None
        raise CheckpointError(
            f"{path} can't be read as a torch checkpoint: it is damaged or of another format"
        ) from None
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        UnicodeDecodeError,
        AttributeError,
        OSError,
    ) as error:
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{path} can't be read as a torch checkpoint: it is truncated or damaged ({reason[0] if reason else type(error).__name__}). "
            "Download it again"
        ) from None


def _asked_for(message: str) -> str | None:
    """What torch's restricted unpickler refused to look up or to call; None if it stumbled over something else."""
    for pattern in (
        r"GLOBAL ([\w.]+)",
        r"reduce for unrecognized function (.+)",
        r"(?:create new object for|build Tensor).* but got (.+)",
    ):
        if found := re.search(pattern, message):
            return found.group(1)
    return None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} can't be read: it is truncated or not a safetensors file ({error})") from None


class _PaddleUnpickler(pickle.Unpickler):
    """Allows numpy arrays and plain containers. Paddle pickles a static tensor as ``eval('data', {'data': array})``."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("__builtin__", "builtins").replace("numpy._core", "numpy.core")
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("numpy.core.multiarray", "scalar"): np._core.multiarray.scalar,  # type: ignore[attr-defined]
            ("numpy.core.numeric", "_frombuffer"): np._core.numeric._frombuffer,  # type: ignore[attr-defined]
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("collections", "OrderedDict"): OrderedDict,
            ("collections", "Counter"): Counter,
            ("_codecs", "encode"): _latin1,
            ("builtins", "tuple"): tuple,
            ("builtins", "bytearray"): bytearray,
            ("builtins", "eval"): _static_tensor,
        }
        if (module, name) not in allowed:
            raise _CodeInPickleError(f"{module}.{name}")
        return allowed[module, name]


class _CodeInPickleError(Exception):
    """The pickle asks for something outside the allow list."""


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


def _static_tensor(expression: str, scope: dict) -> Any:
    if expression != "data" or set(scope) != {"data"}:
        raise _CodeInPickleError(f"builtins.eval({expression!r})")
    return scope["data"]


def _read_paddle(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = _PaddleUnpickler(file, encoding="latin1").load()
    except _CodeInPickleError as error:
        raise CheckpointError(
            f"{path} was not opened: its pickle asks for {error}, which is neither an array nor plain data, and loading it "
            "could run code. Get the file from a source you trust"
        ) from None
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        UnicodeError,
    ) as error:
        raise CheckpointError(
            f"{path} can't be read as Paddle parameters: truncated, or of another format ({error})"
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; a dictionary of named arrays is expected")
    # Paddle 2 stores a dynamic tensor as (name, array).
    pairs = {
        k: v[1] if isinstance(v, tuple) and len(v) == 2 and isinstance(v[1], np.ndarray) else v
        for k, v in content.items()
    }
    pairs.pop("StructuredToParameterName@@", None)
    return pairs
