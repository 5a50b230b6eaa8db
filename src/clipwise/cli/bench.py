"""Measure speed and memory: of the model alone, from file to scores, or over a whole frontier of settings.

  clipwise bench slowonly_r50_8x8x1_256e_kinetics400_rgb                model alone, as the published tables
  clipwise bench runs/mine/best.safetensors --data my_videos/val.txt    and from file to scores
  clipwise bench best.onnx
  clipwise bench best.safetensors --data val.txt --frontier --limit 50 --clips 1 3 10 --crops center three
  clipwise bench RECIPE --train [--data DATA] batch_size=32 amp=bf16    training steps: where their time goes, what to change

"inference time (video/s)" is batch 1 with all views of the test protocol, frames already on the device. A model or
recipe is measured with random weights. Memory is the peak of tensors on an accelerator, of the process on a CPU machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from clipwise.cli.argument_types import count, not_negative
from clipwise.cli.bench_train import plain_recipe, time_training
from clipwise.cli.common import EXPORTED_SUFFIXES, print_json, print_table
from clipwise.errors import ClipwiseError
from clipwise.io.progress import ProgressBar
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", help="a checkpoint, an exported model, a recipe or a model's name")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="keys of a recipe")
    parser.add_argument("--data", help="list or folder: measure from file to scores on these videos")
    parser.add_argument("--limit", type=count, default=50, metavar="N", help="videos of it (default 50)")
    parser.add_argument("--runs", type=count, default=10, help="calls of the model at least (default 10)")
    parser.add_argument("--seconds", type=not_negative, default=3.0, help="time of them at least (default 3)")
    parser.add_argument("--max-views", type=count, metavar="N", help="views that go through the network at once")
    parser.add_argument(
        "--amp", choices=("bf16", "fp16", "no"), help="mixed precision (default: no; with --train the recipe's)"
    )
    parser.add_argument("--threads", type=count, help="CPU threads")
    training = parser.add_argument_group("training")
    training.add_argument("--train", action="store_true", help="time training steps; with --data also on real files")
    training.add_argument("--repeats", type=count, default=3, help="measurements whose median counts (default 3)")
    frontier = parser.add_argument_group("frontier")
    frontier.add_argument("--frontier", action="store_true", help="accuracy against time over the settings below")
    frontier.add_argument("--clips", nargs="+", type=count, metavar="N", help="clips of a video (segments for TSN)")
    frontier.add_argument("--crops", nargs="+", choices=("center", "three", "ten"), help="crops of a clip")
    frontier.add_argument("--sizes", nargs="+", type=count, metavar="PX", help="short sides of the crop")
    frontier.add_argument("--precisions", nargs="+", metavar="P", help="fp32 bf16 fp16 int8")
    frontier.add_argument("--backends", nargs="+", metavar="B", help="pytorch onnxruntime openvino")
    frontier.add_argument("--calibration", metavar="LIST", help="videos on which int8 measures its ranges")
    frontier.add_argument(
        "--tolerance",
        type=not_negative,
        default=0.01,
        help="accuracy that the recommended point may lose (default 0.01)",
    )


def run(args: argparse.Namespace) -> int:
    for name, value in (("--limit", args.limit), ("--runs", args.runs), ("--threads", args.threads)):
        if value is not None and value < 1:
            raise ClipwiseError(f"{name} {value}: at least 1.")
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    if args.train:
        return time_training(args)
    if args.data and not Path(args.data).exists() and ".tar" not in args.data:
        raise ClipwiseError(
            f"--data {args.data} does not exist. Give a list file, or a folder with one subfolder per class."
        )
    target = open_target(args.what, args.overrides, args.device, args.amp or "no", args.max_views)
    if args.frontier:
        return _frontier(args, target)
    return _speed(args, target)


def open_target(what: str, overrides: list[str], device: str | None, amp: str = "no", max_views: int | None = None):
    """What is measured: a Predictor, or for a localizer (model, (F, L), device).

    Raises:
        ClipwiseError: it is neither a file nor a model nor a recipe.
    """
    from clipwise.engine.checkpoint import Passport, load_model_and_passport
    from clipwise.engine.task import TASKS
    from clipwise.infer.predictor import Predictor
    from clipwise.io.devices import pick_device
    from clipwise.io.plugins import at_place, is_foreign
    from clipwise.models import list_models
    from clipwise.models.contract import input_spec
    from clipwise.models.recipe_model import build_model, model_args
    from clipwise.models.registry import model_place, model_task
    from clipwise.recipe import apply_overrides, list_recipes, load_recipe, make_recipe

    place = pick_device(device)
    path = Path(what)
    if path.is_dir() and what not in (*list_models(), *list_recipes()):
        from clipwise.engine.checkpoint_errors import checkpoint_in

        path = checkpoint_in(path)
    if path.is_file() and path.suffix in EXPORTED_SUFFIXES:
        from clipwise.export.runtimes import AotModel, TorchExportModel, load_exported_model

        if overrides:
            raise ClipwiseError(f"{what} is an exported file, whose protocol is fixed; leave out {overrides[0]}.")
        model, passport = load_exported_model(path, device, amp=amp)
        place = model.place if isinstance(model, (TorchExportModel, AotModel)) else pick_device("cpu")
        if model.description.input == "features":
            return model, tuple(model.description.shape), place
        return Predictor(model, passport, device=place, max_views=max_views)
    if is_foreign(what) or (path.is_file() and path.suffix not in (".yaml", ".yml")):
        network, passport = load_model_and_passport(what if is_foreign(what) else path, place)
        if overrides:
            passport.recipe = make_recipe(apply_overrides(passport.recipe, overrides), source=what).model_dump()
    else:
        if (":" in what and not path.exists()) or what in list_models():
            recipe = make_recipe(apply_overrides(plain_recipe(what), overrides), source=what)
        else:
            recipe = load_recipe(what, overrides)
        classes = at_place(TASKS[recipe.task]).plan(recipe).num_classes
        network = build_model(recipe, classes).eval().to(place)
        passport = Passport(model_place(recipe.model), model_args(recipe, classes), recipe=recipe.model_dump())
    if model_task(passport.model) != "recognition":
        return network, input_spec(network).shape, place
    return Predictor(network, passport, device=place, amp=amp, max_views=max_views)


def _speed(args: argparse.Namespace, target: Any) -> int:
    from clipwise.analyze.measure import bench_end_to_end, bench_features, bench_model

    timing = dict(min_runs=args.runs, min_s=args.seconds)
    if isinstance(target, tuple):
        if args.data:
            raise ClipwiseError(
                "a localizer takes features, so it can't be measured from video files; leave out --data."
            )
        model, shape, place = target
        speed = bench_features(model, shape, place, **timing)
    else:
        speed = bench_model(target, **timing)
    result = {"what": args.what, "model_only": speed.to_dict()}
    whole = None
    if args.data:
        videos = _videos(args, target)
        step = max(1, len(videos) // args.limit)
        paths = [videos.path(i) for i in range(0, len(videos), step)][: args.limit]
        whole = bench_end_to_end(target, paths)
        result["end_to_end"] = whole.to_dict()
    if args.json:
        print_json(result)
        return 0
    rows = [
        ("inference time (video/s)", f"{speed.videos_per_s:.2f}", "model only, batch 1"),
        ("memory (MB)", speed.memory_mb, "peak"),
        ("latency p50 / p90 / p99 (ms)", _three(speed.latency), plural(speed.latency.runs, "run")),
    ]
    if whole is not None:
        rows += [
            ("end to end (video/s)", f"{whole.videos_per_s:.2f}", f"{plural(whole.videos, 'video')}, one process"),
            ("  p50 / p90 / p99 (ms)", _three(whole.latency), ""),
            ("  decode (ms)", f"{whole.decode_ms:.1f}", "mean"),
            ("  resize and crop (ms)", f"{whole.preprocess_ms:.1f}", "mean"),
            ("  model (ms)", f"{whole.model_ms:.1f}", "mean, with the copy to the device"),
        ]
    precision = "" if speed.amp == "no" else f", amp {speed.amp}"
    print(
        f"{args.what}: {plural(speed.views, 'view')} of "
        f"{' x '.join(map(str, speed.view_shape))} on {speed.device}, {speed.backend}{precision}"
    )
    print_table(rows)
    return 0


def _frontier(args: argparse.Namespace, target: Any) -> int:
    from clipwise.analyze.frontier import measure_frontier
    from clipwise.export.runtimes import ExportedModel

    if isinstance(target, tuple) or isinstance(target.model, ExportedModel):
        raise ClipwiseError("--frontier starts from a checkpoint of a recognizer.")
    if not args.data:
        raise ClipwiseError("--frontier needs --data: a list or folder with labels.")
    with ProgressBar("bench", quiet=args.json) as progress:
        frontier = measure_frontier(
            target,
            _videos(args, target),
            limit=args.limit,
            clips=args.clips,
            crops=args.crops,
            sizes=args.sizes,
            precisions=args.precisions,
            backends=args.backends,
            calibration=args.calibration,
            tolerance=args.tolerance,
            progress=progress,
        )
    best = frontier.recommended
    if args.json:
        print_json(
            {
                "what": args.what,
                "videos": frontier.videos,
                "failures": frontier.failures,
                "standard_error": frontier.standard_error,
                "points": [p.to_dict() for p in frontier.points],
                "recommended": best.to_dict(),
            }
        )
        return 0
    rows = [
        (
            "->" if p.recommended else ("*" if p.on_frontier else ""),
            p.clips,
            p.crop,
            p.size,
            p.precision,
            p.backend,
            p.views,
            f"{p.accuracy:.3f}",
            f"{p.model_ms:.1f}",
            f"{p.total_ms:.1f}",
            f"{p.videos_per_s:.2f}",
        )
        for p in frontier.points
    ]
    header = ("", "clips", "crop", "size", "precision", "backend", "views", "top1", "model ms", "total ms", "video/s")
    print_table(rows, header)
    print(
        f"\n{plural(frontier.videos, 'video')}; an accuracy is known to about +-{2 * frontier.standard_error:.3f}. "
        f"* nothing is both faster and as accurate. -> recommended: the fastest within {frontier.tolerance:g} of the best."
    )
    print(f"use it with: {how_to_use(args.what, best)}")
    for path, reason in frontier.failures.items():
        print(f"counted as wrong: {path}: {reason}")
    return 0


def how_to_use(checkpoint: str, point: Any) -> str:
    """The command that runs a point."""
    changes = " ".join(point.overrides)
    if point.backend == "pytorch":
        amp = "" if point.precision == "fp32" else f" --amp {point.precision}"
        return f"clipwise test {checkpoint} {changes}{amp} --data …".replace("  ", " ")
    name = "onnx" if point.backend == "onnxruntime" else "openvino"
    int8 = " --int8 --calibration LIST" if point.precision == "int8" else ""
    amp = ", then --amp bf16" if point.precision == "bf16" else ""
    return f"clipwise export {checkpoint} {changes} --format {name}{int8}{amp}".replace("  ", " ")


def _three(latency: Any) -> str:
    return f"{latency.p50_ms:.1f} / {latency.p90_ms:.1f} / {latency.p99_ms:.1f}"


def _videos(args: argparse.Namespace, target: Any):
    from clipwise.data.hold_out import test_part
    from clipwise.data.lists import read_part

    passport = target.passport
    outputs = passport.model_args.get("num_classes")
    return read_part(test_part(args.data), passport.recipe, "val", classes=passport.classes, num_classes=outputs)
