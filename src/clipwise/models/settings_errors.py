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
