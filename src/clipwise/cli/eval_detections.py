"""Measure named segments: mean average precision (mAP) over temporal overlaps.

  clipwise eval-detections results.json gt.json
  clipwise eval-detections proposals.json anet_anno_action.json --class-scores cuhk_anet17_pred.json --top-classes 1
  clipwise eval-detections results.json thumos.json --thumos --subset test
  clipwise eval-detections results.json gt.json --report page/      why predictions are wrong, which actions are missed (DETAD)

Proposals without labels are named by --class-scores: CUHK's file in either form, what `clipwise test … --out` of our own recognizers
wrote, or arrays; several files are fused (--class-weights).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipwise.cli.common import print_json, print_table
from clipwise.cli.eval_proposals import add_results, annotations_of, check_tiou, measure, split_ground_truth
from clipwise.cli.video_scores import add_class_scores, class_scores_of
from clipwise.io.text import plural

if TYPE_CHECKING:
    from clipwise.data.formats.annotations import AnnotationSet
    from clipwise.tasks.detection_errors import Buckets, DetectionErrors

_PLAYED = 8  # videos on the page of --report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_results(parser)
    add_class_scores(parser)
    parser.add_argument(
        "--top-classes", type=int, default=2, help="classes a video that name each proposal (default 2, as OpenTAD)"
    )
    parser.add_argument(
        "--score",
        choices=("product", "sqrt", "proposal"),
        default="product",
        help="times the class score (OpenTAD), the root of that (ActionFormer), or unchanged (MMAction2)",
    )
    parser.add_argument(
        "--thumos", action="store_true", help="THUMOS14's protocol: tIoU 0.3 … 0.7, 'Ambiguous' left out"
    )
    parser.add_argument("--tiou", type=float, nargs="+", metavar="T", help="overlaps (default 0.5 0.55 … 0.95)")
    parser.add_argument(
        "--variants",
        action="store_true",
        help="also measure under the other known variants of the data set, with the difference",
    )
    parser.add_argument("--per-class", action="store_true", help="also print each class")
    parser.add_argument(
        "--errors", action="store_true", help="also error types, sensitivity and missed actions (DETAD's analysis)"
    )
    parser.add_argument("--report", metavar="DIR", help="write them as an HTML report to this folder")
    parser.add_argument(
        "--videos", metavar="DIR", help="with --report: folder of the videos; the worst ones play over their timelines"
    )
    parser.add_argument(
        "--buckets",
        choices=("activitynet", "thumos", "quintiles"),
        help="how actions are sorted by length …: DETAD's for a data set, or five of equal size (default activitynet; with --thumos thumos)",
    )


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from clipwise.errors import ClipwiseError, DataError
    from clipwise.tasks.average_recall import ACTIVITYNET_TIOU
    from clipwise.tasks.detection_metrics import THUMOS_TIOU, detection_map, thumos_actions, thumos_map
    from clipwise.tasks.detections import name_results, read_results
    from clipwise.tasks.protocol import recognize_segments, variants_of

    if args.videos and not args.report:
        raise ClipwiseError("--videos is for the page of --report DIR.")
    results, gt = split_ground_truth(args.files, args.gt)
    annotations = annotations_of(gt, args.subset, args.video_info)
    truth = annotations.ground_truth()
    tiou = check_tiou(args.tiou) if args.tiou else (THUMOS_TIOU if args.thumos else ACTIVITYNET_TIOU)
    scores = class_scores_of(args)

    def named(found: Any) -> Any:
        if scores is not None:
            return name_results(found, scores, args.top_classes, args.score)
        if not all("label" in e for entries in found.values() for e in entries if isinstance(e, dict)):
            raise DataError(
                "there are proposals without a label. Name them: --class-scores FILE, or `clipwise localize … --results`."
            )
        return found

    def metric(found: Any, truth: Any = truth) -> Any:
        return (thumos_map if args.thumos else detection_map)(truth, named(found), tiou)

    protocol = recognize_segments(truth)
    measured = {path: measure(path, gt, truth, metric) for path in results}
    variants: dict[str, dict[str, float]] = {}
    for path in results if args.variants else ():
        found = read_results(path)
        truths = variants_of(truth, [video for video, entries in found.items() if entries])
        variants[path] = {name: metric(found, other).mean for name, other in truths.items()}
    errors: dict[str, DetectionErrors] = {}
    page = None
    if args.errors or args.report:
        from clipwise.tasks.detection_errors import detection_errors

        counted = thumos_actions(truth) if args.thumos else truth
        durations = {name: v.duration_s for name, v in annotations.videos.items()}
        buckets: Buckets = args.buckets or ("thumos" if args.thumos else "activitynet")
        errors = {p: detection_errors(counted, named(read_results(p)), durations, tiou, buckets) for p in results}
    if args.report:
        from clipwise.report.detection_report import detection_report

        played = _played(args.videos, errors[results[0]], annotations, named(read_results(results[0])))
        page = detection_report(errors, args.report, title=Path(gt).stem, buckets=buckets, played=played)
    if args.json:
        print_json(
            {
                path: {
                    "mAP": m.mean,
                    "tiou": m.tiou,
                    "per_tiou": m.per_tiou,
                    "per_class": dict(zip(m.classes, m.per_class.T.tolist())),
                    "ignored": m.ignored,
                    **({"protocol": protocol.to_dict()} if protocol else {}),
                    **(
                        {"variants": {n: {"mAP": v, "difference": v - m.mean} for n, v in variants[path].items()}}
                        if path in variants
                        else {}
                    ),
                    **({"errors": errors[path].as_dict()} if path in errors else {}),
                    **({"report": str(page)} if page else {}),
                }
                for path, m in measured.items()
            }
        )
        return 0
    rows = [(Path(p).name, *(f"{100 * v:.2f}" for v in m.per_tiou), f"{100 * m.mean:.2f}") for p, m in measured.items()]
    print_table(rows, ("result", *(f"{t:.2f}" for t in tiou), "mAP %"))
    if protocol:
        print(f"protocol: {protocol.line}")
    for path, others in variants.items():
        mean = measured[path].mean
        shown = [(n, f"{100 * v:.2f}", f"{100 * (v - mean):+.2f}") for n, v in others.items()]
        print_table(
            shown or [("no other variant is known", "", "")], (f"variant ({Path(path).name})", "mAP %", "difference")
        )
    for path, m in measured.items():
        if m.ignored:
            print(
                f"{path}: {plural(m.ignored, 'prediction of a class', 'predictions of classes')} that {gt} does not have {'was' if m.ignored == 1 else 'were'} not counted."
            )
        if args.per_class:
            order = np.argsort(-m.per_class.mean(0))
            print_table([(m.classes[i], f"{100 * m.per_class[:, i].mean():.2f}") for i in order], ("class", "AP %"))
    for path, e in errors.items():
        _print_errors(Path(path).name, e)
    if page:
        print(f"\nreport in {page}")
    return 0


def _played(
    folder: str | None, errors: DetectionErrors, annotations: AnnotationSet, found: Any
) -> list[dict[str, Any]]:
    """The videos with the largest shares of missed actions whose files are there, with their actions and best predictions.

    Raises:
        ClipwiseError: no such folder, or no file of a video in it.
    """
    from clipwise.data.formats.annotation_parts import VideoFinder
    from clipwise.errors import ClipwiseError

    if folder is None:
        return []
    if not Path(folder).is_dir():
        raise ClipwiseError(f"--videos {folder} is not a folder.")
    finder, played = VideoFinder(folder), []
    for name in sorted(errors.missed_in, key=lambda name: -errors.missed_in[name]):
        file, video = finder.find(name), annotations.videos[name]
        if file is None or file.is_dir():
            continue
        best = sorted(found.get(name, ()), key=lambda e: -e["score"])[: 2 * len(video.segments)]
        truth = [{"segment": s, "label": label} for s, label in zip(video.segments.tolist(), video.labels)]
        rows = [
            [
                {"class": e["label"], "start_s": e["segment"][0], "end_s": e["segment"][1], "score": e.get("score")}
                for e in entries
            ]
            for entries in (truth, best)
        ]
        seconds = video.duration_s if video.duration_s > 0 else None
        played.append({"video": name, "file": file, "duration_s": seconds, "truth": rows[0], "segments": rows[1]})
        if len(played) == _PLAYED:
            break
    if not played:
        raise ClipwiseError(
            f"--videos {folder} has no file of the videos of the ground truth, as {next(iter(errors.missed_in))}.mp4."
        )
    return played


def _print_errors(name: str, errors: DetectionErrors) -> None:
    """Error types, and the actions by what they are like."""
    from clipwise.tasks.detection_errors import ERROR_TYPES

    best = errors.counts.sum(0) / max(errors.counts.sum(), 1)
    rows = [
        (
            kind,
            f"{100 * first:.1f}",
            f"{100 * share:.1f}",
            f"{100 * errors.gain[kind]:+.2f}" if kind in errors.gain else "",
        )
        for kind, first, share in zip(ERROR_TYPES, errors.profile[0], best)
    ]
    print()
    print_table(rows, (f"error type ({name})", "of the best G %", "of the best 10G %", "mAP_N without it"))
    print()
    for kind, found in errors.sensitivity.items():
        lines = [
            (
                f"{b.low:g} – {b.high:g}",
                str(b.actions),
                *(f"{100 * v:.2f}" for v in (b.mean_ap, b.normalized_map, b.missed)),
            )
            for b in found
        ]
        print_table(lines, (f"{kind} ({name})", "actions", "mAP %", "mAP_N %", "missed %"))
