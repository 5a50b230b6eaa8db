"""Show where two recipes (or the recipes inside two checkpoints) differ."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from clipwise.cli.common import print_json, print_table

if TYPE_CHECKING:
    from clipwise.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", help="recipe, YAML file or checkpoint")
    parser.add_argument("b", help="recipe, YAML file or checkpoint")


def run(args: argparse.Namespace) -> int:
    changes = diff_recipes(_read(args.a), _read(args.b))
    if args.json:
        print_json([{"key": k, "a": a, "b": b} for k, a, b in changes])
    elif changes:
        print_table(changes, ("key", args.a, args.b))
    else:
        print("no difference")
    return 0


def diff_recipes(a: Recipe, b: Recipe) -> list[tuple[str, Any, Any]]:
    """Keys whose values differ, as (key, value in a, value in b); a key that one lacks has None there."""
    from clipwise.recipe import flatten

    left, right = (flatten(recipe.model_dump(mode="json")) for recipe in (a, b))
    skip = ("name", "paper", "notes", "published.")
    keys = [k for k in (*left, *(k for k in right if k not in left)) if not k.startswith(skip)]
    return [(k, left.get(k), right.get(k)) for k in keys if left.get(k) != right.get(k)]


def _read(name: str):
    from clipwise.recipe import load_recipe, make_recipe

    if name.endswith(".safetensors"):
        from clipwise.engine.checkpoint import read_passport

        return make_recipe(read_passport(name).recipe, source=name)
    return load_recipe(name)
