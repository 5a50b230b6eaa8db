"""Predictions for many files: on a Ray cluster, into a file that grows line by line, into a table."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clipwise.cli.common import fail, load_any, print_json, print_table, with_cuda_graphs
from clipwise.errors import DataError
from clipwise.io.parse import parse_json
from clipwise.io.progress import ProgressBar
from clipwise.io.text import csv_cell
from clipwise.io.unfinished import growing_file


def run_on_cluster(args: argparse.Namespace, inputs: list[str]) -> int:
    import functools

    from clipwise.infer.cluster import PredictWorker, run_on_ray

    checkpoint = str(Path(args.checkpoint).resolve())
    worker = functools.partial(PredictWorker, checkpoint, args.device, args.amp, args.topk, args.trust)
    address = None if args.ray == "local" else args.ray
    with ProgressBar("predict", quiet=args.json) as progress:
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
        fail("predict", reason)
    return 1 if failures else 0


def append_lines(args: argparse.Namespace, inputs: list[str]) -> int:
    """One line a video, written when it is done: a run that was killed and is called again goes on behind the last whole line."""
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
        predictor = (
            with_cuda_graphs(load_any(args.checkpoint, args.device, args.amp, args.max_views), args) if todo else None
        )
        failed = 0
        with ProgressBar("predict", quiet=args.json) as progress:
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


@contextlib.contextmanager
def csv_rows(path: str, topk: int) -> Iterator[Callable[[str, Any, str], None]]:
    """A table with a row a video; yields a function of (source, prediction or None, error) that adds one at once.

    While it grows its name is ``FILE.part``, which a killed run leaves with all rows that were finished.
    """
    with growing_file(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video", *(f"{kind}{k + 1}" for k in range(topk) for kind in ("class", "score")), "error"])

        def add(source: str, prediction: Any, error: str = "") -> None:
            cells = [cell for pair in prediction.top(topk) for cell in pair] if prediction else []
            row = [source, *cells, *[""] * (2 * topk - len(cells)), error]
            writer.writerow([csv_cell(cell) for cell in row])
            file.flush()

        yield add
