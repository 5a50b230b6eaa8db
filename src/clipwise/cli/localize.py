"""Find when things happen in long videos, and name them.

  clipwise localize runs/bmn/best.safetensors video.mp4 --out-dir found
  clipwise localize bmn.safetensors video.mp4 --features-from tsn.safetensors --labeler tsm.safetensors --srt video.srt
  clipwise localize bmn.safetensors csv_mean_100/ --gt anet_anno_action.json --results results.json --class-scores cuhk.json

Inputs are videos, or feature files (a folder of them, or one file with all). A checkpoint that was trained on features of `clipwise features`
knows the recognizer that made them. --out-dir writes NAME.json, .csv, .srt, a timeline (.svg, .png) and with --preview a video.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from clipwise.cli.argument_types import positive
from clipwise.cli.common import (
    EXPORTED_SUFFIXES,
    add_cuda_graphs,
    add_font,
    add_shard,
    fail,
    print_json,
    print_table,
    shard_of,
    with_cuda_graphs,
)
from clipwise.cli.convert_annotations import PRE_ANNOTATIONS, check_pre_annotations, write_localized
from clipwise.cli.localize_inputs import LocalizedInput, expand_localized
from clipwise.cli.video_scores import add_class_scores, class_scores_of
from clipwise.io.progress import ProgressBar
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        help="a localization network's checkpoint or exported file; or a recognizer, whose windows are used",
    )
    parser.add_argument("inputs", nargs="+", help="videos, feature files, folders of either, or lists (.txt)")
    parser.add_argument("--features-from", metavar="CKPT", help="the recognizer that made the BMN's features")
    parser.add_argument("--labeler", metavar="CKPT", help="recognizer that names the segments (default: the same)")
    parser.add_argument("--no-names", action="store_true", help="leave segments without a class")
    parser.add_argument(
        "--naming", choices=("span", "video"), help="look at each proposal (default), or once at the whole video"
    )
    add_class_scores(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        help="score at which a segment begins, where CHECKPOINT is a recognizer (default 0.5)",
    )
    parser.add_argument(
        "--max-segments",
        type=int,
        help="most segments a video (default 20, more of videos longer than those of training)",
    )
    parser.add_argument(
        "--min-score", type=float, help="weakest segment, as a share of the best one's score (default 0.2)"
    )
    parser.add_argument("--max-overlap", type=float, help="largest IoU of two segments (default 0.4)")
    parser.add_argument("--duration", type=positive, metavar="SECONDS", help="length of the video, for a feature file")
    parser.add_argument("--frame-rate", type=positive, help="frames per second of a folder of frames")
    parser.add_argument(
        "--gt", metavar="FILE", help="annotations: ground truth for the timeline, durations for features"
    )
    parser.add_argument("--csv", metavar="FILE", help="write a row a segment")
    parser.add_argument("--srt", metavar="FILE", help="write subtitles of the (one) video")
    parser.add_argument("--timeline", metavar="FILE", help="draw the (one) video's timeline, .svg or .png")
    parser.add_argument("--preview", metavar="VIDEO", nargs="?", const=True, help="write the video with captions")
    add_font(parser)
    parser.add_argument("--out-dir", metavar="DIR", help="write everything for each video")
    parser.add_argument(
        "--results", metavar="FILE", help="write all detections in ActivityNet's form, for eval-detections"
    )
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help="write each segment as a line of JSON once nothing that follows can change it, and a line at each video's end (-: print them)",
    )
    parser.add_argument("--amp", choices=("bf16", "fp16", "no"), default="no", help="mixed precision (default no)")
    add_cuda_graphs(parser)
    for option, settings in PRE_ANNOTATIONS.items():
        parser.add_argument(option, **settings)
    add_shard(parser)


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from clipwise.data.formats.annotation_files import read_annotations
    from clipwise.errors import ClipwiseError, DataError
    from clipwise.tasks.detections import ResultWriter

    first, parts = shard_of(args.shard)
    inputs = expand_localized(args.inputs)[first::parts]
    _check_outputs(args, inputs)
    check_pre_annotations(args)
    annotations = read_annotations(args.gt) if args.gt else None
    scores = class_scores_of(args)
    lines = _lines(args)
    localizer = _load(args, lines)
    if hasattr(localizer, "model"):  # windows of a recognizer have it in their predictor
        with_cuda_graphs(localizer, args)
    if args.preview and localizer.made.get("modality") == "flow":
        raise ClipwiseError(f"--preview draws into RGB frames, but {args.checkpoint} looks at flow; leave it out.")
    failures: dict[str, str] = {}
    found: list[Any] = []
    without_truth = []
    on_screen = args.jsonl != "-"
    shown = bool(args.csv or args.json or args.annotations or args.fiftyone or not args.results or len(inputs) == 1)
    unlike: dict[str, str] = {}
    with ExitStack() as stack:
        progress = stack.enter_context(
            ProgressBar("localize", quiet=args.json or args.jsonl == "-" or len(inputs) == 1)
        )
        results = stack.enter_context(ResultWriter(args.results)) if args.results else None
        stack.enter_context(lines or nullcontext())
        for n, item in enumerate(inputs):
            if lines:
                lines.source = item.source
            known = annotations.videos.get(item.name.removeprefix("v_")) if annotations else None
            if annotations and not known:
                without_truth.append(item.name)
            counted = localizer.time_base == "strides"  # in frames
            try:
                facts = item.facts()
                duration = args.duration or (known.covered_s(localizer.time_base) if known else facts.get("duration_s"))
                frame_rate = args.frame_rate or ((known and known.fps) or facts.get("fps") if counted else None)
                one = localizer(
                    item.read(localizer),
                    duration_s=duration,
                    class_scores=scores,
                    frame_rate=frame_rate,
                    name=item.name,
                )
                _write(args, localizer, item, one, known)
            except (DataError, OSError) as error:
                failures[item.source] = str(error)
                if lines:
                    lines.failed(str(error))
            else:
                if lines:
                    lines.end(one)
                if results:
                    rows = one.activitynet()
                    named = bool(one.detections) and one.detections[0].class_score is not None
                    labels = [r["label"] for r in rows] if named else None
                    results.add(item.name, [r["segment"] for r in rows], [r["score"] for r in rows], labels)
                if one.note:
                    unlike[one.source] = one.note
                # what is shown at the end; thousands of videos should not wait for it in memory
                found.append(replace(one, detections=[], proposals=one.proposals[:0]) if shown else None)
            progress(n + 1, len(inputs))
    if args.csv:
        from clipwise.infer.segments import to_csv

        _save(args.csv, to_csv(found))
    if (args.annotations or args.fiftyone) and found:
        places = [item.source if item.is_video else item.name for item in inputs if item.source not in failures]
        write_localized(args, places, found)
    if args.json:
        print_json({"videos": [one.to_dict(curves=False) for one in found], "failures": failures})
    elif shown and on_screen and found:
        _print(found)
    if without_truth:
        print(
            f"{args.gt} says nothing of {len(without_truth)} of {plural(len(inputs), 'input')}: {', '.join(without_truth[:5])}",
            file=sys.stderr,
        )
    for one in found:
        if one is not None and one.damage:
            fail("localize", f"{one.source}: {one.damage}; the rest was looked at.")
    for source, note in unlike.items():
        print(f"clipwise localize: {source}: {note}", file=sys.stderr)
    for source, reason in failures.items():
        fail("localize", reason if source in reason else f"{source}: {reason}")
    return (1 if found else 2) if failures else 0


def _lines(args: argparse.Namespace) -> Any:
    if not args.jsonl:
        return None
    from clipwise.cli.localize_lines import SegmentLines

    if args.json and args.jsonl == "-":
        fail("localize", "--json and --jsonl - both write to stdout; give --jsonl a file.")
    return SegmentLines(args.jsonl)


def _load(args: argparse.Namespace, lines: Any) -> Any:
    from functools import partial

    from clipwise.engine.pretrained import resolve
    from clipwise.errors import ClipwiseError
    from clipwise.infer.localize import Localizer

    kind: Any = Localizer
    if lines:
        from clipwise.infer.streaming_localizer import StreamingLocalizer

        kind = partial(StreamingLocalizer, say=lines.segment)
    loaded = None
    if args.checkpoint.endswith(EXPORTED_SUFFIXES):
        from clipwise.export.runtimes import load_exported_model

        loaded = load_exported_model(
            args.checkpoint, args.device, amp=args.amp if args.checkpoint.endswith(".xml") else "no"
        )
    if _is_recognizer(args.checkpoint, loaded):
        from clipwise.cli.common import load_any
        from clipwise.infer.window_localizer import WindowLocalizer, check_options

        only = ("features_from", "labeler", "class_scores", "no_names", "naming", *_LIMITS)
        check_options(args.checkpoint, {f"--{key.replace('_', '-')}": getattr(args, key) for key in only})
        threshold = {} if args.threshold is None else {"threshold": args.threshold}
        say = {"say": lines.segment} if lines else {}
        return WindowLocalizer(
            with_cuda_graphs(load_any(args.checkpoint, args.device, args.amp), args), **threshold, **say
        )
    if args.threshold is not None:
        raise ClipwiseError(
            f"--threshold is for recognizers; {args.checkpoint} is a localization network, whose weak segments --min-score leaves out."
        )
    localizer = kind(
        args.checkpoint if loaded else resolve(args.checkpoint),
        args.features_from,
        labeler=False if args.no_names else args.labeler,
        naming=args.naming or "span",
        device=args.device,
        amp=args.amp,
        loaded=loaded,
        **{key: getattr(args, key) for key in _LIMITS if getattr(args, key) is not None},
    )
    names = [f"--{key.replace('_', '-')}" for key in _NAMING if getattr(args, key)]
    if names and localizer.rules.labeled:
        raise ClipwiseError(
            f"{args.checkpoint} names its segments itself; {', '.join(names)} has no effect. Leave it out."
        )
    if args.labeler and not args.no_names:
        localizer.namer  # noqa: B018 - a wrong file is refused before the work
    return localizer


_LIMITS = ("max_segments", "min_score", "max_overlap")
_NAMING = ("labeler", "no_names", "naming")


def _is_recognizer(checkpoint: str, loaded: Any) -> bool:
    """Whether the file holds a recognizer; what can't be read is left to those who say why."""
    from clipwise.engine.checkpoint import read_passport

    if loaded is None and not (checkpoint.endswith(".safetensors") and Path(checkpoint).is_file()):
        return False
    passport = loaded[1] if loaded else read_passport(checkpoint)
    return bool(passport.recipe) and passport.recipe.get("task", "recognition") == "recognition"


