"""List the packaged recipes."""

from __future__ import annotations

import argparse

from clipwise.cli.common import print_json, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="", help="only names that contain this")


def run(args: argparse.Namespace) -> int:
    from clipwise.errors import RecipeError
    from clipwise.recipe import list_recipes, load_recipe

    rows = []
    for name in list_recipes():
        if args.pattern in name:
            recipe = load_recipe(name)
            best = recipe.published.top1 or recipe.published.auc or recipe.published.mean_ap
            rows.append({"recipe": name, "model": recipe.model, "published": best, "epochs": recipe.epochs})
    if not rows:
        raise RecipeError(f"no recipe's name contains {args.pattern!r}; `clipwise recipes` lists all.")
    if args.json:
        print_json(rows)
    else:
        print_table(
            [(r["recipe"], r["model"], r["epochs"], r["published"] or "") for r in rows],
            ("recipe", "model", "epochs", "published top-1 / AUC / mAP"),
        )
    return 0
