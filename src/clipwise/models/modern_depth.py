"""``--modern`` for models of others."""

from __future__ import annotations

import sys

from clipwise.models.registry import model_arguments
from clipwise.recipe import Recipe


def without_depth(recipe: Recipe, overrides: list[str]) -> Recipe:
    """The recipe without stochastic depth, where its model has no setting for it and nobody asked for it."""
    asked = any(word.startswith("model_args.drop_path=") for word in overrides)
    if asked or "drop_path" in model_arguments(recipe.model):
        return recipe
    print(f"--modern: {recipe.model} has no setting drop_path, so it trains without stochastic depth.", file=sys.stderr)
    kept = {key: value for key, value in recipe.model_args.items() if key != "drop_path"}
    return recipe.model_copy(update={"model_args": kept})
