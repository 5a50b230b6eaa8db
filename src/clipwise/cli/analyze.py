"""Does the model see motion or scene? And where does it look?

  clipwise analyze runs/mine/best.safetensors --data my_videos --report analysis
  clipwise analyze runs/mine/best.safetensors --gradcam video.mp4 --out overlay.mp4

The first scores the list with its frames ordered, shuffled, reversed, frozen, alone, and with parts of the frame hidden.
The second writes the video with the places that speak for a class in color (Grad-CAM).
"""

from __future__ import annotations

import argparse

from clipwise.cli.argument_types import count, count_or_zero
from clipwise.cli.common import add_font, print_json, print_table
from clipwise.io.progress import ProgressBar
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a recognizer's checkpoint, or a name in the zoo")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="keys of the recipe: lists.fps=25"
    )
    parser.add_argument(
        "--data", help="folder or list with labels; the checkpoint's test or validation list if not given"
    )
    parser.add_argument("--limit", type=count, metavar="N", help="at most N videos, evenly spread over the list")
    parser.add_argument(
        "--protocol", choices=("test", "val"), default="test", help="test: as `clipwise test`; val: one view a video"
    )
    parser.add_argument("--no-masks", action="store_true", help="leave out the variants that hide parts of the frame")
    parser.add_argument("--no-importance", action="store_true", help="leave out the curve over frame positions")
    parser.add_argument(
        "--center",
        "--centre",
        dest="centre",
        type=float,
        default=0.6,
        metavar="SHARE",
        help="side of the middle part (default 0.6)",
    )
    parser.add_argument("--seed", type=count_or_zero, default=0, help="of the shuffles (default 0)")
    parser.add_argument("--num-workers", type=count_or_zero, default=2, help="loader processes (default 2)")
    parser.add_argument("--amp", choices=("bf16", "fp16", "no"), default="no", help="mixed precision (default no)")
    parser.add_argument("--max-views", type=count, metavar="N", help="views that go through the network at once")
    parser.add_argument("--report", metavar="DIR", help="write an HTML report to this folder")
    parser.add_argument("--gradcam", metavar="VIDEO", help="write a Grad-CAM overlay of this video (needs --out)")
    parser.add_argument("--out", metavar="VIDEO", help="where the overlay goes (.mp4, .mov, .mkv)")
    add_font(parser)
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="class to look for (default: the best one)")


def run(args: argparse.Namespace) -> int:
    from clipwise.errors import ClipwiseError

    if bool(args.gradcam) != bool(args.out):
        raise ClipwiseError("--gradcam VIDEO and --out overlay.mp4 belong together; give both.")
    if args.class_name and not args.gradcam:
        raise ClipwiseError("--class is for --gradcam.")
    if not 0.1 <= args.centre <= 0.9:
        raise ClipwiseError(f"--center {args.centre}: give a share from 0.1 to 0.9.")
    if args.limit is not None and args.limit < 1:
        raise ClipwiseError(f"--limit {args.limit}: at least 1 video is needed.")
    if args.out:
        from clipwise.infer.draw import check_video_path

        check_video_path(args.out)
    from clipwise.infer.predictor import Predictor, load

    predictor = load(args.checkpoint, args.device, amp=args.amp, max_views=args.max_views)
    if args.overrides:
        from clipwise.recipe.verb_keys import changed_recipe

        passport = predictor.passport
        changed = changed_recipe("analyze", passport.recipe, args.overrides, args.checkpoint)
        passport.recipe = changed.model_dump()
        predictor = Predictor(
            predictor.model, passport, device=predictor.device, amp=args.amp, max_views=args.max_views
        )
    if predictor.spec.modality != "rgb" and args.gradcam:
        raise ClipwiseError("--gradcam draws over RGB frames; this model looks at optical flow.")
    answer: dict = {}
    if args.gradcam:
        answer["gradcam"] = _gradcam(predictor, args)
    if args.data or not args.gradcam:
        answer.update(_analyze(predictor, args))
    if args.json:
        print_json(answer)
    return 1 if answer.get("failures") else 0


