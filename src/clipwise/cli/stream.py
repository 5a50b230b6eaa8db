"""Name what happens along a long file, a stream or a camera, as it goes and in bounded memory.

  clipwise stream best.safetensors lecture.mp4 --window 4 --stride 1
  clipwise stream best.safetensors rtsp://camera/1 --reconnect 10 --json
  clipwise stream best.safetensors 0                                    (the first camera)
  clipwise stream best.safetensors long.mp4 --srt long.srt --out annotated.mp4

Prints the segments (with --json: each window and each segment as a line of JSON, as it comes), and the speed at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from clipwise.cli.argument_types import count_or_zero, not_negative, positive
from clipwise.cli.common import add_cuda_graphs, add_font, with_cuda_graphs
from clipwise.io.text import json_text, plural, printable, with_schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a checkpoint, an exported model, or a name in the zoo")
    parser.add_argument("source", help="a file of any length, an address (rtsp, http, …) or a camera's number")
    parser.add_argument(
        "--window",
        type=float,
        metavar="S",
        help="seconds a window (the span of the model's clip, or 3 and at most a sixth of a file)",
    )
    parser.add_argument("--stride", type=float, metavar="S", help="seconds from window to window (half a window)")
    parser.add_argument("--fps", type=float, help="look at so many frames per second (the source's own rate)")
    parser.add_argument("--clips", type=int, default=1, metavar="N", help="clips a window (default 1)")
    parser.add_argument("--online", action="store_true", help="TSM trained with online_shift: one frame a step")
    parser.add_argument("--smooth", type=int, default=3, metavar="N", help="windows averaged for segments (default 3)")
    parser.add_argument("--threshold", type=float, default=0.5, help="score at which a segment begins (default 0.5)")
    parser.add_argument("--release", type=float, help="score below which it ends (0.6 of the threshold)")
    parser.add_argument(
        "--min-duration", type=not_negative, default=0.0, metavar="S", help="leave out shorter segments"
    )
    parser.add_argument("--topk", type=int, default=3, help="classes of a window that --json prints (default 3)")
    parser.add_argument("--srt", metavar="FILE", help="write the segments as subtitles")
    parser.add_argument("--out", metavar="VIDEO", help="write the file with its segments drawn into it")
    add_font(parser)
    parser.add_argument("--live", action=argparse.BooleanOptionalAction, help="drop frames rather than fall behind")
    parser.add_argument(
        "--reconnect", type=count_or_zero, default=0, metavar="N", help="open a broken stream again N times"
    )
    parser.add_argument(
        "--timeout", type=positive, default=10.0, metavar="S", help="wait so long for data (default 10)"
    )
    parser.add_argument("--source-format", metavar="NAME", help="FFmpeg's input format (v4l2, avfoundation, lavfi, …)")
    parser.add_argument("--max-seconds", type=positive, metavar="S", help="stop after so many seconds of the source")
    parser.add_argument("--amp", choices=("bf16", "fp16", "no"), default="no", help="mixed precision (default no)")
    add_cuda_graphs(parser)


def run(args: argparse.Namespace) -> int:
    from clipwise.cli.common import load_any
    from clipwise.engine.device import peak_memory_mb
    from clipwise.errors import ClipwiseError, WorkError
    from clipwise.infer.segments import Segment, Segmenter, srt_block
    from clipwise.infer.stream import Streamer
    from clipwise.video.live import Source

    if args.topk < 1 or args.clips < 1:
        raise ClipwiseError("--topk and --clips must be at least 1.")
    source = Source(
        args.source,
        format=args.source_format,
        live=args.live,
        timeout_s=args.timeout,
        reconnect=args.reconnect,
        say=lambda line: print(f"clipwise stream: {line}", file=sys.stderr, flush=True),
    )
    if args.out:
        from clipwise.infer.draw import check_video_path

        if source.live or source.scheme:
            raise ClipwiseError("--out draws into a file in a second pass; a stream or a camera can't be read twice.")
        check_video_path(args.out)
    limits = dict(smooth=args.smooth, threshold=args.threshold, release=args.release, min_s=args.min_duration)
    Segmenter(**limits)  # wrong values are refused before the model is loaded
    predictor = with_cuda_graphs(load_any(args.checkpoint, args.device, args.amp), args)
    segmenter = Segmenter(predictor.classes, **limits)
    streamer = Streamer(
        predictor,
        window_s=args.window,
        stride_s=args.stride,
        fps=args.fps,
        num_clips=args.clips,
        online=args.online,
    )
    found: list[Segment] = []
    subtitles = open(args.srt, "w", encoding="utf-8") if args.srt else None  # noqa: SIM115 - grows with the stream

    def show(segments: list[Segment]) -> None:
        for segment in segments:
            found.append(segment)
            if subtitles:
                subtitles.write(("\n" if len(found) > 1 else "") + srt_block(len(found), segment))
                subtitles.flush()
            if args.json:
                _line(type="segment", **segment.to_dict())
            else:
                print(_row(segment), flush=True)

    began = time.perf_counter()
    last_s, broken = 0.0, None
    try:
        for window in streamer(source):
            last_s = window.end_s
            if args.json:
                order = (-window.scores).argsort(kind="stable")[: args.topk]
                names = predictor.classes or list(map(str, range(len(window.scores))))
                top = [{"class": names[i], "score": round(float(window.scores[i]), 4)} for i in order.tolist()]
                _line(type="window", start_s=round(window.start_s, 3), end_s=round(window.end_s, 3), top=top)
            show(segmenter.update(window))
            if args.max_seconds is not None and last_s >= args.max_seconds:
                break
    except WorkError as error:  # what was seen up to the break is shown before the error
        broken = error
    except KeyboardInterrupt:
        pass  # the usual way to end a camera
    finally:
        source.close()
    show(segmenter.finish())
    if subtitles:
        subtitles.close()
    seconds = time.perf_counter() - began
    summary: dict[str, Any] = {
        "windows": streamer.windows,
        "frames": streamer.frames_read,
        "source_s": round(last_s, 3),
        "seconds": round(seconds, 3),
        "frames_per_s": round(streamer.frames_read / seconds, 1),
        "times_real_time": round(last_s / seconds, 2),
        "model_ms_per_window": round(1000 * streamer.seconds_model / max(streamer.windows, 1), 2),
        "dropped_frames": source.dropped,
        "damaged_packets": source.damaged,
        "peak_memory_mb": peak_memory_mb(),
        "segments": len(found),
        "damage": streamer.damage,
    }
    if segmenter.best is not None:
        summary["best"] = segmenter.best.to_dict()
    if args.json:
        _line(type="summary", **summary)
    else:
        if streamer.damage:
            print(f"clipwise stream: {args.source}: {streamer.damage}", file=sys.stderr)
        if not found and segmenter.best is not None:
            print(
                f"no segment: no class reached the threshold ({args.threshold:g}). Highest: {_row(segmenter.best)}",
                file=sys.stderr,
            )
        print(
            f"{plural(summary['windows'], 'window')}, {plural(summary['frames'], 'frame')} ({last_s:.1f} s of video) in {seconds:.1f} s: "
            f"{summary['frames_per_s']} frames/s, {summary['times_real_time']} x real time, "
            f"model {summary['model_ms_per_window']} ms a window, {summary['peak_memory_mb']} MB"
            + (f", {plural(source.dropped, 'frame')} dropped" if source.dropped else "")
            + (f", {plural(source.damaged, 'damaged packet')}" if source.damaged else ""),
            file=sys.stderr,
        )
    if broken is not None:
        raise broken
    if args.out:
        from clipwise.infer.draw import annotate_video

        annotate_video(args.source, args.out, [(s.start_s, s.end_s, [(s.name, s.score)]) for s in found])
    return 0


def _line(**values: Any) -> None:
    print(json_text(with_schema(values)), flush=True)


def _row(segment: Any) -> str:
    return printable(f"{_time(segment.start_s)} - {_time(segment.end_s)}  {segment.name}  {segment.score:.3f}")


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes // 60):02d}:{int(minutes % 60):02d}:{rest:05.2f}"
