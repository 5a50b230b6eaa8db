"""Measure features by their nearest neighbors: no training, one figure for a frozen encoder.

  clipwise features --encoder hf:facebook/dinov2-base videos/ --out feats
  clipwise knn feats --train train.txt --val val.txt

A video's feature file has the video's name. The videos of --train vote for the classes of those of --val.
"""

from __future__ import annotations

import argparse

from clipwise.cli.argument_types import count, split_overrides
from clipwise.cli.common import print_json
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "features",
        nargs="+",
        help="folders of feature files, as `clipwise features` writes them; lists.…=… for the lists",
    )
    parser.add_argument("--train", required=True, metavar="LIST", help="list (or folder) of the videos that vote")
    parser.add_argument("--val", required=True, metavar="LIST", help="list (or folder) of the videos that are named")
    parser.add_argument("--k", type=count, default=20, help="neighbors (default 20)")
    parser.add_argument("--temperature", type=float, default=0.07, help="of the votes' weights (default 0.07)")
    parser.add_argument("--topk", nargs="+", type=count, default=[1, 5], metavar="K", help="the k of top-k accuracy")
    parser.add_argument("--out", help="write the scores: .json, .csv or .pkl")


def run(args: argparse.Namespace) -> int:
    from clipwise.cli.list_keys import list_keys
    from clipwise.data.lists import read_part
    from clipwise.engine.evaluate import TestResult
    from clipwise.engine.recognition import check_labels
    from clipwise.engine.result_files import check_result_path
    from clipwise.infer.neighbors import neighbor_scores, video_features

    if args.out:
        check_result_path(args.out)
    folders, words = split_overrides(args.features)
    recipe = list_keys(words)
    train = read_part(args.train, recipe, "train")
    val = read_part(args.val, recipe, "val", classes=train.classes)
    for videos, source in ((train, args.train), (val, args.val)):
        check_labels(videos, source)
    classes = max(train.num_classes or 0, val.num_classes or 0)
    scores = neighbor_scores(
        video_features(train, folders),
        train.labels,
        video_features(val, folders),
        classes,
        k=args.k,
        temperature=args.temperature,
    )
    paths, labels = zip(*((val.path(i), val.label(i)) for i in range(len(val))))
    result = TestResult(list(paths), list(labels), list(scores), train.classes)
    result.compute(topk=[k for k in args.topk if k <= classes])
    if args.out:
        result.save(args.out)
    if args.json:
        print_json({"metrics": result.metrics, "train": len(train), "val": len(val), "k": args.k, "out": args.out})
        return 0
    for name, value in result.metrics.items():
        print(f"{name}\t{value:.4f}")
    print(
        f"{plural(len(val), 'video')} named by {min(args.k, len(train))} of {plural(len(train), 'neighbor')}"
        + (f", scores in {args.out}" if args.out else "")
    )
    return 0
