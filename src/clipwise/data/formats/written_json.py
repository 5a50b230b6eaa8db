"""Annotations written as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipwise.io.files import atomic_path
from clipwise.io.text import json_text


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write a file that is whole or not there, in UTF-8; of names that are no text (half a character) the escapes."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(content, indent) + "\n", encoding="utf-8")
