"""Sentences on settings that a model does not take."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from clipwise.errors import RecipeError
from clipwise.io.names import nearest_of


def refuse_unknown(name: str, given: Mapping[str, Any], parameters: Iterable[inspect.Parameter]) -> None:
    """Refuse settings that a model's function does not have; one with ``**settings`` takes all.

    Raises:
        RecipeError: there is one; the message names the nearest known one.
    """
    known = {p.name: p.kind for p in parameters}
    key = next((key for key in given if key not in known), None)
    if key is None or inspect.Parameter.VAR_KEYWORD in known.values():
        return
    raise RecipeError(
        f"model {name!r} has no setting {key!r}. {nearest_of(key, sorted(known))} (A recipe of another model may have set it: "
        "model_args={} leaves its settings out.)"
    )


def refused(name: str, given: Mapping[str, Any], known: Mapping[str, Any], error: Exception) -> str:
    """The settings with which the model's function failed, beside their defaults."""
    settings = ", ".join(f"{key}={value!r}{_default(known.get(key))}" for key, value in given.items())
    return f"model {name!r} can't be made with {settings or 'no settings'}: {error}."


def _default(value: Any) -> str:
    return "" if value is inspect.Parameter.empty else f" (its default is {value!r})"


def refuse_kinds(name: str, given: Mapping[str, Any], parameters: Iterable[inspect.Parameter]) -> None:
    """Refuse a setting of another kind than the model's function says: text for a number, nothing where something is needed.

    Raises:
        RecipeError: there is one; the message says what it must be.
    """
    for parameter in parameters:
        value, default = given.get(parameter.name), parameter.default
        if parameter.name not in given or type(default) not in _KINDS or _fits(value, default, parameter.annotation):
            continue
        raise RecipeError(
            f"model {name!r}: {parameter.name} must be {_KINDS[type(default)]}, given {value!r} (its default is {default!r})."
        )


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _fits(value: Any, default: Any, annotation: Any) -> bool:
    """Whether a value is of the default's kind, or of another that the annotation names."""
    if type(value) is type(default) or (type(default) is float and type(value) is int):
        return True
    words = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return (
        words.replace("builtins.", "") != type(default).__name__
    )  # int | list[int], a type of others: its function knows
