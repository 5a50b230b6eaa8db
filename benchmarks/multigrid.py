"""Less work an epoch: multigrid cycles and repeated augmentation against the plain schedule, in accuracy and processor time.

    OMP_NUM_THREADS=1 python benchmarks/multigrid.py ../shared/data/grid_digits [--seeds 5] [--epochs 20] [--only NAME …] [--out FOLDER]

Trains tsm_tiny on the spoken digits of GRID (700 videos to train, 100 to validate; clips of 8 frames at 48x36 pixels) under each schedule,
seed after seed, each run by `clipwise train` in a process of its own. A run's time is what the system counts for that process and its
workers, start and last validation included, so what else the machine does matters little. Finished runs are kept in FOLDER; the
table is printed from what is there. Differences are paired by seed, with the 95 % interval of Student's t.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SMALL = ["crop_size=[48,36]", *(f"{part}.resize=[56,42]" for part in ("augment", "val", "test")),
         "val.crop_size=[48,36]", "test.crop_size=[48,36]", "num_workers=0", "log.every=20"]  # fmt: skip
SCHEDULES: dict[str, tuple[float, list[str]]] = {  # epochs as a share of the plain schedule's
    "plain": (1.0, []),
    "long cycle, batch grows": (1.2, ["multigrid.shapes=long", "multigrid.lr_scaling=sqrt", "augment.repeat=2"]),
    "long cycle, batch stays": (0.8, ["multigrid.shapes=long", "multigrid.grow_batch=false", "augment.repeat=2"]),
    "progressive size": (
        0.75,
        [
            "multigrid.shapes=progressive",
            "multigrid.sizes={0: [34, 25], 8: [48, 36]}",
            "multigrid.grow_batch=false",
            "augment.repeat=2",
        ],
    ),
}
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train.txt and val.txt")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--epochs", type=int, default=20, help="of the plain schedule")
    parser.add_argument("--only", nargs="+", choices=list(SCHEDULES), metavar="NAME", help="these schedules")
    parser.add_argument("--out", type=Path, default=Path("multigrid_runs"))
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and train nothing")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in [] if args.table else range(args.first, args.first + args.seeds):
        for name in args.only or SCHEDULES:
            kept = args.out / f"{args.epochs} epochs, {name}, seed {seed}.json"
            if not kept.is_file():
                kept.write_text(json.dumps(measure(args, name, seed)) + "\n", encoding="utf-8")
                print(f"{kept.stem}: {kept.read_text(encoding='utf-8').strip()}", flush=True)
    print(table(args.out, args.epochs))


def measure(args: argparse.Namespace, name: str, seed: int) -> dict[str, float]:
    """Train; top-1 after the last epoch, and seconds of processor and wall time."""
    share, words = SCHEDULES[name]
    epochs = round(args.epochs * share)
    # the warm-up of the plain schedule, in its share of the run
    words = [*SMALL, *words, f"epochs={epochs}", f"val.every={epochs}", f"warmup_epochs={epochs / 8:g}", f"seed={seed}"]
    folder = args.out / f"{name} {seed}"
    command = [
        sys.executable,
        "-m",
        "clipwise",
        "train",
        "tsm_tiny",
        "--data",
        str(args.data),
        "--work-dir",
        str(folder),
        *words,
    ]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={"OMP_NUM_THREADS": "1", **os.environ})
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "top1": lines[-1]["top1_acc"],
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall_s": time.perf_counter() - began,
        "steps": lines[-1]["step"],
    }


def table(folder: Path, epochs: int) -> str:
    """Markdown: accuracy, time, and the differences from the plain schedule over the seeds that both have."""
    runs: dict[str, dict[int, dict[str, float]]] = {}
    for path in sorted(folder.glob(f"{epochs} epochs, *.json")):
        name, _, seed = path.stem.removeprefix(f"{epochs} epochs, ").rpartition(", seed ")
        runs.setdefault(name, {})[int(seed)] = json.loads(path.read_text(encoding="utf-8"))
    plain = runs.get("plain", {})
    rows = ["| schedule | epochs | steps | top-1, mean of seeds | each seed | difference from plain, 95 % interval | processor s | of plain |",
            "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, (share, _) in SCHEDULES.items():
        found = runs.get(name, {})
        if not found:
            continue
        both = sorted(found.keys() & plain.keys())
        scores = [found[s]["top1"] for s in sorted(found)]
        seconds = statistics.mean(found[s]["cpu_s"] for s in found)
        gap, ratio = "", ""
        if name != "plain" and len(both) > 1:
            mean, half = interval([found[s]["top1"] - plain[s]["top1"] for s in both])
            gap = f"{mean:+.3f} ± {half:.3f}"
        if both:
            ratio = f"{sum(found[s]['cpu_s'] for s in both) / sum(plain[s]['cpu_s'] for s in both):.2f}"
        rows.append(
            f"| {name} | {round(epochs * share)} | {found[min(found)]['steps']} | {statistics.mean(scores):.3f} | "
            f"{', '.join(f'{s:.2f}' for s in scores)} | {gap} | {seconds:.0f} | {ratio} |"
        )
    return "\n".join(rows)


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the 95 % interval of a few values."""
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), T_975.get(len(values) - 1, 1.96) * spread


if __name__ == "__main__":
    main()
