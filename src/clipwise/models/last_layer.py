"""The classifier of a model that does not name it, and the refusal of what a model lacks."""

from __future__ import annotations

from typing import NoReturn

from torch import nn

from clipwise.errors import ClipwiseError


def classifier(model: nn.Module) -> nn.Linear:
    """The last linear layer.

    Raises:
        ClipwiseError: there is none.
    """
    found = getattr(model, "classifier", None)
    if isinstance(found, nn.Linear):
        return found
    if getattr(model, "task", "recognition") != "recognition":
        raise ClipwiseError(f"{type(model).__name__} is not a recognizer, so it has no classifier.")
    inside = [m for m in (found if isinstance(found, nn.Module) else model).modules() if isinstance(m, nn.Linear)]
    if not inside:
        refuse(model, "has no linear layer for its classes", "classifier", "a property that gives it")
    return inside[-1]


def refuse(model: nn.Module, fact: str, method: str, more: str = "") -> NoReturn:
    name = type(model).__name__
    raise ClipwiseError(f"{name} {fact}. Add `{method}` to {name}{', ' + more if more else ''}; see docs/en/models.md.")
