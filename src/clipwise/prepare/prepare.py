"""Preparing videos once, so that every epoch after is fast: packet index, smaller files, frame folders, lists.

Everything here can be stopped at any time and started again: a file appears under its final name only when it is complete, and what is
there already is not made twice. The other tools have modules of their own and are named here for one import.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from clipwise.errors import DataError, DecodeError
from clipwise.io.files import atomic_path
from clipwise.io.progress import Progress
from clipwise.io.text import plural
from clipwise.prepare.flow import extract_flow
from clipwise.prepare.folder_work import PrepareResult, claim_folder, even_size, find_videos, name_targets, run_files
from clipwise.prepare.frame_files import extract_frames
from clipwise.prepare.make_lists import make_lists
from clipwise.prepare.parallel import run_jobs
from clipwise.prepare.shards import write_shards
from clipwise.video.decode import PyAVReader
from clipwise.video.packet_index import PacketIndex, write_index
from clipwise.video.packets import INDEX_NAME, PacketTable, TableCache
from clipwise.video.video_writer import REPRODUCIBLE

__all__ = [
    "PrepareResult",
    "extract_flow",
    "extract_frames",
    "find_videos",
    "index_videos",
    "make_lists",
    "resize_videos",
    "write_shards",
]


def index_videos(source: str | os.PathLike | Sequence[str | os.PathLike], *, out: str | os.PathLike | None = None, verify: bool = False,
                 workers: int | None = None, timeout_s: float | None = 300.0, progress: Progress | None = None) -> PrepareResult:  # fmt: skip
    """Writes the packet tables of many videos into one file, so that opening a video needs no pass over its packets.

    Args:
        source: folder, file, or list of files.
        out: the index file; None: ``clipwise_index.npz`` in the videos' folder, where the list reader finds it.
        verify: decode every video completely, so that damage which shows only in decoding is known.
        workers: processes, None: one a core.
        timeout_s: limit for each video.

    Returns:
        ``outputs`` maps each video to the index file. Videos that are unchanged since an earlier index are skipped.
    """
    files, folder = find_videos(source)
    target = Path(out) if out is not None else folder / INDEX_NAME
    result = PrepareResult()
    tables: dict[str, tuple[tuple, PacketTable]] = {}
    old = PacketIndex(target) if target.exists() else None
    todo = []
    for file in files:
        key = TableCache.key(str(file))
        table = old.get(key) if old is not None and not verify else None
        if table is None:
            todo.append(str(file))
        else:
            tables[str(file)] = (key, table)
            result.add(str(file), str(target), None)
    outcomes = run_jobs(_Index(verify, timeout_s), todo, workers=workers, progress=progress)
    for name, outcome in zip(todo, outcomes):
        if not isinstance(outcome, BaseException):
            tables[name] = outcome
            outcome = outcome[1].damage or ""
        result.add(name, str(target), outcome)
    if todo or old is None:
        write_index(target, list(tables.values()))
    return result


@dataclass(frozen=True)
class _Index:
    verify: bool
    timeout_s: float | None

    def __call__(self, name: str) -> tuple[tuple, PacketTable]:
        with PyAVReader(name, verify=self.verify, timeout_s=self.timeout_s) as reader:
            return TableCache.key(name), reader.table


def resize_videos(source: str | os.PathLike | Sequence[str | os.PathLike], target: str | os.PathLike, *, short_side: int = 256, gop: int = 8,
                  crf: int = 23, preset: str = "veryfast", workers: int | None = None, overwrite: bool = False,
                  timeout_s: float | None = 600.0, progress: Progress | None = None, part: tuple[int, int] = (0, 1)) -> PrepareResult:  # fmt: skip
    """Transcodes videos to H.264 for random access: a keyframe every ``gop`` frames, no B-frames, cheap to decode, no sound.

    Frame count, time stamps and colors stay as they are; a rotation tag is carried out; a video is never made larger. Every result is
    checked: all its frames are decoded and counted, and some are compared with the source. Measured on 10 s clips of 340×256: see
    benchmarks/data.py.

    Args:
        source: folder (with subfolders), file, or list of files.
        target: folder for the ``.mp4`` files, with the source's subfolders and names.
        short_side: pixels of the shorter side, rounded to even numbers.
        gop: frames from one keyframe to the next; 1: keyframes only.
        crf: x264's quality, 0 to 51, lower is better and larger.
        preset: x264's speed.
        workers: processes, None: one a core.
        overwrite: make files again that are there.
        timeout_s: limit for reading each video.
        part: (i, n): make every n-th file only, from the i-th on.

    Raises:
        DataError: two sources would become the same file, or ``target`` holds files made with other settings.
    """
    files, folder = find_videos(source)
    out = Path(target)
    settings = {"task": "resize", "short_side": short_side, "gop": gop, "crf": crf, "preset": preset}
    for name, value, low, high in (("short_side", short_side, 16, 4320), ("gop", gop, 1, 1000), ("crf", crf, 0, 51)):
        if not low <= value <= high:
            raise DataError(f"{name} must be {low} to {high}, not {value}")
    targets = name_targets(files, folder, out, ".mp4")
    claim_folder(out, settings, overwrite)
    work = _Resize(short_side, gop, crf, preset, overwrite, timeout_s)
    return run_files(work, files, targets, out, workers, progress, part)


class _DisorderError(Exception):
    """Time stamps that do not grow from frame to frame, as AVI and broken transport streams have."""


@dataclass(frozen=True)
class _Resize:
    short_side: int
    gop: int
    crf: int
    preset: str
    overwrite: bool
    timeout_s: float | None

    def __call__(self, job: tuple[str, str, bool]) -> str | None:
        source, target, replaced = job[0], Path(job[1]), job[2]
        if target.exists() and not (self.overwrite or replaced):
            return None
        with PyAVReader(source, timeout_s=self.timeout_s, verify=False) as reader, atomic_path(target) as part:
            try:
                count = self._transcode(reader, part, timed=reader.table.timed and not even_rate(reader))
            except _DisorderError:
                count = self._transcode(reader, part, timed=False)
            self._check(reader, part, count)
            damage = reader.damage
        return damage or ""

    def _transcode(self, reader: PyAVReader, part: Path, timed: bool) -> int:
        height, width = even_size(reader.height, reader.width, self.short_side)
        count = 0
        with av.open(f"file:{part}", "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream: Any = None
            convert = VideoReformatter().reformat
            # fastdecode leaves out CABAC and the deblocking filter; a fixed keyframe distance, so that any frame costs the same.
            x264 = f"keyint={self.gop}:min-keyint={self.gop}:scenecut=0:open-gop=0:{REPRODUCIBLE}"
            options = {
                "preset": self.preset,
                "crf": str(self.crf),
                "tune": "fastdecode",
                "x264-params": x264,
                "bf": "0",
            }
            last: int | None = None
            turned = reader.rotation % 180 != 0
            scaling = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
            for count, decoded in reader.decoded_frames():
                if stream is None:
                    rate = reader.rate
                    stream = container.add_stream("libx264", rate=rate, options=options)
                    codec = stream.codec_context
                    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                    codec.thread_count = 1
                    base = reader.time_base if timed else 1 / rate
                    codec.time_base = base
                    codec.colorspace = decoded.colorspace
                    codec.color_primaries, codec.color_trc = decoded.color_primaries, decoded.color_trc
                    origin = decoded.pts or 0
                pts = (decoded.pts or 0) - origin if timed else count
                if last is not None and pts <= last:
                    raise _DisorderError
                last = pts
                stored = (height, width) if turned else (width, height)
                frame = convert(decoded, *stored, "yuv420p", interpolation=scaling, dst_color_range="MPEG", threads=1)
                frame = turn_yuv420p(frame, reader.rotation // 90) if reader.rotation else frame
                frame.pts, frame.time_base = pts, base
                frame.pict_type = 0
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return count + 1

    def _check(self, reader: PyAVReader, part: Path, count: int) -> None:
        with PyAVReader(part, verify=True) as made:
            if made.num_frames != count or count != reader.num_frames or made.damage:
                raise DecodeError(
                    f"{reader.name}: the result has {plural(made.num_frames, 'frame')}, the source {reader.num_frames}: {made.damage}"
                )
            far = np.diff(np.append(made.keyframes, count))
            if far.max() > self.gop:
                raise DecodeError(
                    f"{reader.name}: the result has keyframes {plural(far.max(), 'frame')} apart, not {self.gop}"
                )
            some = sorted({0, count // 2, count - 1})
            shape = (made.height, made.width)
            want = reader.frames(some, transform=coarse)
            have = made.frames(some, transform=coarse)
            error = float(np.abs(want - have).mean())
            if error > 12.0:
                raise DecodeError(
                    f"{reader.name}: the result ({shape[1]}x{shape[0]}) differs from the source by {error:.0f} gray levels"
                )


def even_rate(reader: PyAVReader) -> bool:
    """Whether the frames follow each other at one rate, but for the rounding of the container's time stamps (1 ms in Matroska)."""
    times = reader.pts_s(np.arange(reader.num_frames))
    return bool(np.abs(times - np.arange(reader.num_frames) / float(reader.rate)).max() < 0.002)


