"""Models by name with weights: ``clipwise.create_model``, ``list_models`` and ``describe_model``.

A freshly initialized model comes from ``clipwise.models.registry``; where a source of weights is named (a checkpoint, a name in the zoo,
an address, another project's file), ``clipwise.engine.pretrained.resolve`` makes it a file, here as everywhere.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from clipwise.convert.zoo import CATALOGUE, Weights, find_weights
from clipwise.data.classes import class_names_for
from clipwise.engine import pretrained as zoo
from clipwise.engine.checkpoint import Passport, load_model_and_passport, read_passport, save_weights
from clipwise.engine.init_weights import load_start, resolve_start
from clipwise.errors import CheckpointError, ClipwiseError, RecipeError
from clipwise.io.names import did_you_mean
from clipwise.io.plugins import trusting
from clipwise.io.text import plural
from clipwise.models import contract, recipe_model, registry
from clipwise.models.init import adapt_first_conv
from clipwise.recipe import Recipe, find_recipe, list_recipes, load_recipe


def list_models(pattern: str = "*", *, pretrained: bool = False, task: str | None = None) -> list[str]:
    """Names that ``create_model`` takes, sorted.

    Args:
        pattern: as in file names, for instance ``tsm*``.
        pretrained: the published weights instead of the models; each name also goes to ``clipwise.load``.
        task: "recognition" or "localization" only (imports the models of installed packages).

    Raises:
        RecipeError: a pattern that is no text, or an unknown task.
    """
    if not isinstance(pattern, str) or not isinstance(pretrained, bool):
        raise RecipeError(
            f"list_models({pattern!r}, pretrained={pretrained!r}): write list_models('tsm*', pretrained=True)."
        )
    if task not in (None, "recognition", "localization"):
        raise RecipeError(f"task is {task!r}; allowed: 'recognition' and 'localization'.")
    if not pretrained:
        names = registry.list_models(task=task)
    else:
        names = sorted(name for name, w in CATALOGUE.items() if w.recipe and task != "localization")
    return [name for name in names if fnmatch.fnmatchcase(name.lower(), pattern.lower())]


def create_model(
    name: str | Callable[..., nn.Module] | Recipe,
    *,
    pretrained: bool | str | Path = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    trust: bool = False,
    **model_args: Any,
) -> nn.Module:
    """Make a model, from scratch or with trained weights.

    >>> clipwise.create_model("tsm_r50", pretrained=True, num_classes=10)  # ten outputs, freshly initialized
    >>> clipwise.create_model("tsm_r50", pretrained="runs/mine/best.safetensors", in_chans=1)

    Args:
        name: one of ``list_models()`` or of ``list_models(pretrained=True)``; ``package.module:function`` or ``./file.py:function``; or
            a function; or a recipe, whose model it is then.
        pretrained: True for the published weights (those of the name; of a model's name those with the best top-1 accuracy on
            Kinetics-400 RGB); or where they are: a checkpoint, a name of ``list_models(pretrained=True)``, an address, another
            project's file, ``imagenet``.
        num_classes: outputs. With weights of another number the classifier is re-initialized; 0 leaves it out: the model then gives
            features (B, D).
        in_chans: channels of the input. With weights of another number the first convolution is adapted as timm does: for one
            channel the sum over the input's channels; else the channels repeated in turn, times (old number / new number).
        trust: whether code that does not come with clipwise may be imported.
        model_args: settings of the model; ``clipwise.models.model_arguments(name)`` lists them. Those of the weights' own training
            hold where none are given.

    Returns:
        The model, in train mode; in evaluation mode with weights.

    Raises:
        RecipeError: unknown name or setting.
        CheckpointError: there are no such weights, or they are of another model.
    """
    if num_classes:
        model_args["num_classes"] = num_classes
    if isinstance(name, str) and _is_file(name):
        raise RecipeError(
            f"{name} is a checkpoint, not a model's name. clipwise.load_model({name!r}) gives its model; with another classifier or other "
            f"channels it is create_model(NAME, pretrained={name!r}), whose NAME `clipwise info` says."
        )
    given = None
    if isinstance(name, Recipe):
        given = name
        with trusting(trust):
            model_args = {
                **recipe_model.model_args(given, given.num_classes if hasattr(given, "num_classes") else None),
                **model_args,
            }
        name = given.model
    weights = find_weights(name) if isinstance(name, str) else None
    own = _recipe_passport(weights, pretrained is True) if weights and weights.recipe else None
    with trusting(trust):
        if pretrained is False or pretrained is None:
            if own:
                name, model_args = own.model, {**own.model_args, **model_args}
            if in_chans is not None:
                model_args["in_channels"] = in_chans
            model = registry.create_model(name, **model_args)
            passport = replace(own or _plain_passport(name), model_args=model_args)
        elif pretrained == "imagenet":
            model, passport = _from_imagenet(own.model if own else name, model_args, in_chans)
        else:
            if pretrained is True:
                pretrained = weights.name if weights else best_weights(registry.model_place(name)).name
            model, passport = _from_checkpoint(own.model if own else name, pretrained, model_args, in_chans)
    if num_classes == 0:
        _remove_classifier(model)
    if given is not None:
        passport = replace(passport, recipe=given.model_dump(mode="json"))
    model.passport = passport  # type: ignore[assignment]
    return model


def save_model(
    model: nn.Module,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    recipe: Recipe | str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Write a model of one's own training as a checkpoint: everything that takes checkpoints takes it.

    Args:
        model: made by ``create_model`` or ``load_model``; a wrapper's own (``accelerator.unwrap_model``), not the wrapper.
        path: a ``.safetensors`` file; replaced at once.
        classes: class names in the order of the outputs.
        recipe: sampling, pixels and test protocol; that of the model if not given.
        metrics: figures to keep.

    Returns:
        The path.

    Raises:
        CheckpointError: nothing says how the model is made.
    """
    passport = getattr(model, "passport", None)
    if passport is None:
        raise CheckpointError(
            f"this {type(model).__name__} was not made by clipwise.create_model or load_model, so a checkpoint could not say how to make it "
            "again. Make it there, or train it by clipwise.train(recipe, model=…)."
        )
    args, values = dict(passport.model_args), passport.recipe
    if recipe is not None:
        values = (load_recipe(recipe) if isinstance(recipe, str) else recipe).model_dump(mode="json")
    if values.get("task", "recognition") == "recognition":
        count = contract.num_classes(model)
        if classes is not None and len(classes) != count:
            raise CheckpointError(
                f"{plural(len(classes), 'class name was', 'class names were')} given, but the model has {plural(count, 'output')}."
            )
        args["num_classes"] = count
        values = {**values, "num_classes": count} if values else {}
    names = list(classes) if classes is not None else passport.classes
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    written = Passport(passport.model, args, names, values, dict(metrics or {}))
    save_weights(path, model.state_dict(), written)
    return Path(path)


