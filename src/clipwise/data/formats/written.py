"""Files of annotations as they are written: whole or not there, in UTF-8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipwise.io.files import atomic_path
from clipwise.io.text import json_text


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write JSON; of names that are no text (half a character) the escapes."""
    write_whole(path, json_text(content, indent) + "\n")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write text, or bytes; bytes of a file name that are not UTF-8 stay what they are."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
