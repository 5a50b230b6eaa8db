"""The model that a recipe describes."""

from __future__ import annotations

from typing import Any

from torch import nn

from clipwise.models import create_model
from clipwise.recipe import LocalizationRecipe, Recipe


def model_args(recipe: Recipe, num_classes: int | None = None) -> dict[str, Any]:
    """Keyword arguments that build the recipe's model: what follows from the recipe, then its own ``model_args``.

    Args:
        num_classes: outputs of a recogniser; BMN has none.
    """
    if isinstance(recipe, LocalizationRecipe):
        return {"feat_dim": recipe.feat_dim, "temporal_dim": recipe.temporal_dim, **recipe.model_args}
    args: dict[str, Any] = {"num_classes": num_classes}
    if recipe.modality == "flow":
        args["in_channels"] = 2 * (recipe.clip_len if recipe.num_segments else 1)
    if recipe.num_segments and "tsm" in recipe.model:
        args["num_segments"] = recipe.num_segments
    if recipe.grad_checkpointing:
        args["grad_checkpointing"] = True
    return {**args, **recipe.model_args}


def build_model(recipe: Recipe, num_classes: int | None = None) -> nn.Module:
    """The recipe's model, freshly initialised."""
    return create_model(recipe.model, **model_args(recipe, num_classes))
