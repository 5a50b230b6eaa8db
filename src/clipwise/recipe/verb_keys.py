"""Keys on the command line of a finished checkpoint: those of training would change nothing, and are refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from clipwise.errors import ClipwiseWarning, RecipeError
from clipwise.recipe import Recipe, apply_overrides, flatten, make_recipe

# What only training reads. The network and its classes are the checkpoint's own.
TRAINING = frozenset({
    "model", "model_args", "num_classes", "init", "init_first_conv", "seed", "deterministic", "epochs", "batch_size", "accumulate",
    "base_batch_size", "auto_scale_lr", "optimizer", "lr", "weight_decay", "grad_clip", "lr_schedule", "warmup_epochs", "ema_decay",
    "amp", "compile", "loss", "grad_checkpointing", "sync_bn", "sources", "published", "optim", "schedule", "parallel", "checkpoint", "log",
    "augment", "multigrid", "distill", "train_data", "val.every", "val.precise_bn_samples",
})  # fmt: skip
# An exported file holds a protocol and no list.
LISTS = frozenset({"val_data", "test_data", "num_workers", "val", "test.allow_missing"})


def refuse_training_keys(verb: str, before: Recipe, after: Recipe, whole: bool = False) -> None:
    """Refuse changes that a verb does not look at.

    Args:
        whole: a recipe was given beside the checkpoint. Command lines of other tools change it for training and test alike, so
            what only training reads is named in a warning there, and the network's keys tell the checkpoint's network.

    Raises:
        RecipeError: there are some.
    """
    without_effect = TRAINING | LISTS if verb == "export" else TRAINING
    old, new = flatten(before.model_dump()), flatten(after.model_dump())
    changed = [key for key in new if new[key] != old.get(key)]
    idle = [key for key in changed if key in without_effect or key.partition(".")[0] in without_effect]
    if whole:
        idle = [key for key in idle if not key.startswith("model") and key != "num_classes"]
        if idle:
            warnings.warn(f"{', '.join(idle)}: no effect on `clipwise {verb}`", ClipwiseWarning, stacklevel=2)
    elif idle:
        instead = "; mixed precision is --amp" if "amp" in idle and verb != "export" else ""
        raise RecipeError(
            f"{', '.join(idle)}: no effect on `clipwise {verb}`, which takes a checkpoint as it was trained{instead}. "
            "Leave it out; test.…, input.… and the keys of a clip's shape change the protocol."
        )


def changed_recipe(verb: str, values: Mapping[str, Any], overrides: Iterable[str], source: str) -> Recipe:
    """A checkpoint's recipe with ``key=value`` strings applied that have an effect on ``verb``."""
    after = make_recipe(apply_overrides(values, overrides), source=source)
    refuse_training_keys(verb, make_recipe(values, source=source), after)
    return after
