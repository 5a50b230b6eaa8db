"""BMN from scratch on real videos: 800 spoken sentences, against what the position in the sentence alone tells.

    python benchmarks/bmn_sentences.py DATA [--variants color_digit phrase2] [--out DIR] [key=value …]

DATA holds ``features_pca64.npz``, ``VARIANT_anno_action.json`` and ``video_info.csv``. The prior proposes for every
validation video the same: proposals made, by the same rules, from the mean label maps of the training videos.
Prints AR@1, 5, 10, 20 (mean over tIoU 0.5:0.05:0.95) and AUC of both as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from clipwise.engine.evaluate_localizer import evaluate_proposals
from clipwise.engine.localization import LocalizationTask, measure
from clipwise.engine.log import RunLog
from clipwise.engine.train import train
from clipwise.models.localizer_rules import LabeledVideo
from clipwise.recipe import load_recipe
from clipwise.tasks.average_recall import AverageRecall
from clipwise.tasks.bmn_targets import bmn_targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--variants", nargs="+", default=["color_digit", "phrase2"])
    parser.add_argument("--out", default="runs/bmn_sentences")
    args = parser.parse_intermixed_args()
    for variant in args.variants:
        overrides = [f"annotations={variant}_anno_action.json", *args.overrides]
        recipe = load_recipe("bmn_grid_sentences", overrides)
        print(
            json.dumps({"data": variant, "method": "position prior", **figures(prior(recipe, args.data))}), flush=True
        )
        started = time.perf_counter()
        run = train(recipe, data=args.data, work_dir=Path(args.out) / variant, quiet=True)
        result = evaluate_proposals(run.last, data=args.data)
        result.save(Path(args.out) / f"{variant}.json")
        seconds = time.perf_counter() - started
        row = {
            "data": variant,
            "method": f"BMN, {recipe.epochs} epochs",
            **figures(result.recall),
            "seconds": round(seconds),
        }
        print(json.dumps(row), flush=True)


def prior(recipe, data: str) -> AverageRecall:
    """The same proposals for every video: from the mean labels of the training set."""
    task = LocalizationTask(recipe, Accelerator(cpu=True), RunLog(None, quiet=True), data=data)
    model = task.model
    targets = bmn_targets(
        task.train_set.segments,
        model.temporal_dim,
        model.max_duration,
        convention=recipe.bmn.targets,
        layout=model.layout,
    )
    iou, start, end = (x.mean(0, keepdim=True) for x in targets)
    # the map holds the mean IoU and the share of videos in which the cell is a hit
    hit = (targets.iou > 0.7).float().mean(0, keepdim=True)
    outputs = torch.stack([iou, hit], 1), start, end
    assert task.val_set is not None
    videos = task.val_set.annotations.videos
    (found,) = task.rules.decode(outputs, [LabeledVideo(model.temporal_dim, 1.0)])
    proposals = {
        name: np.column_stack([found.segments_s * v.covered_s(recipe.input.time_base), found.scores])
        for name, v in videos.items()
    }
    recall = measure(proposals, task.val_set.annotations.ground_truth()).recall
    assert recall is not None
    return recall


def figures(recall: AverageRecall | None) -> dict[str, float]:
    assert recall is not None
    return {f"AR@{n}": round(recall.at(n), 3) for n in (1, 5, 10, 20)} | {"AUC": round(recall.auc, 2)}


if __name__ == "__main__":
    main()
