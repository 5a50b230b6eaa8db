"""Files and folders that are either complete or not there, and what killed runs leave of them.

Unfinished work lies beside its target as ``.NAME.HOST-PID-RANDOM.tmp`` (``atomic_path``, ``atomic_folder``), so that
``remove_stale`` can tell whose it is, or as ``NAME.part`` (``growing_file``), which holds what was finished before a break.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from zlib import crc32

from clipwise.errors import CheckpointError, WorkError

_UMASK = os.umask(0)
os.umask(_UMASK)
_HOST = f"{crc32(socket.gethostname().encode()):08x}"
_OWNER = re.compile(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp(\.\w+)?$")
_OLD_S = 24 * 3600.0  # after which another machine's temporary file counts as left behind


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], keep_suffix: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well, and vanishes when it does not.

    Args:
        keep_suffix: the temporary path ends like ``path``, for writers that choose their format by it.
    """
    path = Path(path)
    temporary = _temporary(path, path.suffix if keep_suffix else "")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)  # safetensors makes its files private
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder beside ``path`` that replaces it when the block ends well, and vanishes when it does not."""
    path = Path(path)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def growing_file(path: str | os.PathLike[str], newline: str | None = None) -> Iterator[IO[str]]:
    """A text file that grows as ``NAME.part`` and gets its name when the block ends well; after an error ``NAME.part`` stays."""
    path = Path(path)
    _make_parent(path)
    part = path.with_name(path.name + ".part")
    try:
        file = open(part, "w", encoding="utf-8", newline=newline)  # noqa: SIM115 - closed below
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        yield file
    os.replace(part, path)


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
    if host == _HOST:
        return not process_lives(pid)
    with contextlib.suppress(OSError):
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_S
    return False


def process_lives(pid: int) -> bool:
    """Whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _temporary(path: Path, suffix: str = "") -> Path:
    _make_parent(path)
    return path.with_name(f".{path.name[:180]}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp{suffix}")


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CheckpointError(f"{path} can't be written: {path.parent} is a file, not a folder.") from None
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> Exception:
    message = f"{path} can't be written: {error.strerror or error}. The file that was there is untouched."
    wrong_place = error.errno in (errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return (CheckpointError if wrong_place else WorkError)(message)
