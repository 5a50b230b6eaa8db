"""Proposals of a localizer's checkpoint for its validation videos, and how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from clipwise.engine.checkpoint import Passport, load_model_and_passport
from clipwise.engine.device import make_accelerator
from clipwise.engine.localization import LocalizationResult, LocalizationTask
from clipwise.engine.log import RunLog
from clipwise.errors import CheckpointError, DataError
from clipwise.io.progress import Progress, silent
from clipwise.io.text import plural
from clipwise.models.localizer_rules import keep_settled, localizer_rules
from clipwise.models.registry import model_task
from clipwise.recipe import apply_overrides, load_recipe, make_recipe
from clipwise.tasks.unlike_training import describe_unlike


def evaluate_proposals(
    checkpoint: str | Path,
    *,
    data: str | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    amp: str = "no",
    device: str | None = None,
    loaded: tuple[nn.Module, Passport] | None = None,
    progress: Progress = silent,
) -> LocalizationResult:
    """Proposals of a checkpoint for its validation videos, and how good they are.

    Args:
        checkpoint: of a BMN.
        loaded: what ``checkpoint`` holds, if it was opened elsewhere (exported files).
        data: folder with features and annotations; the checkpoint's own if not given.
        recipe: replaces the checkpoint's recipe.
        overrides: ``key=value`` strings on the recipe.
        amp: ``no``, ``bf16`` or ``fp16``.

    Raises:
        CheckpointError, DataError: something given is wrong.
    """
    accelerator = make_accelerator(device)
    model, passport = loaded or load_model_and_passport(checkpoint, accelerator.device)
    keys = [*overrides, f"amp={amp}", "optim.loss_scale=null"]
    if recipe:
        plan = keep_settled(load_recipe(recipe, keys), passport.recipe)
    else:
        plan = make_recipe(apply_overrides(passport.recipe, keys), source=str(checkpoint))
    if overrides:
        from clipwise.recipe.verb_keys import refuse_training_keys

        before = [f"amp={amp}", "optim.loss_scale=null"]
        start = load_recipe(recipe, before) if recipe else make_recipe(apply_overrides(passport.recipe, before))
        refuse_training_keys("test", start, load_recipe(recipe, keys) if recipe else plan, whole=bool(recipe))
    if plan.task != "localization":
        raise CheckpointError(
            f"{checkpoint} is a {passport.model}, a localization network; {plan.name} is a recipe of {plan.model}, for {plan.task}. "
            "Give the checkpoint's own recipe, or none."
            if model_task(passport.model) == "localization"
            else f"{checkpoint} is a {passport.model}, not a localization network; use `clipwise test` with it."
        )
    if data is None and not (plan.train_data or (plan.annotations and plan.features)) and "train" in passport.data:
        data = str(Path(passport.data["train"]).parent)
    task = LocalizationTask(plan, accelerator, RunLog(None, quiet=True), data=data, training=False)
    task.longest_s = passport.data.get("times", {}).get("video_s", [None])[-1]
    task.model, task.rules = model, localizer_rules(passport.model, passport.model_args, plan)
    task.classes = passport.classes or task.classes if task.rules.labeled else task.classes
    task.rules.prepare(model)
    task.store.feat_dim = task.rules.feat_dim
    if task.val_videos is None:
        raise DataError(f"{task.source} has no videos of subset {plan.val.subset!r}.")
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, -(-len(task.val_videos or ()) // accelerator.num_processes), "")

    result = task.validate(task.model, advance)[1]
    return replace(result, notes=_unlike(task, passport.data.get("times") or {}))


def _unlike(task: LocalizationTask, trained_on: dict[str, Any]) -> tuple[str, ...]:
    """What to say of validation videos that are far outside of what a network was trained on."""
    assert task.val_set is not None
    length_s = task.rules.windows.length_s if task.rules.windows else None
    found = {}
    for index in np.unique(np.linspace(0, len(task.val_set.names) - 1, 64).astype(int)).tolist():
        name, seconds = task.val_set.names[index], task.val_set.covered_s[index]
        positions = len(task.store.read(name))
        found[name] = describe_unlike(trained_on, length_s, task.rules.length, seconds, positions)
    named = {name: note for name, note in found.items() if note}
    return tuple(
        f"{len(named)} of {plural(len(found), 'video')}, the first {n}: {x}" for n, x in list(named.items())[:1]
    )
