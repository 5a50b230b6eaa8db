"""Links in a data set that lead to a folder which holds them, so that all would be in it again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from clipwise.errors import ClipwiseWarning


def without_upward_links(folder: Path, names: Sequence[str]) -> list[str]:
    """The names without such links, which are named in a warning."""
    above = folder.resolve()
    upward = [
        name for name in names if (folder / name).is_symlink() and above.is_relative_to((folder / name).resolve())
    ]
    for name in upward:
        target = (folder / name).resolve()
        warnings.warn(
            f"{folder / name} is a link to {target}, which holds it; it is left out.", ClipwiseWarning, stacklevel=3
        )
    return [name for name in names if name not in upward]
