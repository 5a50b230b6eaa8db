"""Name what happens in videos.

clipwise predict runs/mine/best.safetensors video.mp4 more_videos/ list.txt --topk 3
clipwise predict slowonly_r50_8x8x1_256e_kinetics400_rgb video.mp4       (downloads published weights)
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

from clipwise.cli.common import (
    EXPORTED_SUFFIXES,
    Progress,
    add_device,
    add_font,
    add_json,
    add_shard,
    count,
    print_json,
    print_table,
    shard_of,
)
from clipwise.io.parse import parse_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a checkpoint, an exported model, or a name in the zoo")
    parser.add_argument("inputs", nargs="+", help="files, folders, lists (.txt) or addresses")
    parser.add_argument("--topk", type=int, default=5, help="classes to show (default 5)")
    parser.add_argument("--csv", metavar="FILE", help="write a row a video")
    parser.add_argument("--out", metavar="VIDEO", help="write the (one) video with its prediction drawn into it")
    add_font(parser)
    parser.add_argument("--max-views", type=count, metavar="N", help="views that go through the network at once")
    parser.add_argument("--amp", choices=("bf16", "fp16", "no"), default="no", help="mixed precision (default no)")
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help="append a line a video as soon as it is done; what the file has already is skipped",
    )
    add_shard(parser)
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="spread the inputs over a Ray cluster (auto, an address, or local)",
    )
    parser.add_argument("--ray-workers", type=int, default=2, metavar="N", help="processes on the cluster (default 2)")
    add_device(parser)
    add_json(parser)


def load_any(checkpoint: str, device: str | None, amp: str = "no", max_views: int | None = None):
    """A predictor for a checkpoint or for an exported model."""
    if checkpoint.endswith(EXPORTED_SUFFIXES):
        from clipwise.export.runtimes import load_exported

        return load_exported(checkpoint, device, amp=amp, max_views=max_views)
    from clipwise.infer.predictor import load

    return load(checkpoint, device, amp=amp, max_views=max_views)


def run(args: argparse.Namespace) -> int:
    from clipwise.engine.result_files import check_writable
    from clipwise.errors import ClipwiseError, DataError
    from clipwise.infer.predictor import expand_inputs

    first, parts = shard_of(args.shard)
    inputs = list(expand_inputs(args.inputs))[first::parts]
    if args.topk < 1:
        raise ClipwiseError(f"--topk {args.topk}: at least 1 class must be shown.")
    if args.out and len(inputs) != 1:
        raise ClipwiseError(f"--out draws into one video, but {len(inputs)} were given.")
    for option, path in (("--csv", args.csv), ("--out", args.out), ("--jsonl", args.jsonl)):
        if path:
            check_writable(path, option)
    if args.ray:
        return _run_on_ray(args, inputs)
    if args.jsonl:
        return _append_lines(args, inputs)
    predictor = load_any(args.checkpoint, args.device, args.amp, args.max_views)
    predictions, failures = [], {}
    with Progress("predict", quiet=args.json or len(inputs) == 1) as progress:
        for n, source in enumerate(inputs):
            try:
                predictions.append(predictor(source))
            except (DataError, OSError) as error:
                failures[source] = str(error)
            progress(n + 1, len(inputs))
    if args.csv:
        _write_csv(args.csv, predictions, failures, args.topk)
    if args.out and predictions:
        from clipwise.infer.draw import annotate_video

        annotate_video(inputs[0], args.out, [(0.0, predictions[0].duration_s, predictions[0].top(args.topk))])
    if args.json:
        print_json({"predictions": [p.to_dict(args.topk) for p in predictions], "failures": failures})
    else:
        rows = []
        for p in predictions:
            for rank, (name, score) in enumerate(p.top(args.topk)):
                rows.append((p.source if rank == 0 else "", name, f"{score:.4f}"))
        if rows:
            print_table(rows, ("video", "class", "score"))
    for source, reason in failures.items():
        print(f"clipwise predict: {reason if source in reason else source + ': ' + reason}", file=sys.stderr)
    if failures:
        return 2 if not predictions else 1
    return 0


def _run_on_ray(args: argparse.Namespace, inputs: list[str]) -> int:
    import functools

    from clipwise.infer.cluster import PredictWorker, run_on_ray

    worker = functools.partial(PredictWorker, str(Path(args.checkpoint).resolve()), args.device, args.amp, args.topk)
    address = None if args.ray == "local" else args.ray
    with Progress("predict", quiet=args.json) as progress:
        results = run_on_ray(
            worker,
            [str(Path(i).resolve()) if Path(i).exists() else i for i in inputs],
            address=address,
            workers=args.ray_workers,
            progress=progress,
        )
    failures = {source: answer["error"] for source, answer in results.items() if "error" in answer}
    answers = [answer for answer in results.values() if "error" not in answer]
    if args.json:
        print_json({"predictions": answers, "failures": failures})
    else:
        print_table(
            [(a["source"], a["predictions"][0]["class"], f"{a['predictions'][0]['score']:.4f}") for a in answers],
            ("video", "class", "score"),
        )
    for reason in failures.values():
        print(f"clipwise predict: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _append_lines(args: argparse.Namespace, inputs: list[str]) -> int:
    """One line a video, written when it is done: a run that was killed and is called again goes on behind the last whole line."""
    import json

    from clipwise.errors import DataError

    path = Path(args.jsonl)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    with open(path, "a+b") as file:
        file.seek(0)
        whole = 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            done.add(parse_json(line)["source"])
        file.truncate(whole)  # half a line, of a run that was killed while it wrote
        todo = [source for source in dict.fromkeys(inputs) if source not in done]
        predictor = load_any(args.checkpoint, args.device, args.amp, args.max_views) if todo else None
        failed = 0
        with Progress("predict", quiet=args.json) as progress:
            for n, source in enumerate(todo):
                try:
                    answer = {**predictor(source).to_dict(args.topk), "source": source}  # type: ignore[misc]
                except (DataError, OSError) as error:
                    answer, failed = {"source": source, "error": str(error)}, failed + 1
                file.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
                file.flush()
                progress(n + 1, len(todo))
    summary = {"file": str(path), "written": len(todo), "skipped": len(done), "failed": failed}
    print_json(summary) if args.json else print(", ".join(f"{k} {v}" for k, v in summary.items()))
    return 1 if failed else 0


def _write_csv(path: str, predictions, failures: dict[str, str], topk: int) -> None:
    from clipwise.io.files import atomic_path

    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["video", *(f"{kind}{k + 1}" for k in range(topk) for kind in ("class", "score")), "error"])
    for p in predictions:
        cells = [cell for pair in p.top(topk) for cell in pair]
        writer.writerow([p.source, *cells, *[""] * (2 * topk - len(cells)), ""])
    for source, reason in failures.items():
        writer.writerow([source, *[""] * (2 * topk), reason])
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
