"""Kill runs at random moments, resume them, and compare their folders with an undisturbed run's.

    python benchmarks/kills.py --kills 200                      SIGKILL, one process
    python benchmarks/kills.py --kills 40 --processes 2         of a group
    python benchmarks/kills.py --kills 40 --slow 0.02           each sync of a file takes 20 ms longer (a slow disk)

A run dies several times until it is through; its folder must then hold the same files: checkpoints and recipe to the byte, the log
without its times, each state with the same position and figures. "silent" counts runs that ended well with another folder;
"failed" those that a resume did not bring to their end. Both must be 0. The result stands in benchmarks/kills.txt.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clipwise.engine.checkpoint import Passport
from clipwise.engine.resume import load_state
from clipwise.engine.train import train
from clipwise.io.parse import read_json_lines
from clipwise.prepare.synthetic import make_clips
from clipwise.recipe import load_recipe

RECIPE = [
    "epochs=4", "warmup_epochs=0", "log.every=2", "num_workers=0", "amp=no", "model_args.dropout=0.5", "checkpoint.every_steps=1",
    "checkpoint.keep=2", "crop_size=32", "val.resize=36", "val.crop_size=32", "augment.resize=36",
]  # fmt: skip


def contents(folder: Path) -> dict[str, object]:
    """All files by name, without what differs between two undisturbed runs."""
    found: dict[str, object] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.name == "log.jsonl":
            times = ("time", "data_time", "memory")
            found[name] = [{k: v for k, v in line.items() if k not in times} for line in read_json_lines(path)]
        elif path.name == "log.csv":
            found[name] = path.read_text(encoding="utf-8").count("\n")
        elif path.suffix == ".pt":
            state = load_state(folder / "x", Passport("x", state=path.name))
            found[name] = [state[key] for key in ("epoch", "batch", "step", "best", "metrics")]
        elif path.name != "report.html":  # it shows times
            found[name] = path.read_bytes()
    return found


def life(clips: str, folder: str, slow: float, rank: int, processes: int, port: int) -> None:
    """One process of a run that begins or resumes; what torchrun would tell it stands in its environment."""
    torch.set_num_threads(1)
    if processes > 1:
        place = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": processes,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        os.environ.update({key: str(value) for key, value in place.items()})
    if slow:
        for name in ("fsync", "replace", "unlink", "link"):
            setattr(os, name, slowly(getattr(os, name), slow))
    recipe = load_recipe("tsm_tiny", [*RECIPE, f"batch_size={8 // processes}"])
    train(recipe, data=clips, work_dir=folder, resume="auto", quiet=True)


def slowly(call: Callable[..., Any], delay: float) -> Callable[..., Any]:
    def wait(*args: Any, **kwargs: Any) -> Any:
        time.sleep(delay)
        return call(*args, **kwargs)

    return wait


def start(clips: Path, folder: Path, processes: int, slow: float) -> list[Any]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "clipwise.engine.train", "clipwise.engine.recognition", "accelerate"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = [
        context.Process(target=life, args=(str(clips), str(folder), slow, rank, processes, port))
        for rank in range(processes)
    ]
    for process in group:
        process.start()
    return group


def ready(folder: Path) -> tuple[int, int]:
    """Grows with every file that a run writes."""
    try:
        states = [p.stat().st_mtime_ns for p in folder.iterdir()]
    except OSError:
        return 0, 0
    return len(states), max(states, default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--slow", type=float, default=0.0, metavar="S", help="seconds that each file operation takes longer"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    kills = runs = silent = failed = 0
    with tempfile.TemporaryDirectory(prefix="clipwise-kills-") as temporary:
        place = Path(temporary)
        clips = make_clips(place / "clips", train_per_class=4, val_per_class=1)
        for name in (
            "warm-up",
            "whole",
        ):  # the first also loads torch into the server that the processes are forked from
            began = time.monotonic()
            for process in start(clips, place / name, args.processes, args.slow):
                process.join()
            needed = time.monotonic() - began
        expected = contents(place / "whole")
        while kills < args.kills:
            folder = place / f"run-{runs}"
            runs += 1
            while True:
                group = start(clips, folder, args.processes, args.slow)
                if kills < args.kills:
                    before, deadline = ready(folder), time.monotonic() + needed
                    while ready(folder) == before and time.monotonic() < deadline and group[0].is_alive():
                        time.sleep(0.002)  # until it writes something
                    time.sleep(rng.uniform(0, 0.4 * needed))
                    kills += any(process.is_alive() for process in group)
                    for process in group:
                        process.kill()
                for process in group:
                    process.join()
                codes = {process.exitcode for process in group}
                if not codes <= {0, -9}:
                    failed += 1
                    break
                if codes == {0}:
                    found = contents(folder)
                    if found != expected:
                        silent += 1
                        names = {k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k)}
                        print(f"run {runs}: other than undisturbed: {sorted(names)}", file=sys.stderr)
                    break
            print(f"{kills} kills, {runs} runs, {silent} silent, {failed} failed", file=sys.stderr)
    result = {
        "processes": args.processes,
        "slow_s": args.slow,
        "kills": kills,
        "runs": runs,
        "silent": silent,
        "failed": failed,
    }
    print(json.dumps(result) if args.json else ", ".join(f"{k} {v}" for k, v in result.items()))
    sys.exit(bool(silent or failed))


if __name__ == "__main__":
    main()
