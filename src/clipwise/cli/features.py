"""Extract features of whole videos with a recognizer, window by window.

  clipwise features runs/mine/best.safetensors long_videos/ --out features --stride 8 --window 16
  clipwise features --encoder hf:facebook/dinov2-base long_videos/ --out features
  clipwise features tsn_rgb.safetensors videos/ --flow-model tsn_flow.safetensors --flow-frames flow/ --out csv_mean_100 \\
      --kind scores --segments 1 --stride 16 --window 16 --positions 100 --rescale pool --format csv      (two-stream, 200 + 200)

What is finished is skipped, so an interrupted run goes on where it was; --shard 1/4 … 4/4 share the work.
"""

from __future__ import annotations

import argparse
import sys

from clipwise.cli.argument_types import count, positive
from clipwise.cli.common import add_shard, print_json, shard_of
from clipwise.io.progress import ProgressBar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a recognizer's checkpoint, or a name in the zoo (an input, with --encoder)")
    parser.add_argument(
        "--encoder",
        metavar="MODEL",
        help="instead of a checkpoint: hf:NAME or hf:FOLDER (transformers), timm:NAME or timm:FOLDER",
    )
    parser.add_argument("inputs", nargs="*", help="videos, folders of videos, folders of frames, or lists (.txt)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the feature files")
    parser.add_argument(
        "--stride", type=int, default=16, help="frames from one window's center to the next (default 16)"
    )
    parser.add_argument(
        "--window", type=int, help="frames of a window (default: the model's clip, or twice the stride)"
    )
    parser.add_argument("--fps", type=positive, help="count frames at this rate instead of the video's own")
    parser.add_argument("--frame-rate", type=positive, help="frames per second of frame folders")
    parser.add_argument("--segments", type=int, help="frames that TSN takes from a window (default as in training)")
    parser.add_argument(
        "--kind", choices=("features", "scores", "probs"), default="features", help="what is written (default features)"
    )
    parser.add_argument("--positions", type=int, metavar="L", help="rescale every video to L positions")
    parser.add_argument(
        "--rescale",
        choices=("linear", "bsn", "pool", "max_pool", "roi_align"),
        default="linear",
        help="how (default linear)",
    )
    parser.add_argument(
        "--grid",
        choices=("fit", "fixed"),
        help="windows divide the video evenly, or lie exactly a stride apart (default with bsn, pool)",
    )
    parser.add_argument("--format", choices=("npy", "csv"), default="npy", help="kind of the files (default npy)")
    parser.add_argument("--flow-model", metavar="CKPT", help="a flow model whose features are put behind the first's")
    parser.add_argument("--flow-frames", metavar="DIR", help="folder with a folder of flow frames for each video")
    parser.add_argument(
        "--batch-size", type=count, default=16, help="windows that go through the network at once (default 16)"
    )
    parser.add_argument("--amp", choices=("bf16", "fp16", "no"), default="no", help="mixed precision (default no)")
    add_shard(parser)


def run(args: argparse.Namespace) -> int:
    from clipwise.errors import ClipwiseError
    from clipwise.infer.feature_files import extract_features
    from clipwise.infer.features import FeatureExtractor, TwoStream, WindowRule
    from clipwise.infer.inputs import expand_inputs

    if bool(args.flow_model) != bool(args.flow_frames):
        raise ClipwiseError("--flow-model and --flow-frames belong together; give both or none.")
    if args.encoder:
        args.inputs, args.checkpoint = [args.checkpoint, *args.inputs], args.encoder
    if not args.inputs:
        raise ClipwiseError(
            "give the videos: clipwise features CKPT INPUT…, or clipwise features --encoder hf:MODEL INPUT…"
        )
    first, parts = shard_of(args.shard)
    inputs = list(expand_inputs(args.inputs))[first::parts]
    rule = WindowRule(
        stride=args.stride,
        window=args.window,
        fps=args.fps,
        segments=args.segments,
        kind=args.kind,
        grid=args.grid or ("fit" if args.rescale == "linear" else "fixed"),
        positions=args.positions,
        rescale=args.rescale,
    )
    options = dict(device=args.device, batch_size=args.batch_size, amp=args.amp)
    rgb = FeatureExtractor(args.checkpoint, rule, **options)
    extractor: FeatureExtractor | TwoStream = rgb
    if args.flow_model:
        extractor = TwoStream(rgb, FeatureExtractor(args.flow_model, rule, **options), args.flow_frames)
    with ProgressBar("features", quiet=args.json) as progress:
        report = extract_features(
            extractor, inputs, args.out, format=args.format, frame_rate=args.frame_rate, progress=progress
        )
    if args.json:
        print_json(
            {"folder": report.folder, "written": report.written, "skipped": report.skipped, "failures": report.failures}
        )
    else:
        print(
            f"{report.folder}: {len(report.written)} written, {len(report.skipped)} were there, {len(report.failures)} failed"
        )
    for reason in report.failures.values():
        print(f"clipwise features: {reason}", file=sys.stderr)
    return (1 if report.written or report.skipped else 2) if report.failures else 0
