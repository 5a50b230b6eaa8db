"""MMAction2's logs as lines of ours, so that runs of three systems stand in one chart.

MMAction2 0.x writes ``TIMESTAMP.log.json`` (train and val lines with epoch and iteration), 1.x
``TIMESTAMP/vis_data/scalars.json`` (train lines with a running iteration, val lines without one).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipwise.errors import DataError

# MMAction2 1.x name -> ours
_RENAMED = {"acc/top1": "top1_acc", "acc/top5": "top5_acc", "acc/mean1": "mean_class_accuracy"}


def find_log(path: Path) -> Path:
    """The log file that a path means; the newest where a folder has several."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path} does not exist. Give a run's folder, a log.jsonl, a *.log.json or a scalars.json.")
    for pattern in ("*.log.json", "*/vis_data/scalars.json", "vis_data/scalars.json"):
        found = sorted(path.glob(pattern))
        if found:
            return found[-1]
    raise DataError(f"{path} holds no log (log.jsonl, *.log.json or */vis_data/scalars.json).")


def run_name(given: Path, file: Path) -> str:
    """What a legend calls the run."""
    if given.is_dir():
        return given.resolve().name
    if file.name == "scalars.json":
        return file.resolve().parent.parent.name
    return file.name.removesuffix(".log.json").removesuffix(".json")


def unify(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Lines with our names, a mode, and ``at``, their place in epochs."""
    running = not any(line.get("mode") for line in lines)  # 1.x has no mode and counts through
    per_epoch = _iterations_per_epoch(lines, running)
    for line in lines:
        line = {_RENAMED.get(k, k): v for k, v in line.items()}
        if "epoch" not in line and "step" not in line:
            continue  # the head of a 0.x log: environment and configuration
        line["mode"] = line.get("mode") or ("train" if any("loss" in k for k in line) else "val")
        if line["mode"] == "val":
            line["at"] = float(line.get("epoch", line.get("step", 0)))
        else:
            done = line.get("epoch", 1) - 1
            place = line.get("iter", per_epoch) - (done * per_epoch if running else 0)
            line["at"] = done + min(max(place / (line.get("iters") or per_epoch), 0.0), 1.0)
        yield line


def _iterations_per_epoch(lines: list[dict[str, Any]], running: bool) -> float:
    """Iterations per epoch, from the lines themselves where they do not say it."""
    places = [
        (line["epoch"], line["iter"])
        for line in lines
        if line.get("mode", "train") == "train" and "iter" in line and "epoch" in line
    ]
    if not places:
        return 1.0
    if not running:
        return float(max(i for _, i in places))
    # a running count: the last line of epoch e is near e * iterations
    last: dict[int, int] = {}
    for epoch, i in places:
        last[epoch] = max(i, last.get(epoch, 0))
    return max(i / epoch for epoch, i in last.items())
