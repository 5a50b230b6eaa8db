"""What killed processes leave of ``clipwise.io.files``: unfinished work, named after its writer."""

import contextlib
import os
import re
import shutil
import time
from pathlib import Path

from clipwise.io.files import HOST

_OWNER = re.compile(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp(\.\w+)?$")
_OLD_S = 24 * 3600.0  # after which another machine's temporary file counts as left behind


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
