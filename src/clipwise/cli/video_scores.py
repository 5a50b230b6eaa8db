"""``--class-scores`` and ``--class-weights`` of the commands that name proposals."""

from __future__ import annotations

import argparse
from typing import Any

from clipwise.cli.argument_types import finite
from clipwise.errors import ClipwiseError


def add_class_scores(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--class-scores",
        action="append",
        metavar="FILE",
        help="scores of whole videos that name the proposals: .json (CUHK's, or of `clipwise test --out`), .csv, .npz, .npy, a folder of "
        ".npy; given several times, they are fused",
    )
    parser.add_argument(
        "--class-weights", nargs="+", type=finite, metavar="W", help="one for each --class-scores (default: equal)"
    )


def class_scores_of(args: argparse.Namespace) -> Any:
    """The (fused) scores, or None where none were given."""
    if not args.class_scores:
        if args.class_weights:
            raise ClipwiseError("--class-weights belongs to --class-scores, which is missing.")
        return None
    from clipwise.infer.class_scores import read_fused_class_scores

    return read_fused_class_scores(args.class_scores, args.class_weights)
