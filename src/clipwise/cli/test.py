"""Score a test list with a checkpoint and measure accuracy.

  clipwise test runs/mine/best.safetensors                       on what the run was validated on
  clipwise test runs/mine/best.safetensors --data new_videos.txt --out scores.json
  clipwise test hf:MODEL --data k400/val.txt                     under the protocol behind its published figure
  clipwise test RECIPE CKPT --data k400/val.txt --eval top_k_accuracy mean_class_accuracy

The checkpoint's passport says how clips are sampled and cut; a RECIPE before it replaces that. Exported files
(.onnx, .pt2, .xml) carry the passport too and are tested the same way.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from clipwise.cli.argument_types import count, count_or_zero, split_overrides
from clipwise.cli.common import EXPORTED_SUFFIXES, print_json
from clipwise.errors import ClipwiseError
from clipwise.io.progress import ProgressBar
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="+", metavar="[RECIPE] CKPT [key=value …]", help="checkpoint, a recipe before it if wanted"
    )
    parser.add_argument("--data", help="folder or list to test on (default: what the checkpoint was validated on)")
    parser.add_argument(
        "--eval",
        nargs="+",
        metavar="METRIC",
        help="top_k_accuracy mean_class_accuracy (default), mean_average_precision, …",
    )
    parser.add_argument("--topk", nargs="+", type=count, metavar="K", help="the k of top_k_accuracy (default 1 5)")
    parser.add_argument("--out", help="write the scores: .json, .csv or .pkl")
    parser.add_argument(
        "--average-clips", choices=("prob", "score", "none"), help="how the views of a video are averaged"
    )
    parser.add_argument("--max-views", type=count, metavar="N", help="views that go through the network at once")
    parser.add_argument(
        "--allow-missing", action="store_true", help="count files that can't be decoded as wrong and exit with 0"
    )
    parser.add_argument("--amp", choices=("bf16", "fp16", "no"), default="no", help="mixed precision (default no)")
    parser.add_argument("--report", metavar="DIR", help="write a report to this folder")
    parser.add_argument("--num-workers", type=count_or_zero, help="loader processes")


def run(args: argparse.Namespace) -> int:
    words, overrides = split_overrides(args.words)
    if len(words) > 2:
        raise ClipwiseError(f"one recipe and one checkpoint are expected, given: {' '.join(words)}")
    if not words:
        raise ClipwiseError("give a checkpoint.")
    if len(words) == 2 and words[0].endswith((".safetensors", *EXPORTED_SUFFIXES)):
        raise ClipwiseError(
            f"usage: clipwise test [RECIPE] CKPT; given in the other order. Try: clipwise test {words[1]} {words[0]}"
        )
    exported = words[-1].endswith(EXPORTED_SUFFIXES)
    loaded = None
    if exported:
        from clipwise.export.runtimes import load_exported_model

        loaded = load_exported_model(words[-1], args.device, amp=args.amp)
    if _is_proposal_network(words[-1], loaded):
        from clipwise.cli.eval_proposals import run_checkpoint

        return run_checkpoint(args, words[-1], words[0] if len(words) == 2 else None, overrides, loaded)
    from clipwise.engine.result_files import check_result_path, check_writable
    from clipwise.engine.test import evaluate

    if args.out:
        check_result_path(args.out)
    if args.report:
        check_writable(Path(args.report) / "report.html", "--report")
    if args.average_clips:
        overrides.append(f"test.average_clips={args.average_clips}")
    if args.num_workers is not None:
        overrides.append(f"num_workers={args.num_workers}")
    with ProgressBar("test", quiet=args.json) as progress:
        result = evaluate(
            words[-1],
            loaded=loaded,
            recipe=words[0] if len(words) == 2 else None,
            overrides=overrides,
            data=args.data,
            metrics=args.eval,
            topk=args.topk or [1, 5],
            max_views=args.max_views,
            amp="no" if exported else args.amp,
            device=args.device,
            progress=progress,
        )
    if int(os.environ.get("RANK", 0)) == 0:
        data = {"data": result.data_protocol.to_dict()} if result.data_protocol else {}
        if not args.json:  # before the files: a full disk does not take them
            for name, value in result.metrics.items():
                print(f"{name}\t{value:.4f}", flush=True)
        if args.out:
            result.save(args.out)
        if args.report:
            from clipwise.report.result_report import result_report

            result_report(result, args.report)
        if args.json:
            print_json(
                {
                    "metrics": result.metrics,
                    "videos": len(result.paths),
                    "failures": result.failures,
                    "trained_on": result.trained_on,
                    **({"protocol": {**result.protocol, **data}} if result.protocol or data else {}),
                    "seconds": round(result.seconds, 2),
                    **({"form": result.form} if result.form else {}),
                    "out": args.out,
                }
            )
        else:
            speed = len(result.paths) / max(result.seconds, 1e-9)
            print(
                f"{plural(len(result.paths), 'video')} in {result.seconds:.1f} s ({speed:.1f} videos/s)"
                + (f", scores in {args.out}" if args.out else "")
            )
        if result.form:
            print(f"computed: {result.form}", file=sys.stderr)
        if result.data_protocol:
            print(f"protocol: {result.data_protocol.line}", file=sys.stderr)
        if result.protocol:
            from clipwise.engine.foreign_models import protocol_lines

            for line in protocol_lines(result.protocol):
                print(f"note: {line}", file=sys.stderr)
        if result.trained_on:
            print(
                f"note: {result.trained_on} of these {plural(len(result.paths), 'video')} were trained on; accuracy on them says nothing about new ones.",
                file=sys.stderr,
            )
    if result.failures:
        for reason in result.failures.values():
            print(f"could not be decoded: {reason}", file=sys.stderr)
        if not (args.allow_missing or result.allow_missing):
            print(
                f"clipwise test: {len(result.failures)} of {plural(len(result.paths), 'video')} could not be decoded and count as wrong (--allow-missing or test.allow_missing=true accepts that).",
                file=sys.stderr,
            )
            return 1
    return 0


def _is_proposal_network(checkpoint: str, loaded: Any) -> bool:
    """Whether a checkpoint or an exported file is a localizer, whose test list are features and annotations."""
    if loaded:
        return loaded[1].recipe.get("task") == "localization"
    if not (checkpoint.endswith(".safetensors") and Path(checkpoint).is_file()):
        return False
    from clipwise.engine.checkpoint import read_passport

    return read_passport(checkpoint).recipe.get("task") == "localization"
