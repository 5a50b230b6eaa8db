"""Progress of long work: one signature for whoever works, one bar for whoever waits."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

Progress = Callable[[int, int | None, str], None]
"""Called with what is done, all there is to do (None: unknown) and a word about the last item."""


def on_terminal() -> bool:
    """Whether stderr can show a line that changes; a notebook's ``!command`` has a terminal that cannot."""
    return sys.stderr.isatty() and "JPY_PARENT_PID" not in os.environ


def silent(done: int, total: int | None, message: str = "") -> None:
    """A :data:`Progress` that shows nothing."""


class ProgressBar:
    """A :data:`Progress` on stderr: a bar on a terminal or in a notebook, a line every ten seconds elsewhere, both with the time that is left.

    Args:
        title: what is being done.
        quiet: show nothing.
        unit: name and size of what is counted, for instance ("MB", 1e6) for bytes.
    """

    def __init__(self, title: str, quiet: bool = False, unit: tuple[str, float] = ("", 1)):
        self.title, self.quiet, (self.unit, self.size) = title, quiet, unit
        self.bar: Any = None
        self.task: Any = None
        self.began = time.monotonic()
        self.shown = self.began - 10.0
        self.first: int | None = None

    def __call__(self, done: int, total: int | None, message: str = "") -> None:
        if self.quiet:
            return
        self.first = done if self.first is None else self.first
        if not on_terminal():
            now = time.monotonic()
            if "ipykernel" in sys.modules:
                from clipwise.io.notebook import Output, bar, in_notebook

                if in_notebook():
                    self.bar = self.bar or Output()
                    ended = bool(total and done >= total)
                    self.bar.show(
                        bar(self.line(done, total, message, now - self.began), done / total if total else None), ended
                    )
                    return
            if now - self.shown > 10 or (total and done >= total):
                self.shown = now
                print(self.line(done, total, message, now - self.began), file=sys.stderr, flush=True)
            return
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
            from rich.table import Column

            whole = Column(no_wrap=True)  # where the terminal is narrow the bar shrinks, not the time
            count = TextColumn("{task.percentage:>3.0f}%") if self.unit else MofNCompleteColumn(table_column=whole)
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                count,
                TimeRemainingColumn(compact=True, table_column=whole),
                TextColumn("{task.fields[note]}"),
            )
            self.bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=total, completed=done, note=message)
        self.bar.update(self.task, completed=done, total=total, note=message)
        if total and done >= total:
            self.close()

    def line(self, done: int, total: int | None, message: str, seconds: float) -> str:
        """``title: 3/40 name, 2 min left``; the time is known once something was done since the first call."""
        text = f"{self.title}: {self._amount(done)}/{self._amount(total) if total else '?'} {self.unit}".rstrip()
        text += f" {message}" if message else ""
        new = done - (self.first or 0)
        if not total or done >= total or new <= 0 or seconds < 1:
            return text
        left = seconds / new * (total - done)
        return text + (f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left")

    def _amount(self, count: int) -> str:
        return f"{count / self.size:.1f}" if self.size != 1 else str(count)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.task is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        if self.task is not None:
            self.bar.stop()
            self.bar = self.task = None

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()
