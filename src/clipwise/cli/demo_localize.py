"""The part of ``clipwise demo`` on long videos: features of the recognizer just trained, a small BMN, a video it never saw."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from clipwise.io.progress import ProgressBar

STRIDE, WINDOW = 8, 24  # frames; an action of the demo has 30 to 80


def run(
    out: Path,
    recognizer: Path,
    quiet: bool = False,
    *,
    count: int = 32,
    held_out: int = 8,
    overrides: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Make long videos, extract features, train a small BMN, localize.

    Args:
        out: the demo's folder; files go to ``long/``, ``features/``, ``bmn/`` and ``found/`` in it.
        recognizer: checkpoint that makes the features and names the segments.
        quiet: nothing on the terminal.
        count: videos, the last ``held_out`` of which are for validation.
        overrides: ``key=value`` on the recipe ``bmn_tiny``.

    Returns:
        ``auc`` (percent), ``ar_5``, ``map_50`` of the held-out videos; of the first of them ``video``, ``duration_s``,
        ``segments`` and ``truth`` (start_s, end_s, class, score), ``curves`` (time_s, start, end), ``timeline`` and
        ``preview`` (files); ``seconds`` of each step.
    """
    from clipwise.engine.train import train
    from clipwise.infer.draw import annotate_video
    from clipwise.infer.feature_files import extract_features
    from clipwise.infer.features import FeatureExtractor, WindowRule, open_for
    from clipwise.infer.localize import Localizer
    from clipwise.prepare.synthetic import make_long_videos
    from clipwise.recipe import load_recipe
    from clipwise.report.timeline import save_timeline
    from clipwise.tasks.average_recall import average_recall_at_avg_proposals
    from clipwise.tasks.detection_metrics import detection_map

    clock = _Clock()
    videos = out / "long"
    with ProgressBar("long videos", quiet=quiet) as progress:
        database = make_long_videos(videos, count, progress=progress)
    for n, entry in enumerate(database.values()):
        entry["subset"] = "training" if n < count - held_out else "validation"
    gt = out / "long_ground_truth.json"
    gt.write_text(json.dumps({"version": "VERSION 1.3", "database": database}, indent=1), encoding="utf-8")
    clock("videos")

    extractor = FeatureExtractor(recognizer, WindowRule(stride=STRIDE, window=WINDOW), batch_size=32)
    with ProgressBar("features", quiet=quiet) as progress:
        files = [videos / f"{name}.mp4" for name in database]
        extract_features(extractor, files, out / "features", progress=progress)
    clock("features")

    recipe = load_recipe(
        "bmn_tiny",
        [
            "windows.least=0",
            f"feat_dim={extractor.feat_dim}",
            "features=features",
            f"annotations={gt.name}",
            "epochs=16",
            *overrides,
        ],
    )
    trained = train(recipe, data=str(out), work_dir=out / "bmn", quiet=True)
    if trained.interrupted:
        raise KeyboardInterrupt
    clock("training")

    localizer = Localizer(trained.best or trained.last, recognizer)
    unseen = [name for name, entry in database.items() if entry["subset"] == "validation"]
    found = {name: localizer(videos / f"{name}.mp4") for name in unseen}
    truth = {name: database[name]["annotations"] for name in unseen}
    recall = average_recall_at_avg_proposals(truth, {name: f.proposals for name, f in found.items()})
    precision = detection_map(truth, {name: f.activitynet() for name, f in found.items()}, [0.5])
    shown = unseen[0]
    one, actions = found[shown], truth[shown]
    chart = out / "found" / f"{shown}.svg"
    with open_for(localizer.extractor.spec, videos / f"{shown}.mp4") as reader:
        save_timeline(chart, one, reader=reader, truth=actions)
    preview = out / "found" / f"{shown}.mp4"
    annotate_video(
        videos / f"{shown}.mp4",
        preview,
        [(s.start_s, s.end_s, [(s.name, s.class_score or s.score)]) for s in one.in_time],
    )
    clock("localizing")
    return {
        "auc": recall.auc,
        "ar_5": recall.at(5),
        "map_50": float(precision.per_tiou[0]),
        "video": str(videos / f"{shown}.mp4"),
        "duration_s": one.duration_s,
        "segments": [s.to_dict() for s in one.in_time],
        "truth": [{"start_s": a["segment"][0], "end_s": a["segment"][1], "class": a["label"]} for a in actions],
        "curves": one.to_dict()["curves"],
        "timeline": str(chart),
        "preview": str(preview),
        "seconds": clock.seconds,
    }


class _Clock:
    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def __call__(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = round(now - self.last, 1)
        self.last = now
