"""Show where two recipes (or the recipes inside two checkpoints) differ."""

from __future__ import annotations

import argparse

from clipwise.cli.common import add_json, print_json, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", help="recipe, YAML file or checkpoint")
    parser.add_argument("b", help="recipe, YAML file or checkpoint")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from clipwise.recipe import diff_recipes

    changes = diff_recipes(_read(args.a), _read(args.b))
    if args.json:
        print_json([{"key": k, "a": a, "b": b} for k, a, b in changes])
    elif changes:
        print_table(changes, ("key", args.a, args.b))
    else:
        print("no difference")
    return 0


def _read(name: str):
    from clipwise.recipe import load_recipe, make_recipe

    if name.endswith(".safetensors"):
        from clipwise.engine.checkpoint import read_passport

        return make_recipe(read_passport(name).recipe, source=name)
    return load_recipe(name)