def _check_outputs(args: argparse.Namespace, inputs: list[LocalizedInput]) -> None:
    """Refuse what could not be written, before the work.

    Raises:
        ClipwiseError: an output for one video and several inputs, two inputs of one name, a preview of features, a file that
            can't be written.
    """
    from clipwise.engine.result_files import check_writable
    from clipwise.errors import ClipwiseError
    from clipwise.report.chart_files import check_chart_path
    from clipwise.video.video_writer import check_video_path

    for option, value in {"--srt": args.srt, "--timeline": args.timeline, "--preview": args.preview}.items():
        if value and value is not True and len(inputs) != 1:
            raise ClipwiseError(f"{option} is for one video, but {len(inputs)} were given; use --out-dir.")
    if args.preview is True and not args.out_dir:
        raise ClipwiseError("--preview needs a file name, or --out-dir.")
    if args.preview and not any(item.is_video for item in inputs):
        raise ClipwiseError(f"--preview needs a video; {inputs[0].source} holds features, which have no frames.")
    if args.timeline:
        check_chart_path(args.timeline, "--timeline")
    if isinstance(args.preview, str):
        check_video_path(args.preview)
    for option in ("csv", "srt", "timeline", "preview", "results"):
        if isinstance(value := getattr(args, option), str):
            check_writable(value, f"--{option}")
    if args.out_dir:
        check_writable(Path(args.out_dir) / "NAME.json", "--out-dir")
    if args.out_dir or args.results:
        sources: dict[str, str] = {}
        for item in inputs:
            name = item.name.removeprefix("v_")
            if name in sources:
                raise ClipwiseError(
                    f"{sources[name]} and {item.source} would both be written as {name}; names must differ."
                )
            sources[name] = item.source


