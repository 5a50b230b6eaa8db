"""Says which process hangs, and in what, when a run stands still."""

from __future__ import annotations

import sys
import threading
import time


class Watchdog:
    """A thread that looks whether the loop still moves.

    Args:
        patience_s: how long one phase may take before it is reported; None never reports.
        rank: named in the message, so that of many processes the guilty one is known.
    """

    def __init__(self, patience_s: float | None, rank: int):
        self.patience_s, self.rank = patience_s, rank
        self.phase, self.since = "starting", time.monotonic()
        self.ended = threading.Event()
        if patience_s:
            threading.Thread(target=self._watch, daemon=True).start()

    def enter(self, phase: str) -> None:
        """The loop begins something."""
        self.phase, self.since = phase, time.monotonic()

    def close(self) -> None:
        self.ended.set()

    def _watch(self) -> None:
        assert self.patience_s
        reported = 0.0
        while not self.ended.wait(min(self.patience_s / 4, 5)):
            since = self.since
            waited = time.monotonic() - since
            if waited > self.patience_s and reported != since:
                reported = since
                print(
                    f"process {self.rank} stands still: {waited:.0f} s in '{self.phase}'. In 'waiting for data' a file or its storage "
                    "hangs (decode_timeout_s limits a file); in 'computing' or 'saving' it waits for another process: look at theirs.",
                    file=sys.stderr,
                    flush=True,
                )
