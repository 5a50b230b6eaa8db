"""What goes wrong in a command, as one message on stderr and an exit code."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
import traceback

from clipwise import __version__
from clipwise.errors import ClipwiseError, WorkError
from clipwise.io.text import printable

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EFBIG: "the file is larger than is allowed (ulimit -f, or the file system)",
}
if hasattr(errno, "EDQUOT"):
    _NO_ROOM[errno.EDQUOT] = "the disk quota is used up"
_WRONG_PLACE = (errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def exit_code(program: str, error: BaseException, debug: bool = False) -> int:
    """The exit code for an error, which is at hand and gets its message.

    Args:
        debug: print its traceback, too.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises from it where a worker dies, even in this report
    if isinstance(error, KeyboardInterrupt):
        from clipwise.io.interrupts import forget, sentence

        forget()
        return fail(program, sentence(error), 130)
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        place = error.filename or "while writing"
        return fail(program, f"{_NO_ROOM[error.errno]} ({place}); nothing that was complete is lost.", 1)
    if isinstance(error, OSError) and error.filename and error.errno in _WRONG_PLACE:
        return fail(program, f"{error.filename}: {error.strerror}.", 2)
    if debug:
        traceback.print_exc()
    if isinstance(error, (ClipwiseError, WorkError)):
        return fail(program, str(error), 2 if isinstance(error, ClipwiseError) else 1)
    if _is_memory(error):
        advice = "Smaller batch_size, crop_size or max_views and fewer num_workers need less; a limit (ulimit, cgroup) may be too low."
        return fail(program, f"out of memory ({_first_line(error)}). {advice}", 1)
    if "DataLoader worker (pid" in str(error):  # torch raises it wherever the process is
        from clipwise.data.worker import without_workers

        return fail(program, str(without_workers(error)), 1)
    if place := _code_of_others(error):
        return fail(
            program, f"{place}: {type(error).__name__}: {_first_line(error)}. {_keep_traceback(program, False)}", 1
        )
    text = f"unexpected {type(error).__name__}: {_first_line(error)}."
    return fail(program, f"{text} {_keep_traceback(program)}", 1)


def fail(program: str, message: str, code: int) -> int:
    """One message on stderr, of which a name of a million letters is shown in part; returns the exit code."""
    if len(message) > 6000:
        message = f"{message[:3000]} … {message[-1000:]}"
    print(printable(f"{program}: {message}"), file=sys.stderr)
    return code


def _is_memory(error: BaseException) -> bool:
    """Whether the system or a device had no memory left; torch and the system each say it in their way."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return getattr(error, "errno", None) == errno.ENOMEM or "can't allocate memory" in str(error)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".")[:300]


def _code_of_others(error: BaseException) -> str | None:
    """The line of a model, loss, … that does not come with clipwise, if the error was raised in or below it."""
    plugins = sys.modules.get("clipwise.io.plugins")
    entries = [entry for registry in (plugins.Registry.every if plugins else ()) for entry in registry.entries.values()]
    modules = {entry.make.__module__.partition(".")[0] for entry in entries} - {"clipwise"}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in modules:
            return f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_qualname}"
    return None


def _keep_traceback(program: str, ours: bool = True) -> str:
    """Write the traceback of the error at hand to a file; returns where it is."""
    import tempfile

    try:
        handle, name = tempfile.mkstemp(prefix=f"{program.replace(' ', '-')}-", suffix=".log")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"clipwise {__version__}, python {sys.version}\n{sys.argv}\n\n{traceback.format_exc()}")
    except OSError:
        return "--debug shows the traceback."
    return f"Traceback: {name} (--debug shows it)." + (" Include it in a bug report." if ours else "")


def what_is_missing(parser: argparse.ArgumentParser, message: str) -> str:
    """What the arguments are that argparse found missing, and where examples are."""
    names = message.partition(": ")[2].split(", ")
    known = {action.metavar or "/".join(action.option_strings) or action.dest: action for action in parser._actions}
    said = [f"{name} is: {known[name].help}" for name in names if name in known and known[name].help]
    return f". {'; '.join(said)}. Examples: {parser.prog} --help" if said else f". Examples: {parser.prog} --help"
