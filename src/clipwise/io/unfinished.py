"""Folders that are complete or not there, files that grow, and what killed processes leave of either.

Unfinished folders have names as unfinished files have (``clipwise.io.files``); a growing file is ``NAME.part``, which holds what was
finished before a break.
"""

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from clipwise.errors import CheckpointError
from clipwise.io.files import HOST, make_parent, temporary_beside, unwritable

_OWNER = re.compile(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp(\.\w+)?$")
_OLD_S = 24 * 3600.0  # after which another machine's temporary file counts as left behind


def link_or_copy(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """A second name for a file, or a copy where the file system has no links; replaces ``target`` at once."""
    temporary = temporary_beside(Path(target))
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder beside ``path`` that replaces it when the block ends well, and vanishes when it does not."""
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        temporary.mkdir()
        yield temporary
        for left in reversed(range(5)):  # another process may write the same
            shutil.rmtree(path, ignore_errors=True)
            try:
                os.replace(temporary, path)
                break
            except OSError as error:
                if not left or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def growing_file(path: str | os.PathLike[str], newline: str | None = None) -> Iterator[IO[str]]:
    """A text file that grows as ``NAME.part`` and gets its name when the block ends well; after an error ``NAME.part`` stays."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # /dev/stdout: rows are written at once
        with open(path, "w", encoding="utf-8", newline=newline) as file:
            yield file
        return
    make_parent(path)
    part = path.with_name(path.name + ".part")
    try:
        file = open(part, "a", encoding="utf-8", newline=newline)  # noqa: SIM115 - closed below
    except OSError as error:
        raise unwritable(path, error) from error
    with file:
        _claim(file, path)
        file.truncate(0)
        yield file
    os.replace(part, path)


def _claim(file: IO[str], path: Path) -> None:
    """Keep a second process from the file while it is open (where the system has file locks)."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CheckpointError(
            f"{path} is being written by another command; wait for it, or name another file."
        ) from None
    except OSError:  # a file system without locks
        return


def remove_stale(folder: str | os.PathLike[str], alone: bool = False) -> None:
    """Remove what killed processes left in a folder (not below it).

    Args:
        alone: nobody else writes here (the folder is locked), so that everything unfinished is left over: also files of other
            machines, and those that safetensors names ``.tmpXXXXXX``.
    """
    for entry in [entry for entry in os.scandir(folder) if entry.name.startswith(".")]:
        owner = _OWNER.search(entry.name)
        nameless = owner is None and (entry.name.endswith(".tmp") or re.fullmatch(r"\.tmp\w{5,6}", entry.name))
        if (alone and nameless) or (owner and (alone or _left_behind(owner[1], int(owner[2]), entry))):
            path = Path(entry.path)
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if entry.is_dir(follow_symlinks=False) else path.unlink()


def _left_behind(host: str, pid: int, entry: os.DirEntry[str]) -> bool:
    if host == HOST:
        return not process_lives(pid)
    with contextlib.suppress(OSError):
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_S
    return False


def process_lives(pid: int) -> bool:
    """Whether a process of this machine exists."""
    import psutil  # not os.kill(pid, 0), which on Windows sends Ctrl+C

    return psutil.pid_exists(pid)
