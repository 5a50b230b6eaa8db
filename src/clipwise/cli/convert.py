"""Read a checkpoint or a config of another project, and write one of ours; or the way back.

  clipwise convert slowonly.pth --recipe slowonly_r50_8x8x1_256e_kinetics400_rgb --out slowonly.safetensors
  clipwise convert ours.safetensors --to mmaction2 --out theirs.pth
  clipwise convert configs/recognition/tsm/my_config.py --out mine.yaml

Read are files of MMAction2 0.x and 1.x, of the original TSN, TSM and TPN code, of Paddle, BMN of JJBOY, OpenTAD and Paddle,
ActionFormer and TriDet (also OpenTAD's), and ResNets of torchvision and timm. The format is recognized by its keys. A partial match is refused unless --partial allows it.
A .py file is a recognizer's config of MMAction2 (0.x or 1.x), or one of OpenTAD's ActionFormer and TriDet: it is read, not run, and becomes a recipe.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clipwise.cli.common import print_json
from clipwise.errors import ClipwiseError
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        help="file to read (.pth, .pt, .tar, .pdparams, .safetensors; .py: a config), or a name in the zoo",
    )
    parser.add_argument("--recipe", help="recipe that the weights are for (a packaged name or a YAML file)")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", help="change keys of the recipe")
    parser.add_argument("--out", required=True, help="file to write")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="accept missing, unused or misshapen weights, or settings without counterpart",
    )
    parser.add_argument("--to", choices=("clipwise", "mmaction2"), default="clipwise", help="format to write")
    parser.add_argument("--classes", metavar="FILE", help="class names, one a line (known data sets have theirs)")
    parser.add_argument("--source", metavar="TEXT", help="what the passport says about where the weights are from")
    parser.add_argument(
        "--weights-of",
        choices=("jjboy", "mmaction2"),
        help="whose BMN this is, where the file does not tell: their names and shapes are the same, the networks are not",
    )


def run(args: argparse.Namespace) -> int:
    if args.checkpoint.endswith(".py"):
        return _config(args)
    if args.to == "mmaction2":
        return _to_mmaction2(args)
    from clipwise.engine.checkpoint_errors import check_file

    if (
        Path(args.checkpoint).suffix not in (".pth", ".pt", ".pdparams", ".tar", ".pkl", ".ckpt", ".bin")
        and "://" not in args.checkpoint
    ):
        check_file(Path(args.checkpoint))
        if args.checkpoint.endswith(".safetensors") and _is_ours(args.checkpoint):
            raise ClipwiseError(
                f"{args.checkpoint} is a clipwise checkpoint already; --to mmaction2 writes one for MMAction2."
            )
    if "://" not in args.checkpoint and not Path(args.checkpoint).exists():
        raise ClipwiseError(f"checkpoint {args.checkpoint} does not exist.")
    if not args.recipe:
        raise ClipwiseError(
            f"--recipe is missing: it says what network {args.checkpoint} is for, and how its clips are cut. "
            "`clipwise recipes` lists the packaged ones."
        )
    if not args.out.endswith(".safetensors"):
        raise ClipwiseError(f"--out {args.out}: our checkpoints are .safetensors files.")
    from clipwise.engine.pretrained import convert_checkpoint
    from clipwise.models.registry import model_task
    from clipwise.recipe import load_recipe

    classes = None
    if args.classes:
        from clipwise.data.labels import read_classes

        classes = read_classes(args.classes)
    recipe = load_recipe(args.recipe, args.set)
    if model_task(recipe.model) != "localization":
        _refuse(args, f"{args.recipe}, which is not a localizer", "weights_of")
    report = convert_checkpoint(
        args.checkpoint,
        recipe,
        args.out,
        partial=args.partial,
        source=args.source,
        classes=classes,
        weights_of=args.weights_of,
    )
    if args.json:
        print_json(
            {
                "out": args.out,
                "format": report.source_format,
                "matched": len(report.matched),
                "missing": report.missing,
                "unused": report.unused,
                "mismatched": report.mismatched,
                "conflicts": report.conflicts,
                "ignored": report.ignored,
                "notes": report.notes,
            }
        )
    else:
        print(report.summary())
        print(f"written: {args.out}")
    return 0


def _is_ours(checkpoint: str) -> bool:
    from clipwise.engine.checkpoint import read_passport
    from clipwise.errors import CheckpointError

    try:
        read_passport(checkpoint)
    except CheckpointError:  # the passport of nobody: weights of another project
        return False
    return True


def _config(args: argparse.Namespace) -> int:
    _refuse(args, "a config, which becomes a recipe", "recipe", "set", "classes", "weights_of", "source")
    if args.to == "mmaction2" or not args.out.endswith((".yaml", ".yml")):
        raise ClipwiseError(f"--out {args.out}: a config becomes a recipe, a .yaml file.")
    from clipwise.convert.mmaction2 import convert_config
    from clipwise.convert.mmaction2.python_config import read_python_config
    from clipwise.convert.opentad import convert_opentad, is_opentad

    config = read_python_config(args.checkpoint)
    if is_opentad(config):
        notes, left = convert_opentad(config, args.checkpoint, args.out, partial=args.partial)
    else:
        notes, left = convert_config(args.checkpoint, args.out, partial=args.partial)
    if args.json:
        print_json({"out": args.out, "notes": notes, "left_out": left})
    else:
        print("\n".join([*notes, *(f"left out: {line}" for line in left), f"written: {args.out}"]))
    return 0


def _refuse(args: argparse.Namespace, what: str, *options: str) -> None:
    for option in options:
        if getattr(args, option):
            raise ClipwiseError(f"--{option.replace('_', '-')} has no effect with {what}.")


def _to_mmaction2(args: argparse.Namespace) -> int:
    what = "--to mmaction2: the checkpoint's own passport says what it is"
    _refuse(args, what, "recipe", "set", "classes", "partial", "weights_of")
    from clipwise.convert.weights import save_mmaction2
    from clipwise.engine.checkpoint import load_model_and_passport
    from clipwise.engine.pretrained import resolve
    from clipwise.io.files import atomic_path

    model, passport = load_model_and_passport(resolve(args.checkpoint, as_it_is=True))
    meta = {
        "epoch": passport.epoch,
        "iter": passport.step,
        "CLASSES": passport.classes,
        "source": args.source
        or f"clipwise {passport.versions.get('clipwise', '')}: {passport.source or passport.model}",
    }
    with atomic_path(args.out) as temporary:
        save_mmaction2(temporary, model.state_dict(), model, meta)
    if args.json:
        print_json({"out": args.out, "tensors": len(model.state_dict())})
    else:
        print(f"written: {args.out}, {plural(len(model.state_dict()), 'tensor')} under MMAction2's names")
    return 0
