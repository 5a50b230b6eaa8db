"""Parameter groups that few recipes ask for: learning rates that fall from layer to layer, and TSM's seven groups."""

from __future__ import annotations

from torch import nn

from clipwise.engine.batch_norm import NORMS
from clipwise.errors import RecipeError
from clipwise.models import contract


def stage_of(model: nn.Module) -> dict[int, int]:
    """Stage of each parameter, the stem's 0."""
    parts = contract.stages(model)
    if len(parts) < 2 or (outside := contract.missing_from(parts, model)):
        raise RecipeError(
            f"layer_decay needs the parts of {type(model).__name__} from stem to head, each parameter in one of them; "
            + (f"{outside[0]} is in none or several" if len(parts) > 1 else "it has only one")
            + ". Add `stages(self)` to it, or leave layer_decay out."
        )
    return {id(parameter): number for number, part in enumerate(parts) for parameter in part.parameters()}


def tsm_groups(model: nn.Module, lr: float, weight_decay: float) -> list[dict]:
    """As ``TSMOptimizerConstructor`` makes them, see :func:`clipwise.engine.network.parameter_groups`."""
    first, last = contract.first_conv(model), contract.classifier(model)
    names = ["first conv", "first conv bias", "weights", "biases", "norms", "classifier", "classifier bias"]
    factors, decays = [1, 2, 1, 2, 1, 5, 10], [1, 0, 1, 0, 0, 1, 0]
    members: list[list[nn.Parameter]] = [[] for _ in names]
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            bias = int(name.endswith("bias"))
            if isinstance(module, NORMS):
                members[4].append(parameter)
            else:
                members[(0 if module is first else 5 if module is last else 2) + bias].append(parameter)
    return [
        {"params": p, "lr": lr * f, "weight_decay": weight_decay * d, "name": n}
        for n, f, d, p in zip(names, factors, decays, members)
        if p
    ]
