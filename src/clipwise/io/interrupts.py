"""What a signal that ends a command does: Ctrl-C, ``kill``, a terminal that is closed."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from types import FrameType

STOPS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]  # Windows lacks one

_PATIENCE_S = 5.0  # that an import may take; then it is broken off
_REPEATED_S = 1.0  # `timeout` and torchrun send a signal twice
_came: list[float] = []  # when the first signal came, and when the exception was raised
_waiting: list[threading.Timer] = []


def interrupt(number: int, frame: FrameType | None) -> None:
    """End the command as Ctrl-C does, with its cleaning up; a Python signal handler.

    A module that is being imported is finished first: C++ libraries end the process or report another error when an exception
    passes through them.

    Raises:
        KeyboardInterrupt: at most once a second, so that what is cleaned up is not broken off.
    """
    now = time.monotonic()
    if number == getattr(signal, "SIGHUP", None):
        leave_terminal()
    if _waiting or (len(_came) > 1 and now - _came[1] < _REPEATED_S):
        return
    began = _came[0] if _came else now
    if len(_came) < 2 and now - began < _PATIENCE_S and _is_importing(frame):
        _came[:] = [began]
        timer = threading.Timer(0.05, _again, (number,))
        timer.daemon = True
        _waiting.append(timer)
        timer.start()
        return
    _came[:] = [began, now]
    raise KeyboardInterrupt(signal.Signals(number).name)


def _again(number: int) -> None:
    _waiting.clear()
    if hasattr(signal, "pthread_kill"):  # the main thread may wait in the system
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


def forget() -> None:
    """The next signal is a first one."""
    _came.clear()
    _waiting.clear()


def leave_terminal() -> None:
    """Write to nowhere instead of a terminal that is closed, where each write would be an error."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def sentence(error: KeyboardInterrupt) -> str:
    """What ended the command."""
    return {"SIGTERM": "terminated.", "SIGHUP": "the terminal was closed."}.get(str(error), "interrupted.")
