"""Published weights by name."""

from __future__ import annotations

from pathlib import Path

from clipwise.errors import CheckpointError


def resolve(checkpoint: str | Path) -> Path:
    """The file of a checkpoint: a path as it is.

    Raises:
        CheckpointError: no such file.
    """
    path = Path(checkpoint)
    if path.exists():
        return path
    raise CheckpointError(f"checkpoint {str(checkpoint)!r} does not exist.")
