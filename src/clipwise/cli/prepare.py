"""Prepare data: index, resize, extract frames or flow, make lists or shards, read published annotation files.

clipwise prepare resize my_videos small_videos --short-side 256     files made for random access
clipwise prepare flow   my_videos flow_frames --method dis
clipwise prepare lists  my_videos lists --shares train=0.8 val=0.2
clipwise prepare annotations export.json mine.csv --to segments --fps 25
"""

from __future__ import annotations

import argparse
import sys

from clipwise.cli import OPTIONS
from clipwise.cli.argument_types import count, count_or_zero, positive
from clipwise.cli.common import add_shard, print_json, shard_of
from clipwise.io.progress import ProgressBar
from clipwise.io.text import plural

_FLOW_NOTE = "the files are named {template}; recipes made for MMAction2's default name x_00001.jpg need input.filename_tmpl: '{template}'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")

    def task(name: str, text: str, target: str | None = None, workers: bool = True) -> argparse.ArgumentParser:
        sub = tasks.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.add_argument("source", help="folder, file, or list")
        if target:
            sub.add_argument("target", help=target)
        if workers:
            sub.add_argument("--workers", type=count, help="processes (default one a core)")
        if target and workers:
            add_shard(sub)
        sub.add_argument("--json", **OPTIONS["json"])
        return sub

    sub = task("index", "store frame counts and keyframes, so that opening a video needs no pass over its packets")
    sub.add_argument("--out", help="index file (default clipwise_index.npz in the folder)")
    sub.add_argument("--verify", action="store_true", help="decode every video completely")

    sub = task(
        "resize",
        "transcode for random access: short side, a keyframe every few frames, no B-frames",
        "folder of the results",
    )
    sub.add_argument("--short-side", type=count, default=256)
    sub.add_argument("--gop", type=count, default=8, help="frames from one keyframe to the next (default 8)")
    sub.add_argument("--crf", type=count_or_zero, default=23, help="quality, lower is better (default 23)")
    sub.add_argument("--preset", default="veryfast")
    sub.add_argument("--overwrite", action="store_true")

    sub = task("frames", "write every frame as an image, a folder per video", "folder of the results")
    sub.add_argument("--template", default="img_{:05d}.jpg")
    sub.add_argument("--step", type=count, default=1, help="every so many frames")
    sub.add_argument("--short-side", type=count)
    sub.add_argument("--quality", type=count, default=2, help="JPEG quality, 2 (best) to 31")
    sub.add_argument("--overwrite", action="store_true")

    sub = task("flow", "write the optical flow as pairs of gray images, a folder per video", "folder of the results")
    sub.add_argument(
        "--method",
        choices=("tvl1", "dis"),
        default="tvl1",
        help="TV-L1 is the papers' choice, DIS is over a hundred times faster",
    )
    sub.add_argument(
        "--bound", type=positive, default=20.0, help="motion in pixels that becomes black or white (default 20)"
    )
    sub.add_argument("--template", default="flow_{}_{:05d}.jpg")
    sub.add_argument("--short-side", type=count)
    sub.add_argument("--overwrite", action="store_true")

    sub = task(
        "lists",
        "split a folder of classes into lists; a group (a person, a source video) is never split",
        "folder of the lists",
        workers=False,
    )
    sub.add_argument("--shares", nargs="+", metavar="PART=SHARE", default=["train=0.8", "val=0.1", "test=0.1"])
    sub.add_argument("--group", metavar="REGEX", help="what its first parentheses catch in a path is the group")
    sub.add_argument("--seed", type=count_or_zero, default=0)

    sub = task("shards", "pack a list's files into tar shards (WebDataset's layout)", "folder of the shards")
    sub.add_argument("overrides", nargs="*", metavar="key=value", help="how the list is read: lists.fps=25")
    sub.add_argument("--samples", type=count, default=1000, help="samples a shard (default 1000)")
    sub.add_argument("--root", help="prepended to the paths of the list")
    sub.add_argument("--no-shuffle", action="store_true")

    for name, what in (("gym99", "FineGym's published files"), ("jester", "Jester's published CSV files")):
        sub = task(name, f"from {what} to train and val lists with classes.txt", "folder of the lists", workers=False)
        sub.add_argument(
            "--videos",
            required=True,
            help="folder of the cut clips" if name == "gym99" else "folder of the frame folders",
        )

    sub = task(
        "annotations",
        "convert annotations between tools and data sets, and say what is lost",
        "file or folder to write",
        workers=False,
    )
    sub.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="label-studio, cvat, via, elan, segments, activitynet, … (docs/en/annotations.md)",
    )
    sub.add_argument(
        "--from",
        dest="source_format",
        metavar="FORMAT",
        default="auto",
        help="format of the source (default: by its content)",
    )
    from clipwise.cli.convert_annotations import add_reading

    add_reading(sub)
    sub.add_argument(
        "--to-fps", type=float, help="frames per second of what is written (default: the videos' own, else --fps)"
    )
    sub.add_argument("--to-config", metavar="FILE", help="Label Studio's configuration that what is written must fit")
    sub.add_argument("--classes", metavar="FILE", help="the only labels that are allowed, one a line")
    sub.add_argument("--subset", help="convert one subset only")
    sub.add_argument("--strict", action="store_true", help="stop at a segment that can't be, instead of leaving it out")


