"""``clipwise prepare annotations``, and predictions as pre-annotations of ``predict`` and ``localize``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from clipwise.cli.common import print_json
from clipwise.errors import ClipwiseError
from clipwise.io.text import plural

PRE_ANNOTATIONS: dict[str, dict[str, Any]] = {
    "--annotations": {"metavar": "FILE", "help": "write what was found as annotations, for review in a tool"},
    "--format": {
        "metavar": "FORMAT",
        "help": "of --annotations: label-studio, cvat, via, elan, segments, … (docs/en/annotations.md)",
    },
    "--fps": {"type": float, "help": "frames per second that --annotations counts (default: each video's own)"},
    "--config": {"metavar": "FILE", "help": "Label Studio's labeling configuration that --annotations must fit"},
    "--fiftyone": {"metavar": "DATASET", "help": "put what was found into a FiftyOne data set (DATASET.FIELD)"},
}
"""Options of the commands that find something."""


def options_of(args: argparse.Namespace, *folders: Any, classes: Any = None, strict: bool = False) -> Any:
    """Reading options of a command line.

    Raises:
        ClipwiseError: a frame rate that is none, a folder that does not exist.
    """
    from clipwise.data.formats.annotation_parts import FormatOptions, VideoFinder

    if args.fps is not None and not 0 < args.fps < 1e6:
        raise ClipwiseError(f"--fps {args.fps:g}: a frame rate is a positive number.")
    if args.videos and not Path(args.videos).is_dir():
        raise ClipwiseError(f"--videos {args.videos} is not a folder.")
    finder = VideoFinder(args.videos, *folders)
    return FormatOptions(
        fps=args.fps,
        videos=finder,
        classes=classes,
        layer=getattr(args, "layer", None),
        config=args.config,
        strict=strict,
    )


def convert(args: argparse.Namespace) -> int:
    """Read, write, report."""
    from dataclasses import replace

    from clipwise.data.formats.annotation_convert import write_kind
    from clipwise.data.formats.annotation_kinds import kind_name
    from clipwise.data.formats.annotation_tables import read_any
    from clipwise.data.labels import read_classes

    kind = kind_name(args.to, writing=True)
    classes = read_classes(args.classes) if args.classes else None
    options = options_of(args, _folder(args.source), classes=classes, strict=args.strict)
    if args.source.startswith("fiftyone:"):
        from clipwise.infer.fiftyone_dataset import read_dataset

        annotations = read_dataset(args.source)
    else:
        annotations = read_any(args.source, args.source_format, options)
    if args.subset:
        annotations = annotations.subset(args.subset)
    # the rate that was declared for the source is not that of what is written
    writing = replace(options, fps=args.to_fps, default_fps=args.fps, layer=None, config=args.to_config)
    report(write_kind(annotations, kind, args.target, writing), args.json)
    return 0


def check_pre_annotations(args: argparse.Namespace) -> None:
    """Refuse what could not be written, before the work; chooses the format by the file's name where it says enough.

    Raises:
        ClipwiseError: a format without a file, an unknown format, or one that the file's name does not tell.
    """
    asked = args.annotations or getattr(args, "fiftyone", None)
    if asked and (getattr(args, "ray", None) or getattr(args, "jsonl", None)):
        raise ClipwiseError("--annotations and --fiftyone are not for --ray and --jsonl.")
    if getattr(args, "fiftyone", None):
        from clipwise.infer.fiftyone_dataset import import_fiftyone

        import_fiftyone()
    if not args.annotations:
        for option in ("format", "fps", "config"):
            if getattr(args, option) is not None:
                raise ClipwiseError(f"--{option} has no effect without --annotations FILE.")
        return
    from clipwise.data.formats.annotation_kinds import KINDS, kind_name
    from clipwise.engine.result_files import check_writable

    if args.format is None:
        only = {".eaf": "elan", ".csv": "segments", ".boris": "boris", ".xml": "cvat"}
        args.format = only.get(Path(args.annotations).suffix.lower())
        if args.format is None:
            known = ", ".join(name for name, kind in KINDS.items() if kind.writer)
            raise ClipwiseError(f"--annotations {args.annotations}: say which format with --format: {known}.")
    args.format = kind_name(args.format, writing=True)
    if args.fps is not None and not 0 < args.fps < 1e6:
        raise ClipwiseError(f"--fps {args.fps:g}: a frame rate is a positive number.")
    if not Path(args.annotations).is_dir():
        check_writable(args.annotations, "--annotations")


def write_predicted(args: argparse.Namespace, predictions: Any, multi_label: bool) -> None:
    """The classes of whole videos."""
    from clipwise.infer.pre_annotations import predicted

    write_found(args, predicted(predictions, multi_label))


def write_localized(args: argparse.Namespace, places: Any, found: Any) -> None:
    """The segments of videos, each with its place."""
    from clipwise.infer.pre_annotations import localized

    write_found(args, localized(zip(places, found)))


def write_found(args: argparse.Namespace, annotations: Any) -> None:
    """Write ``--annotations`` and ``--fiftyone``; the report goes to stderr, since stdout has the result."""
    if args.annotations:
        from clipwise.infer.pre_annotations import write_pre_annotations

        done = write_pre_annotations(annotations, args.annotations, args.format, fps=args.fps, config=args.config)
        report(done, False, sys.stderr)
    if args.fiftyone:
        from clipwise.infer.fiftyone_dataset import write_dataset

        name, there, added = write_dataset(annotations, args.fiftyone)
        print(f"FiftyOne data set {name}: {plural(there, 'sample')} updated, {added} added", file=sys.stderr)


def _folder(source: str) -> Path | None:
    path = Path(source)
    return path if path.is_dir() else path.parent if path.exists() else None


def report(done: Any, as_json: bool, file: Any = None) -> None:
    """Say what was written and lost."""
    if as_json:
        print_json(done.to_dict())
        return
    out = file or sys.stdout
    for note in done.notes:
        print(note, file=out)
    labels = f", {plural(done.whole, 'label')} of whole videos" if done.whole else ""
    first, more = done.written[0], len(done.written) - 1
    print(
        f"{plural(done.videos, 'video')}, {plural(done.segments, 'segment')}{labels} as {done.format}: {first}"
        + (f" and {plural(more, 'more file')}" if more else ""),
        file=out,
    )
    for sentence in done.lost:
        print(f"lost: {sentence}", file=out)
    if not done.lost:
        print("nothing was lost", file=out)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """What annotation files may not say of themselves."""
    parser.add_argument(
        "--videos", metavar="DIR", help="folder of the videos: their frame rates, time stamps and lengths"
    )
    parser.add_argument(
        "--fps", type=float, help="frames per second of the annotations (Label Studio: the declared rate)"
    )
    parser.add_argument(
        "--layer", help="which labels, where there are several kinds: tier, attribute, control, verb or noun"
    )
    parser.add_argument("--config", metavar="FILE", help="Label Studio's labeling configuration")
