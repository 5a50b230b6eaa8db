"""All models by name: ``create_model("slowonly_r50", num_classes=101)``.

A name is a function of this package, and its settings are the keyword arguments of that function or of the class it makes.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from clipwise.errors import RecipeError
from clipwise.models import slowonly, tpn, tsm, tsn
from clipwise.models.init import ImageNetReport, load_imagenet
from clipwise.models.recognizer import Recognizer
from clipwise.models.slowonly import SlowOnly
from clipwise.models.tpn import TPN
from clipwise.models.tsm import TSM
from clipwise.models.tsn import TSN

__all__ = [
    "TPN",
    "TSM",
    "TSN",
    "ImageNetReport",
    "Recognizer",
    "SlowOnly",
    "create_model",
    "list_models",
    "load_imagenet",
    "model_arguments",
]


def bmn(**model_args) -> nn.Module:
    """The boundary-matching network; see ``clipwise.models.bmn``."""
    return _bmn()(**model_args)


def _bmn() -> Callable[..., nn.Module]:
    from clipwise.models.bmn import bmn

    return bmn


# Name -> (the function that makes the model, what carries its keyword arguments).
_MODELS: dict[str, tuple[Callable[..., nn.Module], Callable]] = {
    "tsn_tiny": (tsn.tsn_tiny, TSN),
    "tsn_r18": (tsn.tsn_r18, TSN),
    "tsn_r50": (tsn.tsn_r50, TSN),
    "tsn_r101": (tsn.tsn_r101, TSN),
    "tsn_r50_paddle": (tsn.tsn_r50_paddle, TSN),
    "tsm_tiny": (tsm.tsm_tiny, TSM),
    "tsm_r18": (tsm.tsm_r18, TSM),
    "tsm_r50": (tsm.tsm_r50, TSM),
    "tsm_r101": (tsm.tsm_r101, TSM),
    "tsm_r50_nl": (tsm.tsm_r50_nl, TSM),
    "slowonly_tiny": (slowonly.slowonly_tiny, SlowOnly),
    "slowonly_r18": (slowonly.slowonly_r18, SlowOnly),
    "slowonly_r50": (slowonly.slowonly_r50, SlowOnly),
    "slowonly_r101": (slowonly.slowonly_r101, SlowOnly),
    "slowonly_r50_nl": (slowonly.slowonly_r50_nl, SlowOnly),
    "tpn_slowonly_tiny": (tpn.tpn_slowonly_tiny, tpn._tpn_slowonly),
    "tpn_slowonly_r50": (tpn.tpn_slowonly_r50, tpn._tpn_slowonly),
    "tpn_slowonly_r101": (tpn.tpn_slowonly_r101, tpn._tpn_slowonly),
    "tpn_tsm_tiny": (tpn.tpn_tsm_tiny, tpn._tpn_tsm),
    "tpn_tsm_r50": (tpn.tpn_tsm_r50, tpn._tpn_tsm),
    "bmn": (bmn, lambda: None),
}


def list_models() -> list[str]:
    """All names that ``create_model`` knows, sorted."""
    return sorted(_MODELS)


def model_arguments(name: str) -> dict[str, Any]:
    """The settings of a model and their defaults (of the class; a name may set others, see its function).

    Raises:
        RecipeError: unknown name.
    """
    _, carrier = _entry(name)
    signature = inspect.signature(_bmn() if name == "bmn" else carrier)
    return {p.name: p.default for p in signature.parameters.values() if p.name != "depth"}


def create_model(name: str, **model_args: Any) -> nn.Module:
    """Make a freshly initialized model.

    Args:
        name: one of ``list_models()``.
        model_args: settings; ``model_arguments(name)`` lists them with their defaults.

    Returns:
        The model, in train mode.

    Raises:
        RecipeError: unknown name or setting (the message names the nearest known one), or a value that makes no sense.
    """
    make, _ = _entry(name)
    known = model_arguments(name)
    for key in model_args:
        if key not in known:
            raise RecipeError(f"model {name!r} has no setting {key!r}. {_nearest(key, known)}")
    try:
        return make(**model_args)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        given = ", ".join(f"{key}={value!r} (its default is {known[key]!r})" for key, value in model_args.items())
        raise RecipeError(f"model {name!r} can't be made with {given}: {error}.") from error


def _entry(name: str) -> tuple[Callable[..., nn.Module], Callable]:
    if name not in _MODELS:
        raise RecipeError(f"there is no model {name!r}. {_nearest(name, _MODELS)}")
    return _MODELS[name]


def _nearest(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    match = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    hint = f"Did you mean {match[0]!r}? " if match else ""
    return f"{hint}Known: {', '.join(known)}"
