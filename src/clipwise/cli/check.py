"""Audit a data set before it is trained on: missing, broken, truncated, repeated, leaking, mislabeled files; sizes, rates, speed.

clipwise check my_videos
clipwise check train.txt val.txt --recipe tsm_r50_1x1x8_50e_kinetics400_rgb --fix clean/
clipwise check my_features --recipe bmn_tiny feat_dim=auto
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from clipwise.cli.argument_types import count, count_or_zero, positive, split_overrides
from clipwise.cli.common import print_json, print_table
from clipwise.io.progress import ProgressBar
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="+",
        help="folder (with its parts), or lists, the training list first; key=value of the recipe (lists.…=… says how lists are read)",
    )
    parser.add_argument("--recipe", help="check against a recipe: class count, clip length, expected speed")
    parser.add_argument(
        "--depth",
        choices=("short", "normal", "full"),
        default="normal",
        help="a sample, every file opened, every frame decoded",
    )
    parser.add_argument("--num-classes", type=count, help="labels must be below this")
    parser.add_argument("--min-frames", type=count_or_zero, default=1, help="shorter videos are a fault")
    parser.add_argument("--fps", type=positive, help="frames per second of annotations that count frames")
    parser.add_argument("--root", help="prepended to the paths of the lists")
    parser.add_argument("--workers", type=count, help="processes (default one a core)")
    parser.add_argument("--fix", metavar="DIR", help="write the lists without their faulty entries into this folder")
    parser.add_argument("--show", type=count_or_zero, default=20, metavar="N", help="faults to print (default 20)")


def run(args: argparse.Namespace) -> int:
    if _is_localization(args):
        return _run_localization(args)
    from clipwise.prepare import lookalikes
    from clipwise.prepare.check import check_dataset, write_clean_lists

    parts, options = _parts(args)
    with ProgressBar("check", quiet=args.json) as progress:
        result = check_dataset(
            parts, depth=args.depth, min_frames=args.min_frames, workers=args.workers, progress=progress, **options
        )
    if args.recipe and (line := _decoder_line(parts, options["read_clip"].spec)):
        result.advice.append(line)
    left_out = {}
    if args.fix:
        folder = Path(args.fix)
        folder.mkdir(parents=True, exist_ok=True)
        left_out = write_clean_lists(parts, result, {name: folder / f"{name}.txt" for name in parts})
    if args.json:
        print_json({**result.to_dict(), "left_out": left_out, "lookalikes_measured": lookalikes.MEASURED})
        return 0 if result.ok else 1
    for name, number in result.entries.items():
        print(f"{name}: {plural(number, 'entry', 'entries')}, {_classes(result, name)}")
    for key, value in result.statistics.items():
        text = (
            f"{value['min']:g} to {value['max']:g}, median {value['median']:g}"
            if isinstance(value, dict) and "median" in value
            else value
        )
        if isinstance(text, dict):
            text = ", ".join(f"{k} ({n})" for k, n in text.items())
        print(f"  {key}: {text}")
    for key, figure in result.speed.items():
        print(f"  {key}: {figure:.4g}")
    if args.depth != "short" and len(parts) > 1:
        found, mistaken = lookalikes.MEASURED["copies_found"], lookalikes.MEASURED["pairs_mistaken"]
        print(
            f"  re-encoded copies in other parts: looked for (measured on GRID digits: {found:.1%} of the copies are found, "
            f"{1000 * mistaken:.2g} of 1,000 pairs of different clips are taken for copies)"
        )
    if result.faults:
        print(
            f"\n{plural(len(result.faults), 'fault')}: "
            + ", ".join(f"{n} {kind}" for kind, n in result.counts().items())
        )
        print_table(
            [(f.part, f.kind, f.path, f.detail) for f in result.faults[: args.show]], ("list", "fault", "file", "what")
        )
        if len(result.faults) > args.show:
            print(f"… and {len(result.faults) - args.show} more (--show {len(result.faults)}, or --json)")
    for line in result.advice:
        print(f"advice: {line}")
    for name, number in left_out.items():
        print(f"{Path(args.fix) / (name + '.txt')}: written without {plural(number, 'entry', 'entries')}")
    print("nothing is wrong" if result.ok else plural(len(result.faults), "fault"), f"({result.seconds:.1f} s)")
    return 0 if result.ok else 1


def _classes(result, name: str) -> str:
    """How many classes have entries, and how many each has: all of up to 20, else the ends of the range."""
    counts = {i: int(n) for i, n in enumerate(result.histograms.get(name, [])) if n}
    if not counts:
        return "no labels"
    word = plural(len(counts), "class", "classes")
    if len(counts) > 20:
        return f"{word} of {min(counts.values())} to {plural(max(counts.values()), 'entry', 'entries')}"
    names = result.classes or []
    return f"{word}: " + ", ".join(f"{names[i] if i < len(names) else i} ({n})" for i, n in counts.items())


def _parts(args: argparse.Namespace):
    from clipwise.cli.list_keys import list_keys
    from clipwise.data.lists import find_splits, read_part

    options: dict = {"num_classes": args.num_classes}
    given, words = split_overrides(args.data)
    if args.recipe:
        from clipwise.data.clip_spec import ClipSpec
        from clipwise.recipe import load_recipe

        recipe: Any = load_recipe(args.recipe, words)
        options["num_classes"] = args.num_classes or recipe.num_classes
        keys = recipe.model_dump()
        options |= {
            "modality": recipe.modality,
            "frame_template": recipe.input.filename_tmpl,
            "start_index": recipe.input.start_index,
            "read_clip": _ClipReader(ClipSpec.from_recipe(keys, "train")),
        }
    else:
        keys = list_keys(words)
    if args.root is not None:
        keys = {**keys, "data_root": args.root, "val": {}}
    if args.fps is not None:
        keys["lists"] = {**keys["lists"], "fps": args.fps}
    sources: dict[str, Any] = {}
    if len(given) == 1 and Path(given[0]).is_dir():
        splits = find_splits(given[0])
        sources = {"train" if splits.val else "all": splits.train} | ({"val": splits.val} if splits.val else {})
    else:
        for path in given:
            name = Path(path).stem
            sources[name if name not in sources else str(path)] = Path(path)
    if len(sources) == 1 and keys["lists"]["val_subset"]:
        sources = dict.fromkeys(("train", "val"), *sources.values())
    classes: list[str] | None = None
    parts = {}
    for place, (name, source) in enumerate(sources.items()):
        parts[name] = read_part(source, keys, "val" if place else "train", classes=classes)
        classes = classes or parts[name].classes
    return parts, options


def _decoder_line(parts: dict[str, Any], spec: Any) -> str | None:
    """Which decoder is faster on these files, where there is a choice."""
    from clipwise.analyze.decoder_speed import decoder_advice, decoder_speeds

    videos = next(iter(parts.values()))
    if videos.kind != "video" or spec.modality != "rgb" or not len(videos):
        return None
    places = range(0, len(videos), -(-len(videos) // 8))
    return decoder_advice(decoder_speeds([videos.path(i) for i in places], spec), spec.video_backend)


class _ClipReader:
    """Reads one training clip of a recipe, for the expected speed (a class, so that processes can receive it)."""

    def __init__(self, spec):
        self.spec = spec

    def __call__(self, reader, rng):
        return self.spec.read(reader, rng)[0]


def _is_localization(args: argparse.Namespace) -> bool:
    if not args.recipe:
        return False
    from clipwise.recipe import load_recipe

    return load_recipe(args.recipe).task == "localization"


def _run_localization(args: argparse.Namespace) -> int:
    """Features and annotations instead of lists of videos."""
    from clipwise.errors import ClipwiseError
    from clipwise.prepare.check_localization import check_localization
    from clipwise.recipe import load_recipe

    given, words = split_overrides(args.data)
    if len(given) != 1 or args.fix:
        wrong = "--fix" if args.fix else plural(len(given), "folder or file", "folders or files")
        raise ClipwiseError(
            f"{args.recipe} is for localization; {wrong} given: give one folder with features and annotations, "
            "and after it key=value of the recipe; --fix is for lists of videos."
        )
    recipe: Any = load_recipe(args.recipe, words)
    with ProgressBar("check", quiet=args.json) as progress:
        report = check_localization(given[0], recipe, args.depth != "short", progress)
    if args.json:
        print_json(report.to_dict())
        return 0 if report.ok else 1
    for name, counts in report.subsets.items():
        print(f"{name}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    for key, (low, middle, high) in report.statistics.items():
        print(f"  {key}: {low:g} to {high:g}, median {middle:g}")
    if report.faults:
        print(f"\n{plural(len(report.faults), 'fault')}:")
        print_table(report.faults[: args.show], ("video", "what"))
        if len(report.faults) > args.show:
            print(f"… and {len(report.faults) - args.show} more (--show {len(report.faults)}, or --json)")
    for line in report.advice:
        print(f"advice: {line}")
    print("nothing is wrong" if report.ok else plural(len(report.faults), "fault"), f"({report.seconds:.1f} s)")
    return 0 if report.ok else 1
