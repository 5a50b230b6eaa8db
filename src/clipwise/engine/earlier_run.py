"""An earlier run in the folder of a new one: its files are moved aside; its lock goes if its process is dead."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time
from pathlib import Path
from typing import Any

from clipwise.errors import CheckpointError

_PATIENCE_S = 20.0  # a lock of another machine that nobody touches for so long belongs to a dead run

# The last two make a folder a run's: if the process is killed while it moves them, the next one moves the rest.
_FILES_OF_A_RUN = (
    "best.safetensors", "epoch_*.safetensors", "state-*.pt", "log.jsonl", "log.csv", "recipe.yaml", "report.html",
    "previous.safetensors", "last.safetensors",
)  # fmt: skip


def move_aside(folder: Path) -> Path:
    """Move an earlier run's files into a folder of their own, which is returned."""
    earlier = next(path for n in itertools.count(1) if not (path := folder / f"earlier-{n}").exists())
    earlier.mkdir()
    if (folder / "lists").is_dir():  # a copy, for the new run may be about to train on them
        shutil.copytree(folder / "lists", earlier / "lists")
    for old in [path for pattern in _FILES_OF_A_RUN for path in folder.glob(pattern)]:
        old.rename(earlier / old.name)
    return earlier


def remove_dead_lock(folder: Any, mine: Path) -> None:
    """Remove the lock of a dead process.

    Args:
        folder: the ``RunFolder`` that wants to take it.
        mine: the file that is to become its lock.

    Raises:
        CheckpointError: the process is alive.
    """
    lock, holder = folder.lock, folder.holder()
    if holder is None:  # its process has just ended
        return
    if _is_alive(folder, holder):
        raise CheckpointError(
            f"{folder.path} is in use by another run: process {holder.get('pid', '?')} on {holder.get('host', 'an unknown host')}. "
            f"Wait for it or stop it, or give another --work-dir. (Its lock is {lock}.)"
        )
    moved = mine.with_suffix(
        ".stale.tmp"
    )  # after a kill here the next run removes it as it does all that is unfinished
    with contextlib.suppress(FileNotFoundError):
        lock.rename(moved)
        if folder.holder(moved) != holder:  # a third process was faster: the lock is its
            with contextlib.suppress(OSError):
                os.link(moved, lock)
        moved.unlink()


def _is_alive(folder: Any, holder: dict[str, Any]) -> bool:
    if holder.get("host") == folder.me["host"] and holder.get("boot") == folder.me["boot"]:
        return holder.get("started") == folder.started(holder.get("pid", 0))
    # On another machine, or before this one was started: whether it still touches its lock.
    before, deadline = _touched(folder.lock), time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(0.25)
        if _touched(folder.lock) != before:
            return folder.holder() is not None
    return False


def _touched(lock: Path) -> int:
    try:
        with open(lock, "rb") as file:  # opening makes network file systems look
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return 0
