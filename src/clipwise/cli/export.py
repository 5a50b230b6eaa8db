"""Write a trained model for other runtimes, compared with the original before the file is kept.

  clipwise export runs/mine/best.safetensors --format onnx
  clipwise export best.safetensors --format openvino --check-clips my_videos/val.txt
  clipwise export best.safetensors --format onnx --int8 --calibration my_videos/train.txt --check-clips my_videos/val.txt
  clipwise predict best.onnx video.mp4

The graph takes uint8 frames (batch, T, H, W, C), any batch size, and normalizes them itself. Preprocessing and class
names stand in the file's metadata.
"""

from __future__ import annotations

import argparse
import sys

from clipwise.cli.argument_types import count
from clipwise.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a checkpoint, or a name in the zoo")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="another test protocol for the file"
    )
    parser.add_argument(
        "--format", choices=("onnx", "torch", "openvino"), default="onnx", help="what to write (default onnx)"
    )
    parser.add_argument("--out", metavar="FILE", help="where to (beside the checkpoint if not given)")
    parser.add_argument("--float-input", action="store_true", help="take normalized float clips (batch, C, T, H, W)")
    parser.add_argument(
        "--aot", action="store_true", help="compile with AOTInductor (format torch; needs a C++ compiler)"
    )
    parser.add_argument("--int8", action="store_true", help="8-bit weights and activations (onnx, openvino)")
    parser.add_argument("--calibration", metavar="LIST", help="videos on which int8 measures its ranges")
    parser.add_argument("--num-calibration", type=count, default=64, metavar="N", help="how many of them (default 64)")
    parser.add_argument(
        "--check-clips", default="random", metavar="LIST", help="videos to compare on; generated clips if not given"
    )
    parser.add_argument("--num-check", type=count, default=32, metavar="N", help="how many of them (default 32)")
    parser.add_argument(
        "--min-agreement",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="int8: least share of samples whose best class stays (default 0.9)",
    )


def run(args: argparse.Namespace) -> int:
    from clipwise.export.export_model import export

    made = export(
        args.checkpoint,
        args.format,
        args.out,
        overrides=args.overrides,
        device=args.device,
        normalize=not args.float_input,
        aot=args.aot,
        int8=args.int8,
        calibration=args.calibration,
        num_calibration=args.num_calibration,
        check_clips=args.check_clips,
        num_check=args.num_check,
        min_agreement=args.min_agreement,
        say=lambda line: None if args.json else print(line, "…", file=sys.stderr),
    )
    if args.json:
        print_json(made.to_dict())
        return 0
    about, result = made.description, made.comparison
    where = "generated samples" if result.source == "random" else f"videos of {result.source}"
    print(f"{made.path}  {made.format}, {made.precision}, {made.size_bytes / 1e6:.1f} MB")
    print(f"  input   {about.input}: {about.dtype} (batch, {', '.join(map(str, about.shape))})")
    print(f"  output  {', '.join(about.outputs)}")
    print(
        f"  compared on {result.samples} {where}: largest difference {result.max_abs_diff:.3g}, "
        f"same best class {result.top1_agreement:.1%}"
    )
    if result.accuracy is not None and result.exported_accuracy is not None:
        print(f"  accuracy {result.accuracy:.1%} in PyTorch, {result.exported_accuracy:.1%} in the file")
    return 0
