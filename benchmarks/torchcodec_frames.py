"""TorchCodec beside PyAV over a folder of odd videos: frame numbers, colors, speed, and which files clipwise leaves to PyAV.

    python benchmarks/torchcodec_frames.py ../shared/data/videos [--device cuda]      needs the extra `codec`

Alone: what `torchcodec.decoders.VideoDecoder` gives by itself. Frame i is right if it is nearest to PyAV's frame i among the frames i-3 to
i+3 (of those that differ at all from their neighbors). Through clipwise: `open_video(backend="torchcodec")`, which asks the packet table.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torchcodec
from torchcodec.decoders import VideoDecoder

from clipwise.errors import ClipwiseError
from clipwise.video.decode import open_video

SUFFIXES = {".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts", ".mpg", ".flv", ".wmv", ".m4v", ".3gp", ".ogv"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default=None)
    parser.add_argument("--frames", type=int, default=60, help="of each video (default 60)")
    args = parser.parse_args()
    print(
        f"TorchCodec {torchcodec.__version__}, FFmpeg {torchcodec.ffmpeg_major_version}, device {args.device or 'cpu'}\n"
    )
    print(
        "| video | frames PyAV / alone | wrong frames alone | color alone: mean, largest | through clipwise | color | ms a frame, PyAV / TorchCodec |"
    )
    print("|---|---|---|---|---|---|---|")
    for path in sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        print(f"| `{path.relative_to(args.folder)}` | " + " | ".join(row(path, args)) + " |", flush=True)


def row(path: Path, args: argparse.Namespace) -> list[str]:
    try:
        with open_video(path) as reader:
            count = reader.num_frames
            places = np.unique(np.linspace(0, count - 1, min(count, args.frames)).astype(int))
            near = np.unique(np.clip(places[:, None] + np.arange(-3, 4), 0, count - 1))
            began = time.perf_counter()
            truth = dict(zip(near.tolist(), reader.frames(near)))
            ours = 1000 * (time.perf_counter() - began) / len(near)
    except ClipwiseError as error:
        return [f"PyAV: {str(error).replace(str(path), '')[:60].strip(': ')}", "", "", "", "", ""]
    numbers, wrong, color = alone(path, places, truth, args.device)
    try:
        with open_video(path, backend="torchcodec", device=args.device) as reader:
            began = time.perf_counter()
            frames = reader.frames(near)
            theirs = 1000 * (time.perf_counter() - began) / len(near)
            difference = np.abs(frames.astype(int) - np.stack([truth[i] for i in near.tolist()]))
            by = "TorchCodec" if reader.fell_back is None else f"PyAV ({reader.fell_back.splitlines()[0][:60]})"
            found = [by, f"{difference.mean():.2f}, {difference.max()}", f"{ours:.2f} / {theirs:.2f}"]
    except ClipwiseError as error:
        found = [f"refused: {str(error).replace(str(path), '')[:60].strip(': ')}", "", ""]
    return [f"{count} / {numbers}", wrong, color, *found]


def alone(path: Path, places: np.ndarray, truth: dict[int, np.ndarray], device: str | None) -> tuple[str, str, str]:
    """Frames that TorchCodec counts, how many of ours are others, and the largest difference of a color where they are the same."""
    try:
        decoder = VideoDecoder(str(path), dimension_order="NHWC", device=device)
        numbers = len(decoder)
        if decoder[0].shape != truth[0].shape:
            return str(numbers), f"size {tuple(decoder[0].shape[:2])} for {truth[0].shape[:2]}", ""
        wrong, means, largest = 0, [0.0], 0
        for place in places.tolist():
            if place >= numbers:
                wrong += 1
                continue
            frame = decoder[place].cpu().numpy().astype(int)
            gaps = {i: np.abs(frame - truth[i]).mean() for i in range(place - 3, place + 4) if i in truth}
            if gaps[place] > min(gaps.values()) + 0.01:
                wrong += 1
            else:
                difference = np.abs(frame - truth[place])
                means.append(difference.mean())
                largest = max(largest, int(difference.max()))
        return str(numbers), f"{wrong} of {len(places)}", f"{max(means):.2f}, {largest}"
    except (RuntimeError, ValueError, IndexError) as error:
        return "-", f"{str(error).splitlines()[0][:60]}", ""


if __name__ == "__main__":
    main()
