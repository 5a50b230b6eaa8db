"""A run's folder and its end: one run at a time, its recipe, an earlier run's files out of the way, signals that ask it to stop."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipwise.engine.device import from_first
from clipwise.errors import CheckpointError, WorkError
from clipwise.io.files import atomic_path
from clipwise.recipe import Recipe, dump_recipe

if TYPE_CHECKING:
    from clipwise.engine.log import RunLog

_BEAT_S, _PATIENCE_S = (
    5.0,
    20.0,
)  # a run touches its lock this often; a lock untouched for so long belongs to a dead one

# The last one makes a folder a run's: if the process is killed while it moves them, the next one moves the rest.
_FILES_OF_A_RUN = (
    "best.safetensors", "epoch_*.safetensors", "state-*.pt", "log.jsonl", "log.csv", "recipe.yaml", "report.html",
    "previous.safetensors", "last.safetensors",
)  # fmt: skip


class RunFolder:
    """The folder of the run that this process's main process makes.

    Args:
        path: made if need be, and locked.

    Raises:
        CheckpointError: another run is in it, or it can't be made.
    """

    def __init__(self, path: Path):
        self.path, self.lock = path, path / ".lock"
        self.recipe: Recipe | None = None
        self.ended = threading.Event()
        started = _started(os.getpid())
        self.me = {"host": socket.gethostname(), "boot": _boot_id(), "pid": os.getpid(), "started": started}
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._take()
        except OSError as error:
            raise CheckpointError(f"the run's folder {path} can't be made: {error.strerror}.") from None
        threading.Thread(target=self._beat, daemon=True).start()

    def prepare(self, recipe: Recipe, resume_from: Path | None) -> Path | None:
        """Write the run's recipe. Unless the run goes on, an earlier one's files are moved aside; returns where to."""
        folder, earlier = self.path, None
        goes_on = resume_from is not None and resume_from.resolve().parent == folder.resolve()
        if not goes_on and any((folder / name).is_file() for name in _FILES_OF_A_RUN[-2:]):
            earlier = next(p for n in itertools.count(1) if not (p := folder / f"earlier-{n}").exists())
            earlier.mkdir()
            if (folder / "lists").is_dir():  # a copy, for the new run may be about to train on them
                shutil.copytree(folder / "lists", earlier / "lists")
            for old in [path for pattern in _FILES_OF_A_RUN for path in folder.glob(pattern)]:
                old.rename(earlier / old.name)
        if not goes_on:
            # What a run without a checkpoint left: its log would mix with the new one's.
            for name in ("log.jsonl", "log.csv"):
                (folder / name).unlink(missing_ok=True)
        self._write_recipe(recipe)
        return earlier

    def check(self) -> bool:
        """Before something is written: the folder is this run's. One that was removed is made again.

        Returns:
            Whether it had to be made again.

        Raises:
            WorkError: another run has taken the folder.
        """
        if self._holder() == self.me:
            return False
        removed = not (self.path / "recipe.yaml").is_file()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take()
        except CheckpointError as error:
            raise WorkError(f"stopped without a further checkpoint: {error}") from None
        if removed and self.recipe is not None:
            self._write_recipe(self.recipe)
        return removed

    def close(self) -> None:
        """Let others use the folder."""
        self.ended.set()
        if self._holder() == self.me:
            self.lock.unlink(missing_ok=True)

    def _write_recipe(self, recipe: Recipe) -> None:
        self.recipe = recipe
        with atomic_path(self.path / "recipe.yaml") as path:
            path.write_text(dump_recipe(recipe), encoding="utf-8")

    # -- the lock: a file that names its process

    def _take(self) -> None:
        mine = self.path / f".lock.{os.getpid()}.{time.monotonic_ns()}.tmp"
        mine.write_text(json.dumps(self.me), encoding="utf-8")
        try:
            for _ in range(5):
                try:
                    os.link(mine, self.lock)  # fails if there is one
                    return
                except FileExistsError:
                    self._remove_stale(mine)
                except OSError:  # a file system without links
                    with contextlib.suppress(FileExistsError), open(self.lock, "x", encoding="utf-8") as file:
                        json.dump(self.me, file)
                        return
                    self._remove_stale(mine)
        finally:
            mine.unlink(missing_ok=True)
        raise CheckpointError(f"{self.lock} can't be taken: other runs are taking it at this moment.")

    def _remove_stale(self, mine: Path) -> None:
        """Remove the lock of a dead process; raise where it is alive."""
        holder = self._holder()
        if holder is None:  # its process has just ended
            return
        if self._is_alive(holder):
            raise CheckpointError(
                f"{self.path} is in use by another run: process {holder.get('pid', '?')} on {holder.get('host', 'an unknown host')}. "
                f"Wait for it or stop it, or give another --work-dir. (Its lock is {self.lock}.)"
            )
        moved = mine.with_suffix(".stale")
        with contextlib.suppress(FileNotFoundError):
            self.lock.rename(moved)
            if _read(moved) != holder:  # a third process was faster: the lock is its
                with contextlib.suppress(OSError):
                    os.link(moved, self.lock)
            moved.unlink()

    def _holder(self) -> dict[str, Any] | None:
        return _read(self.lock)

    def _is_alive(self, holder: dict[str, Any]) -> bool:
        if holder.get("host") == self.me["host"] and holder.get("boot") == self.me["boot"]:
            return holder.get("started") == _started(holder.get("pid", 0))
        # On another machine, or before this one was started: whether it still touches its lock.
        before, deadline = self._touched(), time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            time.sleep(0.25)
            if self._touched() != before:
                return self._holder() is not None
        return False

    def _touched(self) -> int:
        try:
            with open(self.lock, "rb") as file:  # opening makes network file systems look
                return os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return 0

    def _beat(self) -> None:
        while not self.ended.wait(_BEAT_S):
            with contextlib.suppress(OSError):
                if self._holder() == self.me:
                    os.utime(self.lock)


def _read(path: Path) -> dict[str, Any] | None:
    """A lock's content; None if there is none, empty if it is unreadable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except OSError:
        return None
    except ValueError:
        return {}


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process was started, in the system's own measure; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        pass
    if os.path.isdir("/proc/self"):
        return None
    try:  # no /proc: alive or not is all that can be seen
        os.kill(pid, 0)
        return "alive"
    except (OSError, TypeError, OverflowError):
        return None


@contextlib.contextmanager
def locked(folder: Path, log: RunLog) -> Iterator[None]:
    """The run's folder, locked by the main process while the block runs; all processes learn of a refusal."""
    refusal = None
    if log.active:
        try:
            log.run_folder = RunFolder(folder)
        except CheckpointError as error:
            refusal = str(error)
    refusal = from_first(refusal)
    if refusal:
        raise CheckpointError(refusal)
    try:
        yield
    finally:
        if log.run_folder is not None:
            log.run_folder.close()


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM ask the loop to save and end after this step; a second Ctrl-C, a second later, ends at once."""
    stop = threading.Event()
    first = 0.0

    def ask(number, frame):
        nonlocal first
        if (
            stop.is_set() and number == signal.SIGINT and time.monotonic() - first > 1
        ):  # torchrun repeats the terminal's
            raise KeyboardInterrupt
        first = first or time.monotonic()
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
