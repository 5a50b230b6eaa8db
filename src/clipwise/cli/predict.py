"""Name what happens in videos.

clipwise predict runs/mine/best.safetensors video.mp4 more_videos/ list.txt --topk 3
clipwise predict slowonly_r50_8x8x1_256e_kinetics400_rgb video.mp4       (downloads published weights)
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack

from clipwise.cli.argument_types import count
from clipwise.cli.common import (
    add_cuda_graphs,
    add_font,
    add_shard,
    fail,
    load_any,
    print_json,
    print_table,
    shard_of,
    with_cuda_graphs,
)
from clipwise.cli.convert_annotations import PRE_ANNOTATIONS, check_pre_annotations, write_predicted
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a checkpoint, an exported model, or a name in the zoo")
    parser.add_argument("inputs", nargs="+", help="files, folders, lists or addresses")
    parser.add_argument("--topk", type=int, default=5, help="classes to show (default 5)")
    parser.add_argument("--csv", metavar="FILE", help="write a row a video")
    parser.add_argument("--out", metavar="VIDEO", help="write the (one) video with its prediction drawn into it")
    add_font(parser)
    parser.add_argument("--max-views", type=count, metavar="N", help="views that go through the network at once")
    parser.add_argument("--amp", choices=("bf16", "fp16", "no"), default="no", help="mixed precision (default no)")
    add_cuda_graphs(parser)
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help="append a line a video as soon as it is done; what the file has already is skipped",
    )
    for option, settings in PRE_ANNOTATIONS.items():
        parser.add_argument(option, **settings)
    add_shard(parser)
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="spread the inputs over a Ray cluster (auto, an address, or local)",
    )
    parser.add_argument(
        "--ray-workers", type=count, default=2, metavar="N", help="processes on the cluster (default 2)"
    )


def run(args: argparse.Namespace) -> int:
    from clipwise.engine.result_files import check_writable
    from clipwise.errors import ClipwiseError, DataError

    inputs = args.inputs
    if any(not os.path.isfile(name) or name.endswith((".txt", ".csv", ".tsv", ".json")) for name in inputs):
        from clipwise.infer.inputs import expand_inputs

        inputs = list(expand_inputs(inputs))
    first, parts = shard_of(args.shard)
    inputs = inputs[first::parts]
    if args.topk < 1:
        raise ClipwiseError(f"--topk {args.topk}: at least 1 class must be shown.")
    if args.out and len(inputs) != 1:
        raise ClipwiseError(f"--out draws into one video, but {len(inputs)} were given.")
    for option, path in (("--csv", args.csv), ("--out", args.out), ("--jsonl", args.jsonl)):
        if path:
            check_writable(path, option)
    for_tools = args.annotations or args.format or args.fiftyone
    if for_tools or args.config or args.fps is not None:
        check_pre_annotations(args)
    if args.ray or args.jsonl:
        from clipwise.cli.predict_many import append_lines, run_on_cluster

        return run_on_cluster(args, inputs) if args.ray else append_lines(args, inputs)
    predictor = with_cuda_graphs(load_any(args.checkpoint, args.device, args.amp, args.max_views), args)
    predictions, failures, interrupted = [], {}, False
    with ExitStack() as stack:
        progress = add_row = None
        if len(inputs) > 1 and not args.json:
            from clipwise.io.progress import ProgressBar

            progress = stack.enter_context(ProgressBar("predict"))
        if args.csv:
            from clipwise.cli.predict_many import csv_rows

            add_row = stack.enter_context(csv_rows(args.csv, args.topk))
        try:
            for n, source in enumerate(inputs):
                try:
                    predictions.append(predictor(source))
                except (DataError, OSError) as error:
                    failures[source] = str(error)
                if add_row:
                    add_row(source, None if source in failures else predictions[-1], failures.get(source, ""))
                if progress:
                    progress(n + 1, len(inputs))
        except KeyboardInterrupt:  # what was predicted is written and shown before the command ends
            interrupted = True
    if args.out and predictions and not interrupted:
        from clipwise.infer.draw import annotate_video

        annotate_video(inputs[0], args.out, [(0.0, predictions[0].duration_s, predictions[0].top(args.topk))])
    if for_tools and predictions and not interrupted:
        write_predicted(args, predictions, bool(predictor.passport.recipe.get("multi_label")))
    if args.json:
        print_json({"predictions": [p.to_dict(args.topk) for p in predictions], "failures": failures})
    else:
        rows = []
        for p in predictions:
            for rank, (name, score) in enumerate(p.top(args.topk)):
                rows.append((p.source if rank == 0 else "", name, f"{score:.4f}"))
        if rows:
            print_table(rows, ("video", "class", "score"))
    for source, reason in failures.items():
        fail("predict", reason if source in reason else f"{source}: {reason}")
    if interrupted:
        done = len(predictions) + len(failures)
        kept = f"; {args.csv} has a row for each" if args.csv and done else ""
        fail(
            "predict",
            f"interrupted {f'after {done}' if done else 'before the first'} of {plural(len(inputs), 'video')}{kept}.",
        )
        return 130
    if failures:
        return 2 if not predictions else 1
    return 0
