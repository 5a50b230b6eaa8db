"""From raw pixels to named, timed words: recognizer, features, BMN and localization on real videos, end to end.

    python benchmarks/bmn_raw_video.py ../shared/data/grid_sentences [--out DIR] [--videos 700] [--epochs 12]

1. a TSM learns words from their spans in the sentences: colors and digits twice a sentence, once with inexact ends, as proposals
   will have them; of the other words two a sentence (letters by kind, the others by name),
2. it slides over the whole sentences and writes features (`clipwise features`),
3. BMN learns where colors and digits are (`clipwise train`),
4. each validation sentence is localized from its mp4 alone (`clipwise localize`), and measured: AR@AN and detection mAP.
Prints JSON lines with figures and processor seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
from pathlib import Path

import numpy as np

from clipwise.engine.checkpoint import read_passport
from clipwise.engine.train import train
from clipwise.infer.feature_files import extract_features
from clipwise.infer.features import FeatureExtractor, WindowRule
from clipwise.infer.localize import Localizer
from clipwise.recipe import load_recipe
from clipwise.tasks.average_recall import average_recall_at_avg_proposals
from clipwise.tasks.detection_metrics import detection_map
from clipwise.tasks.detections import ResultWriter

FPS, NUM_FRAMES = 25, 75
TARGETS = ("color", "digit")
OTHERS = ("command", "prep", "letter", "adverb")
INEXACT_FRAMES = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/bmn_raw_video"))
    parser.add_argument(
        "--videos", type=int, default=700, help="training sentences of BMN; the recognizer learns from all"
    )
    parser.add_argument("--val-videos", type=int, default=100, help="sentences to localize")
    parser.add_argument("--recognizer", type=Path, help="a checkpoint of an earlier call, instead of training one")
    parser.add_argument("--epochs", type=int, default=12, help="of the recognizer")
    parser.add_argument("--bmn-epochs", type=int, default=12)
    parser.add_argument("--stride", type=int, default=1, help="frames between two windows (default 1)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    training, validation = make_lists(args.data, args.out)
    training, validation = training[: args.videos], validation[: args.val_videos]

    keys = [
        f"epochs={args.epochs}",
        "warmup_epochs=1",
        "num_segments=6",
        "batch_size=32",
        "num_workers=1",
        "log.every=20",
    ]
    recipe = load_recipe("tsm_tiny", [*keys, f"data_root={args.data / 'videos'}"])
    if args.recognizer:
        path, figures = args.recognizer, read_passport(args.recognizer).metrics
    else:
        words = {"data": str(args.out / "words_train.csv"), "val_data": str(args.out / "words_val.csv")}
        recognizer = train(recipe, **words, work_dir=args.out / "tsm", quiet=True)
        path, figures = recognizer.last, recognizer.metrics
    clock("recognizer", figures)

    extractor = FeatureExtractor(path, WindowRule(stride=args.stride, window=6), batch_size=64, amp="bf16")
    files = [args.data / "videos" / f"{name}.mp4" for name in training + validation]
    report = extract_features(extractor, files, args.out / "features")
    clock("features", {"videos": len(report.written) + len(report.skipped), "feat_dim": extractor.feat_dim})

    keys = [
        f"feat_dim={extractor.feat_dim}",
        f"features={args.out / 'features'}",
        f"epochs={args.bmn_epochs}",
        "allow_missing=true",
    ]
    bmn = train(load_recipe("bmn_grid_sentences", keys), data=str(args.data), work_dir=args.out / "bmn", quiet=True)
    clock("bmn", bmn.best_metrics)

    localizer = Localizer(bmn.best or bmn.last, batch_size=64, amp="bf16")
    found = {name: localizer(args.data / "videos" / f"{name}.mp4") for name in validation}
    gt = json.loads((args.data / "color_digit_activitynet_gt.json").read_text())["database"]
    truth = {name: gt[name]["annotations"] for name in validation}
    with ResultWriter(args.out / "results.json") as file:
        for name, one in found.items():
            rows = one.activitynet()
            file.add(name, [r["segment"] for r in rows], [r["score"] for r in rows], [r["label"] for r in rows])
    recall = average_recall_at_avg_proposals(truth, {name: one.proposals for name, one in found.items()})
    precision = detection_map(
        truth, {name: one.activitynet() for name, one in found.items()}, np.array([0.3, 0.5, 0.7])
    )
    figures = {f"AR@{n}": recall.at(n) for n in (1, 5, 10)}
    figures |= {f"mAP@{t}": v for t, v in zip((0.3, 0.5, 0.7), precision.per_tiou.tolist())}
    clock("localize", figures | {"videos": len(found)})
    name = validation[0]
    best = sorted(found[name].segments, key=lambda s: -s.score)[:2]
    print(json.dumps({"video": name, "found": [s.to_dict() for s in best], "truth": truth[name]}), flush=True)


def make_lists(data: Path, out: Path) -> tuple[list[str], list[str]]:
    """Word lists for the recognizer; names of the training and validation sentences."""
    with open(data / "sentences.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names: dict[str, list[str]] = {"train": [], "val": []}
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        words = []
        for row in [r for r in rows if r["subset"] == part]:
            names[part].append(row["name"])
            kinds = [*TARGETS, *rng.choice(OTHERS, 2, replace=False), *(TARGETS if part == "train" else ())]
            for place, kind in enumerate(kinds):
                span = np.array([float(row[f"{kind}_{edge}_frame"]) for edge in ("start", "end")])
                if place >= 4:
                    span += rng.uniform(-INEXACT_FRAMES, INEXACT_FRAMES, 2)
                    span[1] = max(span[1], span[0] + 3)
                label = kind if kind == "letter" else row[kind]
                words.append([f"{row['name']}.mp4", label, *(f"{t:.3f}" for t in span.clip(0, NUM_FRAMES) / FPS)])
        with open(out / f"words_{part}.csv", "w", newline="") as file:
            csv.writer(file).writerows([["path", "label", "start_s", "end_s"], *words])
    return names["train"], names["val"]


class Clock:
    """Processor seconds, with those of the loader's processes: a busy machine changes them least."""

    def __init__(self):
        self.last = self.now()

    @staticmethod
    def now() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used)

    def __call__(self, step: str, figures: dict) -> None:
        now = self.now()
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
        print(json.dumps({"step": step, "cpu_seconds": round(now - self.last, 1), **rounded}), flush=True)
        self.last = now


if __name__ == "__main__":
    main()
