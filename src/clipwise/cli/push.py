"""Put a checkpoint on the Hugging Face Hub, with config.json and a model card made from its passport.

  clipwise push runs/mine/best.safetensors hf://org/name --license apache-2.0
  clipwise predict hf://org/name video.mp4

The token is the one of the hub's own tools: hf auth login, or $HF_TOKEN.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from clipwise.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a .safetensors checkpoint, or a run's folder (its best)")
    parser.add_argument("target", metavar="hf://ORG/NAME", help="where it goes; @BRANCH behind it for a branch")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--license", help="license of the weights in the hub's words (apache-2.0, cc-by-nc-4.0, …)")
    parser.add_argument("--dataset", help="name of the data set that the metrics belong to")
    parser.add_argument(
        "--card", type=Path, metavar="FILE", help="a model card of your own instead of the generated one"
    )
    parser.add_argument("--message", default="Upload with clipwise", help="commit message")
    parser.add_argument("--dry-run", action="store_true", help="print the card and upload nothing")


def run(args: argparse.Namespace) -> int:
    from clipwise.engine.checkpoint import read_checkpoint
    from clipwise.engine.checkpoint_errors import check_file
    from clipwise.errors import CheckpointError
    from clipwise.export.hub_card import config_json, model_card
    from clipwise.io.hub import WEIGHTS, hub_place, said

    place = hub_place(args.target)
    if place.file:
        raise CheckpointError(f"{args.target} names a file; give hf://{place.repo}, the weights become {WEIGHTS}.")
    path = check_file(Path(args.checkpoint))
    passport = read_checkpoint(path)[1]  # reads the weights, too: a damaged file is not uploaded
    passport.state = None
    if args.card and not args.card.is_file():
        raise CheckpointError(f"--card {args.card} does not exist.")
    card = (
        args.card.read_text(encoding="utf-8")
        if args.card
        else model_card(passport, place.repo, args.license, args.dataset)
    )
    if args.dry_run:
        print_json(
            {"repo": place.repo, "files": [WEIGHTS, "config.json", "README.md"], "card": card}
        ) if args.json else print(card)
        return 0
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="clipwise")
    with said(place):
        api.create_repo(place.repo, private=args.private or None, exist_ok=True)
        if place.revision:
            api.create_branch(place.repo, branch=place.revision, exist_ok=True)
        files: dict[str, str | bytes] = {
            WEIGHTS: str(path),
            "config.json": config_json(passport).encode(),
            "README.md": card.encode(),
        }
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
        commit = api.create_commit(place.repo, operations, commit_message=args.message, revision=place.revision)
    if args.json:
        print_json({"repo": place.repo, "commit": commit.oid, "url": commit.commit_url, "files": list(files)})
    else:
        print(
            f"{path} is hf://{place.repo} now ({commit.commit_url}).\nUse it: clipwise predict hf://{place.repo} video.mp4"
        )
    return 0