def run(args: argparse.Namespace) -> int:
    if args.task == "annotations":
        from clipwise.cli.convert_annotations import convert

        return convert(args)
    with ProgressBar(f"prepare {args.task}", quiet=args.json) as progress:
        result = _TASKS[args.task](args, progress)
    if isinstance(result, dict):  # published annotations: part -> list
        facts = {name: len(videos) for name, videos in result.items()}
        print_json(facts) if args.json else print(
            ", ".join(f"{name}: {plural(n, 'entry', 'entries')}" for name, n in facts.items())
        )
        return 0
    if args.json:
        print_json(result.to_dict())
    else:
        print(_words(result))
    failed = getattr(result, "failed", [])
    if not args.json:
        for name, reason in [*failed, *getattr(result, "damaged", [])]:
            print(
                f"clipwise prepare {args.task}: {reason if name in reason else name + ': ' + reason}", file=sys.stderr
            )
    return 1 if failed else 0


def _words(result) -> str:
    if hasattr(result, "done"):
        parts = [f"{len(result.done)} made", f"{len(result.skipped)} there already"]
        parts += [f"{len(result.damaged)} of damaged files, as far as they can be read"] if result.damaged else []
        parts += [f"{len(result.failed)} failed"] if result.failed else []
        return ", ".join(parts)
    return "\n".join(f"{key}: {value}" for key, value in result.to_dict().items())


def _index(args, progress):
    from clipwise.prepare.prepare import index_videos

    return index_videos(args.source, out=args.out, verify=args.verify, workers=args.workers, progress=progress)


def _resize(args, progress):
    from clipwise.prepare.prepare import resize_videos

    return resize_videos(
        args.source, args.target, short_side=args.short_side, gop=args.gop, crf=args.crf, preset=args.preset,
        overwrite=args.overwrite, workers=args.workers, progress=progress, part=shard_of(args.shard),
    )  # fmt: skip


def _frames(args, progress):
    from clipwise.prepare.frame_files import extract_frames

    return extract_frames(
        args.source, args.target, template=args.template, step=args.step, short_side=args.short_side, quality=args.quality,
        overwrite=args.overwrite, workers=args.workers, progress=progress, part=shard_of(args.shard),
    )  # fmt: skip


def _flow(args, progress):
    from clipwise.prepare.flow import extract_flow

    result = extract_flow(
        args.source, args.target, method=args.method, bound=args.bound, template=args.template, short_side=args.short_side,
        overwrite=args.overwrite, workers=args.workers, progress=progress, part=shard_of(args.shard),
    )  # fmt: skip
    if not args.json and args.template != "{}_{:05d}.jpg":
        print(_FLOW_NOTE.format(template=args.template), file=sys.stderr)
    return result


def _lists(args, progress):
    from clipwise.errors import DataError
    from clipwise.prepare.make_lists import make_lists

    shares = {}
    for item in args.shares:
        name, equals, share = item.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            equals = ""
        if not equals:
            raise DataError(f"--shares {item}: write PART=SHARE, for example train=0.8 val=0.2.")
    return make_lists(args.source, args.target, shares=shares, group=args.group, seed=args.seed, progress=progress)


def _shards(args, progress):
    from clipwise.cli.list_keys import list_keys
    from clipwise.data.lists import read_part
    from clipwise.prepare.shards import write_shards

    keys = list_keys(args.overrides)
    videos = read_part(args.source, keys if args.root is None else {**keys, "data_root": args.root}, "train")
    seed = None if args.no_shuffle else 0
    return write_shards(
        videos, args.target, samples_per_shard=args.samples, shuffle_seed=seed, workers=args.workers, progress=progress
    )


def _gym99(args, progress):
    from clipwise.data.formats.published import prepare_gym99

    return prepare_gym99(args.source, args.videos, args.target)


def _jester(args, progress):
    from clipwise.data.formats.published import prepare_jester

    return prepare_jester(args.source, args.videos, args.target)


_TASKS = {
    "index": _index,
    "resize": _resize,
    "frames": _frames,
    "flow": _flow,
    "lists": _lists,
    "shards": _shards,
    "gym99": _gym99,
    "jester": _jester,
}
