"""Files that are either complete or not there.

Unfinished work lies beside its target as ``.NAME.HOST-PID-RANDOM.tmp``, so that ``clipwise.io.unfinished`` can tell whose it is.
"""

import contextlib
import errno
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
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
    temporary = temporary_beside(path, path.suffix if keep_suffix else "")
    try:
        yield temporary
        flush(temporary)
        os.chmod(temporary, 0o666 & ~_UMASK)  # safetensors makes its files private
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: str | os.PathLike[str]) -> None:
    """Have a file on the disk when this returns."""
    with open(path, "r+b") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def temporary_beside(path: Path, suffix: str = "") -> Path:
    """A name for the unfinished work on ``path``, which says whose it is."""
    make_parent(path)
    return path.with_name(f".{path.name[:180]}.{HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp{suffix}")


def make_parent(path: Path) -> None:
    if path.exists() and not path.is_file() and not path.is_dir():  # as root the device itself would be replaced
        raise CheckpointError(f"{path} is a pipe or a device; name a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CheckpointError(f"{path} can't be written: {path.parent} is a file, not a folder.") from None
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> Exception:
    message = f"{path} can't be written: {error.strerror or error}. The file that was there is untouched."
    wrong_place = error.errno in (errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return (CheckpointError if wrong_place else WorkError)(message)
