"""A run's folder and its end: one run at a time, its recipe, an earlier run's files out of the way, signals that ask it to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipwise.engine.device import from_first
from clipwise.errors import CheckpointError, RecipeError, WorkError
from clipwise.io.files import atomic_path
from clipwise.io.interrupts import STOPS, leave_terminal
from clipwise.recipe import Recipe, dump_recipe

if TYPE_CHECKING:
    from clipwise.engine.log import RunLog

_BEAT_S = 5.0  # a run touches its lock this often


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
        pid = os.getpid()
        self.me = {"host": socket.gethostname(), "boot": _boot_id(), "pid": pid, "started": self.started(pid)}
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._take()
        except OSError as error:
            raise CheckpointError(f"the run's folder {path} can't be made: {error.strerror}.") from None
        threading.Thread(target=self._beat, daemon=True).start()

    def prepare(self, recipe: Recipe, resume_from: Path | None) -> Path | None:
        """Write the run's recipe. Unless the run goes on, an earlier one's files are moved aside; returns where to."""
        folder, earlier = self.path, None
        if resume_from is None or resume_from.resolve().parent != folder.resolve():
            if any((folder / name).is_file() for name in ("previous.safetensors", "last.safetensors")):
                from clipwise.engine.earlier_run import move_aside

                earlier = move_aside(folder)
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
        if self.holder() == self.me:
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
        if self.holder() == self.me:
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
                    pass
                except OSError:  # a file system without links
                    with contextlib.suppress(FileExistsError), open(self.lock, "x", encoding="utf-8") as file:
                        json.dump(self.me, file)
                        return
                from clipwise.engine.earlier_run import remove_dead_lock

                remove_dead_lock(self, mine)
        finally:
            mine.unlink(missing_ok=True)
        raise CheckpointError(f"{self.lock} can't be taken: other runs are taking it at this moment.")

    def holder(self, lock: Path | None = None) -> dict[str, Any] | None:
        """Whom a lock names (by default the folder's); None if there is none, empty if it is unreadable."""
        try:
            content = json.loads((lock or self.lock).read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
        except OSError:
            return None
        except ValueError:
            return {}

    @staticmethod
    def started(pid: int) -> str | None:
        """When a process was started, in the system's own measure; None if it is gone."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return None if fields[0] == "Z" else fields[19]
        except OSError:
            pass
        if os.path.isdir("/proc/self"):
            return None
        import psutil

        try:
            return str(psutil.Process(pid).create_time())
        except (psutil.Error, TypeError, ValueError):
            return None

    def _beat(self) -> None:
        while not self.ended.wait(_BEAT_S):
            with contextlib.suppress(OSError):
                if self.holder() == self.me:
                    os.utime(self.lock)


def folder_of(name: str) -> Path:
    """``runs/NAME``.

    Raises:
        RecipeError: a name (of a recipe of others) that leads out of it.
    """
    folder = Path("runs", name)
    if not folder.resolve().is_relative_to(Path("runs").resolve()):
        raise RecipeError(f"name: {name!r} lies outside runs/, where runs go; give another name, or --work-dir.")
    return folder


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


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
    """SIGINT, SIGTERM, SIGHUP ask the loop to save and end after this step; a second Ctrl-C, a second later, ends at once."""
    stop = threading.Event()
    first = 0.0

    def ask(number, frame):
        nonlocal first
        if (
            stop.is_set() and number == signal.SIGINT and time.monotonic() - first > 1
        ):  # torchrun repeats the terminal's
            raise KeyboardInterrupt
        if number not in (signal.SIGINT, signal.SIGTERM):
            leave_terminal()
        first = first or time.monotonic()
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    nohup = [n for n in STOPS if n not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(n) == signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in STOPS if number not in nohup}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