def _is_file(name: str | Path) -> bool:
    """Whether this is a checkpoint rather than a name."""
    return Path(name).suffix == ".safetensors" or str(name).startswith("hf:/")


def best_weights(model: str) -> Weights:
    """The published weights of a model with the best top-1 accuracy on Kinetics-400 RGB.

    Raises:
        CheckpointError: none are published.
    """
    of_model = [w for w in CATALOGUE.values() if w.recipe and _model_of(w.recipe) == model]
    found = [w for w in of_model if w.num_classes == 400 and "flow" not in w.name and "gym" not in w.name]
    if not found:
        known = sorted({_model_of(w.recipe) for w in CATALOGUE.values() if w.recipe})
        names = ", ".join(w.name for w in of_model) or f"there are some of {', '.join(known)}"
        raise CheckpointError(
            f"no published Kinetics-400 weights of {model!r}; {names}. Give one of these names, a checkpoint's path, an address, or "
            "'imagenet' as pretrained."
        )
    return max(found, key=lambda w: w.metrics.get("top1", 0.0))


def describe_model(model: str | Path | nn.Module) -> dict[str, Any]:
    """What a model is and how its input has to look, as plain values; nothing is downloaded.

    Args:
        model: one made by ``create_model`` or ``load_model``; or a name of ``list_models(pretrained=True)`` or ``list_models()``; or a
            checkpoint's path.

    Returns:
        ``model``, ``model_args``, ``num_classes``, ``input_size`` (C, T, H, W), ``fixed_frames``, ``mean`` and ``std`` (of pixels from 0
        to 255), ``num_views`` at test, ``first_conv`` and ``classifier`` (names of modules), ``classes``, ``metrics`` (fractions),
        ``recipe``, ``url`` and ``license``; None where nothing is known.

    Raises:
        RecipeError: unknown name.
    """
    weights = None
    if isinstance(model, Path) or (isinstance(model, str) and _is_file(model)):
        model = load_model_and_passport(model)[0]
    elif isinstance(model, str):
        weights = find_weights(model)
        if weights is None and model not in registry.list_models():
            near = did_you_mean(model, [*CATALOGUE, *registry.list_models()])
            raise RecipeError(f"there is no model {model!r}{near or '.'} clipwise.list_models() has all names.")
        import torch

        with torch.device("meta"):
            model = create_model(model)
        if weights and weights.recipe:
            model.passport = _recipe_passport(weights, trained=True)  # type: ignore[assignment]
    passport: Passport = getattr(model, "passport", None) or Passport(type(model).__name__)
    recipe = passport.recipe
    recognition = recipe.get("task", "recognition") == "recognition"
    spec = contract.input_spec(model) if hasattr(model, "input_spec") or hasattr(model, "clip_shape") else None
    shape = list(spec.shape) if spec else None
    views = None
    if recipe and recognition:
        from clipwise.data.clip_spec import ClipSpec

        test = ClipSpec.from_recipe(recipe, "test")
        if test.transform.crop_size is not None:
            t, h, w, c = test.view_shape
            shape = [c, t, h, w]
        views = test.transform.num_crops * test.num_clips * (2 if test.twice_sample else 1)
    found = weights or find_weights(recipe.get("name", ""))
    names = {id(module): name for name, module in model.named_modules()}
    has_head = recognition and isinstance(getattr(model, "classifier", None), nn.Module)
    return {
        "model": passport.model,
        "model_args": dict(passport.model_args),
        "num_classes": contract.num_classes(model) if has_head else None,
        "input_size": shape,
        "fixed_frames": spec.fixed_frames if spec else None,
        "mean": recipe.get("input", {}).get("mean"),
        "std": recipe.get("input", {}).get("std"),
        "num_views": views,
        "first_conv": names.get(id(getattr(model, "first_conv", None))),
        "classifier": names.get(id(getattr(model, "classifier", None))),
        "classes": passport.classes,
        "metrics": dict(passport.metrics),
        "recipe": recipe.get("name") or None,
        "url": passport.source or (found.url if found else None),
        "license": found.license if found else None,
    }


