"""Packet tables of a whole data set in one file, made by `clipwise prepare index`.

The file lies in the videos' folder (or up to three folders above). A table is used only for a file of the same size and
modification time. Even frame rates and keyframe distances are stored as three numbers, so that an index of 300,000 videos
stays around 25 MB.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from clipwise.errors import DataError
from clipwise.io.files import atomic_path
from clipwise.video.packets import PacketTable, index_path

INDEX_FORMAT = 2  # 1 trusted keyframe marks and counts that nobody had checked
Key = tuple[str, int, int]  # absolute path, size, modification time in ns

_ROW = np.dtype([
    ("name", "u8"), ("size", "i8"), ("mtime", "i8"), ("pts", "i8", 3), ("keys", "i8", 3),
    ("damage", "i4"), ("note", "i4"), ("rotation", "i2"), ("hidden", "i4"), ("flags", "u1"),
])  # fmt: skip


class PacketIndex:
    """Tables found by path, size and modification time."""

    def __init__(self, path: str | os.PathLike):
        """
        Raises:
            DataError: the file is not an index of this version.
        """
        self.folder = os.path.dirname(os.path.abspath(path))
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path}: cannot be read as a packet index; delete it and run `clipwise prepare index` again"
            ) from error
        version = int(arrays.get("format", -1))
        if version == 1:
            warnings.warn(
                f"{path}: was made by clipwise 0.1, whose frame counts and keyframes were not checked, and is not used; "
                "run `clipwise prepare index` again",
                stacklevel=2,
            )
            arrays["rows"] = np.empty(0, _ROW)
        elif version != INDEX_FORMAT:
            raise DataError(f"{path}: is an index of another version; delete it and run `clipwise prepare index` again")
        self._rows, self._stamps, self._texts = arrays["rows"], arrays["stamps"], arrays["texts"]

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: Key) -> PacketTable | None:
        name = path_hash(key[0], self.folder)
        row = int(np.searchsorted(self._rows["name"], name))
        if row == len(self._rows):
            return None
        entry = self._rows[row]
        if entry["name"] != name or entry["size"] != key[1] or entry["mtime"] != key[2]:
            return None
        damage, note = (str(self._texts[entry[name]]) or None for name in ("damage", "note"))
        pts, keys = self._list(entry["pts"]), self._list(entry["keys"])
        flags = int(entry["flags"])
        rotation, hidden = int(entry["rotation"]), int(entry["hidden"])
        return PacketTable(pts, keys, bool(flags & 1), bool(flags & 2), damage, rotation, hidden, note)

    def _list(self, packed: np.ndarray) -> np.ndarray:
        first, step, count = (int(value) for value in packed)
        if step < 0:
            return self._stamps[first : first + count]
        return first + step * np.arange(count, dtype=np.int64)


def write_index(path: str | os.PathLike, tables: Iterable[tuple[Key, PacketTable]]) -> None:
    """Writes an index file; complete or not at all."""
    target = Path(path)
    folder = os.path.dirname(os.path.abspath(target))
    rows, stamps, texts, length = [], [], {"": 0}, 0
    for key, table in tables:
        packed = []
        for values in (table.pts, table.keys):
            steps = np.unique(np.diff(values))
            if len(steps) <= 1:
                packed.append((int(values[0]) if len(values) else 0, int(steps[0]) if len(steps) else 0, len(values)))
            else:
                packed.append((length, -1, len(values)))
                stamps.append(values)
                length += len(values)
        damage, note = (texts.setdefault(text or "", len(texts)) for text in (table.damage, table.note))
        flags = table.timed | table.seekable << 1
        rows.append((path_hash(key[0], folder), *key[1:], *packed, damage, note, table.rotation, table.hidden, flags))
    table_rows = np.sort(np.array(rows, dtype=_ROW), order="name")
    with atomic_path(target) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            format=np.int64(INDEX_FORMAT),
            rows=table_rows,
            stamps=np.concatenate(stamps) if stamps else np.empty(0, np.int64),
            texts=np.array(list(texts)),
        )
    forget_indexes()


def find_table(key: Key) -> PacketTable | None:
    """The table of a video (path, size, modification time) in the index of its folder, or of one of the folders above."""
    path = index_path(os.path.dirname(key[0]))
    return open_index(path).get(key) if path is not None else None


@cache
def open_index(path: Path) -> PacketIndex:
    """An index, remembered."""
    return PacketIndex(path)


def forget_indexes() -> None:
    """Looks for index files again."""
    index_path.cache_clear()
    open_index.cache_clear()


def path_hash(path: str, folder: str) -> int:
    # Relative, so that a data set may be moved with its index.
    relative = os.path.relpath(path, folder).replace(os.sep, "/")
    return int.from_bytes(blake2b(os.fsencode(relative), digest_size=8).digest(), "little")
