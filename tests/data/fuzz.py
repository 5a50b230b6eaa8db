"""Random video files for the tests of the readers: any codec, structure, frame rate and container that FFmpeg writes, whole or damaged.

As a script it damages files and compares random access with a plain decode:

    python tests/data/fuzz.py --files 1000                                   files with random settings
    python tests/data/fuzz.py --files 1000 --sources ../shared/data          real ones, half of them moved to another container
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder writes to the terminal

CELL, BITS = 8, 10

ENCODERS = {
    "libx264": ("mp4", "mkv", "mov", "avi", "ts", "flv"),
    "libx265": ("mp4", "mkv"),
    "mpeg4": ("mp4", "mkv", "avi", "mov"),
    "mpeg2video": ("mpg", "mkv", "ts", "mp4"),
    "libvpx": ("webm", "mkv"),
    "libvpx-vp9": ("webm", "mp4"),
    "libsvtav1": ("mp4", "mkv"),
    "mjpeg": ("avi", "mkv", "mov"),
    "ffv1": ("mkv", "avi"),
}


def picture(index: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: the frame's number as black and white cells, over a slowly moving pattern."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 3 + index * 5, y * 4 - index * 3, x + y + index * 2], axis=-1) % 256
    image = (image // 4 + 96).astype(np.uint8)
    for bit in range(BITS):
        image[4 : 4 + CELL, 4 + bit * CELL : 4 + (bit + 1) * CELL] = 235 if index >> bit & 1 else 16
    return image


def number_in(image: np.ndarray) -> int:
    """The number that :func:`picture` drew."""
    middle = image[4 + CELL // 2, 4 + CELL // 2 : 4 + BITS * CELL : CELL].astype(int).mean(axis=-1)
    return int(((middle > 128) << np.arange(BITS)).sum())


def encode(path: Path, codec: str, num_frames: int, *, options: dict[str, str] | None = None, fps: Fraction | int = 25,
           size: tuple[int, int] = (64, 96), gop: int | None = None, b_frames: int | None = None, start: int = 0,
           steps: list[int] | None = None, pix_fmt: str | None = None, container_options: dict[str, str] | None = None) -> Path:  # fmt: skip
    """Writes ``num_frames`` numbered pictures; ``steps`` are the distances between time stamps, in frames, cycled (variable rate)."""
    height, width = size
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = width, height
        stream.pix_fmt = pix_fmt or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        stream.codec_context.thread_count = 1
        if gop is not None:
            stream.codec_context.gop_size = gop
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        base = 1 / Fraction(fps) / 2 if steps else 1 / Fraction(fps)
        stream.codec_context.time_base = base
        at = start
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(index, height, width), format="rgb24")
            frame.pts, frame.time_base = at, base
            at += steps[index % len(steps)] if steps else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def random_file(folder: Path, rng: random.Random, name: str) -> tuple[Path, str] | None:
    """A file with random settings and what they were, or None where the encoder or the container refuses them."""
    codec = rng.choices(list(ENCODERS), weights=[10, 3, 3, 2, 2, 2, 1, 1, 1])[0]
    container = rng.choice(ENCODERS[codec])
    options: dict[str, str] = {}
    gop = rng.choice([1, 2, 5, 8, 12, 25, 250])
    b_frames = None
    if codec == "libx264":
        b_frames = rng.choice([0, 1, 2, 3, 5])
        x264 = [
            f"open-gop={rng.randint(0, 1)}",
            f"b-pyramid={rng.choice(['none', 'strict', 'normal'])}",
            f"ref={rng.choice([1, 3, 6])}",
        ]
        if rng.random() < 0.15:
            x264.append("intra-refresh=1")
        if rng.random() < 0.1:
            x264.append("interlaced=1")
        options = {"preset": rng.choice(["ultrafast", "veryfast", "medium"]), "x264-params": ":".join(x264)}
        if rng.random() < 0.2:
            options["tune"] = rng.choice(["fastdecode", "zerolatency", "animation"])
    elif codec == "libx265":
        b_frames = rng.choice([0, 2, 4])
        params = f"open-gop={rng.randint(0, 1)}:b-pyramid={rng.randint(0, 1)}:log-level=none:pools=none:frame-threads=1"
        options = {"preset": "ultrafast", "x265-params": params}
    elif codec in ("mpeg4", "mpeg2video"):
        b_frames = rng.choice([0, 0, 2])
    elif codec.startswith("libvpx"):
        options = {
            "deadline": "realtime",
            "cpu-used": "8",
            "auto-alt-ref": str(rng.randint(0, 1)),
            "lag-in-frames": str(rng.choice([0, 12])),
        }
    elif codec == "libsvtav1":
        options = {"preset": "12", "svtav1-params": "lp=1"}
    fps = rng.choice([Fraction(25), Fraction(30000, 1001), Fraction(10), Fraction(60)])
    steps = (
        rng.choice([None, None, [2], [2, 2, 4], [1, 3, 2, 6]]) if container in ("mp4", "mkv", "mov", "webm") else None
    )
    container_options = (
        {"movflags": rng.choice(["faststart", "frag_keyframe+empty_moov", "0"])} if container in ("mp4", "mov") else {}
    )
    frames = rng.choice([1, 2, 3, 7, 20, 45, 70])
    size = rng.choice([(64, 96), (50, 98), (96, 88)])
    start = rng.choice([0, 0, 0, 7, 250])
    settings = dict(
        options=options,
        fps=fps,
        size=size,
        gop=gop,
        b_frames=b_frames,
        start=start,
        steps=steps,
        container_options=container_options,
    )
    path = folder / f"{name}.{container}"
    try:
        return encode(path, codec, frames, **settings), f"{codec} {container} {frames} frames, {settings}"
    except (av.error.FFmpegError, ValueError, OSError):
        path.unlink(missing_ok=True)
        return None
    finally:
        # SVT-AV1 makes its caller a real-time process (SCHED_FIFO 99) where that is root: the rest of the machine then stands still.
        if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


DAMAGES = [
    "bits",
    "bits",
    "bits",
    "bytes",
    "zeros",
    "noise",
    "cut",
    "hole",
    "twice",
    "swapped",
    "head",
    "tail",
    "headless",
]


VIDEO_SUFFIXES = frozenset(("mp4", "mkv", "avi", "webm", "mov", "wmv", "mpg", "flv", "gif", "ts", "m4v"))
CONTAINERS = ("mp4", "mkv", "mov", "avi", "ts", "flv", "fragmented.mp4")


def real_file(sources: list[Path], folder: Path, rng: random.Random) -> tuple[Path, str] | None:
    """A copy of one of the files, half of the time with its packets in another container, and what it is."""
    source = rng.choice(sources)
    path = folder / f"whole{source.suffix.lower()}"
    path.write_bytes(source.read_bytes())
    if rng.random() < 0.5:
        return path, str(source)
    container = rng.choice(CONTAINERS)
    moved = folder / f"moved.{container}"
    movflags = {"movflags": "frag_keyframe+empty_moov"} if container.startswith("fragmented") else {}
    try:
        with av.open(str(path)) as there, av.open(str(moved), "w", options=movflags) as here:
            stream = here.add_stream_from_template(there.streams.video[0])
            for packet in there.demux(there.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    here.mux(packet)
    except (
        av.error.FFmpegError,
        ValueError,
        OSError,
        IndexError,
        AttributeError,
    ):  # a broken file, or a container that does not take it
        moved.unlink(missing_ok=True)
        return path, str(source)
    path.unlink()
    return moved, f"{source} as {container}"


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A file's bytes with one kind of damage, and which: as bad disks, broken transfers and careless tools leave them."""
    out = bytearray(data)
    size = len(out)
    kind = rng.choice(DAMAGES)
    start, length = rng.randrange(size), rng.randint(1, max(1, size // 10))
    if kind in ("bits", "head", "tail"):
        low, high = {"bits": (0, size), "head": (0, min(size, 2048)), "tail": (max(0, size - 2048), size)}[kind]
        for _ in range(rng.choice([1, 1, 2, 5, 20])):
            out[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
    elif kind == "bytes":
        for _ in range(rng.choice([1, 5, 50])):
            out[rng.randrange(size)] = rng.randrange(256)
    elif kind == "zeros":
        out[start : start + length] = bytes(len(out[start : start + length]))
    elif kind == "noise":
        out[start : start + length] = rng.randbytes(len(out[start : start + length]))
    elif kind == "cut":
        del out[start:]
    elif kind == "hole":
        del out[start : start + length]
    elif kind == "headless":
        del out[: rng.randint(1, max(1, min(size // 2, 4096)))]
    elif kind == "twice":
        out[start:start] = out[start : start + length]
    else:
        there = rng.randrange(size)
        out[start : start + length], out[there : there + length] = (
            out[there : there + length],
            out[start : start + length],
        )
    return bytes(out), kind


OUTCOMES = {
    "refused": "not opened, with a reason",
    "damage told": "`damage` is set, or a frame is refused with a reason",
    "equal": "every frame is the plain decode's of that number",
    "numbers": "every frame is the plain decode's of that time stamp, but in parts that were not read the plain decode breaks off or "
    "loses frames, so that theirs or all later numbers are others",
    "carried": "a frame is what its own keyframe and the packets after it give, without a report of the decoder; the plain decode, which "
    "has met damage before that keyframe, has another there or has lost it",
    "SILENT": "a frame is another than the plain decode's of that time stamp, and than that of its own group of frames",
}


def compare_with_plain_decode(
    path: Path, rng: random.Random, reads: int = 8, verify: bool = False
) -> tuple[str, str | None]:
    """Reads a file at random and compares with a plain decode.

    Args:
        verify: open it so that it is decoded once, as ``clipwise check --depth full`` does.

    Returns:
        What became of the file (see ``OUTCOMES``), and the first frame that is not the plain decode's.
    """
    from clipwise.errors import DecodeError
    from clipwise.video.decode import open_video
    from clipwise.video.packets import TABLES

    truth, told, different, carried = PlainDecode(path), False, None, None
    reader = None
    for turn in range(reads):
        if reader is None or turn < reads // 2:  # first a new reader for each frame, then one for many
            TABLES.clear()
            if reader is not None:
                reader.close()
            try:
                reader = open_video(path, verify=verify)
            except DecodeError:
                return "refused", None
        if not reader.num_frames:
            return "damage told", None
        indices = [rng.randrange(reader.num_frames) for _ in range(1 if turn < reads // 2 else rng.choice([2, 5]))]
        try:
            frames = reader.frames(indices)
        except DecodeError:
            told = True
            continue
        if reader.damage is not None:
            told = True
            continue
        for index, frame in zip(indices, frames):
            found, where = digest(frame), f"frame {index} of {reader.num_frames}, a plain decode gives {truth.unbroken}"
            stamp = int(reader.table.pts[index]) if reader.table.seekable else None
            if index < truth.unbroken and truth.frames[index][1] == found:
                continue
            if stamp is None or (stamp, found) not in truth.frames:
                if stamp is None or (stamp, found) not in group_decode(path, reader.table, stamp):
                    reader.close()
                    return "SILENT", where
                carried = where
            different = where
    reader.close()
    return (
        "carried" if carried else "numbers" if different else "damage told" if told else "equal"
    ), carried or different


def group_decode(path: Path, table, stamp: int) -> set[tuple[int | None, bytes]]:
    """Time stamp and digest of each frame that a new decoder gives from the last keyframe before ``stamp`` on, up to the first report."""
    from clipwise.video.packets import DecoderMessages

    key = int(table.key_before(np.asarray([stamp]))[0])
    found = set()
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        codec.thread_count, codec.thread_type = 1, "NONE"
        begun, reached = False, False
        size = (codec.width, codec.height)
        for packet in container.demux(stream):
            begun = begun or packet.pts == key
            if not begun:
                continue
            with DecoderMessages() as messages:
                try:
                    decoded = packet.decode()
                except av.error.FFmpegError:
                    break
            if messages and (packet.pts is None or packet.pts >= key):
                break
            for frame in decoded:
                image = frame.to_ndarray(width=size[0], height=size[1], format="rgb24", threads=1)
                image = np.rot90(image, round(frame.rotation / 90)) if frame.rotation else image
                found.add((frame.pts, digest(image)))
                reached = reached or frame.pts >= stamp
            if reached:
                break
    return found


def digest(frame: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(frame), digest_size=16).digest()


class PlainDecode:
    """A file decoded from its start, going on after packets that the decoder refuses, in the size that the header names.

    Attributes:
        frames: time stamp and digest of each.
        unbroken: how many of them come before the first packet that the decoder refuses after a frame.
        reported: time stamps of the packets at which the decoder reports errors.
    """

    def __init__(self, path: Path):
        from clipwise.video.packets import DecoderMessages

        self.frames: list[tuple[int | None, bytes]] = []
        self.reported: list[int | None] = []
        unbroken: int | None = None
        try:
            with av.open(f"file:{path}", metadata_errors="replace") as container:
                stream = container.streams.video[0]
                codec = stream.codec_context
                codec.thread_count, codec.thread_type = 1, "NONE"
                size = (codec.width, codec.height)
                for packet in container.demux(stream):
                    decoded = []
                    with DecoderMessages() as messages:
                        try:
                            decoded = packet.decode()
                        except av.error.FFmpegError:
                            unbroken = unbroken or len(self.frames) or None  # a file may begin between two keyframes
                    if messages:
                        self.reported.append(packet.pts)
                    for frame in decoded:
                        image = frame.to_ndarray(width=size[0], height=size[1], format="rgb24", threads=1)
                        image = np.rot90(image, round(frame.rotation / 90)) if frame.rotation else image
                        self.frames.append((frame.pts, digest(image)))
        except (av.error.FFmpegError, IndexError, AttributeError):  # no video that FFmpeg knows
            pass
        self.unbroken = len(self.frames) if unbroken is None else unbroken


def main() -> None:
    parser = argparse.ArgumentParser(description="Damaged files: random access against a plain decode.")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verify", action="store_true", help="decode each file once when it is opened")
    parser.add_argument("--keep", type=Path, help="folder for files that differ in silence")
    parser.add_argument(
        "--sources", type=Path, nargs="*", default=[], help="folders whose video files (up to 4 MB) are damaged"
    )
    args = parser.parse_args()
    found = sorted(
        path for folder in args.sources for path in folder.rglob("*") if path.suffix.lower()[1:] in VIDEO_SUFFIXES
    )
    by_folder: dict[Path, list[Path]] = {}
    for path in found:
        if 0 < path.stat().st_size <= 4 << 20:
            by_folder.setdefault(path.parent, []).append(path)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed in range(args.seed, args.seed + args.files):
            rng = random.Random(seed)
            here = (
                by_folder[rng.choice(list(by_folder))] if by_folder else []
            )  # a folder of many like files counts no more than others
            made = real_file(here, folder, rng) if here else random_file(folder, rng, "whole")
            if made is None:
                counts["not made"] += 1
                continue
            path, settings = made
            data, kind = damage(path.read_bytes(), rng)
            path.write_bytes(data)
            outcome, where = compare_with_plain_decode(path, rng, verify=args.verify)
            counts[outcome] += 1
            if outcome in ("numbers", "carried", "SILENT"):
                print(f"seed {seed}: {outcome}, {kind}, {settings}: {where}", flush=True)
                if args.keep:
                    args.keep.mkdir(parents=True, exist_ok=True)
                    (args.keep / f"{seed}{path.suffix}").write_bytes(data)
            path.unlink()
    print(f"{sum(counts.values()) - counts['not made']} damaged files")
    for name, text in OUTCOMES.items():
        print(f"{counts[name]:6d} {name}: {text}")
    raise SystemExit(counts["SILENT"] > 0)


def decode_all(path: Path) -> list[np.ndarray]:
    """Every frame of a plain decode from the start up to the first error after a frame, turned as the container says."""
    frames: list[np.ndarray] = []
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                if frames:
                    break
                continue
            for frame in decoded:
                image = frame.to_ndarray(format="rgb24", threads=1)
                frames.append(np.rot90(image, round(frame.rotation / 90)) if frame.rotation else image)
    return frames


def read_37(path: str) -> int:
    """The number drawn in frame 37, for tests with spawned processes."""
    from clipwise.video.decode import open_video

    with open_video(path) as reader:
        return number_in(reader.frames([37])[0])


if __name__ == "__main__":
    main()
