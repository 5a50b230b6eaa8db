"""Write the HTML report of a run or of a test result.

clipwise report runs/mine                      runs/mine/report.html, from the run's log
clipwise report scores.json --out report       report/index.html, from `clipwise test --out scores.json`
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clipwise.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a run's folder, or a result of `clipwise test --out FILE.json`")
    parser.add_argument(
        "--out", metavar="DIR", help="folder of a result's report (default: the file's name without .json)"
    )
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="in which the page opens")


def run(args: argparse.Namespace) -> int:
    from clipwise.errors import ClipwiseError

    source = Path(args.source)
    if source.is_dir():
        from clipwise.report.run_report import run_report

        if args.out:
            raise ClipwiseError("--out is for a result's report; a run's report is written into the run's folder.")
        path = run_report(source, language=args.language)
    else:
        from clipwise.report.comparison import read_result
        from clipwise.report.result_report import result_report

        table = read_result(args.source)
        path = result_report(table, args.out or source.with_suffix(""), title=source.stem, language=args.language)
    if args.json:
        print_json({"report": path})
    else:
        print(path)
    return 0
