"""A recognizer's config of MMAction2 (0.x or 1.x) as a recipe.

Every key of the config is taken, or has the one value that it always has here, or is reported: nothing is left out in
silence. The recipe keeps MMAction2's pixels (OpenCV's resize, in its order) and the test clips of the config's generation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from clipwise.convert.mmaction2.config_data import data_parts, translate_data, translate_pixels
from clipwise.convert.mmaction2.config_network import MODEL_FIXED, translate_model
from clipwise.convert.mmaction2.config_optim import RUN_FIXED, RUN_KEYS, translate_optimization
from clipwise.convert.mmaction2.consumed import Keys
from clipwise.convert.mmaction2.python_config import read_python_config
from clipwise.errors import RecipeError
from clipwise.io.files import atomic_path
from clipwise.recipe import make_recipe


def convert_config(path: str | Path, out: str | Path, *, partial: bool = False) -> tuple[list[str], list[str]]:
    """Write the recipe of a config as YAML.

    Returns:
        What differs (it stands in the recipe's notes too), and what of the config has no counterpart.

    Raises:
        RecipeError: as ``recipe_of_config``; or something has no counterpart and ``partial`` does not allow it.
    """
    recipe, left = recipe_of_config(path)
    if left and not partial:
        listed = "\n".join(f"  {line}" for line in left)
        raise RecipeError(
            f"{path}: settings without counterpart in a recipe:\n{listed}\n"
            f"`clipwise convert {path} --out FILE.yaml --partial` leaves them out."
        )
    make_recipe(recipe, source=str(path))
    with atomic_path(out) as temporary:
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
        temporary.write_text(text, encoding="utf-8")
    return recipe["notes"], left


def recipe_of_config(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """The recipe's keys, and what of the config they do not hold (``key = value`` each).

    Raises:
        RecipeError: the config can't be read, or is not one of TSN, TSM, SlowOnly or TPN.
    """
    config = read_python_config(path)
    try:
        return _translate(config, str(path))
    except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
        raise RecipeError(
            f"{path}: not in the form of MMAction2's configs ({type(error).__name__}: {error})."
        ) from error


def _translate(config: dict[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    parts = data_parts(config)
    if not isinstance(config.get("model"), dict) or "train" not in parts:
        raise RecipeError(
            f"{path}: not a config of MMAction2 that trains a model: it has no model, or not one training set."
        )
    old = "data" in config
    model, run = Keys(config["model"]), Keys({k: v for k, v in config.items() if k in RUN_KEYS})
    notes = [f"Translated from MMAction2's {Path(path).name}."]
    recipe = {"name": Path(path).stem, "notes": notes, **translate_model(model, path)}
    left: list[str] = []
    recipe |= translate_data(parts, recipe, left, notes)
    recipe |= translate_pixels(parts, model, recipe, left, notes, old)
    recipe |= translate_optimization(run, notes, parts["train"]["batch_size"], old)
    recipe["init"] = run.take("load_from") or recipe["init"]
    model.expect(MODEL_FIXED)
    run.expect(RUN_FIXED)
    left += [f"model.{line}" for line in model.left()] + run.left()
    # No resize before the crop is a value; elsewhere nothing said means the recipe's own default.
    return {k: v for k, v in recipe.items() if v is not None or k.endswith("_resize")}, left
