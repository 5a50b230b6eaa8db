"""A recognizer's config of MMAction2 (0.x or 1.x) as a recipe.

Every key of the config is taken over, or must have the one value that this package computes with, or is noted (work_dir, log_level
and the like, which change no result), or is refused by name. A name that MMAction2 does not read must be a shorthand whose value
stands where it does read. The recipe keeps MMAction2's pixels (OpenCV's resize, in its order) and the test clips of the config's
generation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from clipwise.convert.mmaction2.config_data import pull_parts, translate_data, translate_pixels
from clipwise.convert.mmaction2.config_network import name_of_weights, translate_model
from clipwise.convert.mmaction2.config_optim import translate_optimization
from clipwise.convert.mmaction2.consumed import Keys, plain, shown
from clipwise.convert.mmaction2.python_config import read_python_config
from clipwise.errors import RecipeError
from clipwise.io.files import atomic_path
from clipwise.io.names import nearest
from clipwise.recipe import RecognitionRecipe, make_recipe
from clipwise.recipe.moved import in_groups

__all__ = ["convert_config", "recipe_of_config", "translate_config"]

# The variables of a config that MMAction2 looks at, in both generations. Others are the config's own shorthand.
READ = frozenset([
    "model", "data", "optimizer", "optimizer_config", "lr_config", "momentum_config", "total_epochs", "runner",
    "evaluation", "checkpoint_config", "log_config", "log_level", "dist_params", "workflow", "load_from",
    "resume_from", "work_dir", "find_unused_parameters", "mp_start_method", "opencv_num_threads", "omp_num_threads",
    "mkl_num_threads", "cudnn_benchmark", "fp16", "custom_hooks", "custom_imports", "omnisource", "module_hooks",
    "precise_bn", "seed", "deterministic", "gpu_ids", "gpus", "device", "auto_resume", "train_dataloader",
    "val_dataloader", "test_dataloader", "train_cfg", "val_cfg", "test_cfg", "auto_scale_lr", "optim_wrapper",
    "param_scheduler", "val_evaluator", "test_evaluator", "default_hooks", "data_preprocessor", "resume", "launcher",
    "env_cfg", "log_processor", "visualizer", "vis_backends", "default_scope", "randomness", "experiment_name",
    "tta_model", "tta_pipeline", "ddp_module", "cfg", "sync_bn", "compile", "efficient_conv_bn_eval", "activation_checkpointing",
    "model_wrapper_cfg", "runner_type", "strategy",  # MMEngine's runner
])  # fmt: skip


def convert_config(path: str | Path, out: str | Path, *, partial: bool = False) -> tuple[list[str], list[str]]:
    """Write the recipe of a config as YAML.

    Returns:
        The recipe's notes (what differs), and what of the config has no counterpart.

    Raises:
        RecipeError: as ``recipe_of_config``; or something has no counterpart and ``partial`` does not allow it.
    """
    recipe, left = recipe_of_config(path)
    return write_translated(recipe, left, path, out, partial)


def write_translated(
    recipe: dict[str, Any], left: list[str], path: str | Path, out: str | Path, partial: bool
) -> tuple[list[str], list[str]]:
    """Write the recipe of a foreign config; its notes, and what was left out.

    Raises:
        RecipeError: something has no counterpart and ``partial`` does not allow it.
    """
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
    return translate_config(read_python_config(path), path)


def translate_config(config: dict[str, Any], path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """As :func:`recipe_of_config`, of a config's resolved values; ``path`` names it."""
    try:
        return _translate(config, str(path))
    except (TypeError, AttributeError, KeyError, IndexError, ValueError, OverflowError) as error:
        raise RecipeError(
            f"{path}: not in the form of MMAction2's configs ({type(error).__name__}: {error})."
        ) from error


def _translate(config: dict[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    keys = Keys({k: v for k, v in config.items() if k in READ})
    parts = pull_parts(keys)
    if not isinstance(config.get("model"), dict) or "train" not in parts:
        raise RecipeError(
            f"{path}: not a config of MMAction2 that trains a model: it has no model, or not one training set."
        )
    old = "data" in config
    notes = [f"Translated from MMAction2's {Path(path).name}."]
    left: list[str] = []
    model = keys.pull("model")
    recipe = {"name": Path(path).stem, "notes": notes, **translate_model(model, path, notes)}
    recipe |= translate_data(parts, recipe, left, notes)
    recipe |= translate_pixels(parts, model, recipe, left, notes, old)
    recipe |= translate_optimization(keys, notes, parts["train"].batch_size, old)
    if (start := keys.take("load_from")) is not None:
        if recipe["init"]:
            notes.append(f"load_from replaces model.backbone.pretrained = {recipe['init']}.")
        recipe["init"] = name_of_weights(start)
    if keys.take("sync_bn") is not None:
        recipe["sync_bn"] = True
    for owner in ("train_cfg", "test_cfg"):
        model.expect(owner, None, {})
    left += [f"model.{line}" for line in model.left()] + keys.left() + _shorthand(config, notes)
    if keys.aside:
        notes.append(f"Left to the command line and the machine: {'; '.join(keys.aside)}.")
    # No resize before the crop is a value; elsewhere nothing said means the recipe's own default.
    said = {k: v for k, v in recipe.items() if v is not None or k.endswith("_resize")}
    return in_groups(RecognitionRecipe, said), left


def _shorthand(config: dict[str, Any], notes: list[str]) -> list[str]:
    """Names that MMAction2 does not read and whose values stand nowhere where it does: mistyped, or changed too late."""
    used = [plain(value) for key, value in config.items() if key in READ]
    left = []
    for name, value in config.items():
        if name in READ or _stands_in(plain(value), name, used):
            continue
        near = nearest(name, READ, cutoff=0.8)
        if near or isinstance(value, dict | list | tuple | str):
            hint = f"; did you mean {near}?" if near else ""
            left.append(
                f"{name} = {shown(value)}: MMAction2 does not read this name, and no key that it reads has this value{hint}"
            )
        else:
            notes.append(f"MMAction2 does not read {name} = {value!r}.")
    return left


def _stands_in(value: Any, name: str, used: Any) -> bool:
    """Whether a shorthand's value is found in the values that are read: a dictionary's items, a list, a text; a number by its name."""
    if value in (None, {}, []) or (value == used and isinstance(value, dict | list)):
        return True
    if isinstance(used, dict):
        if isinstance(value, dict) and all(key in used and used[key] == item for key, item in value.items()):
            return True
        if name in used and used[name] == value and isinstance(value, int | float):
            return True
        return any(_stands_in(value, name, inner) for inner in used.values())
    if isinstance(used, list):
        if isinstance(value, list) and any(used[i : i + len(value)] == value for i in range(len(used))):
            return True  # a part that was added to others
        return any(_stands_in(value, name, inner) for inner in used)
    if isinstance(used, str):
        return (isinstance(value, str) and value in used) or (isinstance(value, int) and f"{name}_{value}_" in used)
    return False
