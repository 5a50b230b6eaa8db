"""Late fusion: combine score files of several models for the same videos.

  clipwise fuse rgb.json flow.json --weights 1 1 --labels val.txt
  clipwise fuse rgb.pkl flow.pkl --softmax --labels val.txt --search rgb_dev.pkl flow_dev.pkl --search-labels dev.txt

Scores are added with their weights, as they are; --softmax (--sigmoid for several labels a video) turns logits into
probabilities first. Files that name their
videos are brought into one order by name.
"""

from __future__ import annotations

import argparse
from typing import Any

from clipwise.cli.argument_types import finite, split_overrides
from clipwise.cli.common import print_json
from clipwise.errors import ClipwiseError, DataError
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scores", nargs="+", help="score files: .json, .csv or .pkl; lists.…=… for the list of labels")
    parser.add_argument("--weights", nargs="+", type=finite, metavar="W", help="one a file (default: all 1)")
    activation = parser.add_mutually_exclusive_group()
    activation.add_argument("--softmax", action="store_true", help="apply a softmax to each file's scores first")
    activation.add_argument("--sigmoid", action="store_true", help="apply a sigmoid to each file's scores first")
    parser.add_argument("--labels", metavar="LIST", help="list with the labels, if the files have none")
    parser.add_argument("--list-format", default="auto", help="how the list is written")
    parser.add_argument("--topk", nargs="+", type=int, default=[1, 5], metavar="K", help="the k of top-k accuracy")
    parser.add_argument(
        "--search",
        nargs="*",
        metavar="FILE",
        help="find the weights by top-1 accuracy (mAP for several labels) on these files (a validation set)",
    )
    parser.add_argument("--search-labels", metavar="LIST", help="labels of the --search files, if they have none")
    parser.add_argument("--out", help="write the fused scores: .json, .csv or .pkl")


def run(args: argparse.Namespace) -> int:
    from clipwise.cli.list_keys import list_keys
    from clipwise.engine.evaluate import TestResult
    from clipwise.engine.result_files import check_result_path
    from clipwise.infer import fusion

    paths, words = split_overrides(args.scores)
    if args.weights and len(args.weights) != len(paths):
        raise ClipwiseError(
            f"{plural(len(paths), 'score file')}, but {plural(len(args.weights), 'weight')}; give one a file."
        )
    if args.weights and not any(args.weights):
        raise ClipwiseError("--weights are all 0, so nothing would be left of the scores; give one a file.")
    if args.weights and args.search is not None:
        raise ClipwiseError("--weights gives the weights, --search finds them; give one of the two.")
    if args.out:
        check_result_path(args.out)
    activation: Any = "softmax" if args.softmax else "sigmoid" if args.sigmoid else None
    keys = list_keys([*words, f"lists.format={args.list_format}"])
    files = [fusion.read_scores(path) for path in paths]
    arrays, labels = fusion.align(files, _labels(args.labels, keys))
    weights, found = args.weights or [1.0] * len(files), None
    same_videos = False
    if args.search is not None:
        if args.search and len(args.search) != len(files):
            raise ClipwiseError(
                f"--search needs one file for each of the {plural(len(files), 'score file')}, given {len(args.search)}."
            )
        same_videos = not args.search
        dev_files = [fusion.read_scores(path) for path in args.search] if args.search else files
        dev_labels = _labels(args.search_labels or (args.labels if same_videos else None), keys)
        dev, truth = fusion.align(dev_files, dev_labels)
        if truth is None:
            raise ClipwiseError("the --search files have no labels; give --search-labels LIST.")
        weights, found = fusion.search_weights(dev, truth, activation)
    fused = fusion.fuse(arrays, weights, activation)
    figures = fusion.measure_fused(fused, labels, args.topk) if labels is not None else {}
    alone = [fusion.measure_fused(a, labels, args.topk) for a in arrays] if labels is not None else []
    if args.out:
        names = next((f.names for f in files if f.names), None) or [str(i) for i in range(len(fused))]
        classes = next((f.classes for f in files if f.classes), None)
        result = TestResult(names, labels or [None] * len(fused), list(fused), classes, metrics=figures)
        result.save(args.out)
    if args.json:
        print_json(
            {
                "weights": weights,
                "metrics": figures,
                "alone": dict(zip(paths, alone)),
                "videos": len(fused),
                "search_top1_acc": found,
                "out": args.out,
            }
        )
        return 0
    for path, weight, own in zip(paths, weights, alone or [{}] * len(files)):
        print(f"{path}\tweight {weight:g}" + "".join(f"\t{k} {v:.4f}" for k, v in own.items()))
    if found is not None:
        where = "these same videos: too good to report" if same_videos else "the --search videos"
        figure = next(iter(figures), "top1_acc")
        print(f"weights found with {figure} {found:.4f} on {where}")
    for name, value in figures.items():
        print(f"{name}\t{value:.4f}")
    if not figures:
        print(f"{plural(len(fused), 'video')} fused; without --labels there is nothing to measure")
    if args.out:
        print(f"scores in {args.out}")
    return 0


def _labels(path: str | None, keys: dict[str, Any]) -> list[tuple[str | None, Any]] | None:
    if path is None:
        return None
    import numpy as np

    from clipwise.data.lists import read_part

    videos = read_part(path, keys, "val")
    labels = [videos.label(i) for i in range(len(videos))]
    if any(label is None for label in labels):
        raise DataError(f"{path}: fusion needs labels, but some videos have none.")
    plain = [int(label) if np.ndim(label) == 0 else np.flatnonzero(label).tolist() for label in labels]  # type: ignore[arg-type]
    return [(videos.entry(i), label) for i, label in enumerate(plain)]
