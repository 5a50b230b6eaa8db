"""Every model in every format: size, difference to PyTorch, agreement, latency against eager. Prints a Markdown table.

    python benchmarks/export.py                                  all models
    python benchmarks/export.py slowonly_r50 tsm_r50 --rounds 9
    python benchmarks/export.py --from results.jsonl             the table again

Weights are random, norms hold the statistics of generated clips, so that scores spread as a trained network's do. Latency
is of one view (batch 1): all runtimes of a model take turns, so that a busy machine slows them alike. ``ms`` is the best
round, ``CPU ms`` the median of processor time, ``x`` eager's time divided by the runtime's: of processor time with one
thread (the default), which other work on the machine does not change; of ``ms`` with more.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from clipwise.cli.bench_train import plain_recipe
from clipwise.engine.checkpoint import Passport
from clipwise.export.compare import compare, random_samples
from clipwise.export.export_model import export_model
from clipwise.export.graphs import make_graph, random_input
from clipwise.export.runtimes import load_exported_model
from clipwise.models import list_models
from clipwise.models.recipe_model import build_model, model_args
from clipwise.recipe import make_recipe

FORMATS = {"onnx": (".onnx", "ONNX Runtime"), "torch": (".pt2", "torch.export"), "openvino": (".xml", "OpenVINO")}


def make(name: str) -> tuple[torch.nn.Module, Passport]:
    """A model whose activations have the spread of a trained one."""
    recipe = make_recipe(plain_recipe(name))
    torch.manual_seed(0)
    model = build_model(recipe, 400)
    passport = Passport(recipe.model, model_args(recipe, 400), recipe=recipe.model_dump())
    graph, about = make_graph(model, passport)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        with torch.no_grad():
            graph(random_input(about, 2, seed=99))
            for norm in norms:
                norm.momentum = 0.1
            model.fc.weight.normal_(std=model.fc.in_features**-0.5)
    return model.eval(), passport


def measure(name: str, rounds: int, threads: int) -> list[dict]:
    """Rows of one model."""
    torch.set_num_threads(threads)
    model, passport = make(name)
    graph, about = make_graph(model, passport)
    rows, calls = [], {}
    frames = random_input(about, 1)
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    rows.append({"format": "PyTorch eager", "precision": "fp32", "size_mb": weights / 1e6})
    calls[0] = lambda: graph(frames)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for form, (suffix, title) in FORMATS.items():
            with torch.inference_mode(False):
                made = export_model(model, passport, Path(folder) / f"{name}{suffix}", form)
            result = made.comparison
            for precision in ("fp32", "bf16") if form == "openvino" else ("fp32",):
                exported, _ = load_exported_model(
                    made.path, "cpu", amp="no" if precision == "fp32" else precision, threads=threads, trust=True
                )
                if precision != "fp32":
                    before = about.views_before_softmax
                    result = compare(
                        graph, exported, random_samples(about), "random", device=frames.device, before=before
                    )
                row = {"format": title, "precision": precision, "size_mb": made.size_bytes / 1e6}
                rows.append(
                    row
                    | {
                        "max_diff": result.max_abs_diff,
                        "rel_diff": result.max_rel_diff,
                        "top1_agreement": result.top1_agreement,
                    }
                )
                calls[len(rows) - 1] = lambda exported=exported: exported(frames)
        for row, (best, cpu) in zip(rows, take_turns(list(calls.values()), rounds)):
            row |= {"ms": best, "cpu_ms": cpu}
    shape = "x".join(map(str, about.shape))
    key = "cpu_ms" if threads == 1 else "ms"
    return [{"model": name, "input": shape, "threads": threads, **row, "x": rows[0][key] / row[key]} for row in rows]


def take_turns(calls: list[Callable], rounds: int) -> list[tuple[float, float]]:
    """(best wall ms, median CPU ms) of each call; every round runs each of them once."""
    wall: list[list[float]] = [[] for _ in calls]
    cpu: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for at, call in enumerate(calls):
            start, start_cpu = time.perf_counter(), time.process_time()
            call()
            if turn:  # the first one warms up
                wall[at].append(1000 * (time.perf_counter() - start))
                cpu[at].append(1000 * (time.process_time() - start_cpu))
    return [(min(w), statistics.median(c)) for w, c in zip(wall, cpu)]


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [
        "| model | input | format | MB | max diff | relative | same top-1 | ms | CPU ms | x |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    last = None
    for r in rows:
        model = f"{r['model']} | {r['input']}" if r["model"] != last else " | "
        last = r["model"]
        form = r["format"] + (f" {r['precision']}" if r["precision"] != "fp32" else "")
        differences = (
            f"{r['max_diff']:.1e} | {r['rel_diff']:.1e} | {r['top1_agreement']:.0%}" if "max_diff" in r else "| |"
        )
        lines.append(
            f"| {model} | {form} | {r['size_mb']:.1f} | {differences} | {r['ms']:.1f} | {r['cpu_ms']:.1f} | {r['x']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names; all if not given")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", metavar="FILE", help="append the rows as JSON lines")
    parser.add_argument("--from", dest="read", metavar="FILE", help="print the table of saved rows")
    args = parser.parse_args()
    if args.read:
        print(table([json.loads(line) for line in Path(args.read).read_text().splitlines()]))
        return
    everything = []
    for name in args.models or list_models():
        print(name, "…", file=sys.stderr, flush=True)
        rows = measure(name, args.rounds, args.threads)
        everything += rows
        if args.save:
            with open(args.save, "a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    print(table(everything))


if __name__ == "__main__":
    main()
