"""The warm-up of a recipe whose run a command line makes shorter than it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from clipwise.errors import ClipwiseWarning
from clipwise.recipe.keys import RunRecipe


def shorten_warmup(before: Mapping[str, Any], values: dict[str, Any], where: Mapping[str, str]) -> None:
    """Where the recipe's warm-up no longer fits, make it the same share of the run as in the recipe.

    Args:
        before: the recipe's own keys.
        values: with those of the command line, which has ``epochs``; changed in place.
        where: the place of each key. A warm-up from the command line is left as it is.
    """
    if where.get("warmup_epochs", "").startswith("command line"):
        return
    warmup, epochs = values["warmup_epochs"], values["epochs"]
    recipe_epochs = before.get("epochs", RunRecipe.model_fields["epochs"].default)
    numbers = type(epochs) is int and all(type(n) in (int, float) for n in (warmup, recipe_epochs))
    if not numbers or not 0 < epochs <= warmup < recipe_epochs:
        return  # it fits, or is a wrong value, which validation reports
    values["warmup_epochs"] = float(f"{warmup * epochs / recipe_epochs:.3g}")
    warnings.warn(
        f"warmup_epochs is {values['warmup_epochs']:g}: the recipe warms up for {warmup:g} of its {recipe_epochs:g} epochs, "
        f"and this run has epochs={epochs}; warmup_epochs=N sets it",
        ClipwiseWarning,
        stacklevel=4,
    )
