"""All models by name: ``create_model("slowonly_r50", num_classes=101)``, ours and those of others.

    @register_model
    def my_net(num_classes: int, width: int = 64) -> MyNet: ...

A model is a function (or class) that returns a ``torch.nn.Module``; its settings are its keyword arguments. What a model
promises is in ``clipwise.models.contract``; how names are found and code is trusted in ``clipwise.io.plugins``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, get_type_hints

import torch
from torch import nn

from clipwise.errors import RecipeError
from clipwise.io.plugins import Entry, Registry, trusting


def _import_papers(name: str | None) -> None:
    """The file of this room that a name begins with (``tsm_r50`` is in ``tsm.py``); of None, all files."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if name is None or f"{name}_".startswith(f"{module.name}_"):
            importlib.import_module(f"{__package__}.{module.name}")


MODELS = Registry("model", "clipwise.models", _import_papers)


def register_model(
    function: Callable[..., nn.Module] | None = None,
    *,
    name: str | None = None,
    task: str | None = None,
    settings: Callable[..., Any] | None = None,
    frames_setting: str | None = "",
    rules: type | None = None,
) -> Any:
    """Decorator: make a model known under its function's name.

    Args:
        name: instead of the function's; of a model of ours it begins with the name of its file.
        task: "recognition" (the default) or "localization".
        settings: whose keyword arguments are the model's settings, where the function passes ``**model_args`` on; the class
            that the function says it returns if not given.
        frames_setting: the setting that takes the recipe's number of frames; ``num_segments``, ``num_frames`` or ``clip_len``
            if the model has one of these, None for no such setting. A class may say so by an attribute of this name.
        rules: of a localizer, see ``clipwise.models.localizer_rules``. A class may name them in an attribute.

    Raises:
        RecipeError: the name is taken.
    """
    options: dict[str, Any] = {"task": task, "settings": settings, "rules": rules}
    if frames_setting != "":
        options["frames_setting"] = frames_setting
    return MODELS.register(function, name=name, **options)


def list_models(pattern: str = "*", *, task: str | None = None) -> list[str]:
    """All names that ``create_model`` knows, sorted; of one task if asked for (which imports installed packages' models)."""
    names = MODELS.names(pattern)
    if task is None:
        return names
    from clipwise.io.code_import import usable

    return [name for name in usable(MODELS, names) if model_task(name) == task]


def model_task(name: str | Callable[..., nn.Module]) -> str:
    """The task of a model: "recognition" or "localization".

    Raises:
        RecipeError: unknown name.
    """
    entry = MODELS.find(name)
    if entry.options.get("rules") and not entry.options.get("task"):
        return "localization"
    for source in (entry.options, vars(_carrier(entry)) if inspect.isclass(_carrier(entry)) else {}):
        if source.get("task"):
            return str(source["task"])
    return str(getattr(_carrier(entry), "task", None) or "recognition")


def model_class(name: str | Callable[..., nn.Module]) -> Any:
    """The class that a model's function returns, as far as it says so; else the function."""
    return _carrier(MODELS.find(name))


def model_arguments(name: str | Callable[..., nn.Module]) -> dict[str, Any]:
    """The settings of a model and their defaults (of the class; a name may set others, see its function).

    Raises:
        RecipeError: unknown name.
    """
    return {p.name: p.default for p in settings_of(MODELS.find(name)) if p.kind is not p.VAR_KEYWORD}


def create_model(name: str | Callable[..., nn.Module], *, trust: bool = False, **model_args: Any) -> nn.Module:
    """Make a freshly initialized model.

    Args:
        name: one of ``list_models()``; ``package.module:function`` or ``./file.py:function``; or a function.
        trust: whether code that does not come with clipwise may be imported.
        model_args: settings; ``model_arguments(name)`` lists them with their defaults.

    Returns:
        The model, in train mode.

    Raises:
        RecipeError: unknown name or setting (the message names the nearest known one), or a value that the model refuses.
    """
    with trusting(trust):
        entry = MODELS.find(name)
    parameters = settings_of(entry)
    known = {p.name: p.default for p in parameters}
    plain = {key: known.get(key, ...) for key in model_args if isinstance(known.get(key, 0), (int, float, str))}
    if any(type(model_args[key]) is not type(default) for key, default in plain.items()):
        from clipwise.models.settings_errors import refuse_kinds, refuse_unknown

        refuse_unknown(entry.name, model_args, parameters)
        refuse_kinds(entry.name, model_args, parameters)
    try:
        model = entry.make(**model_args)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        from clipwise.models.settings_errors import refused

        raise RecipeError(refused(entry.name, model_args, known, error)) from error
    if not isinstance(model, nn.Module):
        raise RecipeError(f"model {entry.name!r} gave a {type(model).__name__}; it must return a torch.nn.Module.")
    return model


def _carrier(entry: Entry) -> Callable[..., Any]:
    """What carries the settings: the function itself, or where it passes them on, what it says it returns."""
    if inspect.isclass(entry.make):
        return entry.make
    try:
        returned = get_type_hints(entry.make).get("return")
    except (NameError, TypeError):  # a name that only a type checker sees
        returned = None
    return returned if inspect.isclass(returned) and returned is not nn.Module else entry.make


def settings_of(entry: Entry) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(entry.make).parameters.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        owner: Callable[..., Any] = entry.options.get("settings") or _carrier(entry)
        # a function that passes everything on has chosen what the owner takes by position
        parameters = [p for p in inspect.signature(owner).parameters.values() if p.name != "depth"]
    return [p for p in parameters if p.kind is not p.VAR_POSITIONAL]


def model_place(name: str | Callable[..., nn.Module]) -> str:
    """What a checkpoint writes down: a name of ours, ``package.module:function`` or ``file.py:function``."""
    return MODELS.find(name).place
