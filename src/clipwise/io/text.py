"""Text for people and for other programs: names shown safely, CSV that a spreadsheet does not run."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

JSON_SCHEMA = 1  # of what commands print and of result files; raised when a key goes away or changes its meaning
_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # escaped with one apostrophe, so that it can be undone
_KEPT = "\n\u200c\u200d"  # line breaks of messages; joiners, which words of some scripts and emoji need
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Control characters, text direction marks and undecodable bytes as escapes, so that a name can't steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        c if c in _KEPT or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON in readable UTF-8, with everything escaped that could steer a terminal; numpy values and paths as JSON has them."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=_plain)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def with_schema(value: Any) -> Any:
    """What a command prints as JSON, with the version of its form: in an object, or in each object of a list."""
    if isinstance(value, list):
        return [with_schema(one) for one in value]
    return {"schema": JSON_SCHEMA, **value} if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([csv_cell(cell) for cell in row])
    return text.getvalue()


def csv_cell(cell: Any) -> Any:
    """A cell as :func:`csv_text` writes it; numbers stay."""
    if isinstance(cell, str) and _FORMULA.match(cell) and not _is_number(cell):
        return "'" + cell
    return cell


def from_csv_cell(cell: str) -> str:
    """Inverse of :func:`csv_cell`."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def plural(count: float | None, one: str, many: str | None = None) -> str:
    """``1 fault``, ``2 faults``."""
    return f"{count} {one if count == 1 else many or one + 's'}"
