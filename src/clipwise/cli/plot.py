"""Draw the curves of runs and analyze their time.

  clipwise plot runs/a runs/b --out curves.html          every figure, to point at
  clipwise plot runs/a --keys loss top1_acc --out a.svg  chosen figures
  clipwise plot runs/a runs/b --time                     slowest and fastest epoch, average iteration

A RUN is a folder or a log: clipwise's log.jsonl, MMAction2's *.log.json (0.x) or vis_data/scalars.json (1.x).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipwise.cli.common import add_font, print_json, print_table
from clipwise.io.text import plural

if TYPE_CHECKING:
    from clipwise.report.run_report import LoggedRun
    from clipwise.report.run_times import TimeAnalysis


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder or log of a run")
    parser.add_argument("--out", metavar="FILE", help=".html, .svg, .png or .pdf")
    add_font(parser)
    parser.add_argument("--keys", nargs="+", metavar="KEY", help="figures to draw (default: all)")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what to call the runs (default: their folders)")
    parser.add_argument(
        "--smooth", type=float, metavar="W", help="weight of the moving average, 0 to below 1 (default: by length)"
    )
    parser.add_argument("--time", action="store_true", help="analyze the time of iterations")
    parser.add_argument(
        "--include-outliers", action="store_true", help="with --time: keep the first line of each epoch"
    )


def run(args: argparse.Namespace) -> int:
    from clipwise.errors import ClipwiseError
    from clipwise.report.chart_files import check_chart_path
    from clipwise.report.run_report import chart_keys, read_run

    out = Path(args.out) if args.out else None
    if out is not None and out.suffix != ".html":
        check_chart_path(out, "--out")
    if args.names and len(args.names) != len(args.runs):
        raise ClipwiseError(f"--names gives {plural(len(args.names), 'name')} for {plural(len(args.runs), 'run')}.")
    if args.smooth is not None and not 0 <= args.smooth < 1:
        raise ClipwiseError(f"--smooth {args.smooth}: give a weight from 0 to below 1.")
    runs = [read_run(path, args.names[n] if args.names else None) for n, path in enumerate(args.runs)]
    _distinct(runs)
    keys = args.keys or chart_keys(runs)
    known = {k for r in runs for mode in ("train", "val") for k in r.keys(mode)}
    for key in keys:
        if key not in known:
            raise ClipwiseError(f"--keys {key}: no run has it. Known: {', '.join(sorted(known))}.")
    if out is not None:
        _draw(runs, keys, out, args.smooth)
    summary = [_summary(r, args.include_outliers) for r in runs]
    if args.json:
        print_json({"runs": summary, "out": str(out) if out else None})
        return 0
    if args.time:
        for entry in summary:
            _print_time(entry)
    else:
        _print_runs(summary)
    if out is not None:
        print(f"\n{out}")
    return 0


def _summary(run: LoggedRun, include_outliers: bool) -> dict[str, Any]:
    from clipwise.report.run_times import analyze_time

    timing = analyze_time(run, include_outliers)
    figures: dict[str, Any] = {}
    for key in run.keys("val"):
        at, values = run.curve(key, "val")
        lower = "loss" in key
        best = values.argmin() if lower else values.argmax()
        figures[key] = {"best": float(values[best]), "epoch": float(at[best]), "last": float(values[-1])}
    loss = run.curve("loss")[1]
    return {
        "name": run.name,
        "log": str(run.source),
        "epochs": max((int(line["at"] + 0.999) for line in run.train + run.val), default=0),
        "last_loss": float(loss[-1]) if len(loss) else None,
        "validation": figures,
        "time": _times(timing) if timing else None,
    }


def _times(timing: TimeAnalysis) -> dict[str, Any]:
    return {
        "slowest_epoch": timing.slowest[0],
        "slowest_epoch_s_per_iter": timing.slowest[1],
        "fastest_epoch": timing.fastest[0],
        "fastest_epoch_s_per_iter": timing.fastest[1],
        "std_over_epochs": timing.std,
        "average_s_per_iter": timing.average,
        "waiting_for_data": timing.waiting,
        "total_s": timing.total_s,
    }


def _print_runs(summary: Sequence[dict[str, Any]]) -> None:
    keys = list(dict.fromkeys(k for s in summary for k in s["validation"]))[:4]
    rows = []
    for s in summary:
        best = [f"{s['validation'][k]['best']:.4f}" if k in s["validation"] else "" for k in keys]
        loss = "" if s["last_loss"] is None else f"{s['last_loss']:.4f}"
        step = f"{s['time']['average_s_per_iter']:.4f}" if s["time"] else ""
        rows.append((s["name"], s["epochs"], loss, *best, step))
    print_table(rows, ("run", "epochs", "last loss", *(f"best {k}" for k in keys), "s/iter"))


def _print_time(entry: dict[str, Any]) -> None:
    t = entry["time"]
    print(f"{entry['name']}  ({entry['log']})")
    if t is None:
        print("  the log has no times")
        return
    print(f"  slowest epoch {t['slowest_epoch']}, average time is {t['slowest_epoch_s_per_iter']:.4f} s/iter")
    print(f"  fastest epoch {t['fastest_epoch']}, average time is {t['fastest_epoch_s_per_iter']:.4f} s/iter")
    print(f"  time std over epochs is {t['std_over_epochs']:.4f}")
    print(f"  average iter time: {t['average_s_per_iter']:.4f} s/iter")
    if t["waiting_for_data"] is not None:
        print(f"  waiting for data: {t['waiting_for_data']:.0%} of the time")
    if t["total_s"] is not None:
        print(f"  all iterations: {t['total_s']:.0f} s")


def _draw(runs: Sequence[LoggedRun], keys: Sequence[str], out: Path, weight: float | None) -> None:
    from clipwise.report.chart_files import sheet, write_chart
    from clipwise.report.run_report import run_chart
    from clipwise.report.run_times import curves_report

    if out.suffix == ".html":
        curves_report(runs, out, keys=keys, weight=weight)
    else:
        names = "".join(run.name for run in runs)
        write_chart(out, sheet([run_chart(runs, key, weight, standalone=True) for key in keys]), names)


def _distinct(runs: Sequence[LoggedRun]) -> None:
    """Runs of the same name get numbers, so that a legend can tell them apart."""
    names = [r.name for r in runs]
    for n, run in enumerate(runs):
        if names.count(run.name) > 1 and run.name == names[n]:
            run.name = f"{run.name} ({n + 1})"
