"""JSON from files of others: whatever is in them, reading ends in a value or in one of the library's own errors.

And the checksum by which a file of ours is found damaged.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """As ``json.loads``; a mark of byte order is left out, nesting or a number beyond Python's limits is a ``JSONDecodeError`` too."""
    try:
        return json.loads(text.removeprefix("\ufeff") if isinstance(text, str) else text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError("nested too deep", "", 0) from None
    except ValueError as error:  # a number of thousands of digits, bytes that are no text
        raise json.JSONDecodeError(str(error).split(";")[0], "", 0) from None


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line; a line that a kill cut in half is left out.

    Raises:
        OSError, UnicodeDecodeError: it can't be read, or is not text.
    """
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            found.append(parse_json(line))
    return [value for value in found if isinstance(value, dict)]


def tensor_digest(tensors: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_schema(schema: Any, known: int, source: object, error: type[Exception]) -> None:
    """Refuse a file of a newer schema than this version knows, whose keys may mean something else; older ones are read.

    Raises:
        error: it is newer, or no version at all.
    """
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise error(f"{source}: schema: expected a whole number from 1 to {known}, given {schema!r}.")
    if schema > known:
        raise error(
            f"{source} has schema {schema}, newer than this clipwise knows ({known}). Update: pip install -U clipwise"
        )
