"""BMN, ActionFormer and TriDet on the same real videos, by their packaged recipes for own data: a table over seeds.

    python benchmarks/localizers.py ../shared/data/grid_sentences [--variants color_digit phrase2] [--seeds 0 1 2] [--out DIR]
        [--models bmn actionformer tridet] [key=value …]

The folder holds ``features_pca64.npz``, ``VARIANT_anno_action.json`` and ``video_info.csv``. Each run is a process of its own, so its
processor seconds and peak memory are its own. A run whose ``result.json`` is in DIR is not made again.

mAP is the mean over tIoU 0.3, 0.4, … 0.7 on the validation videos, with the classes' names and without them ("any": a found segment is
right wherever something happens). BMN gives no names: its proposals get those of a linear classifier of the mean feature of a span,
learned from the annotated spans. AR@5 is the mean over tIoU 0.5, 0.55, … 0.95.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

RECIPES = {"bmn": "bmn_grid_sentences", "actionformer": "actionformer_tiny", "tridet": "tridet_tiny"}
TIOUS = np.linspace(0.3, 0.7, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--variants", nargs="+", default=["color_digit", "phrase2"])
    parser.add_argument("--models", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/localizers"))
    parser.add_argument("--one", action="store_true", help="make the one run that the options name, in this process")
    args = parser.parse_intermixed_args()
    if args.one:
        run_one(args.data, args.variants[0], args.models[0], args.seeds[0], args.out, args.overrides)
        return
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for variant in args.variants:
        for seed in args.seeds:
            for model in args.models:
                place = args.out / f"{variant}-{model}-{seed}" / "result.json"
                if not place.is_file():
                    words = ["--variants", variant, "--models", model, "--seeds", str(seed), "--out", str(args.out)]
                    command = [sys.executable, __file__, str(args.data), "--one", *words, *args.overrides]
                    subprocess.run(command, check=True)
                rows.setdefault((variant, model), []).append(json.loads(place.read_text()))
    print_table(rows)


def run_one(data: Path, variant: str, model: str, seed: int, out: Path, overrides: list[str]) -> None:
    """Train, test, measure; the figures go into ``result.json`` of the run's folder."""
    from clipwise.engine.evaluate_localizer import evaluate_proposals
    from clipwise.engine.train import train
    from clipwise.recipe import load_recipe

    keys = ["features=features_pca64.npz", f"annotations={variant}_anno_action.json", f"seed={seed}", "num_workers=0"]
    recipe = load_recipe(RECIPES[model], [*keys, "feat_dim=64", *overrides])
    folder = out / f"{variant}-{model}-{seed}"
    run = train(recipe, data=str(data), work_dir=folder, quiet=True)
    if run.interrupted:
        raise SystemExit(f"{folder}: stopped before the last epoch; no result is written")
    result = evaluate_proposals(run.last, data=str(data))
    truth = result.ground_truth
    found = {
        video: [{"segment": row[:2], "score": row[2]} for row in rows.tolist()]
        for video, rows in result.proposals.items()
    }
    if result.labels is not None:
        named = {v: [e | {"label": n} for e, n in zip(found[v], result.labels[v])] for v in found}
    else:
        named = name_spans(data, variant, found)
    used = resource.getrusage(resource.RUSAGE_SELF)
    assert result.recall is not None
    facts = {
        "mAP": mean_ap(truth, named),
        "mAP any": mean_ap(
            {v: [{**e, "label": "any"} for e in entries] for v, entries in truth.items()},
            {v: [{**e, "label": "any"} for e in best_first(entries)] for v, entries in found.items()},
        ),
        "AR@1": result.recall.at(1),
        "AR@5": result.recall.at(5),
        "epochs": recipe.epochs,
        "seconds": used.ru_utime + used.ru_stime,
        "memory_mb": used.ru_maxrss / 1024,
    }
    (folder / "result.json").write_text(json.dumps(facts))
    print(json.dumps({"data": variant, "model": model, "seed": seed, **facts}), flush=True)


def mean_ap(truth: dict, found: dict) -> float:
    from clipwise.tasks.detection_metrics import detection_map

    return detection_map(truth, found, TIOUS).mean


def best_first(entries: list[dict]) -> list[dict]:
    """Without names a span that several classes claim counts once: hard NMS at 0.7."""
    from clipwise.tasks.nms import nms

    kept = nms(
        [e["segment"] for e in entries], [e["score"] for e in entries], method="hard", threshold=0.7, min_score=0
    )
    return [entries[i] for i in kept.indices]


def name_spans(data: Path, variant: str, found: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Proposals with the best class of a linear classifier on mean features; the score is multiplied by its probability."""
    from clipwise.data.feature_dataset import FeatureStore
    from clipwise.data.formats.annotation_files import read_annotations

    store = FeatureStore(data / "features_pca64.npz")
    videos = read_annotations(data / f"{variant}_anno_action.json").subset("training").videos.values()
    names = sorted({label for video in videos for label in video.labels})

    def mean(name: str, segment) -> np.ndarray:
        values = store.read(name)
        step = 3.0 / len(values)
        first = min(int(segment[0] / step), len(values) - 1)
        return values[first : max(first + 1, round(segment[1] / step))].mean(0)

    x = torch.tensor(np.array([mean(v.name, s) for v in videos for s in v.segments]))
    y = torch.tensor([names.index(label) for v in videos for label in v.labels])
    torch.manual_seed(0)
    center, spread = x.mean(0), x.std(0) + 1e-6
    layer = torch.nn.Linear(x.shape[1], len(names))
    optimizer = torch.optim.AdamW(layer.parameters(), 0.02, weight_decay=0.01)
    for _ in range(400):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer((x - center) / spread), y).backward()
        optimizer.step()
    named: dict[str, list[dict]] = {}
    for video, entries in found.items():
        if not entries:
            named[video] = []
            continue
        spans = torch.tensor(np.array([mean(video, e["segment"]) for e in entries]))
        with torch.no_grad():
            share, best = torch.softmax(layer((spans - center) / spread), 1).max(1)
        named[video] = [
            e | {"label": names[b], "score": e["score"] * s} for e, b, s in zip(entries, best.tolist(), share.tolist())
        ]
    return named


def print_table(rows: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    columns = ("mAP", "mAP any", "AR@1", "AR@5", "seconds", "memory_mb", "epochs")
    print(f"{'data':12} {'model':13} {'seeds':>5} " + " ".join(f"{c:>15}" for c in columns))
    for (variant, model), runs in rows.items():
        cells = []
        for column in columns:
            values = np.array([run[column] for run in runs]) * (
                100 if column[0] in "mA" and column != "memory_mb" else 1
            )
            spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 and column not in ("epochs", "memory_mb") else ""
            cells.append(
                f"{values.mean():.1f}{spread}"
                if column[0] in "mA" and column != "memory_mb"
                else f"{values.mean():.0f}{spread}"
            )
        print(f"{variant:12} {model:13} {len(runs):>5} " + " ".join(f"{c:>15}" for c in cells))


if __name__ == "__main__":
    main()