def _write(args: argparse.Namespace, localizer: Any, item: LocalizedInput, one: Any, known: Any) -> None:
    """The files of one video."""
    from clipwise.infer.features import open_for
    from clipwise.infer.segments import to_csv, to_srt
    from clipwise.report.timeline import save_timeline

    folder = Path(args.out_dir) if args.out_dir else None
    name = item.name
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        _save(folder / f"{name}.json", json.dumps(one.to_dict(), ensure_ascii=False, indent=2) + "\n")
        _save(folder / f"{name}.csv", to_csv([one]))
        _save(folder / f"{name}.srt", to_srt(one.in_time))
    if args.srt:
        _save(args.srt, to_srt(one.in_time))
    charts = [folder / f"{name}.svg", folder / f"{name}.png"] if folder else []
    charts += [Path(args.timeline)] if args.timeline else []
    if charts:
        truth = None
        if known:
            truth = [{"segment": s, "label": label} for s, label in zip(known.segments.tolist(), known.labels)]
        source = item.source
        with open_for(localizer.spec, source, args.frame_rate) if item.is_video else nullcontext() as reader:
            for path in charts:
                save_timeline(path, one, reader=reader, truth=truth)
    if args.preview and item.is_video:
        from clipwise.infer.draw import annotate_video

        target = folder / f"{name}_found.mp4" if args.preview is True and folder else Path(str(args.preview))
        captions = [(s.start_s, s.end_s, [(s.name, s.score)]) for s in one.in_time]
        if Path(item.source).is_dir():  # which does not know its own rate
            with open_for(localizer.spec, item.source, args.frame_rate) as reader:
                annotate_video(reader, target, captions)
        else:
            annotate_video(item.source, target, captions)


def _save(path: str | Path, text: str) -> None:
    from clipwise.io.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _print(found: list[Any]) -> None:
    rows = []
    for one in found:
        for n, s in enumerate(one.in_time):
            rows.append((one.source if n == 0 else "", f"{s.start_s:.2f}", f"{s.end_s:.2f}", s.name, f"{s.score:.3f}"))
        if not one.segments:
            rows.append((one.source, "", "", "nothing found", ""))
    print_table(rows, ("video", "start s", "end s", "class", "score"))
