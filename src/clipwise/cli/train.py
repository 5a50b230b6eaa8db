"""Train a recipe.

clipwise train tsm_tiny --data my_videos
clipwise train slowonly_r50_8x8x1_256e_kinetics400_rgb --data k400/train.txt lr=0.02 batch_size=4
torchrun --nproc-per-node 8 -m clipwise train RECIPE …      several devices
"""

from __future__ import annotations

import argparse
import os

from clipwise.cli.argument_types import count
from clipwise.cli.common import print_json
from clipwise.errors import ClipwiseError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a packaged recipe (`clipwise recipes`) or a YAML file")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="change keys of the recipe")
    parser.add_argument(
        "--data", help="folder (train.txt and val.txt, train/ and val/, or one folder per class) or list file"
    )
    parser.add_argument("--val-data", help="validation folder or list, if --data has none")
    parser.add_argument("--work-dir", help="folder of the run (default runs/NAME)")
    parser.add_argument(
        "--validate", action=argparse.BooleanOptionalAction, default=True, help="measure during training"
    )
    parser.add_argument("--seed", type=int, help="seed of all random numbers")
    parser.add_argument("--deterministic", action="store_true", help="ask for deterministic kernels")
    parser.add_argument("--init", metavar="CKPT", help="start from a checkpoint's weights")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="CKPT",
        help="continue exactly where the run (or CKPT) stopped; auto: if it has begun",
    )
    parser.add_argument(
        "--allow-changes", action="store_true", help="resume although the recipe makes it another run (lr, seed, …)"
    )
    parser.add_argument("--max-steps", type=count, metavar="N", help="stop after so many optimizer steps; resumable")
    parser.add_argument("--amp", choices=("bf16", "fp16", "no"), help="mixed precision")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument("--auto-scale-lr", action="store_true", help="scale lr with the global batch")
    parser.add_argument(
        "--modern", action="store_true", help="the modern training recipe: see `clipwise explain RECIPE --modern`"
    )
    parser.add_argument(
        "--no-check", action="store_true", help="skip the short audit of the data before the first epoch"
    )
    parser.add_argument(
        "--verify-resume", action="store_true", help="prove on this machine that kill and resume gives the same run"
    )


def make_recipe_from(args: argparse.Namespace):
    """The recipe with its overrides and the options that are keys of it."""
    from clipwise.recipe import load_recipe

    overrides = list(args.overrides)
    for key in ("seed", "amp"):
        if getattr(args, key) is not None:
            overrides.append(f"{key}={getattr(args, key)}")
    for key in ("deterministic", "compile", "auto_scale_lr"):
        if getattr(args, key):
            overrides.append(f"{key}=true")
    recipe = load_recipe(args.recipe, overrides, modern=args.modern)
    if args.modern:
        from clipwise.models.modern_depth import without_depth

        recipe = without_depth(recipe, overrides)
    return recipe


def run(args: argparse.Namespace) -> int:
    if isinstance(args.resume, str) and "=" in args.resume and not os.path.exists(args.resume):
        # `--resume epochs=9` is not a checkpoint's path
        args.overrides, args.resume = [*args.overrides, args.resume], True
    if args.init and args.resume:
        raise ClipwiseError("--init starts a new run from weights, --resume continues an old one; give one of them.")
    for key in ("train_data", "val_data"):
        word = next((word for word in args.overrides if word.startswith(f"{key}=")), None)
        if word and args.data:
            raise ClipwiseError(
                f"--data {args.data} replaces {word}; give one of them"
                + (", or --val-data." if key == "val_data" else ".")
            )
    recipe = make_recipe_from(args)
    from clipwise.engine.train import train

    if args.verify_resume:
        from clipwise.engine.verify import verify_resume

        return verify_resume(recipe, data=args.data, val_data=args.val_data, device=args.device)
    same = ("data", "val_data", "work_dir", "validate", "init", "resume", "allow_changes", "max_steps", "device")
    result = train(recipe, check=not args.no_check, **{name: getattr(args, name) for name in same})
    if int(os.environ.get("RANK", 0)) == 0:
        report = _report(result)
        if args.json:
            print_json(
                {
                    "folder": result.folder,
                    "report": report,
                    "last": result.last,
                    "best": result.best,
                    "metrics": result.metrics,
                    "best_metrics": result.best_metrics,
                    "seconds": round(result.seconds, 1),
                    "interrupted": result.interrupted,
                    "skipped": result.skipped,
                }
            )
        else:
            best = ", ".join(f"{k} {v:.4f}" for k, v in result.best_metrics.items())
            print(f"{result.folder}: {'best ' + best + ', ' if best else ''}{result.seconds:.0f} s")
            print(f"checkpoint: {result.best or result.last}" + (f", report: {report}" if report else ""))
    return 130 if result.interrupted and not result.reached_max_steps else 0


def _report(result):
    """The run's report; a run that went well does not fail for the want of it."""
    import sys

    if not (result.folder / "log.jsonl").is_file():  # stopped before its first line
        return None
    from clipwise.engine.evaluate import TestResult
    from clipwise.report.run_report import run_report

    try:
        return run_report(result.folder, result.validation if isinstance(result.validation, TestResult) else None)
    except ClipwiseError as error:
        print(f"no report: {error}", file=sys.stderr)
        return None