def turn_yuv420p(frame: av.VideoFrame, quarters: int) -> av.VideoFrame:
    """Turns a frame counterclockwise by quarters, without a detour over RGB."""
    flat = frame.to_ndarray().ravel()
    luma, chroma = frame.height * frame.width, (frame.height // 2) * (frame.width // 2)
    sizes = (
        (0, luma, frame.height, frame.width),
        (luma, chroma, frame.height // 2, frame.width // 2),
        (luma + chroma, chroma, frame.height // 2, frame.width // 2),
    )
    planes = [
        np.rot90(flat[start : start + count].reshape(rows, columns), quarters) for start, count, rows, columns in sizes
    ]
    height, width = planes[0].shape
    return av.VideoFrame.from_ndarray(
        np.concatenate([plane.ravel() for plane in planes]).reshape(height * 3 // 2, width), format="yuv420p"
    )


def coarse(frame: np.ndarray, cells: int = 4) -> np.ndarray:
    """(H, W, 3) -> (cells, cells, 3) float32 means, for comparing frames of different sizes."""
    rows = np.linspace(0, frame.shape[0], cells + 1).astype(int)
    columns = np.linspace(0, frame.shape[1], cells + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(frame.astype(np.float32), rows[:-1], axis=0), columns[:-1], axis=1)
    return sums / np.outer(np.diff(rows), np.diff(columns))[..., None]
