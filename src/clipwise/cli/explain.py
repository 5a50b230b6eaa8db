"""Say in plain figures what a recipe will do: batch, learning rate, steps, views, and where it differs from the published run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipwise.cli.argument_types import count
from clipwise.cli.common import print_json
from clipwise.io.text import plural

if TYPE_CHECKING:
    from pydantic import BaseModel

    from clipwise.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a packaged recipe or a YAML file")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="change keys of the recipe")
    parser.add_argument("--devices", type=count, default=1, help="devices that train together (default 1)")
    parser.add_argument("--samples", type=count, help="size of the training list")
    parser.add_argument("--modern", action="store_true", help="with the modern training recipe")
    parser.add_argument("--keys", action="store_true", help="print every key with its value instead")


def run(args: argparse.Namespace) -> int:
    from clipwise.recipe import load_recipe

    recipe = load_recipe(args.recipe, args.overrides, modern=args.modern)
    own_file = str(args.recipe).endswith((".yaml", ".yml"))
    if own_file or any(word.startswith(("model", "loss=", "init=")) for word in args.overrides):
        check_names(recipe)  # imports torch, for which a recipe of ours need not wait
    if args.keys:
        print_json(recipe.model_dump(mode="json")) if args.json else print(describe_keys(recipe), end="")
        return 0
    facts = explain_recipe(recipe, args.devices, args.samples)
    if args.json:
        print_json(facts)
        return 0
    width = max(len(k) for k in facts if not isinstance(facts[k], list))
    for key, value in facts.items():
        if isinstance(value, list):
            print(f"{key}:")
            print("\n".join(f"  - {item}" for item in value))
        else:
            print(f"{key:<{width}}  {value}")
    return 0


def check_names(recipe: Recipe) -> None:
    """Look whether there is the model, the loss and the file that a recipe names; nothing is imported or downloaded.

    Raises:
        RecipeError, CheckpointError: there is none.
    """
    from clipwise.convert.zoo import find_weights
    from clipwise.engine.pretrained import unknown_checkpoint
    from clipwise.errors import CheckpointError, RecipeError
    from clipwise.io.plugins import is_foreign
    from clipwise.models.registry import MODELS, settings_of
    from clipwise.models.settings_errors import refuse_kinds, refuse_unknown
    from clipwise.tasks.logits import LOSSES

    for key, name in (("model", recipe.model), ("loss", getattr(recipe, "loss", None))):
        if not name or is_foreign(name):
            continue
        file = name.rpartition(":")[0]
        if file.endswith(".py") and not Path(file).is_file():
            raise RecipeError(f"{key}: {name}: there is no file {file}.")
        if ":" in name:
            continue
        if key == "loss":
            LOSSES.find(name)
        else:
            parameters = settings_of(MODELS.find(name))
            refuse_unknown(name, recipe.model_args, parameters)
            refuse_kinds(name, recipe.model_args, parameters)
    init = str(recipe.init or "imagenet")
    elsewhere = init == "imagenet" or "://" in init or is_foreign(init)
    if not elsewhere and not Path(init).exists() and find_weights(init) is None:
        raise CheckpointError(f"init: {unknown_checkpoint(init)}")


def describe_keys(recipe: Recipe) -> str:
    """The recipe as YAML with every key, and what each means beside it: a reference, and a start for one's own."""
    from clipwise.recipe import dump_recipe, idle_keys
    from clipwise.recipe.keys import Strict

    idle = {key: reason for key, _, reason in idle_keys(recipe)}
    given = dump_recipe(recipe).splitlines()
    lines: list[str] = []
    owner: type[BaseModel] = type(recipe)
    group = ""
    for line, following in zip(given, [*given[1:], ""]):
        name, _, value = line.strip().partition(":")
        if not line.startswith((" ", "-")):
            owner, group = type(recipe), ""
        depth, deeper = (len(text) - len(text.lstrip()) for text in (line, following))
        field = next((f for key, f in owner.model_fields.items() if name in (key, f.alias)), None)
        continued = value and deeper > depth  # a text of several lines, in which a comment would be text
        if name == "schema" and depth == 0:
            line = f"{line:<40}  # Version of the recipe's form; a newer one than this clipwise knows is refused."
        if field is not None and depth == (2 if group else 0) and not continued:
            text = " ".join((field.description or type(field.default).__doc__ or "").split())
            key = f"{group}.{name}" if group else name
            text += f" No effect with {idle[key]}." if key in idle else ""
            line = f"{line:<40}  # {text}"
            if not group and isinstance(field.default, Strict):
                owner, group = type(field.default), name
        lines.append(line)
    return "\n".join(lines) + "\n"


def explain_recipe(recipe: Recipe, num_devices: int = 1, num_samples: int | None = None) -> dict[str, Any]:
    """What a run of this recipe will do, in plain figures.

    Args:
        num_devices: devices that train together.
        num_samples: size of the training list; the published list's if not given.
    """
    from clipwise.recipe import scaled_lr

    global_batch = recipe.batch_size * recipe.accumulate * num_devices
    samples = num_samples or recipe.published.num_train_samples
    facts: dict[str, Any] = {"recipe": recipe.name, "task": recipe.task, "model": recipe.model}
    facts["devices"] = num_devices
    facts["effective batch"] = (
        f"{global_batch} = {recipe.batch_size} x {recipe.accumulate} accumulated x {plural(num_devices, 'device')}"
    )
    lr = scaled_lr(recipe, num_devices)
    if recipe.auto_scale_lr:
        facts["learning rate"] = f"{lr:g} = {recipe.lr:g} x {global_batch} / {recipe.base_batch_size}"
    elif recipe.base_batch_size and recipe.base_batch_size != global_batch:
        scaled = recipe.lr * global_batch / recipe.base_batch_size
        facts["learning rate"] = (
            f"{lr:g}, meant for a global batch of {recipe.base_batch_size}; the linear rule gives {scaled:g} (--auto-scale-lr)"
        )
    else:
        facts["learning rate"] = f"{lr:g}"
    schedule = recipe.lr_schedule + (f" at epochs {recipe.schedule.milestones}" if recipe.schedule.milestones else "")
    if recipe.warmup_epochs:
        schedule += f", linear warm-up over {recipe.warmup_epochs:g} epochs from x{recipe.schedule.warmup_start:g}"
    facts["schedule"] = f"{plural(recipe.epochs, 'epoch')}, {schedule}, by {recipe.schedule.by}"
    if samples:
        whole = recipe.batch_size * num_devices
        batches = samples // whole if getattr(recipe.input, "drop_last", False) else -(-samples // whole)
        if recipe.task == "recognition" and recipe.multigrid.shapes:
            from clipwise.recipe.clip_shapes import batches_per_epoch

            batches = batches_per_epoch(recipe, samples, num_devices)
        steps = -(-batches // recipe.accumulate)
        facts["steps"] = f"{steps} an epoch, {steps * recipe.epochs} in all ({plural(samples, 'sample')})"
        if recipe.accumulate > 1:
            facts["steps"] += (
                f"; {plural(recipe.accumulate, 'batch', 'batches')} a step, {plural(batches, 'batch', 'batches')} an epoch"
            )
    facts.update(recipe.input_facts())
    published = {k: v for k, v in recipe.published.model_dump().items() if v is not None}
    if published:
        facts["published"] = ", ".join(f"{k} {v}" for k, v in published.items())
    if recipe.notes:
        facts["differs from the published run or surprises"] = list(recipe.notes)
    return facts
