"""Download a checkpoint from the Hugging Face Hub.

  clipwise pull hf://org/name --out theirs.safetensors

Commands take hf://org/name wherever a checkpoint is wanted, so this is for machines without a network later. What was
downloaded stays in the hub's cache; HF_HUB_OFFLINE=1 uses nothing else.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from clipwise.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="hf://ORG/NAME", help="@REVISION and /FILE may follow")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also copy it here")


def run(args: argparse.Namespace) -> int:
    from clipwise.engine.checkpoint import read_checkpoint
    from clipwise.io.files import atomic_path
    from clipwise.io.hub import fetch

    path = fetch(args.source)
    passport = read_checkpoint(path)[1]  # whole, and one of ours
    if args.out:
        with atomic_path(args.out) as temporary:
            shutil.copyfile(path, temporary)
        path = args.out
    if args.json:
        print_json({"path": path, "model": passport.model, "classes": passport.classes, "metrics": passport.metrics})
    else:
        print(path)
    return 0
