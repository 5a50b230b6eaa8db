"""Class names: files that list them, and the step from what a list says to a class index."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipwise.data.videolist import natural_key
from clipwise.errors import DataError
from clipwise.io.names import did_you_mean
from clipwise.io.parse import parse_json
from clipwise.io.text import plural

_INTEGER = re.compile(r"-?\d+")


def is_integer(token: str) -> bool:
    """Whether a token of a list is a class index rather than a name."""
    return bool(_INTEGER.fullmatch(token))


def read_classes(path: str | Path) -> list[str]:
    """Read class names in the order of their indices.

    Accepts one name a line; ``name index`` or ``index name`` a line (indices from 0 or 1, in any order); a CSV with the
    header ``action``, ``name`` or ``label``; a JSON list; a JSON object {name: index} or {index: name}; ActivityNet's JSON with a ``label_id`` in each
    annotation; FineGym's category file.

    Raises:
        DataError: an empty file, a name that occurs twice, indices with gaps.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: this file of class names does not exist.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: the class names are not in UTF-8; save the file in that encoding.") from None
    if path.suffix.lower() == ".json":
        names = _from_json(text, path)
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines and lines[0].lower() in ("action", "name", "label", "class"):
            lines = lines[1:]
        names = _indexed(lines, path) or [line.strip("\"'") for line in lines]
    if not names:
        raise DataError(f"{path}: there are no class names in it.")
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            raise DataError(f"{path}: the class name {name!r} occurs twice (the second time as class {number}).")
        seen.add(name)
    return names


class ClassIndex:
    """Turns the labels of a list, names or numbers, into checked class indices.

    Args:
        classes: names in the order of their indices, if known.
        num_classes: upper bound of indices if names are not known, or more outputs than names.
        source: list file, for messages.
    """

    def __init__(self, classes: Sequence[str] | None, num_classes: int | None, source: str):
        self.source = source
        self.names: list[str] = list(classes or [])
        self.known = classes is not None
        self.limit = max(len(self.names), num_classes or 0) or None
        self._index = {name: i for i, name in enumerate(self.names)}
        self._by_name: bool | None = None  # decided by the first label

    def resolve(self, token: str | int, line: int) -> int:
        """The index of a label.

        Raises:
            DataError: unknown name, index out of range, or names and numbers mixed.
        """
        if isinstance(token, int) or (is_integer(token) and token not in self._index):
            return self.check(int(str(token)[:30]), line)  # more digits are too many as well
        if self._by_name is None:
            self._by_name = True
        elif not self._by_name:
            self._fail(line, f"the label {token!r} is a name, but the labels before are numbers")
        if token not in self._index:
            if self.known:
                hint = did_you_mean(token, self.names)
                self._fail(
                    line,
                    f"the class {token!r} is not among the {plural(len(self.names), 'known class', 'known classes')}{hint}",
                    "" if hint else ".",
                )
            self._index[token] = len(self._index)
            self.names.append(token)
        return self._index[token]

    def check(self, label: int, line: int) -> int:
        """A numeric label, if it is in range."""
        if self._by_name:
            self._fail(line, f"the label {label} is a number, but the labels before are names")
        self._by_name = False
        if not 0 <= label < 2**31:
            size = "negative" if label < 0 else "too large"
            self._fail(line, f"the label {label} is {size}; classes are counted from 0")
        if self.limit is not None and label >= self.limit:
            hint = ""
            if label == self.limit:
                hint = " If the list counts classes from 1, subtract 1 from each of its labels."
            many = f"with {plural(self.limit, 'class', 'classes')}"
            self._fail(line, f"the label {label} is out of range: {many}, 0 to {self.limit - 1}.{hint}", ".")
        return label

    def sorted_by_name(self) -> list[int] | None:
        """Once all labels are read: the map from the order of appearance to natural order, if names were found here."""
        if self.known or not self._by_name:
            return None
        found, self.names = self.names, sorted(self.names, key=natural_key)
        place = {name: i for i, name in enumerate(self.names)}
        return [place[name] for name in found]

    def _fail(self, line: int, problem: str, end: str = ".") -> None:
        raise DataError(f"{self.source}, line {line}: {problem.removesuffix('.')}{end}")


def _indexed(lines: list[str], path: Path) -> list[str] | None:
    """Names of lines such as ``3 name``, ``name 3`` or ``Clabel: 3; set: 1; Glabel: 5; (VT) name``; else None."""
    finegym = [re.match(r"Clabel:\s*(\d{1,18});.*?Glabel:\s*\d+;\s*(.+)$", line) for line in lines]
    if lines and all(finegym):
        pairs = [(int(m.group(1)), m.group(2)) for m in finegym if m]
    else:
        first = [re.match(r"(\d{1,18})[\s,]+(.+)$", line) for line in lines]
        last = [re.match(r"(.+?)[\s,]+(\d{1,18})$", line) for line in lines]
        if lines and all(first):
            pairs = [(int(m.group(1)), m.group(2)) for m in first if m]
        elif lines and all(last):
            pairs = [(int(m.group(2)), m.group(1)) for m in last if m]
        else:
            return None
        if len({name for _, name in pairs}) < len(pairs):
            return None  # "take 1", "take 2": the numbers belong to the names
    return _in_order(pairs, path)


def _in_order(pairs: list[tuple[int, str]], path: Path) -> list[str]:
    pairs = sorted(pairs)
    base = pairs[0][0] if pairs else 0
    if base not in (0, 1) or [number for number, _ in pairs] != list(range(base, base + len(pairs))):
        raise DataError(f"{path}: the class indices must run from 0 (or 1) without gaps or repetitions.")
    return [name.strip("\"'") for _, name in pairs]


def _label_ids(content: dict[str, Any]) -> dict[str, Any]:
    """{name: index} of annotations that number their labels (``label_id``, as ActionFormer's do); other content as it is."""
    database = content.get("database")
    if not isinstance(database, dict):
        return content
    entries = (entry for video in database.values() for entry in video.get("annotations", ()))
    return {entry["label"]: entry["label_id"] for entry in entries if "label_id" in entry}


def _from_json(text: str, path: Path) -> list[str]:
    try:
        content = parse_json(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from None
    if isinstance(content, list):
        return [str(name) for name in content]
    if isinstance(content, dict):
        content = _label_ids(content)
        if all(
            str(key).isdecimal() and isinstance(name, str) and not name.isdecimal() for key, name in content.items()
        ):
            content = {name: key for key, name in content.items()}  # {index: name}, as some copies have it
        try:
            return _in_order([(int(index), str(name)) for name, index in content.items()], path)
        except (TypeError, ValueError):
            pass
    raise DataError(f"{path}: class names in JSON are a list of names or an object {{name: index}}.")
