"""Model, preprocessing and test protocol of another project's weights, by what the file itself tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipwise.convert.mmaction2 import translate_config
from clipwise.convert.mmaction2.python_config import read_config_text
from clipwise.convert.traits import config_text
from clipwise.convert.weights import guess_model
from clipwise.convert.zoo import CATALOGUE
from clipwise.errors import CheckpointError, RecipeError
from clipwise.io.foreign import ForeignCheckpoint, read_foreign_checkpoint
from clipwise.models.registry import model_arguments
from clipwise.recipe import Recipe, list_recipes, load_recipe, make_recipe


def recipe_of_weights(path: Path) -> tuple[Recipe, str]:
    """The recipe of a weight file, and where it was found.

    Published files are known by their names, MMAction2's tell their config; for others the network is guessed and a packaged recipe
    with that network gives the preprocessing.

    Raises:
        CheckpointError: not readable, or a network that no packaged recipe has.
    """
    published = next(
        (weights for weights in CATALOGUE.values() if weights.recipe and weights.file_name == path.name), None
    )
    if published is not None and published.recipe:
        return load_recipe(published.recipe), f"the published {published.name}"
    foreign = read_foreign_checkpoint(path)
    if (found := _of_config(foreign)) is not None:
        return found, "with the preprocessing of the config inside the file"
    model, args = guess_model(foreign)
    name = _packaged(model, args)
    if name is None:
        raise CheckpointError(
            f"{path} looks like {model} {args or ''}, but does not tell its preprocessing, and no packaged recipe has this network. "
            f"Give one: clipwise convert {path} --recipe RECIPE --out {path.stem}.safetensors"
        )
    recipe = load_recipe(name)
    if recipe.task == "recognition" and args.get("num_classes"):
        values = recipe.model_dump()
        values["model_args"] |= {key: value for key, value in args.items() if key not in ("num_classes", "in_channels")}
        recipe = make_recipe(values | {"num_classes": args["num_classes"]}, source=str(path))
    return recipe, f"by its tensors; the file does not tell its preprocessing, that of {name} is taken"


def _of_config(foreign: ForeignCheckpoint) -> Recipe | None:
    text = config_text(foreign.meta)
    if text is None:
        return None
    try:
        values, _ = translate_config(
            read_config_text(text, foreign.path), foreign.path
        )  # what is left concerns a training
        return make_recipe(values | {"init": None}, source=str(foreign.path))
    except RecipeError:
        return None


def _packaged(model: str, args: dict[str, Any]) -> str | None:
    """The first packaged recipe of a network that agrees in most of its settings, the number of classes above all."""
    plain = {**model_arguments(model), **args}
    best: tuple[int, str] | None = None
    for name in list_recipes():
        recipe = load_recipe(name)
        body = str(recipe.model).removesuffix("_nl")
        if body != model.removesuffix("_nl") or (recipe.task == "recognition" and recipe.modality == "flow") != (
            plain.get("in_channels", 3) not in (3, None)
        ):
            continue
        its = {**model_arguments(recipe.model), **recipe.model_args}
        its["num_segments"] = getattr(recipe, "num_segments", None)
        its["feat_dim"] = getattr(recipe, "feat_dim", None)
        classes = getattr(recipe.published, "num_classes", None)
        agreeing = 100 * (classes == args.get("num_classes")) + sum(
            its.get(key) == value for key, value in plain.items()
        )
        if best is None or agreeing > best[0]:
            best = agreeing, name
    return best[1] if best else None
