"""50Salads with the own-data defaults: many short actions in minutes, five folds.

    python benchmarks/salads.py DATA [--folds 0 1 2 3 4] [--out DIR] [key=value …]

DATA holds ``features/`` and ``foldK.json`` (ActivityNet's layout; the subset ``validation`` is fold K). A row is printed for each fold
and one for their mean: AR@1, 5, 10, 100, AUC, the window that was chosen, seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from clipwise.engine.checkpoint import read_passport
from clipwise.engine.train import train
from clipwise.recipe import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", default="runs/salads")
    args = parser.parse_intermixed_args()
    rows = []
    for fold in args.folds:
        started = time.perf_counter()
        keys = [f"annotations=fold{fold}.json", "features=features", "val.every=1000", *args.overrides]
        run = train(load_recipe("bmn_tiny", keys), data=args.data, work_dir=Path(args.out) / str(fold), quiet=True)
        used = read_passport(run.last).recipe
        figures = {k: round(v, 3) for k, v in run.metrics.items() if k != "loss"}
        rows.append(figures)
        facts = {"window_s": used["window_s"], "temporal_dim": used["temporal_dim"]}
        print(
            json.dumps({"fold": fold, **figures, **facts, "seconds": round(time.perf_counter() - started)}), flush=True
        )
    mean = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]}
    print(json.dumps({"mean of": args.folds, **mean}), flush=True)


if __name__ == "__main__":
    main()
