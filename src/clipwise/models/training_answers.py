"""What every training run asks a model; the whole contract is ``clipwise.models.contract``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from torch import Tensor, nn

from clipwise.errors import ClipwiseError


def num_classes(model: nn.Module) -> int:
    """Outputs of a recognizer."""
    known = getattr(model, "num_classes", None)
    return int(known) if isinstance(known, int) else classifier(model).out_features


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


def split_auxiliary(model: nn.Module, outputs: Any) -> tuple[Tensor, Tensor | None, float]:
    """What ``forward`` gave in training: logits, auxiliary logits or None, and the weight of their loss.

    Raises:
        ClipwiseError: several outputs, but no weight.
    """
    if isinstance(outputs, Tensor):
        return outputs, None, 0.0
    weight = getattr(model, "aux_weight", None)
    if weight is None or len(outputs) != 2:
        refuse(model, f"gave {len(outputs)} outputs in training", "aux_weight", "the weight of the second one's loss")
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


def refuse(model: nn.Module, fact: str, method: str, more: str = "") -> NoReturn:
    name = type(model).__name__
    raise ClipwiseError(f"{name} {fact}. Add `{method}` to {name}{', ' + more if more else ''}; see docs/en/models.md.")
