"""The one place that opens pickles: numbers, tensors and plain containers come out, and nothing in the file is run.

A pickle (``.pkl``, ``.pdparams``, the inside of ``.pth``) is a program that can call any function. Here a name that it asks for is
looked up in an allow list of constructors that can neither run code nor take more memory than the file has bytes.
"""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipwise.errors import CheckpointError, ClipwiseError, DataError
from clipwise.io.text import printable

_ASKS = (
    "{path} was not opened: its pickle asks for {name}, which is neither a tensor, an array nor plain data, and loading it could run "
    "code. Get the file from a source you trust, as plain tensors or arrays."
)


class _CodeInPickleError(Exception):
    """The pickle asks for something outside the allow list."""


def read_pickle(path: str | Path, error: type[ClipwiseError] = DataError, *, encoding: str = "latin1") -> Any:
    """The content of a pickle: arrays, tensors, numbers, text, plain containers.

    Args:
        error: what to raise.
        encoding: of Python 2's strings; ``bytes`` leaves them as they are.

    Raises:
        ClipwiseError: (of the kind ``error``) it is damaged, asks for code, or for more memory than it has bytes.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise error(f"{path} can't be read: {problem.strerror or problem}.") from None
    try:
        reader = _FrugalUnpickler if _LARGE_MEMO.search(data) else _Unpickler
        return reader(io.BytesIO(data), encoding=encoding).load()
    except _CodeInPickleError as asked:
        raise error(_ASKS.format(path=path, name=_line(str(asked)))) from None
    except MemoryError:
        raise error(f"{path} can't be read: it asks for more memory than it has data for. It is damaged.") from None
    except Exception as problem:  # whatever a damaged pickle runs into
        reason = _line(str(problem).strip()) or type(problem).__name__
        raise error(
            f"{path} can't be read as a pickle: it is truncated, damaged or of another format ({reason})."
        ) from None


def read_torch(path: str | Path, error: type[ClipwiseError] = CheckpointError) -> Any:
    """The content of a file that ``torch.save`` wrote, on the CPU: tensors and what :func:`read_pickle` lets pass.

    Raises:
        ClipwiseError: (of the kind ``error``) as :func:`read_pickle`.
    """
    _check_archive(Path(path), error)
    try:
        with torch.serialization.safe_globals(_TORCH_ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise error(f"{path} does not exist.") from None
    except Exception as problem:  # torch wraps, and passes on, whatever a damaged file runs into
        if isinstance(problem, pickle.UnpicklingError) and (name := _asked_of_torch(str(problem))):
            raise error(_ASKS.format(path=path, name=_line(name))) from None
        reason = _line(str(problem).strip() or type(problem).__name__)
        if isinstance(problem, MemoryError) or "allocate memory" in reason:
            reason = "it asks for more memory than it has data for"
        if isinstance(problem, pickle.UnpicklingError):
            reason = "it is damaged or of another format"
        raise error(
            f"{path} can't be read as a torch file: it is truncated or damaged ({reason}). Download it again."
        ) from None
    for tensor in _tensors(content):
        if tensor.layout is not torch.strided:
            raise error(
                f"{path} was not opened: a tensor in it is of layout {tensor.layout}; only dense ones are read."
            )
        if tensor.numel() * tensor.element_size() > max(_LARGE, tensor.untyped_storage().nbytes()):
            raise error(
                f"{path} was not opened: a tensor of shape {tuple(tensor.shape)} in it stands for "
                f"{tensor.numel() * tensor.element_size() / 2**30:,.0f} GiB, but the file holds {Path(path).stat().st_size:,} bytes."
            )
    return content


def _line(text: str) -> str:
    """The first line of a text that a stranger's file may have written."""
    return printable(text.split("\n")[0].replace("\t", " ").replace("\r", " "))[:200]


_LARGE = 2**28  # bytes that an expanded tensor may take whatever its storage holds


