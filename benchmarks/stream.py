"""A long file at constant memory: makes one by looping a real video, streams it, and follows the process's memory.

    python benchmarks/stream.py ../shared/data/real_videos/clean_and_jerk.mp4 --minutes 20

Prints a line of JSON: resident memory after each tenth of the file, the speed, and the windows.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import av
import torch

from clipwise.engine.checkpoint import Passport
from clipwise.infer.predictor import Predictor, load
from clipwise.infer.stream import Streamer
from clipwise.models.recipe_model import build_model, model_args
from clipwise.recipe import load_recipe
from clipwise.video.live import Source


def loop_video(source: str, target: Path, minutes: float) -> float:
    """Write ``source`` again and again, packets as they are, until the file is long enough; returns its seconds."""
    with av.open(str(target), "w") as out:
        stream, offset = None, 0
        while stream is None or offset * stream.time_base < minutes * 60:
            with av.open(source) as read:
                video = read.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                packets = [p for p in read.demux(video) if p.dts is not None]
                first = min(p.dts for p in packets)
                end = max(p.pts + (p.duration or 0) for p in packets)
                base = video.time_base
                for packet in packets:
                    packet.pts += offset - first
                    packet.dts += offset - first
                    packet.stream = stream
                    out.mux(packet)
                offset += end - first
                length = float(offset * base)
            if length >= minutes * 60:
                return length
    raise AssertionError("unreachable")


def resident_mb() -> float:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--checkpoint", help="random weights of --recipe if not given")
    parser.add_argument("--recipe", default="slowonly_tiny")
    parser.add_argument("--window", type=float, default=4.0)
    parser.add_argument("--stride", type=float, default=2.0)
    args = parser.parse_args()
    if args.checkpoint:
        predictor = load(args.checkpoint)
    else:
        recipe = load_recipe(args.recipe)
        torch.manual_seed(0)
        passport = Passport(recipe.model, model_args(recipe, 10), recipe=recipe.model_dump())
        predictor = Predictor(build_model(recipe, 10).eval(), passport, device=torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.mp4"
        seconds = loop_video(args.video, long, args.minutes)
        streamer = Streamer(predictor, window_s=args.window, stride_s=args.stride)
        memory: list[float] = []
        began, cpu = time.perf_counter(), time.process_time()
        for window in streamer(Source(long)):
            if window.end_s >= seconds * (len(memory) + 1) / 10 - args.stride:
                memory.append(round(resident_mb(), 1))
        spent, cpu = time.perf_counter() - began, time.process_time() - cpu
        result = {
            "minutes": round(seconds / 60, 2),
            "file_mb": round(long.stat().st_size / 1e6, 1),
            "frames": streamer.frames_read,
            "windows": streamer.windows,
            "resident_mb_after_each_tenth": memory,
            "seconds": round(spent, 1),
            "cpu_seconds": round(cpu, 1),
            "times_real_time": round(seconds / spent, 1),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
