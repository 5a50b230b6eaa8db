"""Compare two result files of the same videos: is B better than A, where, and is it more than luck?

  clipwise test a.safetensors --data val.txt --out a.json
  clipwise test b.safetensors --data val.txt --out b.json
  clipwise compare a.json b.json --report comparison

Differences are B minus A with a bootstrap interval over the videos; the p-value is McNemar's exact test.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clipwise.cli.argument_types import count, count_or_zero
from clipwise.cli.common import print_json, print_table
from clipwise.io.text import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", help="result of `clipwise test --out a.json`")
    parser.add_argument("b", help="result of the other model on the same videos")
    parser.add_argument("--names", nargs=2, metavar=("A", "B"), help="what to call them (default: the files' names)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default 0.95)")
    parser.add_argument("--resamples", type=count, default=10_000, help="bootstrap samples (default 10000)")
    parser.add_argument("--seed", type=count_or_zero, default=0, help="of the bootstrap (default 0)")
    parser.add_argument(
        "--limit", type=count_or_zero, default=15, help="classes and videos to print (default 15; 0: all)"
    )
    parser.add_argument(
        "--mixed-protocols",
        action="store_true",
        help="compare results of different variants of a data set all the same",
    )
    parser.add_argument("--report", metavar="DIR", help="write an HTML report to this folder")


def run(args: argparse.Namespace) -> int:
    from clipwise.errors import ClipwiseError
    from clipwise.report.comparison import compare, read_result

    if not 0.5 <= args.confidence < 1:
        raise ClipwiseError(f"--confidence {args.confidence}: give a share from 0.5 to below 1, such as 0.95.")
    if args.resamples < 100:
        raise ClipwiseError(f"--resamples {args.resamples}: at least 100 are needed for an interval.")
    names = tuple(args.names) if args.names else _names(args.a, args.b)
    tables = read_result(args.a), read_result(args.b)
    if not args.mixed_protocols:
        from clipwise.tasks.protocol import check_same, recognize_videos

        first, second = (recognize_videos(table.paths, table.num_classes) for table in tables)
        check_same(first, second, names)
    result = compare(
        *tables,
        names,
        resamples=args.resamples,
        confidence=args.confidence,
        seed=args.seed,
    )
    if args.report:
        from clipwise.report.compare_report import compare_report

        page = compare_report(result, args.report)
    if args.json:
        print_json({**result.to_dict(), "report": str(page) if args.report else None})
        return 0
    print(result.verdict)
    if result.left_out:
        print(
            f"{plural(result.left_out, 'video is in only one of the files and was', 'videos are in only one of the files and were')} left out."
        )
    print()
    rows = []
    for key, i in result.intervals.items():
        a, b = result.values[key]
        interval = f"{i.low * 100:+.2f} to {i.high * 100:+.2f}"
        rows.append((key, f"{a * 100:.2f}", f"{b * 100:.2f}", f"{i.difference * 100:+.2f}", interval))
    print_table(rows, ("%", *names, "difference", f"{args.confidence:.0%} interval"))
    gained, lost = int(result.gained.sum()), int(result.lost.sum())
    print(
        f"\n{plural(len(result.a.paths), 'video')}: {gained} gained, {lost} lost, p = {result.p_value:.3g} (McNemar, exact)"
    )
    limit = args.limit or None
    flips = [f for f in result.class_flips() if f["gained"] or f["lost"]]
    if flips:
        print()
        print_table(
            [
                (f["class"], f["videos"], f"+{f['gained']}", f"-{f['lost']}", f"{f['a']:.1%}", f"{f['b']:.1%}")
                for f in flips[:limit]
            ],
            ("class", "videos", "gained", "lost", *names),
        )
        _more(len(flips), limit, "classes")
        changed = result.changed()
        print()
        print_table(
            [(c["path"], c["label"], c["a"], c["b"], c["change"]) for c in changed[:limit]],
            ("video", "truth", *names, ""),
        )
        _more(len(changed), limit, "videos")
    if args.report:
        print(f"\nreport: {page}")
    return 0


def _more(total: int, limit: int | None, what: str) -> None:
    if limit and total > limit:
        print(f"… and {total - limit} more {what} (--limit 0 prints all)")


def _names(a: str, b: str) -> tuple[str, str]:
    """File names where they differ, else the folders'."""
    first, second = Path(a), Path(b)
    if first.stem != second.stem:
        return first.stem, second.stem
    if first.resolve().parent.name != second.resolve().parent.name:
        return first.resolve().parent.name, second.resolve().parent.name
    return "A", "B"
