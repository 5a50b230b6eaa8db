"""What a stranger's loss, metric, transform, list reader or network promises: how it is called, and what it returns."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NoReturn

from clipwise.errors import ClipwiseError, RecipeError


def promised(entry: Any, kind: str, takes: str, gives: str, keeps: Callable[..., bool]) -> Callable[..., Any]:
    """An entry's function, which refuses to return what breaks its promise.

    Args:
        entry: of a ``Registry``.
        kind: what it is, for messages ("loss").
        takes: the arguments that it is called with ("logits, targets").
        gives: what it must return, for messages.
        keeps: whether a value is that; gets the value and the arguments.

    Raises:
        RecipeError: it cannot be called with these arguments; the function returned raises it for a wrong value.
    """
    name = entry.name
    try:
        signature = inspect.signature(entry.make)
        signature.bind(*takes.split(", "))
    except TypeError:
        raise RecipeError(f"{kind} {name!r} takes {signature}, but is called with ({takes}).") from None
    except ValueError:  # a function of a compiled module has no signature to look at
        pass

    @functools.wraps(entry.make)
    def call(*args: Any) -> Any:
        value = entry.make(*args)
        if not keeps(value, *args):
            raise RecipeError(f"{kind} {name!r} returned {described(value)}; it must return {gives}.")
        return value

    return call


def described(value: Any) -> str:
    """A value of somebody else's in a message."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"a {type(value).__name__} {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text and "tensor(" not in text else f"a {type(value).__name__}"


def refuse_outputs(model: Any, outputs: Any) -> NoReturn:
    """Refuse what a recognizer's ``forward`` returned.

    Raises:
        ClipwiseError: always.
    """
    name, known = type(model).__name__, getattr(model, "num_classes", "num_classes")
    if isinstance(outputs, (tuple, list)) and len(outputs) == 2:
        more = f"Add `aux_weight` to {name}, the weight of the second one's loss"
        raise ClipwiseError(f"{name} returned 2 outputs in training. {more}; see docs/en/models.md.")
    raise ClipwiseError(
        f"{name} returned {described(outputs)}; it must return logits, a tensor (batch, {known}), or in training "
        "(logits, auxiliary logits). See docs/en/models.md."
    )