def _check_archive(path: Path, error: type[ClipwiseError]) -> None:
    """``torch.save`` does not compress; an archive that unpacks to more than its own size is made to fill the memory."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
    except Exception:  # of many kinds where the archive is damaged; torch says what is wrong
        return
    if unpacked > path.stat().st_size:
        raise error(
            f"{path} was not opened: it is {path.stat().st_size:,} bytes and unpacks to {unpacked:,}, as torch never writes it."
        )


def _tensors(content: Any) -> list[Tensor]:
    """All tensors in nested containers."""
    found, waiting, seen = [], [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return found


# A number of the memo for which C's unpickler would make room for millions of others; or bytes that only look like one.
_LARGE_MEMO = re.compile(rb"p\d{6}|r[\s\S]{2}(?:[\x10-\xff]|[\s\S][\x01-\xff])")


class _Restricted:
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("__builtin__", "builtins").replace("numpy._core", "numpy.core")
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _CodeInPickleError(f"{module}.{name}") from None


class _Unpickler(_Restricted, pickle.Unpickler):
    pass


class _FrugalUnpickler(_Restricted, pickle._Unpickler):
    """Python's own: ten times slower, and its memo is a dictionary."""


def _guard(call: Callable[..., Any]) -> Any:
    """A callable that a pickle can call but not change (a function takes attributes)."""
    return type("Guard", (), {"__slots__": (), "__call__": staticmethod(call)})()


class _NdarrayName:
    """Stands where a pickle names ``numpy.ndarray``, whose constructor takes any size."""

    __slots__ = ()


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    if kind not in (_NdarrayName, np.ndarray) or tuple(shape) != (0,):
        raise _CodeInPickleError(f"an array of shape {shape!r}")
    return np.empty((0,), np.dtype(code.decode() if isinstance(code, bytes) else code))


def _scalar(dtype: np.dtype, data: Any = b"") -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    if len(data) != dtype.itemsize:
        raise ValueError(f"{len(data)} bytes for a {dtype}")
    return np.frombuffer(data, dtype)[0]


def _from_buffer(buffer: Any, dtype: np.dtype, shape: Any, order: Any, *_: Any) -> np.ndarray:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _latin1(text: str, _encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _bytearray(*given: Any) -> bytearray:
    if given and isinstance(given[0], int):
        raise MemoryError
    return bytearray(_latin1(given[0]) if given and isinstance(given[0], str) else b"".join(given))


def _static_tensor(*given: Any) -> Any:
    """Paddle pickles a static tensor as ``eval('data', {'data': array})``."""
    match given:
        case ("data", {"data": array, **others}) if not others:
            return array
    raise _CodeInPickleError(f"builtins.eval({', '.join(map(repr, given))[:60]})")


def _storage(content: bytes) -> Any:
    """Torch's own ``_load_from_bytes`` would unpickle anything."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    if tensor.numel() * tensor.element_size() > max(_LARGE, tensor.untyped_storage().nbytes()):
        raise MemoryError
    return tensor


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _guard(_empty_array),
    ("numpy.core.multiarray", "scalar"): _guard(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _guard(_from_buffer),
    ("numpy", "ndarray"): _NdarrayName,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): _guard(dict),
    ("_codecs", "encode"): _guard(_latin1),
    ("builtins", "tuple"): tuple,
    ("builtins", "bytearray"): _guard(_bytearray),
    ("builtins", "eval"): _guard(_static_tensor),
    ("torch.storage", "_load_from_bytes"): _guard(_storage),
    ("torch._utils", "_rebuild_tensor_v2"): _guard(_tensor),
}


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
    *((call, f"numpy.{core}.multiarray.{name}")
      for core in ("core", "_core") for call, name in ((_scalar, "scalar"), (_empty_array, "_reconstruct"))),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"},
]  # fmt: skip


def _asked_of_torch(message: str) -> str | None:
    """What torch's restricted unpickler refused to look up or to call; None if it stumbled over something else."""
    for pattern in (
        r"GLOBAL ([\w.]+)",
        r"reduce for unrecognized function (.+)",
        r"(?:create new object for|build Tensor).* but got (.+)",
    ):
        if found := re.search(pattern, message):
            return found.group(1)
    return None
