"""Describe a model, a recipe, published weights or a checkpoint: size, cost, and where it comes from.

  clipwise info slowonly_r50 --frames 8 --size 224
  clipwise info slowonly_r50_8x8x1_256e_kinetics400_rgb       the recipe, its cost, its published weights
  clipwise info runs/mine/best.safetensors                    the passport
  clipwise info --zoo                                         all published weights

A MAC is one multiplication with its addition (two FLOPs); convolutions and linear layers are counted, attention apart.
No weights are loaded or downloaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from clipwise.cli.argument_types import count
from clipwise.cli.common import print_json, print_table
from clipwise.errors import ClipwiseError
from clipwise.io.plugins import is_foreign
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", help="model, recipe, name in the zoo, or file")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="keys of the recipe, or settings of the model"
    )
    parser.add_argument("--frames", type=count, help="frames of a view (default: the recipe's at test, or the model's)")
    parser.add_argument("--size", type=count, nargs="+", metavar="PX", help="side of a view, or height and width")
    parser.add_argument("--views", type=count, help="views of a video (default: the recipe's)")
    parser.add_argument("--batch", type=count, help="batch for the memory estimate (default: the recipe's, or 8)")
    parser.add_argument(
        "--device",
        default="meta",
        help="where to count: meta (default) computes nothing; cpu or another also times one view",
    )
    parser.add_argument("--zoo", action="store_true", help="list the published weights")


def run(args: argparse.Namespace) -> int:
    if args.zoo:
        return _list_zoo(args)
    if not args.what:
        raise ClipwiseError(
            "say what to describe: a model, a recipe, a name in the zoo or a file; --zoo lists the weights."
        )
    facts = describe(args)
    if args.json:
        print_json(facts)
        return 0
    for title, section in facts.items():
        print(f"{title}:")
        rows = [*section.items()] if isinstance(section, dict) else [("", section)]
        rows = [(key, value) for key, value in rows if key != "licence"]  # for scripts of 0.1; a person reads "license"
        width = max((len(str(key)) for key, _ in rows), default=0)
        for key, value in rows:
            print(f"  {key:<{width}}  {_text(value)}".rstrip())
    return 0


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """Everything known about what was named, in sections."""
    path = Path(args.what)
    if is_foreign(args.what):
        return _describe_encoder(args)
    if path.suffix in (".yaml", ".yml"):
        return _describe_recipe(args, args.what)
    if path.is_file():
        return _describe_file(args, path)
    from clipwise.convert.zoo import find_weights
    from clipwise.models import list_models
    from clipwise.recipe import ALIASES, list_recipes

    weights = find_weights(args.what)
    known = {*list_recipes(), *ALIASES}
    if args.what in known or (Path(args.what).suffix == ".py" and Path(args.what).stem in known):
        facts = _describe_recipe(args, args.what)
    elif weights is not None:
        facts = _describe_recipe(args, weights.recipe) if weights.recipe else {}
    elif ":" in args.what or args.what in list_models():
        return _describe_model(args)
    elif path.is_dir():
        from clipwise.engine.checkpoint_errors import checkpoint_in

        return _describe_file(args, checkpoint_in(path))
    else:
        from clipwise.io.names import did_you_mean

        hint = did_you_mean(args.what, [*list_models(), *known], 0.5) or "."
        raise ClipwiseError(f"{args.what!r} is neither a file nor a model, a recipe or a name in the zoo{hint}")
    if weights is not None:
        facts["published weights"] = _weights_facts(weights)
    return facts


def _describe_encoder(args: argparse.Namespace) -> dict[str, Any]:
    from clipwise.engine.checkpoint import load_model_and_passport
    from clipwise.models import contract
    from clipwise.recipe import load_recipe

    model, passport = load_model_and_passport(args.what)
    head = plural(len(passport.classes), "class", "classes") if passport.classes else "none: an encoder"
    facts = {
        "features": contract.num_features(model),
        "classifier": head,
        "input": list(contract.input_spec(model).shape),
    }
    recipe: Any = load_recipe(args.what, args.overrides)
    pixels = {
        "resize": recipe.val.resize,
        "crop_size": recipe.val.crop_size,
        **recipe.input.model_dump(exclude_defaults=True),
    }
    return {
        "model": {"name": args.what, **facts},
        "settings": passport.model_args["config"],
        "preprocessing": pixels,
        "views": recipe.input_facts(),
    }


def _describe_model(args: argparse.Namespace) -> dict[str, Any]:
    from clipwise.models import create_model, model_arguments
    from clipwise.models.contract import sizes_without_default
    from clipwise.recipe import apply_overrides

    settings = {**sizes_without_default(args.what), **apply_overrides({}, args.overrides)}
    facts: dict[str, Any] = {"model": {"name": args.what, **settings}}
    facts["settings and their defaults"] = model_arguments(args.what)

    def make():
        return create_model(args.what, **settings)

    shape = _model_shape(make)
    shape = (shape[0], args.frames or shape[1], *_size(args, shape[2:]))
    facts["cost"] = _cost(args, make, shape, None, args.views or 1, args.batch or 8, "sgd")
    return facts


def _model_shape(make) -> tuple[int, ...]:
    import torch

    from clipwise.models.contract import input_spec

    with torch.device("meta"):
        return input_spec(make()).shape


def _describe_recipe(args: argparse.Namespace, name: str) -> dict[str, Any]:
    from clipwise.cli.explain import explain_recipe
    from clipwise.recipe import load_recipe

    recipe = load_recipe(name, args.overrides)
    facts: dict[str, Any] = {"recipe": explain_recipe(recipe)}
    facts["cost"] = _recipe_cost(args, recipe, None)
    return facts


def _recipe_cost(args: argparse.Namespace, recipe, num_classes: int | None) -> dict[str, Any]:
    from clipwise.engine.task import TASKS
    from clipwise.io.plugins import at_place
    from clipwise.models.recipe_model import build_model

    plan = at_place(TASKS[recipe.task]).plan(recipe, num_classes)
    view = plan.view
    if len(view) == 4:
        view = (view[0], args.frames or view[1], *_size(args, view[2:]))
    batch, views = args.batch or recipe.batch_size, args.views or plan.views
    return _cost(args, lambda: build_model(recipe, plan.num_classes), view, plan.train, views, batch, recipe.optimizer)


def _size(args: argparse.Namespace, default: tuple[int, ...]) -> tuple[int, ...]:
    if not args.size:
        return default
    if len(args.size) > 2 or not default:
        raise ClipwiseError(f"--size takes a side, or height and width, not {args.size}.")
    return (args.size[0], args.size[-1])


def _cost(args, make, view, clip, views: int, batch: int, optimizer: str) -> dict[str, Any]:
    from clipwise.models.cost import measure_cost

    cost = measure_cost(make, view, clip)
    facts: dict[str, Any] = {
        "parameters": cost.parameters,
        "weights_mb": round(cost.weight_bytes / 1e6, 1),
        "input_of_a_view": list(view),
        "gmac_per_view": round(cost.macs / 1e9, 3),
    }
    if cost.trainable != cost.parameters:
        facts["trainable_parameters"] = cost.trainable
    if cost.attention_macs:
        facts["gmac_per_view_attention"] = round(cost.attention_macs / 1e9, 3)
    facts["views"] = views
    facts["gmac_per_video"] = round(views * (cost.macs + cost.attention_macs) / 1e9, 1)
    facts["training_batch"] = batch
    facts["training_memory_at_least_mib"] = round(cost.training_bytes(batch, optimizer) / 2**20)
    if args.device != "meta":
        facts[f"seconds_per_view_on_{args.device}"] = _time_view(make, view, args.device)
    return facts


def _time_view(make, view, device: str) -> float:
    import statistics
    import time

    import torch

    from clipwise.io.devices import pick_device

    place = pick_device(device)
    model = make().eval().to(place)
    clip = torch.zeros(1, *view, device=place)
    seconds = []
    with torch.inference_mode():
        for _ in range(4):
            started = time.perf_counter()
            outputs = model(clip)
            (outputs if isinstance(outputs, torch.Tensor) else outputs[0]).sum().item()
            seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds[1:]), 4)


def _describe_file(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    from clipwise.engine.pretrained import FOREIGN_SUFFIXES

    if path.suffix in FOREIGN_SUFFIXES:
        return _describe_foreign(path)
    from clipwise.engine.checkpoint import read_passport
    from clipwise.recipe import make_recipe

    passport = read_passport(path)
    facts: dict[str, Any] = {
        "checkpoint": {
            "file": str(path),
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "model": passport.model,
            "model_args": passport.model_args,
            "epoch": passport.epoch,
            "step": passport.step,
            "metrics": passport.metrics,
            "source": passport.source,
            "data": passport.data,
            "resumable": passport.state is not None,
            "versions": passport.versions,
        }
    }
    if passport.classes:
        facts["classes"] = {"count": len(passport.classes), "names": passport.classes}
    if passport.recipe:
        from clipwise.cli.explain import explain_recipe

        recipe = make_recipe(passport.recipe, source=str(path))
        facts["recipe"] = explain_recipe(recipe)
        try:
            facts["cost"] = _recipe_cost(args, recipe, passport.model_args.get("num_classes"))
        except ClipwiseError as error:  # code that is elsewhere, or not trusted; the file is described all the same
            facts["cost"] = {"unknown": str(error)}
    return facts


def _describe_foreign(path: Path) -> dict[str, Any]:
    from clipwise.convert.weights import guess_model, read_foreign_checkpoint, recognize_format
    from clipwise.errors import CheckpointError

    foreign = read_foreign_checkpoint(path)
    facts: dict[str, Any] = {"file": str(path), "megabytes": round(path.stat().st_size / 1e6, 1)}
    facts["format"] = recognize_format(foreign.tensors).name
    facts["tensors"] = len(foreign.tensors)
    facts["numbers"] = sum(t.numel() for t in foreign.tensors.values())
    try:
        facts["looks_like"], facts["with"] = guess_model(foreign)
    except CheckpointError as error:
        facts["looks_like"] = f"nothing here: {error}"
    meta = {k: v for k, v in foreign.meta.items() if isinstance(v, str | int | float)}
    facts["also_in_the_file"] = {k: str(v)[:80] for k, v in meta.items()}
    return {"another project's checkpoint": facts}


def _weights_facts(weights) -> dict[str, Any]:
    return {
        "name": weights.name,
        "address": weights.url,
        "sha256_begins": weights.sha256,
        "recipe": weights.recipe,
        "outputs": weights.num_classes,
        "published": weights.metrics,
        "license": weights.license,
        "licence": weights.license,  # as 0.1 spelled it; until 0.4
        "note": weights.note,
    }


def _list_zoo(args: argparse.Namespace) -> int:
    from clipwise.convert.zoo import CATALOGUE

    entries = [w for w in CATALOGUE.values() if (args.what or "") in w.name]
    if args.json:
        print_json([_weights_facts(w) for w in entries])
    else:
        rows = [
            (w.name, w.num_classes, w.metrics.get("top1", ""), w.metrics.get("top5", ""), w.sha256) for w in entries
        ]
        print_table(rows, ("weights", "outputs", "top-1", "top-5", "sha256 begins"))
    return 0


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        if value and all(isinstance(v, str) for v in value) and len(value) > 8:
            return ", ".join(value[:8]) + f", … ({len(value)})"
        if value and any(isinstance(v, str) and " " in v for v in value):
            return "".join(f"\n    - {v}" for v in value)
        return " x ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}".replace(",", " ")
    return "-" if value in (None, "") else str(value)