def pretrained_recipe(name: str) -> dict[str, Any]:
    """Every key of the recipe behind a name of published weights, or of a model that has some; empty where there are none."""
    weights = find_weights(name)
    if weights is None and name in list_recipes():
        return load_recipe(name).model_dump(mode="json")
    weights = weights or best_weights(registry.model_place(name))
    return load_recipe(weights.recipe).model_dump(mode="json") if weights.recipe else {}


def _recipe_passport(weights: Weights, trained: bool) -> Passport:
    """What the zoo knows of weights without fetching them."""
    recipe = load_recipe(str(weights.recipe))
    args = recipe_model.model_args(recipe, weights.num_classes)
    metrics = {f"{k}_acc" if k.startswith("top") else k: v / 100 for k, v in weights.metrics.items()}
    classes = class_names_for(recipe.name, weights.num_classes)
    return Passport(recipe.model, args, classes, recipe.model_dump(mode="json"), metrics if trained else {})


def _plain_passport(name: str | Callable[..., nn.Module]) -> Passport:
    """Of a model without weights; its preprocessing is known where a packaged recipe has the model's name."""
    place = registry.model_place(name)
    known = place in list_recipes()
    return Passport(place, recipe=load_recipe(place).model_dump(mode="json") if known else {})


def _from_imagenet(name: Any, model_args: dict[str, Any], in_chans: int | None) -> tuple[nn.Module, Passport]:
    model = registry.create_model(name, **model_args)
    load_start(model, resolve_start(model, "imagenet"), "average")
    if in_chans is not None:
        model = _with_channels(name, model, model_args, in_chans)
    return model.eval(), _plain_passport(name)


def _from_checkpoint(
    name: Any, source: str | Path | bool, model_args: dict[str, Any], in_chans: int | None
) -> tuple[nn.Module, Passport]:
    """A checkpoint's weights in a model of that name, with its classifier and first convolution as they are wanted."""
    path, place = zoo.resolve(str(source)), registry.model_place(name)
    if path.suffix != ".safetensors":  # ImageNet weights
        model = registry.create_model(name, **model_args)
        load_start(model, path, "average")
        return (
            model if in_chans is None else _with_channels(name, model, model_args, in_chans)
        ).eval(), _plain_passport(name)
    wanted = model_args.pop("num_classes", None)
    if registry.model_place(read_passport(path).model) != place:
        holds = read_passport(path).model
        raise CheckpointError(f"{source} holds a {holds}, not a {place}. Use create_model({holds!r}, pretrained=…).")
    model, passport = load_model_and_passport(path, model_args=model_args)
    args = {**passport.model_args, **model_args}
    if in_chans is not None:
        model = _with_channels(name, model, args, in_chans).eval()
        args["in_channels"] = in_chans
    classes = passport.classes
    if wanted is not None and wanted != contract.num_classes(model):
        contract.reset_classifier(model, wanted)
        args, classes = {**args, "num_classes": wanted}, None
    return model, replace(passport, model_args=args, classes=classes)


def _with_channels(name: Any, model: nn.Module, args: dict[str, Any], channels: int) -> nn.Module:
    """The same model for another number of input channels, with its weights."""
    conv: Any = contract.first_conv(model)
    if conv.weight.shape[1] == channels:
        return model
    if "in_channels" not in registry.model_arguments(name):
        raise ClipwiseError(
            f"{registry.model_place(name)} has no setting in_channels, so in_chans={channels} cannot be set. Add the setting to its function."
        )
    key = next(key for key, parameter in model.named_parameters() if parameter is conv.weight)
    other = registry.create_model(name, **{**args, "in_channels": channels})
    tensors: dict[str, Tensor] = {**model.state_dict(), key: adapt_first_conv(conv.weight.detach(), channels)}
    other.load_state_dict(tensors)
    return other


class NoClassifier(nn.Identity):
    """In place of a classifier: features go out as they come in.

    Args:
        width: D.
    """

    def __init__(self, width: int):
        super().__init__()
        self.in_features = self.out_features = width


def _remove_classifier(model: nn.Module) -> None:
    old = contract.classifier(model)
    name = next(name for name, module in model.named_modules() if module is old)
    model.set_submodule(name, NoClassifier(old.in_features))


def _model_of(recipe: str) -> str:
    """The model that a packaged recipe names; the rest of the recipe is not read."""
    found = re.search(r"^model:\s*(\S+)", find_recipe(recipe).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""
