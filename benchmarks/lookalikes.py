"""How many re-encoded copies does ``clipwise check`` find, and how many pairs of different videos does it take for copies?

    python benchmarks/lookalikes.py FOLDER_OR_LIST [--copies 40] [--seed 0]

Encodes some of the videos again (x264 at CRF 23 to 32, VP9, H.265, MPEG-4; 0.5 to 1 times the size) and compares all with all, as if
every video lay in a part of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import av
import numpy as np

from clipwise.data.lists import read_list
from clipwise.prepare.lookalikes import LENGTH_TOLERANCE, find_lookalikes, first_frame_cells, thumbnail
from clipwise.video.decode import open_video

KINDS = [
    ("libx264", 1.0, {"crf": "23"}),
    ("libx264", 0.5, {"crf": "23"}),
    ("libx264", 0.75, {"crf": "28"}),
    ("libx264", 0.5, {"crf": "30"}),
    ("libx264", 1.0, {"crf": "32"}),
    ("libx264", 0.5, {"crf": "32"}),
    ("libvpx-vp9", 1.0, {"crf": "36", "b": "0", "cpu-used": "8"}),
    ("libvpx-vp9", 0.5, {"crf": "32", "b": "0", "cpu-used": "8"}),
    ("libx265", 0.6, {"crf": "30", "x265-params": "log-level=error"}),
    ("mpeg4", 0.7, {"qscale": "6", "flags": "+qscale"}),
]


def encode_again(source: str, target: Path, codec: str, scale: float, options: dict[str, str]) -> None:
    """Encode a video again, in another codec and size."""
    with open_video(source) as reader, av.open(str(target), "w") as container:
        stream = container.add_stream(codec, rate=round(reader.fps), options=options)
        width, height = (max(16, int(side * scale / 2) * 2) for side in (reader.width, reader.height))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _, frame in reader.iterate():
            image = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(width, height, interpolation="BICUBIC")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))


def look(path: str) -> tuple[bytes, float]:
    with open_video(path) as reader:
        return first_frame_cells(reader.frames([0], transform=thumbnail)[0]), reader.duration_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="folders of classes, or lists")
    parser.add_argument(
        "--copies", type=int, default=40, metavar="N", help="videos to encode again, in each of ten ways"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    paths = [path for source in args.data for path in read_list(source).paths()]
    chosen = np.random.default_rng(args.seed).permutation(len(paths))[: args.copies]
    with tempfile.TemporaryDirectory() as scratch:
        own = []
        everything = list(paths)
        for number, (codec, scale, options) in enumerate(KINDS):
            for index in chosen.tolist():
                target = Path(scratch) / f"{number}_{index}.mkv"
                encode_again(paths[index], target, codec, scale, options)
                everything.append(str(target))
                own.append((index, number))
        cells, lengths = zip(*map(look, everything))
        found = set(find_lookalikes(everything, cells, lengths, range(len(everything))))
    hits = [(index, len(paths) + at) in found for at, (index, _) in enumerate(own)]
    for number, (codec, scale, options) in enumerate(KINDS):
        some = [hit for hit, (_, kind) in zip(hits, own) if kind == number]
        print(f"{codec:11s} {scale:4.2f}x  {' '.join(f'{k}={v}' for k, v in options.items()):45s} {np.mean(some):6.1%}")
    seconds = np.array(lengths[: len(paths)])
    longer = np.maximum.outer(seconds, seconds)
    comparable = (np.triu(np.abs(np.subtract.outer(seconds, seconds)) <= LENGTH_TOLERANCE * longer, 1)).sum()
    wrong = sum(b < len(paths) for _, b in found)
    print(f"copies found: {np.mean(hits):.1%} of {len(hits)}")
    print(
        f"different videos taken for copies: {wrong} of {comparable} pairs of the same length ({wrong / comparable:.2e})"
    )


if __name__ == "__main__":
    main()
