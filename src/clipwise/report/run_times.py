"""Curves and times of several runs; the times as MMAction2's ``analyze_logs.py cal_train_time`` measures them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.report.page import Section, duration, write_page
from clipwise.report.run_report import LoggedRun, curves_section, run_tiles, training_time


def curves_report(
    runs: Sequence[LoggedRun], out: str | Path, *, keys: Sequence[str] | None = None, weight: float | None = None
) -> Path:
    """Curves and times of runs on one page."""
    sections = [curves_section(runs, keys=keys, weight=weight), time_section(runs)]
    tiles = run_tiles(runs[0]) if len(runs) == 1 else ()
    return write_page(out, ", ".join(r.name for r in runs), sections, kind="Curves", tiles=tiles)


@dataclass(frozen=True)
class TimeAnalysis:
    """Seconds per iteration, by epoch.

    Attributes:
        epochs: (E,) epoch numbers.
        means: (E,) average seconds per iteration of each epoch.
        average: over all lines.
        std: of ``means``.
        waiting: share of the time that the loop waited for data, or None.
        total_s: seconds of all iterations, where the log allows to say so, or None.
    """

    epochs: NDArray[np.int64]
    means: NDArray[np.float64]
    average: float
    std: float
    waiting: float | None
    total_s: float | None

    @property
    def slowest(self) -> tuple[int, float]:
        return int(self.epochs[self.means.argmax()]), float(self.means.max())

    @property
    def fastest(self) -> tuple[int, float]:
        return int(self.epochs[self.means.argmin()]), float(self.means.min())


def analyze_time(run: LoggedRun, include_outliers: bool = False) -> TimeAnalysis | None:
    """Time per step, by epoch; None where the log has no times.

    Args:
        include_outliers: keep the first line of each epoch, which has the loader's start in it. Without it that line
            is left out where the epoch has more than one.

    Source: MMAction2 0.24 tools/analysis/analyze_logs.py.
    """
    by_epoch: dict[int, list[dict[str, Any]]] = {}
    for line in run.train:
        if isinstance(line.get("time"), (int, float)):
            by_epoch.setdefault(int(line.get("epoch", 1)), []).append(line)
    if not by_epoch:
        return None
    # differs: MMAction2 fails when epochs have different numbers of lines; here each epoch has its own mean
    kept = {e: lines if include_outliers or len(lines) == 1 else lines[1:] for e, lines in by_epoch.items()}
    times = {e: np.array([line["time"] for line in lines]) for e, lines in kept.items()}
    means = np.array([t.mean() for t in times.values()])
    everything = np.concatenate(list(times.values()))
    waits = [line["data_time"] for lines in kept.values() for line in lines if "data_time" in line]
    return TimeAnalysis(
        epochs=np.array(list(times)),
        means=means,
        average=float(everything.mean()),
        std=float(means.std()),
        waiting=float(np.sum(waits) / everything.sum()) if len(waits) == len(everything) and everything.sum() else None,
        total_s=training_time(run) or None,
    )


def time_section(runs: Sequence[LoggedRun]) -> Section | None:
    """Time per step, epoch by epoch."""
    rows = []
    for run in runs:
        t = analyze_time(run)
        if t:
            extremes = [f"epoch {epoch}: {duration(mean)}" for epoch, mean in (t.slowest, t.fastest)]
            waiting = "–" if t.waiting is None else f"{t.waiting:.0%}"
            total = "–" if t.total_s is None else duration(t.total_s)
            rows.append((run.name, duration(t.average), *extremes, duration(t.std), waiting, total))
    head = (
        "run",
        "average step",
        "slowest epoch",
        "fastest epoch",
        "spread over epochs",
        "waiting for data",
        "in total",
    )
    return Section.table("time", "Time", head, rows, numeric=range(1, 7), keep=(0,)) if rows else None
