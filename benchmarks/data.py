"""How fast clips come: clipwise's reader against decord + OpenCV + float normalization in the worker (MMAction2's way).

    python benchmarks/data.py                       # makes its videos from ../shared/data/real_videos, or draws some
    python benchmarks/data.py --videos A.mp4 B.mp4 --out result.json

Both routes run in the same process, in turn, on the same frames of the same videos, one thread each; the figure is the CPU time of a
clip (user and system time, so other work on the machine matters little): the median over repeats, averaged over the videos. The loader figures are wall time of two worker
processes, with the normalization that clipwise leaves to the device done in the main process. decord and opencv-python are peers, never
dependencies: without them only clipwise's own figures are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from clipwise.data.sampling import Rule, sample_frames
from clipwise.data.transforms import ClipTransform, normalize_clips
from clipwise.prepare.prepare import index_videos, resize_videos
from clipwise.video.decode import open_video
from clipwise.video.packets import TABLES

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PATTERNS: dict[str, tuple[int, int, int, Rule | None]] = {  # name: clips or segments, frames, interval, rule of a test
    "TSN-8": (8, 1, 1, None),
    "4x16": (1, 4, 16, None),
    "8x8": (1, 8, 8, None),
    # SlowOnly's: ten clips, three crops. By the rule of 0.x the clips of 300 frames lie 24 frames apart, so that they have frames in
    # common, which decord decodes once; by the rule of 1.x 27 frames apart, with none in common.
    "ten-clip test": (10, 8, 8, "mmaction2_1.x"),
    "ten-clip test 0.x": (10, 8, 8, "mmaction2_0.x"),
}
FORMS = ("as is", "short side 320", "prepared", "prepared and indexed")
SIZE = 224


def draw_indices(pattern: str, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    clips, length, interval, test_rule = PATTERNS[pattern]
    return sample_frames(
        num_frames,
        clip_len=length,
        frame_interval=interval,
        num_clips=clips,
        mode="test" if test_rule else "train",
        rule=test_rule or "mmaction2_1.x",
        rng=rng,
    )


# ---- our way: seek, crop and resize each frame as it comes, uint8 to the device -----------------------------------------------------

TRAIN = ClipTransform(resize=256, crop="random_resized", crop_size=SIZE, flip_prob=0.5)
TEST = ClipTransform(resize=256, crop="three", crop_size=256)


def ours(path: str, pattern: str, seed: int, forget: bool = True) -> np.ndarray:
    """A clip as (T, crops, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    if forget:
        TABLES.clear()  # every clip pays for the pass over the packets, as in the first epoch
    with open_video(path) as reader:
        indices = draw_indices(pattern, reader.num_frames, rng)
        plan = (TEST if PATTERNS[pattern][3] else TRAIN).draw(reader.height, reader.width, rng)
        return reader.frames(indices.ravel(), transform=plan.apply)


# ---- the other way: MMAction2's DecordInit, SampleFrames, DecordDecode, Resize, RandomResizedCrop, Resize, Flip (in tests ThreeCrop),
# Normalize, FormatShape, step by step and with as many copies as there ------------------------------------------------------------------


def naive(path: str, pattern: str, seed: int) -> np.ndarray:
    """A clip as (crops x clips, C, T, H, W) float32."""
    import cv2
    import decord

    rng = np.random.default_rng(seed)
    reader = decord.VideoReader(open(path, "rb"), num_threads=1)  # noqa: SIM115 - as MMAction2's file client: from memory
    indices = draw_indices(pattern, len(reader), rng)
    frames = list(
        reader.get_batch(indices.ravel()).asnumpy()
    )  # one call for all clips; decord decodes repeated numbers once
    height, width = frames[0].shape[:2]
    scale = 256 / min(height, width)
    size = (int(width * scale + 0.5), int(height * scale + 0.5))
    frames = [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in frames]
    plan = (TEST if PATTERNS[pattern][3] else TRAIN).draw(height, width, rng)
    frames = [frame[top:bottom, left:right] for left, top, right, bottom in plan.boxes for frame in frames]
    if frames[0].shape[:2] != plan.output:
        frames = [cv2.resize(frame, plan.output[::-1], interpolation=cv2.INTER_LINEAR) for frame in frames]
    if plan.flipped:
        for frame in frames:
            cv2.flip(frame, 1, frame)
    mean, factor = np.float64(MEAN).reshape(1, -1), 1 / np.float64(STD).reshape(1, -1)
    clip = np.empty((len(frames), *plan.output, 3), np.float32)
    for at, frame in enumerate(frames):
        clip[at] = frame
    for pixels in clip:
        cv2.subtract(pixels, mean, pixels)
        cv2.multiply(pixels, factor, pixels)
    clip = clip.reshape(-1, *indices.shape, *clip.shape[1:])  # (crops, clips, T, H, W, C)
    clip = clip.transpose(0, 1, 5, 2, 3, 4)
    return clip.reshape(-1, *clip.shape[2:])


def missing_peers() -> list[str]:
    missing = []
    for name in ("decord", "cv2"):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    if not missing:
        import cv2

        cv2.setNumThreads(0)
    return missing


# ---- videos --------------------------------------------------------------------------------------------------------------------------


def source_videos(folder: Path) -> list[Path]:
    real = Path(os.environ.get("CLIPWISE_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data/real_videos"
    found = [real / f"{name}.mp4" for name in ("clean_and_jerk", "demo", "skateboarding", "ta_chi", "test")]
    if all(path.exists() for path in found):
        return found
    print("real videos are not here: drawing some", file=sys.stderr)
    return [drawn_video(folder / f"drawn_{seed}.mp4", seed) for seed in range(3)]


def drawn_video(path: Path, seed: int) -> Path:
    """Ten seconds of a textured background that pans under moving patches, 340×256, x264's defaults."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.integers(0, 255, (1, 3, 80, 110)).astype(np.float32))
    scene = (
        torch.nn.functional.interpolate(noise, size=(600, 800), mode="bicubic")[0]
        .clamp(0, 255)
        .byte()
        .permute(1, 2, 0)
        .numpy()
    )
    frames = []
    for at in range(300):
        image = scene[at // 3 : at // 3 + 256, at // 2 : at // 2 + 340].copy()
        x = int(150 + 100 * np.sin(at / 20))
        image[80:160, x : x + 60] = scene[-80:, -60:]
        frames.append(image)
    return write(path, frames, 30)


def write(path: Path, frames, fps) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "23"})
        for image in frames:
            height, width = image.shape[:2]
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def at_short_side(source: Path, target: Path, short_side: int) -> Path:
    """x264 with its own defaults (a keyframe every 250 frames, three B-frames), as most data sets are stored."""
    with open_video(source) as reader, av.open(str(target), "w") as container:
        scale = short_side / min(reader.height, reader.width)
        stream = container.add_stream("libx264", rate=round(reader.fps), options={"crf": "23"})
        stream.width, stream.height = (
            round(reader.width * scale / 2) * 2,
            round(reader.height * scale / 2) * 2,
        )
        stream.pix_fmt = "yuv420p"
        for _, image in reader.iterate():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return target


# ---- measuring -----------------------------------------------------------------------------------------------------------------------


def cpu_ms_by_video(
    routes: dict[str, Callable[[str, str, int], object]], paths: list[str], pattern: str, repeats: int
) -> dict[str, list[float]]:
    """CPU milliseconds of a clip for each route and video: the median over the repeats. The routes take turns."""
    times: dict[str, list[list[float]]] = {name: [[] for _ in paths] for name in routes}
    for repeat in range(-1, repeats):
        for number, path in enumerate(paths):
            for name, route in routes.items():
                started = time.process_time()
                route(path, pattern, (repeat + 1) * 100 + number)
                if repeat >= 0:  # the first round warms up
                    times[name][number].append((time.process_time() - started) * 1e3)
    return {name: [statistics.median(of_video) for of_video in values] for name, values in times.items()}


class Clips(Dataset):
    def __init__(self, route: Callable, paths: list[str], pattern: str, count: int):
        self.route, self.paths, self.pattern, self.count = route, paths, pattern, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.route(self.paths[index % len(self.paths)], self.pattern, index))


def one_thread(_: int) -> None:
    torch.set_num_threads(1)


def loader_speed(route: Callable, paths: list[str], pattern: str, count: int) -> tuple[float, float]:
    """Two workers, batches of 4, ready as normalized floats in the main process: clips a second, and CPU ms of a clip (all processes)."""
    cpu, started = all_cpu_s(), time.perf_counter()
    loader = DataLoader(Clips(route, paths, pattern, count), batch_size=4, num_workers=2, worker_init_fn=one_thread)
    for batch in loader:
        if batch.dtype == torch.uint8:  # (B, T, 1, H, W, 3)
            normalize_clips(batch[:, :, 0], MEAN, STD)
    del loader
    return count / (time.perf_counter() - started), (all_cpu_s() - cpu) / count * 1e3


def all_cpu_s() -> float:
    """CPU seconds of this process and of those it has waited for."""
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", nargs="+", type=Path, help="H.264 files as they are")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--loader-clips", type=int, default=96)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="which forms of the videos")
    parser.add_argument("--only", choices=("cpu", "loader"), help="one of the two tables")
    parser.add_argument("--folder", type=Path, help="keep the videos that are made, and use them again")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    missing = missing_peers()
    if missing:
        print(f"not installed: {', '.join(missing)}; only clipwise is measured", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(make_forms(args.videos, args.folder or Path(temporary)), args, with_peer=not missing)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))


def make_forms(videos: list[Path] | None, folder: Path) -> dict[str, list[Path]]:
    """The videos in all the forms in which a data set may be stored."""
    folder.mkdir(parents=True, exist_ok=True)
    as_is = videos or source_videos(folder)
    at_320 = [folder / f"320_{v.stem}.mp4" for v in as_is]
    for source, target in zip(as_is, at_320):
        if not target.exists():
            at_short_side(source, target, 320)
    forms = {"as is": as_is, "short side 320": at_320}
    for form in FORMS[2:]:
        made = resize_videos(as_is, folder / form, short_side=256, workers=2)
        if made.failed:
            raise SystemExit(f"preparing failed: {made.failed}")
        forms[form] = [Path(made.outputs[str(v)]) for v in as_is]
    index_videos(folder / FORMS[3], workers=1)
    return forms


def measure(forms: dict[str, list[Path]], args: argparse.Namespace, with_peer: bool) -> dict:
    result: dict = {"machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores", "torch": torch.__version__,
                    "av": av.__version__, "cpu_ms": {}, "loader": {}}  # fmt: skip
    print(
        f"{'videos':22}{'pattern':19}{'ours ms':>9}{'naive ms':>10}{'clips/s':>9}{'ratio':>8}{'by video':>14}{'to naive as is':>16}"
    )
    first: dict[str, float] = {}
    bases: dict[str, tuple[float, float]] = {}
    for form in args.forms if args.only != "loader" else ():
        paths = [str(v) for v in forms[form]]
        for pattern in PATTERNS:
            routes: dict[str, Callable] = {"ours": ours, "naive": naive} if with_peer else {"ours": ours}
            times = cpu_ms_by_video(routes, paths, pattern, args.repeats)
            mine, theirs = times["ours"], times.get("naive", [float("nan")] * len(paths))
            mean, naive_mean = statistics.fmean(mine), statistics.fmean(theirs)
            first.setdefault(pattern, naive_mean)
            ratios = [b / a for a, b in zip(mine, theirs)]
            result["cpu_ms"][f"{form} / {pattern}"] = {
                "ours": mean,
                "naive": naive_mean,
                "ratio_by_video": dict(zip(map(os.path.basename, paths), ratios)),
            }
            print(f"{form:22}{pattern:19}{mean:9.1f}{naive_mean:10.1f}{1e3 / mean:9.1f}{naive_mean / mean:7.2f}x"
                  f"{f'{min(ratios):.2f} to {max(ratios):.2f}':>14}{first[pattern] / mean:15.2f}x", flush=True)  # fmt: skip
    if args.only == "cpu":
        return result
    print(
        f"\n{'two workers':22}{'pattern':15}{'ours /s':>9}{'naive /s':>10}{'ratio':>8}{'to naive as is':>16}{'ours CPU ms':>13}{'ratio':>8}{'as is':>8}"
    )
    for form in args.forms:
        paths = [str(v) for v in forms[form]]
        for pattern in ("TSN-8", "8x8"):
            runs: dict[str, list[tuple[float, float]]] = {"ours": [], "naive": []}
            for _ in range(3):  # in turn, so that other work on the machine meets both
                runs["ours"].append(loader_speed(ours, paths, pattern, args.loader_clips))
                if with_peer:
                    runs["naive"].append(loader_speed(naive, paths, pattern, args.loader_clips))
            mine, my_cpu = (statistics.median(values) for values in zip(*runs["ours"]))
            theirs, their_cpu = (
                (statistics.median(values) for values in zip(*runs["naive"])) if with_peer else (float("nan"),) * 2
            )
            base, base_cpu = bases.setdefault(pattern, (theirs, their_cpu))
            result["loader"][f"{form} / {pattern}"] = {
                "ours_per_s": mine,
                "naive_per_s": theirs,
                "ours_cpu_ms": my_cpu,
                "naive_cpu_ms": their_cpu,
            }
            print(f"{form:22}{pattern:15}{mine:9.1f}{theirs:10.1f}{mine / theirs:7.2f}x{mine / base:15.2f}x{my_cpu:13.1f}{their_cpu / my_cpu:7.2f}x"
                  f"{base_cpu / my_cpu:7.2f}x", flush=True)  # fmt: skip
    return result


if __name__ == "__main__":
    main()
