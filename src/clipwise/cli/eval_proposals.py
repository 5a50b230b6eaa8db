"""Measure proposals: average recall at an average number of proposals (AR@AN), and the area under that curve.

  clipwise eval-proposals results.json anet_anno_action.json --plot ar_an.svg
  clipwise eval-proposals a.json b.json … --gt gt.json --json            several results against one ground truth

RESULT is a file in ActivityNet's form ({"results": {id: [{"segment", "score"}]}}). GT is ActivityNet's, BSN's or MMAction2's
annotation file. The figures are those of ActivityNet's script (AUC from AN = 1, so that 99 is the best).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipwise.cli.common import print_json, print_table
from clipwise.io.text import plural

if TYPE_CHECKING:
    from clipwise.data.formats.annotations import AnnotationSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_results(parser)
    parser.add_argument("--max-proposals", type=int, default=100, help="largest average number (default 100)")
    parser.add_argument("--tiou", type=float, nargs="+", metavar="T", help="overlaps (default 0.5 0.55 … 0.95)")
    parser.add_argument("--plot", metavar="FILE", help="draw the AR-AN curves, .svg, .png or .pdf")
    parser.add_argument(
        "--curves", action="store_true", help="with --json: also the recall at every number of proposals"
    )


def run(args: argparse.Namespace) -> int:

    from clipwise.errors import ClipwiseError
    from clipwise.tasks.average_recall import ACTIVITYNET_TIOU, average_recall_at_avg_proposals

    results, gt = split_ground_truth(args.files, args.gt)
    if args.max_proposals < 1:
        raise ClipwiseError(f"--max-proposals {args.max_proposals}: at least 1 is needed.")
    tiou = ACTIVITYNET_TIOU if args.tiou is None else check_tiou(args.tiou)
    truth = ground_truth(gt, args.subset, args.video_info)
    measured = {
        path: measure(
            path,
            gt,
            truth,
            lambda found: average_recall_at_avg_proposals(
                truth, found, max_avg_proposals=args.max_proposals, temporal_iou_thresholds=tiou
            ),
        )
        for path in results
    }
    if args.plot:
        plot_recall(args.plot, measured, tiou)
    counts = [n for n in (1, 5, 10, 50, 100) if n <= args.max_proposals]
    if args.json:
        print_json(
            {
                "ground_truth": {
                    "file": gt,
                    "videos": sum(map(bool, truth.values())),
                    "actions": sum(map(len, truth.values())),
                },
                "results": {
                    path: {
                        **{f"AR@{n}": r.at(n) for n in counts},
                        "AUC": r.auc,
                        "tiou": tiou,
                        **({"recall": r.recall, "proposals_per_video": r.proposals_per_video} if args.curves else {}),
                    }
                    for path, r in measured.items()
                },
                "plot": args.plot,
            }
        )
        return 0
    print_table(
        [(Path(p).name, *(f"{100 * r.at(n):.2f}" for n in counts), f"{r.auc:.2f}") for p, r in measured.items()],
        ("result", *(f"AR@{n} %" for n in counts), "AUC %"),
    )
    print()
    shown = [n for n in (1, 10, 100) if n <= args.max_proposals]
    for path, r in measured.items():
        rows = [(f"{t:.2f}", *(f"{100 * r.recall[i, n - 1]:.2f}" for n in shown)) for i, t in enumerate(tiou)]
        print_table(rows, (f"tIoU ({Path(path).name})", *(f"recall@{n} %" for n in shown)))
    return 0


def run_checkpoint(
    args: argparse.Namespace, checkpoint: str, recipe: str | None, overrides: list[str], loaded: Any = None
) -> int:
    """``clipwise test`` of a BMN: proposals for the validation videos, written and measured."""
    import os

    from clipwise.engine.evaluate_localizer import evaluate_proposals
    from clipwise.engine.result_files import check_writable
    from clipwise.errors import ClipwiseError
    from clipwise.io.progress import ProgressBar

    for option in ("eval", "topk", "average_clips", "max_views", "report"):
        if getattr(args, option):
            raise ClipwiseError(
                f"--{option.replace('_', '-')} is for recognizers; {checkpoint} finds segments, which are measured by AR@AN and AUC, or mAP."
            )
    overrides = list(overrides)
    if args.num_workers is not None:
        overrides.append(f"num_workers={args.num_workers}")
    if args.allow_missing:
        overrides.append("input.allow_missing=true")
    if args.out and Path(args.out).suffix != ".json":
        raise ClipwiseError(f"--out {args.out}: proposals are written as .json, in ActivityNet's form.")
    if args.out:
        check_writable(args.out, "--out")
    with ProgressBar("test", quiet=args.json) as progress:
        result = evaluate_proposals(
            checkpoint,
            data=args.data,
            recipe=recipe,
            overrides=overrides,
            amp="no" if loaded else args.amp,
            device=args.device,
            loaded=loaded,
            progress=progress,
        )
    if int(os.environ.get("RANK", 0)):
        return 0
    if args.out:
        result.save(args.out)
    figures = result.figures()
    from clipwise.tasks.protocol import recognize_segments

    protocol = recognize_segments(result.ground_truth)
    if args.json:
        known = {"protocol": protocol.to_dict()} if protocol else {}
        said = {"metrics": figures, "videos": len(result.proposals), "out": args.out, "notes": list(result.notes)}
        print_json({**said, **known})
        return 0
    if protocol:
        print(f"protocol: {protocol.line}", file=sys.stderr)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    for name, value in figures.items():
        print(f"{name}\t{value:.4f}")
    print(plural(len(result.proposals), "video") + (f", proposals in {args.out}" if args.out else ""))
    return 0


def add_results(parser: argparse.ArgumentParser) -> None:
    """Result files and their ground truth."""
    parser.add_argument(
        "files", nargs="+", metavar="RESULT … GT", help="result files; the last one is the ground truth unless --gt"
    )
    parser.add_argument("--gt", metavar="FILE", help="ground truth")
    parser.add_argument("--subset", default="validation", help="subset of the ground truth (default validation; 'all')")
    parser.add_argument(
        "--video-info", metavar="CSV", help="table with the videos' subsets, for BSN's form, if it is not beside GT"
    )


def split_ground_truth(files: list[str], gt: str | None) -> tuple[list[str], str]:
    """Results and ground truth of a command line."""
    from clipwise.errors import ClipwiseError

    if gt is None:
        if len(files) < 2:
            raise ClipwiseError("give RESULT and GT: a result file, and the annotations that it is measured against.")
        files, gt = files[:-1], files[-1]
    return files, gt


def ground_truth(path: str, subset: str, video_info: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Annotations for the metrics; of a file without subsets all of them."""
    return annotations_of(path, subset, video_info).ground_truth()


