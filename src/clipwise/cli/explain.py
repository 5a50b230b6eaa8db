"""Say in plain figures what a recipe will do: batch, learning rate, steps, views, and where it differs from the published run."""

from __future__ import annotations

import argparse

from clipwise.cli.common import add_json, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a packaged recipe or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change keys of the recipe")
    parser.add_argument("--devices", type=int, default=1, help="devices that train together (default 1)")
    parser.add_argument("--samples", type=int, help="size of the training list")
    parser.add_argument("--modern", action="store_true", help="with the modern training recipe")
    parser.add_argument("--keys", action="store_true", help="print every key with its value instead")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from clipwise.recipe import dump_recipe, explain_recipe, load_recipe

    overrides = list(args.overrides)
    if args.modern:
        from clipwise.recipe import modern_overrides

        overrides = [*modern_overrides(load_recipe(args.recipe, overrides)), *overrides]
    recipe = load_recipe(args.recipe, overrides)
    if args.keys:
        print(dump_recipe(recipe), end="")
        return 0
    facts = explain_recipe(recipe, args.devices, args.samples)
    if args.json:
        print_json(facts)
        return 0
    width = max(len(k) for k in facts if not isinstance(facts[k], list))
    for key, value in facts.items():
        if isinstance(value, list):
            print(f"{key}:")
            print("\n".join(f"  - {item}" for item in value))
        else:
            print(f"{key:<{width}}  {value}")
    return 0
