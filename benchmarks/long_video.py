"""Time and memory of localization by length, and a joined file against its parts.

    python benchmarks/long_video.py lengths CKPT [--hours 0.1 1 3]
    python benchmarks/long_video.py pair DIR [--size 64x48]
    python benchmarks/long_video.py videos CKPT RECOGNIZER [--minutes 1 10 180] [--size 160x120]
    python benchmarks/long_video.py joined CKPT DATA FEATURES ANNOTATIONS [--parts 10] [--cut 0.7]

``lengths`` gives CKPT made-up features at the spacing of its training, in a process for each length: seconds and peak memory.
``videos`` does the same from made-up video files (25 frames a second), decoded and looked at by RECOGNIZER, whose features CKPT was trained on;
``pair`` makes two such files (``tsm.safetensors``, ``bmn.safetensors``, two steps of training each: for time and memory only). ``joined`` localizes validation videos by themselves and joined, ``--parts`` at a time, and prints mAP at tIoU 0.3 and 0.5
of both (segments as one class); ``--cut`` drops so many seconds at the file's beginning, so that windows and videos do not fall together.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lengths", "videos", "joined", "one", "pair"))
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--hours", nargs="+", type=float, default=[0.1, 1, 3])
    parser.add_argument("--minutes", nargs="+", type=float, default=[1, 10, 180])
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--cut", type=float, default=0.7)
    parser.add_argument("--size", default="160x120", help="pixels of made-up videos, width x height")
    args = parser.parse_intermixed_args()
    size = tuple(map(int, args.size.split("x")))
    if args.what == "pair":
        pair(Path(args.checkpoint), size)
    elif args.what == "one":
        one(args.checkpoint, args.paths)
    elif args.what == "joined":
        joined(args.checkpoint, args.paths, args.parts, args.cut)
    elif args.what == "lengths":
        for hours in args.hours:
            in_process(args.checkpoint, ["features", str(3600 * hours)])
    else:
        with tempfile.TemporaryDirectory() as folder:
            for minutes in args.minutes:
                path = Path(folder) / f"{minutes:g}.mp4"
                write_video(path, 60 * minutes, size)
                in_process(args.checkpoint, ["video", str(path), args.paths[0]])
                path.unlink()


def in_process(checkpoint: str, words: list[str]) -> None:
    subprocess.run([sys.executable, __file__, "one", checkpoint, *words], check=True)


def one(checkpoint: str, words: list[str]) -> None:
    """One input, in a process of its own."""
    from clipwise.infer.localize import Localizer

    kind, value, *recognizer = words
    localizer = Localizer(checkpoint, recognizer[0] if recognizer else None, device="cpu", labeler=False)
    localizer(
        np.zeros((64, localizer.rules.feat_dim), np.float32), duration_s=64 * step_of(localizer)
    )  # code is loaded
    given: Any = value
    seconds = None
    if kind == "features":
        seconds = float(value)
        count = round(seconds / step_of(localizer))
        given = np.random.default_rng(0).normal(size=(count, localizer.rules.feat_dim)).astype(np.float32)
    before, started = peak_mb(), time.perf_counter()
    found = localizer(given, duration_s=seconds)
    spent = time.perf_counter() - started
    row = {"hours": round(found.duration_s / 3600, 3), "segments": len(found.segments), "seconds": round(spent, 1)}
    print(json.dumps({**row, "peak_mb": peak_mb(), "peak_mb_before": before}), flush=True)


def step_of(localizer: Any) -> float:
    return localizer.trained_on["feature_step_s"]


def peak_mb() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used // (1024 * 1024 if sys.platform == "darwin" else 1024)


def pair(folder: Path, size: tuple[int, ...]) -> None:
    """A recognizer and a BMN on its features, in windows of 32 s."""
    from clipwise.cli import main as clipwise

    (folder / "clips").mkdir(parents=True)
    database = {}
    for number in range(4):
        write_video(folder / "clips" / f"v{number}.mp4", 60, size)
        entry = [{"segment": [10, 20], "label": "a"}]
        database[f"v{number}"] = {
            "duration": 60,
            "subset": ("training", "validation")[number > 2],
            "annotations": entry,
        }
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    lines = "".join(f"v{number}.mp4 {number % 2}\n" for number in range(4))
    (folder / "clips" / "train.txt").write_text(lines)
    (folder / "clips" / "val.txt").write_text(lines)
    common = ["--max-steps", "2", "num_workers=0", "batch_size=2"]
    words = ["--data", str(folder / "clips" / "train.txt"), "--val-data", str(folder / "clips" / "val.txt")]
    assert (
        clipwise(
            ["train", "tsm_tiny", *words, "--work-dir", str(folder / "tsm"), "epochs=1", "warmup_epochs=0", *common]
        )
        == 0
    )
    recognizer = str(folder / "tsm" / "last.safetensors")
    assert clipwise(["features", recognizer, str(folder / "clips"), "--out", str(folder / "features")]) == 0
    more = ["--data", str(folder), "--work-dir", str(folder / "bmn"), "window_s=32", "temporal_dim=64", "epochs=1"]
    assert clipwise(["train", "bmn_tiny", *more, *common]) == 0
    for name in ("tsm", "bmn"):
        (folder / f"{name}.safetensors").write_bytes((folder / name / "last.safetensors").read_bytes())


def write_video(path: Path, seconds: float, size: tuple[int, ...]) -> None:
    """A square that moves about, to be decoded; nothing to be found."""
    import av

    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("mpeg4", rate=25)
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        side = size[1] // 4
        for number in range(round(seconds * 25)):
            image = np.full((size[1], size[0], 3), 90, np.uint8)
            x, y = number * 3 % (size[0] - side), number % (size[1] - side)
            image[y : y + side, x : x + side] = 200
            for packet in stream.encode(av.VideoFrame.from_ndarray(image)):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def joined(checkpoint: str, paths: list[str], parts: int, cut_s: float) -> None:
    from clipwise.data.feature_dataset import FeatureStore
    from clipwise.data.formats.annotation_files import read_annotations
    from clipwise.infer.localize import Localizer
    from clipwise.tasks.detection_metrics import detection_map

    data, features, annotations = paths
    store = FeatureStore(Path(data) / features)
    videos = list(read_annotations(Path(data) / annotations).subset("validation").videos.values())
    localizer = Localizer(checkpoint, device="cpu", labeler=False)
    scores: dict[str, list] = {"parts": [], "joined": [], f"joined, {cut_s:g} s cut": []}
    for at in range(0, len(videos) - parts + 1, parts):
        some = videos[at : at + parts]
        rows = [store.read(v.name) for v in some]
        truth = {v.name: _entries(v.segments) for v in some}
        scores["parts"].append(
            detection_map(truth, {v.name: _found(localizer, x, v.duration_s) for v, x in zip(some, rows)}, [0.3, 0.5])
        )
        starts = np.cumsum([0.0] + [v.duration_s for v in some])
        spans = np.concatenate([v.segments + start for v, start in zip(some, starts)])
        for name, cut in (("joined", 0.0), (f"joined, {cut_s:g} s cut", cut_s)):
            step = starts[1] / len(rows[0])
            first = round(cut / step)
            values, shift = np.concatenate(rows)[first:], first * step
            kept = spans[spans[:, 0] >= shift] - shift
            found = {"file": _found(localizer, values, float(starts[-1] - shift))}
            scores[name].append(detection_map({"file": _entries(kept)}, found, [0.3, 0.5]))
    for name, each in scores.items():
        mean = 100 * np.mean([one.per_tiou for one in each], axis=0)
        print(json.dumps({"what": name, "mAP@0.3": round(mean[0], 1), "mAP@0.5": round(mean[1], 1)}), flush=True)


def _entries(segments: np.ndarray) -> list[dict[str, Any]]:
    return [{"segment": s, "label": "segment"} for s in segments.tolist()]


def _found(localizer: Any, values: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    rows = localizer.find(values, seconds).proposals.tolist()
    return [{"segment": [a, b], "score": score, "label": "segment"} for a, b, score in rows]


if __name__ == "__main__":
    main()
