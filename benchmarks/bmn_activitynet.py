"""BMN at ActivityNet's scale: annotations of 19,228 videos, features of the true shape (100 x 400), made up on the fly.

    python benchmarks/bmn_activitynet.py ../shared/data/activitynet [--steps 60] [--val-videos 4728] [--recipe bmn_ascend_activitynet]

The features hold noise and a faint trace of what happens when, so that training has something to find; their accuracy says
nothing about real features. Printed: videos trained a second, loader included, by the seed's rule (from iteration 5 on) on a
part of an epoch (``--steps``) or all of it (0); the same per second of processor time, for machines that are shared; peak
memory early and late; and the validation.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from clipwise.data.formats.annotation_files import read_annotations
from clipwise.engine.evaluate_localizer import evaluate_proposals
from clipwise.engine.train import RunResult, train
from clipwise.io.parse import read_json_lines
from clipwise.recipe import Recipe, load_recipe

LENGTH, CHANNELS = 100, 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--recipe", default="bmn_ascend_activitynet")
    parser.add_argument("--steps", type=int, default=60, help="steps of the epoch that are trained; 0: all")
    parser.add_argument("--val-videos", type=int, default=4728, help="0: no validation")
    parser.add_argument("--folder", type=Path, help="where the features go and stay (default: a temporary folder)")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        started = time.perf_counter()
        making = (args.data / "anet_anno_action.json", folder, args.val_videos)
        maker = multiprocessing.get_context("spawn").Process(target=make_features, args=making)
        maker.start()  # in a process of its own, so that the peak memory is that of the training
        maker.join()
        say("features", seconds=time.perf_counter() - started, megabytes=(folder / "all.npy").stat().st_size / 2**20)
        overrides = [
            f"features={folder / 'all.npy'}",
            f"annotations={folder / 'annotations.json'}",
            "epochs=1",
            "schedule.milestones=[]",
            "log.every=5",
            "allow_missing=true",
            *args.overrides,
        ]
        recipe = load_recipe(args.recipe, overrides)
        # The processor time of a short run is taken off that of the long one, so that starting up does not count.
        first, last = 5, args.steps or None
        _, before = timed_run(recipe, args.data, folder / "short", first)
        run, after = timed_run(recipe, args.data, folder / "run", last)
        lines = [line for line in read_json_lines(folder / "run/log.jsonl") if line["mode"] == "train"]
        steps = np.diff([line["iter"] for line in lines])  # the first line holds iterations 0 to 4
        seconds = float(sum(line["time"] * n for line, n in zip(lines[1:], steps)))
        waiting = float(sum(line["data_time"] * n for line, n in zip(lines[1:], steps)))
        trained = (lines[-1]["iter"] - first) * recipe.batch_size
        say(
            "training",
            steps=lines[-1]["iter"],
            steps_of_epoch=lines[-1]["iters"],
            batch_size=recipe.batch_size,
            threads=torch.get_num_threads(),
            videos_per_s=float(steps.sum() * recipe.batch_size / seconds),
            videos_per_cpu_s=trained / (after - before),
            share_waiting_for_data=waiting / seconds,
            peak_memory_mb_first_line=lines[0]["memory"],
            peak_memory_mb_last_line=lines[-1]["memory"],
            loss_first=lines[0]["loss"],
            loss_last=lines[-1]["loss"],
        )
        if args.val_videos:
            started, before = time.perf_counter(), cpu_seconds()
            result = evaluate_proposals(run.last, data=str(args.data))
            spent = {"seconds": time.perf_counter() - started, "cpu_seconds": cpu_seconds() - before}
            say("validation", videos=len(result.proposals), **spent, **result.figures())


def timed_run(recipe: Recipe, data: Path, folder: Path, steps: int | None) -> tuple[RunResult, float]:
    """A run, and the processor seconds that it took with its loader's processes."""
    before = cpu_seconds()
    run = train(recipe, data=str(data), work_dir=folder, validate=False, quiet=True, max_steps=steps)
    return run, cpu_seconds() - before


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def make_features(annotations: Path, folder: Path, val_videos: int) -> None:
    """``all.npy`` (V, 100, 400) float16, which training maps into memory, and ``all.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    videos = read_annotations(annotations)
    kept = dict(videos.subset("training").videos)
    kept |= dict(list(videos.subset("validation").videos.items())[:val_videos])
    database = {
        name: {
            "duration": v.duration_s,
            "duration_frame": v.num_frames,
            "feature_frame": v.feature_frames,
            "subset": v.subset,
            "annotations": [{"segment": s, "label": c} for s, c in zip(v.segments.tolist(), v.labels)],
        }
        for name, v in kept.items()
    }
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    if (folder / "all.txt").is_file():
        return
    classes = {name: i for i, name in enumerate(videos.classes)}
    rng = np.random.default_rng(0)
    trace = rng.normal(size=(len(classes), CHANNELS)).astype(np.float32)
    out = np.lib.format.open_memmap(folder / "all.npy", "w+", np.float16, (len(kept), LENGTH, CHANNELS))
    edges = np.arange(LENGTH + 1) / LENGTH
    for row, video in enumerate(kept.values()):
        values = rng.standard_normal((LENGTH, CHANNELS), dtype=np.float32)
        for (start, end), label in zip(video.fractions("snippets"), video.labels):
            inside = (np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)).clip(0) * LENGTH
            values += 0.5 * inside[:, None].astype(np.float32) * trace[classes[label]]
        out[row] = values
    out.flush()
    (folder / "all.txt").write_text("\n".join(kept))


def say(step: str, **figures) -> None:
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
    print(json.dumps({"step": step, **rounded}), flush=True)


if __name__ == "__main__":
    main()
