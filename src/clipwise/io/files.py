"""Files and folders that are either complete or not there.

Unfinished work lies beside its target as ``.NAME.HOST-PID-RANDOM.tmp``, so that ``clipwise.io.leftovers`` can tell whose it is, or
as ``NAME.part`` (``growing_file``), which holds what was finished before a break.
"""

import contextlib
import errno
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from zlib import crc32

from clipwise.errors import CheckpointError, WorkError

_UMASK = os.umask(0)
os.umask(_UMASK)
HOST = f"{crc32(socket.gethostname().encode()):08x}"


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


def link_or_copy(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """A second name for a file, or a copy where the file system has no links; replaces ``target`` at once."""
    temporary = _temporary(Path(target))
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path, suffix: str = "") -> Path:
    _make_parent(path)
    return path.with_name(f".{path.name[:180]}.{HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp{suffix}")


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
