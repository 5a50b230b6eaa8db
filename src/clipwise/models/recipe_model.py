"""A recipe's model: how its keys build it, and what every training run asks it; the whole contract is ``clipwise.models.contract``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from clipwise.errors import RecipeError
from clipwise.models.registry import MODELS, create_model, model_arguments, model_class, model_task, settings_of
from clipwise.recipe import Recipe


def model_args(recipe: Recipe, num_classes: int | None = None) -> dict[str, Any]:
    """Keyword arguments that build the recipe's model: what follows from the recipe, then its own ``model_args``.

    Args:
        num_classes: outputs of a recognizer; a localizer has none.
    """
    entry = MODELS.find(recipe.model)
    parameters = settings_of(entry)
    known = {p.name for p in parameters}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    args: dict[str, Any] = {}
    for key, value in _sizes(recipe, num_classes).items():
        if value is not None and (key in known or takes_any):
            args[key] = value
    segments, clip_len = getattr(recipe, "num_segments", None), getattr(recipe, "clip_len", None)
    frames = frames_setting(recipe.model)
    if frames and (count := segments if frames == "num_segments" else segments or clip_len):
        args[frames] = count
    if getattr(recipe, "grad_checkpointing", False) and "grad_checkpointing" in known:
        args["grad_checkpointing"] = True
    return {**args, **recipe.model_args}


def _sizes(recipe: Recipe, num_classes: int | None) -> dict[str, Any]:
    """What a recipe of either task says about the network's two ends."""
    sizes: dict[str, Any] = {"num_classes": num_classes}
    if getattr(recipe, "modality", "rgb") == "flow":
        sizes["in_channels"] = 2 * (recipe.clip_len if recipe.num_segments else 1)  # type: ignore[union-attr]
    for key in ("feat_dim", "temporal_dim"):
        value = getattr(recipe, key, None)
        sizes[key] = None if value == "auto" else value  # auto: until the data have been read, the network's default
    return sizes


def build_model(recipe: Recipe, num_classes: int | None = None) -> nn.Module:
    """The recipe's model, freshly initialized.

    Raises:
        RecipeError: unknown name or setting, or a task that is not the recipe's.
    """
    if (task := model_task(recipe.model)) != recipe.task:
        raise RecipeError(f"model {recipe.model!r} is for {task}, but the recipe's task is {recipe.task}.")
    model = create_model(recipe.model, **model_args(recipe, num_classes))
    if getattr(recipe, "grad_checkpointing", False) and "grad_checkpointing" not in model_arguments(recipe.model):
        from clipwise.models.recompute import recompute_blocks

        recompute_blocks(model)
    return model


def frames_setting(name: str) -> str | None:
    """The setting that takes the recipe's number of frames, of models that work on that number only."""
    entry = MODELS.find(name)
    source = model_class(name)
    if "frames_setting" in entry.options or hasattr(source, "frames_setting"):
        return entry.options.get("frames_setting", getattr(source, "frames_setting", None))
    known = {p.name for p in settings_of(entry)}
    return next((setting for setting in ("num_segments", "num_frames", "clip_len") if setting in known), None)


def num_classes(model: nn.Module) -> int:
    """Outputs of a recognizer."""
    known = getattr(model, "num_classes", None)
    if isinstance(known, int):
        return known
    from clipwise.models.last_layer import classifier

    return classifier(model).out_features


def split_auxiliary(model: nn.Module, outputs: Any) -> tuple[Tensor, Tensor | None, float]:
    """What ``forward`` gave in training: logits, auxiliary logits or None, and the weight of their loss.

    Raises:
        ClipwiseError: several outputs, but no weight.
    """
    if isinstance(outputs, Tensor) and outputs.shape[1:] == (num_classes(model),):
        return outputs, None, 0.0
    weight = getattr(model, "aux_weight", None)
    if weight is None or not isinstance(outputs, (tuple, list)) or len(outputs) != 2:
        from clipwise.io.code_promises import refuse_outputs

        refuse_outputs(model, outputs)
    return outputs[0], outputs[1], float(weight)


def keys_without_effect(model: nn.Module, recipe: Any) -> Iterator[tuple[str, str]]:
    """Keys that the recipe sets but that mean nothing to this model, each with the reason.

    A model can name more of them in an attribute ``ignored_keys``, a dictionary key -> reason.
    """
    name = type(model).__name__
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        if getattr(recipe, "sync_bn", False):
            yield "sync_bn", f"{name} has no batch norm"
        if getattr(recipe.val, "precise_bn_samples", 0):
            yield "val.precise_bn_samples", f"{name} has no batch norm"
    for key, reason in getattr(model, "ignored_keys", {}).items():
        setting: Any = recipe
        for part in key.split("."):
            setting = getattr(setting, part, None)
        if setting:
            yield key, reason
