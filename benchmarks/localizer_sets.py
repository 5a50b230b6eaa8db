"""What the own-data defaults choose on data sets of very different statistics, against what the position in the video alone tells.

    OMP_NUM_THREADS=1 python benchmarks/localizer_sets.py [--sets few_long …] [--models bmn_tiny …] [--seeds 0] [--out DIR] [key=value …]

Each set is made up: features of noise and drift in which a class's direction rises while one of its actions happens, seen through clips
that blur the ends. The recipes run as they stand (``temporal_dim: auto``, ``window_s: auto`` where they have it). The prior proposes the same shares of
every video, from the mean label maps of the training videos through BMN's own rules. Prints, as JSON lines: what was chosen, AR@1, 10, 100 and AUC of
network and prior, mAP at tIoU 0.5 (segments as one class), seconds. A run whose ``result.json`` is in DIR is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Set:
    """Statistics of a set: seconds of videos and actions are drawn evenly on a logarithmic scale."""

    videos_s: tuple[float, float]
    actions: tuple[int, int]
    actions_s: tuple[float, float]
    rate: float
    dim: int
    classes: int
    training: int
    validation: int = 12
    noise: float = 1.0
    overlapping: bool = False


SETS = {
    "few_long": Set((600, 1500), (1, 4), (60, 240), 1.0, 64, 4, 30),
    "many_short": Set((200, 500), (25, 50), (1, 4), 4.0, 32, 6, 20),
    "mixed_lengths": Set((60, 600), (4, 12), (1, 60), 2.0, 256, 5, 25),
    "few_videos": Set((100, 300), (5, 12), (4, 20), 2.0, 64, 3, 8),
    "one_class": Set((30, 90), (1, 4), (2, 10), 5.0, 128, 1, 40),
    "background": Set((600, 1500), (1, 2), (5, 15), 2.0, 64, 2, 30),
    "clips": Set((3, 12), (1, 2), (1, 4), 8.0, 48, 5, 120, 40),
    "kitchen_15hz": Set((55, 120), (20, 35), (0.5, 6), 15.0, 128, 10, 21, 7),
    "recipes_15hz": Set((30, 400), (4, 9), (2, 90), 15.0, 64, 48, 40, 12, noise=1.5),
    "overlapping": Set((30, 200), (20, 60), (0.4, 12), 10.0, 64, 40, 20, 10, overlapping=True),
    "three_long": Set((900, 1800), (60, 150), (0.7, 12), 3.0, 96, 30, 3, 2, noise=1.5),
    "nearly_whole": Set((10, 120), (1, 1), (100, 200), 4.0, 64, 8, 60, 20),
}


def make(name: str, folder: Path, seed: int) -> None:
    """Features and annotations of a set."""
    spec, rng = SETS[name], np.random.default_rng([seed, sum(map(ord, name))])
    (folder / "features").mkdir(parents=True, exist_ok=True)
    directions = rng.normal(size=(spec.classes, spec.dim)) / spec.dim**0.5 * 4
    database = {}
    for number in range(spec.training + spec.validation):
        seconds = float(np.exp(rng.uniform(*np.log(spec.videos_s))))
        count = int(seconds * spec.rate)
        time_s = (np.arange(count * 4) + 0.5) / (spec.rate * 4)
        signal, entries, taken = np.zeros((count * 4, spec.dim)), [], np.zeros(count * 4, bool)
        for _ in range(int(rng.integers(spec.actions[0], spec.actions[1] + 1))):
            length = min(float(np.exp(rng.uniform(*np.log(spec.actions_s)))), 0.8 * seconds)
            for _ in range(20):
                start = float(rng.uniform(0, seconds - length))
                inside = (time_s >= start) & (time_s < start + length)
                if spec.overlapping or not taken[inside].any():
                    break
            else:
                continue
            taken |= inside
            kind = int(rng.integers(spec.classes))
            signal[inside] += directions[kind] * rng.uniform(0.7, 1.3)
            entries.append({"segment": [round(start, 3), round(start + length, 3)], "label": f"c{kind}"})
        # a clip is two features long
        blurred = np.apply_along_axis(np.convolve, 0, signal, np.ones(8) / 8, "same")
        seen = blurred.reshape(count, 4, -1).mean(1)
        drift = np.cumsum(rng.normal(size=(count, spec.dim)), 0) * 0.1
        drift -= drift.mean(0)
        noise = rng.normal(size=(count, spec.dim)) * spec.noise
        np.save(folder / "features" / f"v{number:03}.npy", (seen + noise + drift).astype(np.float32))
        subset = "training" if number < spec.training else "validation"
        entries.sort(key=lambda e: e["segment"])
        database[f"v{number:03}"] = {"duration": round(count / spec.rate, 3), "subset": subset, "annotations": entries}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))


def prior(folder: Path) -> dict[str, np.ndarray]:
    """The same shares of every validation video."""
    import torch

    from clipwise.tasks.bmn_targets import bmn_targets
    from clipwise.tasks.proposals import generate_proposals

    database = json.loads((folder / "annotations.json").read_text())["database"]
    shares = [
        np.array([e["segment"] for e in v["annotations"]]).reshape(-1, 2) / v["duration"]
        for v in database.values()
        if v["subset"] == "training"
    ]
    targets = bmn_targets(shares, 100)
    iou, start, end = (x.mean(0, keepdim=True) for x in targets)
    hit = (targets.iou > 0.7).float().mean(0, keepdim=True)
    ((segments, scores),) = generate_proposals(torch.stack([iou, hit], 1), start, end, convention="filled")
    return {
        name: np.column_stack([segments * v["duration"], scores])
        for name, v in database.items()
        if v["subset"] == "validation"
    }


def run_one(name: str, model: str, seed: int, out: Path, overrides: list[str]) -> None:
    """Make the set, train, measure."""
    from clipwise.engine.checkpoint import read_passport
    from clipwise.engine.evaluate_localizer import evaluate_proposals
    from clipwise.engine.train import train
    from clipwise.recipe import load_recipe
    from clipwise.tasks.average_recall import average_recall_at_avg_proposals
    from clipwise.tasks.detection_metrics import detection_map

    folder = out / f"{name}-{seed}"
    if not (folder / "annotations.json").is_file():
        make(name, folder, seed)
    place, began = out / f"{name}-{seed}-{model}", time.process_time()
    recipe = load_recipe(model, ["val.every=1000", f"seed={seed}", "num_workers=0", *overrides])
    run = train(recipe, data=str(folder), work_dir=place, quiet=True)
    seconds = time.process_time() - began
    used, result = read_passport(run.last).recipe, evaluate_proposals(run.last, data=str(folder))
    assert result.recall is not None
    chance = average_recall_at_avg_proposals(result.ground_truth, prior(folder))
    truth = {v: [{**e, "label": "any"} for e in entries] for v, entries in result.ground_truth.items()}
    found = {
        v: [{"segment": row[:2], "score": row[2], "label": "any"} for row in rows.tolist()]
        for v, rows in result.proposals.items()
    }
    facts = {"set": name, "model": model, "seed": seed}
    facts |= {key: used[key] for key in ("window_s", "temporal_dim")}
    for who, recall in (("network", result.recall), ("prior", chance)):
        facts |= {who: {**{f"AR@{n}": round(recall.at(n), 3) for n in (1, 10, 100)}, "AUC": round(recall.auc, 1)}}
    facts |= {"mAP@0.5": round(100 * detection_map(truth, found, [0.5]).mean, 1), "seconds": round(seconds)}
    (place / "result.json").write_text(json.dumps(facts))
    print(json.dumps(facts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--models", nargs="+", default=["bmn_tiny"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/localizer_sets"))
    parser.add_argument("--one", action="store_true", help="the one run that the options name, in this process")
    args = parser.parse_intermixed_args()
    for seed in args.seeds:
        for name in args.sets:
            for model in args.models:
                done = args.out / f"{name}-{seed}-{model}" / "result.json"
                if args.one:
                    run_one(name, model, seed, args.out, args.overrides)
                elif done.is_file():
                    print(done.read_text(), flush=True)
                else:
                    words = ["--sets", name, "--models", model, "--seeds", str(seed), "--out", str(args.out), "--one"]
                    subprocess.run([sys.executable, __file__, *words, *args.overrides], check=True)


if __name__ == "__main__":
    main()
