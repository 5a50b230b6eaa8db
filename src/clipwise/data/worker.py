"""A loader's worker process: its threads, and the signals that it obeys."""

from __future__ import annotations

import os
import signal
import threading

import torch


def start_worker(worker: int) -> None:
    """What each worker does first."""
    # Workers share the cores with each other and the main process; their own threads only get in the way.
    torch.set_num_threads(1)
    # A terminal and `timeout` signal all processes of a run. Its main process decides, and still needs batches to its end.
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