def _gradcam(predictor, args: argparse.Namespace) -> dict:
    from clipwise.analyze.gradcam import overlay_video

    heat = overlay_video(predictor, args.gradcam, args.out, class_name=args.class_name)
    best = int(heat.frames[heat.curve().argmax()])
    if not args.json:
        print(f"{args.gradcam}: " + ", ".join(f"{name} {score:.3f}" for name, score in heat.top))
        print(f"{heat.class_name!r} is seen most clearly around frame {best}; overlay in {args.out}")
    return {
        "source": args.gradcam,
        "out": args.out,
        "class": heat.class_name,
        "top": [{"class": name, "score": score} for name, score in heat.top],
        "frames": heat.frames,
        "heat": heat.curve(),
    }


def _analyze(predictor, args: argparse.Namespace) -> dict:
    from clipwise.analyze.perturbations import analyze
    from clipwise.data.hold_out import test_part
    from clipwise.data.lists import read_part
    from clipwise.engine.recognition import check_classes
    from clipwise.engine.test import list_of
    from clipwise.errors import DataError
    from clipwise.models import contract

    recipe = predictor.passport.recipe
    own = list_of(predictor.passport, "val", args.checkpoint)
    source = args.data or recipe.get("test_data") or recipe.get("val_data") or own
    if source is None:
        raise DataError("no videos to analyze: give --data FOLDER or LIST.")
    outputs = contract.num_classes(predictor.model)
    plain = bool(predictor.passport.data.get("held_out")) and str(source) == own
    videos = read_part(test_part(source), recipe, "val", plain=plain, classes=predictor.classes, num_classes=outputs)
    check_classes(videos, outputs, source)
    with ProgressBar("analyze", quiet=args.json) as progress:
        result = analyze(
            predictor,
            videos,
            protocol=args.protocol,
            masks=not args.no_masks,
            importance=not args.no_importance,
            center=args.centre,
            limit=args.limit,
            seed=args.seed,
            num_workers=args.num_workers,
            progress=progress,
        )
    facts = result.to_dict()
    if args.report:
        from clipwise.report.analyze_report import analyze_report

        facts["report"] = str(analyze_report(facts, args.report))
    if not args.json:
        _print(facts)
    return facts


def _print(facts: dict) -> None:
    print("\n".join(facts["words"]))
    print()
    rows = []
    for v in facts["variants"]:
        lost = _change(v["lost"]) if "lost" in v else ""
        interval = f"{_change(v['high'])} to {_change(v['low'])}" if "low" in v else ""
        rows.append((v["variant"], f"{v['accuracy'] * 100:.1f}", lost, interval))
    print_table(rows, ("frames", "right %", "change", "95% interval"))
    names = [v["variant"] for v in facts["variants"]]
    print()
    shown = facts["classes"][:20]
    print_table(
        [(c["class"], c["videos"], *(f"{c[n] * 100:.0f}" for n in names)) for c in shown], ("class", "videos", *names)
    )
    if len(facts["classes"]) > len(shown):
        print(f"… and {len(facts['classes']) - len(shown)} more classes (--json has all)")
    if facts["importance"]:
        print()
        print_table(
            [
                (f"{p['position']:.2f}", _change(p["accuracy_lost"]), _change(p["probability_lost"]), f"{p['accuracy_alone'] * 100:.1f}")
                for p in facts["importance"]
            ],
            ("position", "without it", "confidence", "alone %"),
        )  # fmt: skip
    if facts["failures"]:
        print(f"\n{plural(len(facts['failures']), 'video')} could not be decoded and are not counted:")
        print("\n".join(facts["failures"].values()))
    if facts.get("report"):
        print(f"\nreport: {facts['report']}")


def _change(lost: float) -> str:
    """What is lost, as a change in points."""
    return f"{0.0 - lost * 100:+.1f}".replace("-0.0", "+0.0")
