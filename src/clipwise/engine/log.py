"""What a run writes while it works: ``log.jsonl``, ``log.csv``, lines or a progress bar, trackers, and a warning when it hangs."""

from __future__ import annotations

import csv
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clipwise.io.files import atomic_path
from clipwise.io.parse import read_json_lines

if TYPE_CHECKING:
    from clipwise.engine.run_folder import RunFolder


class Averages:
    """Means of figures since the last log line, kept on the device so that no step waits for a copy."""

    def __init__(self):
        self.sums: dict[str, Any] = {}
        self.count = 0

    def add(self, figures: dict[str, Any], weight: int) -> None:
        for key, value in figures.items():
            value = value.detach() if isinstance(value, torch.Tensor) else value
            self.sums[key] = self.sums.get(key, 0.0) + value * weight
        self.count += weight

    def take(self, device: torch.device | None = None) -> dict[str, float]:
        """The means, and a new start.

        Args:
            device: where several processes add up theirs; None keeps this process's own.
        """
        if device is not None and torch.distributed.is_initialized():
            exact = torch.float64 if device.type == "cpu" else torch.float32  # not every accelerator has float64
            values = [*self.sums.values(), self.count]
            total = torch.stack([torch.as_tensor(v, dtype=exact, device=device) for v in values])
            torch.distributed.all_reduce(total)
            *sums, count = total.tolist()
            means = {k: v / max(count, 1) for k, v in zip(self.sums, sums)}
        else:
            means = {k: float(v) / max(self.count, 1) for k, v in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


class RunLog:
    """Writes a run's figures. Only the main process writes; the others hold a silent one.

    Args:
        folder: the run's folder; None writes no files.
        active: False on all but the main process.
        quiet: no lines on the terminal.

    Attributes:
        tracker: called with (figures, step) for each line, for experiment trackers.
    """

    def __init__(self, folder: Path | None, *, active: bool = True, quiet: bool = False):
        self.active, self.quiet = active, quiet
        self.tracker: Callable[[dict[str, Any], int], None] | None = None
        self.folder = folder if active else None
        self.run_folder: RunFolder | None = None
        self.bar: Any = None
        self.note = self.eta = ""  # loss, best figure and the time that is left, beside the bar and in lines
        self.began, self.steps = (time.perf_counter(), 0.0), 0

    def opening(self, recipe: Any, task: Any, batches: int, steps: int) -> None:
        """What the run is going to do: classes with their counts, sizes, steps, where things go."""
        train, val, self.steps = task.train_videos, task.val_videos, steps
        held = "no validation"
        if val is not None and len(val):
            held = f"{len(val)} validation video{'s' * (len(val) != 1)}"
        if (shared := getattr(task, "num_shared", None)) is not None:
            held += f" ({shared or 'none'} of them in training)"
        if (classes := getattr(train, "classes", None)) and not getattr(train, "multi_label", True):
            counts = torch.bincount(torch.as_tensor(train.labels), minlength=len(classes)).tolist()
            shown = ", ".join(f"{name} ({count})" for name, count in list(zip(classes, counts))[:10])
            held += f", {len(classes)} classes: {shown}{', …' if len(classes) > 10 else ''}"
        self.say(f"{recipe.model}: {len(train)} training video{'s' * (len(train) != 1)}, {held}")
        self.say(
            f"{recipe.epochs} epoch{'s' * (recipe.epochs != 1)} of {batches} batch{'es' * (batches != 1)} of {recipe.batch_size}, "
            f"{steps} step{'s' * (steps != 1)}; results go to {self.folder}"
        )

    def pace(self, share: float, loss: float, best: dict[str, float]) -> None:
        """``share`` of the run is done: note the time that is left, the loss, and the first of the best figures."""
        began, first = self.began
        left = int((time.perf_counter() - began) / max(share - first, 1e-9) * (1 - share))
        self.eta = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        reached = "".join(f", best {name} {value:.4g}" for name, value in list(best.items())[:1])
        self.note = f"loss {loss:.4g}{reached}, run {self.eta} left"
        if (
            self.steps and left and (share - first) * self.steps > 19.5
        ):  # of fewer steps the first, slow one is too large a part
            self.steps = 0
            self.say(f"about {self.eta} to the end of the run, {time.ctime(time.time() + left)[:16]}")

    def check_folder(self) -> None:
        """Before something is written: make the run's folder again if somebody removed it, and say so."""
        if self.run_folder is not None and self.run_folder.check():
            self.say(
                f"the run's folder {self.folder} was removed while the run was going on. It is made again, with recipe.yaml; the log's "
                "earlier lines are lost, checkpoints are until the next is written."
            )

    def write(self, mode: str, figures: dict[str, Any], step: int) -> None:
        """One line of figures: into log.jsonl and log.csv, to the terminal (with the time that is left), to the trackers."""
        if not self.active:
            return
        rounded = {k: round(v, 7) if isinstance(v, float) else v for k, v in figures.items()}
        line = {"mode": mode, **rounded, "step": step}
        if self.folder is not None:
            self.check_folder()
            with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self.rewrite_csv(line)
        if self.tracker is not None:
            self.tracker({f"{mode}/{k}": v for k, v in figures.items() if isinstance(v, (int, float))}, step)
        self.say(self._words(mode, figures))

    def rewrite_csv(self, new: dict[str, Any] | None = None) -> None:
        """Append while the columns stay the same; a new column (the first validation) rewrites the small file."""
        path = self.folder / "log.csv"  # type: ignore[operator]
        if new is not None and path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                columns = next(csv.reader(file), [])
            if set(new) <= set(columns):
                with open(path, "a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, columns).writerow(new)
                return
        lines = read_json_lines(self.folder / "log.jsonl")  # type: ignore[operator]
        columns = list(dict.fromkeys(k for line in lines for k in line))
        with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(lines)

    def _words(self, mode: str, figures: dict[str, Any]) -> str:
        shown = {k: v for k, v in figures.items() if k not in ("epoch", "iter", "epochs", "iters")}
        shown |= {"eta": self.eta} if mode == "train" and self.eta else {}
        place = f"epoch {figures.get('epoch', '?')}/{figures.get('epochs', '?')}"
        if mode == "train":
            place += f" step {figures.get('iter', '?')}/{figures.get('iters', '?')}"
        return f"{place} {mode}: " + ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()
        )

    def say(self, text: str) -> None:
        """One line for people, on stderr."""
        if not self.active or self.quiet:
            return
        if not text.isprintable():
            from clipwise.io.text import printable

            text = printable(text)
        if self.bar is not None:
            self.bar.say(text)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, total: int, title: str, start: int = 0) -> Iterator[Any]:
        """A progress bar on a terminal (that of a notebook's ``!command`` cannot show one); yields a function to call after each item."""
        if self.quiet or not self.active or not sys.stderr.isatty() or "JPY_PARENT_PID" in os.environ:
            yield lambda: None
            return
        from clipwise.io.progress import ProgressBar

        numbers = itertools.count(start)
        with ProgressBar(title) as self.bar:

            def advance() -> None:
                self.bar(next(numbers), total, self.note)

            advance()
            yield advance
        self.bar = None


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
                    f"rank {self.rank} made no progress for {waited:.0f} s in '{self.phase}'. In 'waiting for data' a file or its storage "
                    "hangs (decode_timeout_s limits a file); in 'computing' or 'saving' it waits for another process: look at theirs.",
                    file=sys.stderr,
                    flush=True,
                )
