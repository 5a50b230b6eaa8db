"""Rows as text or as a data frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipwise.errors import MissingExtraError


def text_table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Columns of equal width, a line a row."""
    widths = [max(len(str(row[i])) if i < len(row) else 0 for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in [head, *rows]]
    return "\n".join(lines)


def data_frame(rows: Sequence[Mapping[str, Any]], purpose: str) -> Any:
    """A pandas data frame.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("pandas", "notebook", purpose) from error
    return pandas.DataFrame(list(rows))


def list_rows(videos: Any) -> list[dict[str, Any]]:
    """Path, label (several in a multi-label list) and class name of each entry of a ``VideoList``."""
    rows = []
    for index, path in enumerate(videos.paths()):
        label = videos.label(index)
        if getattr(label, "ndim", 0):
            label = [number for number, on in enumerate(label) if on]
        name = videos.classes[label] if videos.classes and isinstance(label, int) else None
        rows.append({"path": path, "label": label, "class": name})
    return rows


class Tabled:
    """What has ``rows()``, as a data frame, too."""

    def to_pandas(self) -> Any:
        """A data frame with these rows; needs the extra ``notebook``."""
        return data_frame(self.rows(), f"{type(self).__name__}.to_pandas()")  # type: ignore[attr-defined]
