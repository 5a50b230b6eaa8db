"""A loader's worker process: its threads, the signals that it obeys, and what its parent reads when it fails or dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

import torch

from clipwise.errors import ClipwiseError, WorkError


def start_worker(worker: int) -> None:
    """What each worker does first."""
    # Workers share the cores with each other and the main process; their own threads only get in the way.
    torch.set_num_threads(1)
    # A terminal and `timeout` signal all processes of a run. Its main process decides, and still needs batches to its end.
    if threading.current_thread() is not threading.main_thread():
        return
    for name in {"SIGINT", "SIGHUP"} & set(dir(signal)):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS, Windows
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """Obey SIGTERM of the main process, which so ends a worker that hangs, and no one else's."""
    while True:
        if signal.sigwaitinfo([signal.SIGTERM]).si_pid == parent:
            os._exit(0)


def without_workers(error: BaseException, in_pipe: bool = False) -> BaseException:
    """The error as it would be without workers: a user's without torch's traceback, a death as what it is.

    Args:
        in_pipe: nothing but batches of workers was received, so that a broken connection is a death as well.
    """
    if isinstance(error, ClipwiseError):
        _, wrapped, words = str(error).rpartition(f"{type(error).__module__}.{type(error).__name__}: ")
        return type(error)(words.strip()) if wrapped else error
    if in_pipe and isinstance(error, (EOFError, ConnectionError)) and "Caught " not in str(error):
        with suppress(RuntimeError):  # torch's own error is to come: here, not in whatever runs next
            time.sleep(1)
    elif "DataLoader worker (pid" not in str(error):
        return error
    reason = (str(error) or type(error).__name__).splitlines()[0].strip()
    return WorkError(
        f"a data loading worker died ({reason}): as a rule the system ran out of memory or shared memory and "
        "killed it. Use fewer num_workers or a smaller batch_size; a run resumes from its last checkpoint with --resume."
    )
