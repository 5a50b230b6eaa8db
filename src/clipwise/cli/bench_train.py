"""``clipwise bench RECIPE --train``: training steps, where their time goes, and what to change."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipwise.cli.common import print_json, print_table
from clipwise.errors import ClipwiseError
from clipwise.io.text import plural

if TYPE_CHECKING:
    from clipwise.analyze.training_speed import TrainingSpeed

SOURCES = {"device": "frames on the device", "cached": "cached batches", "files": "real files"}


def time_training(args: argparse.Namespace) -> int:
    """Measure and print; with torchrun the first process prints."""
    if args.frontier:
        raise ClipwiseError("--train and --frontier measure different things; give one of them.")
    from clipwise.analyze.training_speed import measure_training
    from clipwise.engine.device import world

    recipe = recipe_of(args.what, args.overrides + ([f"amp={args.amp}"] if args.amp else []))
    speeds: list[TrainingSpeed] = []
    for source in SOURCES if args.data else ("device",):
        speeds.append(
            measure_training(
                recipe,
                source=source,  # type: ignore[arg-type]
                data=args.data,
                device=args.device,
                repeats=args.repeats,
                min_s=args.seconds,
                peak_tflops=speeds[0].peak_tflops if speeds else None,
            )
        )
    if world()[0]:
        return 0
    if args.json:
        print_json({"what": args.what, "training": [speed.to_dict() for speed in speeds]})
        return 0
    show(args.what, speeds)
    return 0


def recipe_of(what: str, overrides: list[str]) -> Any:
    """The recipe of a name, a file, a checkpoint, or a model."""
    from clipwise.engine.checkpoint import read_passport
    from clipwise.models import list_models
    from clipwise.recipe import apply_overrides, list_recipes, load_recipe, make_recipe

    path = Path(what)
    if path.suffix == ".safetensors" and path.is_file():
        return make_recipe(apply_overrides(read_passport(path).recipe, overrides), source=what)
    if (":" in what and not path.exists()) or (what in list_models() and what not in list_recipes()):
        return make_recipe(apply_overrides(plain_recipe(what), overrides), source=what)
    return load_recipe(what, overrides)


def show(what: str, speeds: list[TrainingSpeed]) -> None:
    """The figures as a table, the same sources side by side."""
    first = speeds[0]
    compiled = "" if first.compile == "no" else f", compiled ({first.compile})"
    several = f" on each of {first.processes} processes" if first.processes > 1 else ""
    print(f"{what}: batch {first.batch_size}{several}, {first.precision}{compiled}, {first.device}")
    parts = ("data", "forward", "backward", "optimizer")
    rows: list[tuple[str, ...]] = [
        ("clips/s", *(f"{s.clips_per_s:.1f}" for s in speeds)),
        ("  spread of the repeats", *(f"{s.spread:.1%}" for s in speeds)),
        ("step (ms)", *(f"{s.step_ms:.1f}" for s in speeds)),
        *((f"  {part}", *(f"{s.ms[part]:.1f}" for s in speeds)) for part in parts),
        ("copy of a batch (ms)", *(f"{s.ms['copy']:.1f}" for s in speeds)),
        ("model TFLOP/s of a device", *(f"{s.tflops:.2f}" for s in speeds)),
        ("  share of its matrix product", *(f"{s.share_of_peak:.0%}" for s in speeds)),
        ("peak memory (MB)", *(str(s.memory_mb) for s in speeds)),
    ]
    print_table(rows, ("", *(SOURCES[s.source] for s in speeds)))
    print(
        f"{plural(len(first.repeats), 'repeat')} of {plural(first.steps, 'step')}; {first.gflops_per_clip:.1f} GFLOP a clip; "
        f"a matrix product reaches {first.peak_tflops:.2f} TFLOP/s here."
    )
    for advice in dict.fromkeys(text for speed in reversed(speeds) for text in speed.advice):
        print(f"-> {advice}")


def plain_recipe(name: str) -> dict[str, Any]:
    """One center view of the shape that the model is made for."""
    from clipwise.models.contract import input_spec, sizes_without_default
    from clipwise.models.registry import create_model, model_arguments, model_task

    if (task := model_task(name)) != "recognition":
        return {"task": task, "model": name, "name": name}
    import torch

    with torch.device("meta"):
        _, t, h, w = input_spec(create_model(name, **sizes_without_default(name))).shape
    size = h if h == w else [w, h]
    frames = {"num_segments": t} if "num_segments" in model_arguments(name) else {"clip_len": t, "frame_interval": 8}
    return {"model": name, "name": name, "test": {"crop_size": size, "resize": size}, **frames}