def annotations_of(path: str, subset: str, video_info: str | None = None) -> AnnotationSet:
    """Annotations of a subset; of a file without subsets all of them."""
    from clipwise.data.formats.annotation_files import read_annotations

    everything = read_annotations(path, video_info)
    if subset == "all":
        return everything
    if any(v.subset for v in everything.videos.values()):
        return everything.subset(subset)
    say = f"{path} has no subsets: {plural(len(everything), 'video is', 'videos are')} counted, all it has (--video-info names the table with them)."
    print(say, file=sys.stderr)
    return everything


def check_tiou(given: list[float]) -> Any:
    """``--tiou`` as an array.

    Raises:
        ClipwiseError: an unknown tIoU threshold.
    """
    import numpy as np

    from clipwise.errors import ClipwiseError

    wrong = [t for t in given if not 0 < t <= 1]
    if wrong:
        raise ClipwiseError(f"--tiou {wrong[0]:g}: overlaps are more than 0 and at most 1.")
    return np.array(given)


def measure(path: str, gt: str, truth: dict[str, list[dict[str, Any]]], metric: Callable[[Any], Any]) -> Any:
    """A metric of a result file; says on stderr how many videos have nothing.

    Raises:
        DataError: what the metric says, with the names of the files.
    """
    from clipwise.errors import DataError
    from clipwise.tasks.detections import read_results

    found = read_results(path)
    try:
        answer = metric(found)
    except DataError as error:
        raise DataError(f"{path} against {gt}: {error}") from None
    with_actions = [video for video, actions in truth.items() if actions]
    bare = [video for video in with_actions if not found.get(video)]
    if bare:
        say = f"{path} has nothing for {len(bare)} of the {plural(len(with_actions), 'video')} of {gt} with actions, the first: {bare[0]}."
        print(say, file=sys.stderr)
    return answer


def plot_recall(path: str, measured: dict[str, Any], tiou: Any) -> None:
    """AR over AN, mean and for each overlap."""
    from clipwise.report.chart_files import write_chart
    from clipwise.report.page import Series, line_chart

    several = len(measured) > 1
    series: list[Series] = []
    for name, r in measured.items():
        label = f"{Path(name).stem}, area {r.auc:.2f}" if several else f"mean, area {r.auc:.2f}"
        series.append(Series(label, r.proposals_per_video, r.average_recall, len(series) % 8))
        if not several:
            series += [
                Series(f"tIoU {t:.2g}", r.proposals_per_video, r.recall[i], (1 + i // 2) % 8, "dashed")
                for i, t in enumerate(tiou)
                if i % 2 == 0
            ]
    svg = line_chart(
        "Average recall",
        series,
        x_label="proposals per video",
        y_min=0.0,
        y_max=1.0,
        percent=True,
        width=720,
        height=420,
        standalone=True,
    )
    write_chart(path, svg, "".join(measured))
