"""Videos into folders of images, one per frame."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from clipwise.errors import DataError
from clipwise.io.progress import Progress
from clipwise.io.unfinished import atomic_folder
from clipwise.prepare.folder_work import PrepareResult, claim_folder, even_size, find_videos, name_targets, run_files
from clipwise.video.backends import RGB_TEMPLATE, TIMES_NAME, brace_template
from clipwise.video.decode import PyAVReader
from clipwise.video.even_rate import uneven_times

FRAME_TIME = Fraction(1, 25)  # encoders want one; images have none


class PictureEncoder:
    """Images as the bytes of JPEG or PNG files; one encoder for images of one size."""

    def __init__(self, suffix: str, quality: int = 2):
        """
        Args:
            suffix: ".jpg", ".jpeg" or ".png".
            quality: FFmpeg's quantizer for JPEG, 2 (best, about 95 on the usual scale) to 31.
        """
        if suffix.lower() not in (".jpg", ".jpeg", ".png"):
            raise DataError(
                f"frames are written as .jpg or .png, not as {suffix or 'files without an ending'!r}; change the template"
            )
        if not 1 <= quality <= 31:
            raise DataError(f"quality must be 1 (best) to 31, not {quality}")
        self.jpeg, self.quality = suffix.lower() != ".png", quality
        self._convert = VideoReformatter().reformat
        self._codec: Any = None

    def encode(self, image: np.ndarray, size: tuple[int, int] | None = None) -> bytes:
        """(H, W, 3) uint8 RGB -> file contents, resized to ``size`` (height, width) if given."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        height, width = size or image.shape[:2]
        pixels = "yuvj420p" if self.jpeg else "rgb24"
        full = {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.JPEG} if self.jpeg else {}
        frame = self._convert(
            frame,
            width,
            height,
            pixels,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
            threads=1,
            **full,
        )
        if self._codec is None or not self.jpeg or (self._codec.height, self._codec.width) != (height, width):
            quality = str(self.quality)
            options = {"qmin": quality, "qmax": quality} if self.jpeg else {"compression_level": "1"}
            self._codec = av.CodecContext.create("mjpeg" if self.jpeg else "png", "w")
            self._codec.options = options
            self._codec.width, self._codec.height, self._codec.pix_fmt = width, height, pixels
            self._codec.time_base = frame.time_base = FRAME_TIME
            self._codec.thread_count = 1
            self._number = 0
        frame.pts, frame.time_base = self._number, FRAME_TIME
        self._number += 1
        packets = self._codec.encode(frame) or self._codec.encode(None)
        return b"".join(bytes(packet) for packet in packets)


def extract_frames(source: str | os.PathLike | Sequence[str | os.PathLike], target: str | os.PathLike, *, template: str = RGB_TEMPLATE,
                   start_index: int = 1, step: int = 1, short_side: int | None = None, quality: int = 2, workers: int | None = None,
                   overwrite: bool = False, timeout_s: float | None = 600.0, progress: Progress | None = None,
                   part: tuple[int, int] = (0, 1)) -> PrepareResult:  # fmt: skip
    """Writes every frame of every video as an image, a folder per video with the video's name.

    A folder appears when all its images are written. The number of files is the number of frames that can be decoded, so it is the
    number that belongs into a list of frame folders.

    Args:
        source: folder (with subfolders), file, or list of files.
        target: folder for the folders.
        template: file name with a number field; ``.jpg`` or ``.png``.
        start_index: number of the first image: 1 as in MMAction2's lists.
        step: write every ``step``-th frame only.
        short_side: make the shorter side at most so many pixels; None keeps the size.
        quality: of JPEG, 1 (best) to 31.
        workers: processes, None: one a core.
        overwrite: write folders again that are there.
        timeout_s: limit for reading each video.
        part: (i, n): every n-th video only, from the i-th on.

    Returns:
        ``outputs`` maps each video to its folder, ``num_frames`` each folder to its number of images.
    """
    if step < 1:
        raise DataError(f"step must be 1 or more, not {step}")
    template = brace_template(template, flow=False)
    PictureEncoder(Path(template).suffix, quality)  # refuses wrong settings before any work
    settings = {
        "task": "frames",
        "template": template,
        "start_index": start_index,
        "step": step,
        "short_side": short_side,
        "quality": quality,
    }
    work = _Frames(template, start_index, short_side, overwrite, timeout_s, step=step, quality=quality)
    return write_folders(work, source, target, settings, workers, progress, part)


@dataclass(frozen=True)
class FolderWork:
    """Makes the folder of images of one video, unless it is there; goes to the worker processes."""

    template: str
    start_index: int
    short_side: int | None
    overwrite: bool
    timeout_s: float | None

    def __call__(self, job: tuple[str, str, bool]) -> str | None:
        target, replaced = Path(job[1]), job[2]
        if target.exists() and not (self.overwrite or replaced):
            return None
        with PyAVReader(job[0], timeout_s=self.timeout_s) as reader:
            size = even_size(reader.height, reader.width, self.short_side) if self.short_side else None
            write_folder(target, chain(self._times(reader), self.files(reader, size)))
            return reader.damage or ""

    def _times(self, reader: PyAVReader) -> Iterator[tuple[str, bytes]]:
        """The times of a variable frame rate, which a folder of images would lose."""
        times = uneven_times(reader)
        if times is not None:
            noted = {"first": self.start_index, "times_s": times[:: self.every].tolist(), "end_s": reader.duration_s}
            yield TIMES_NAME, json.dumps(noted).encode()

    @property
    def every(self) -> int:
        """Frames of the video for each of the folder."""
        return 1

    def files(self, reader: PyAVReader, size: tuple[int, int] | None) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the folder's files."""
        raise NotImplementedError


def write_folders(work: FolderWork, source: str | os.PathLike | Sequence[str | os.PathLike], target: str | os.PathLike,
                  settings: dict[str, Any], workers: int | None, progress: Progress | None, part: tuple[int, int]) -> PrepareResult:  # fmt: skip
    """Does ``work`` for every video of ``source``; ``num_frames`` of the result counts the files of each folder."""
    files, folder = find_videos(source)
    targets = name_targets(files, folder, Path(target), "")
    claim_folder(Path(target), settings, work.overwrite)
    result = run_files(work, files, targets, Path(target), workers, progress, part)
    for made in result.outputs.values():
        result.num_frames[made] = sum(not name.startswith(".") for name in _list(made))
    return result


def _list(folder: str) -> list[str]:
    """The names in a folder, which another command that makes the same may be replacing at this moment."""
    for _ in range(100):
        with contextlib.suppress(FileNotFoundError):
            return os.listdir(folder)
        time.sleep(0.05)
    return os.listdir(folder)


@dataclass(frozen=True, kw_only=True)
class _Frames(FolderWork):
    step: int
    quality: int

    @property
    def every(self) -> int:
        return self.step

    def files(self, reader: PyAVReader, size: tuple[int, int] | None) -> Iterator[tuple[str, bytes]]:
        encoder = PictureEncoder(Path(self.template).suffix, self.quality)
        for index, frame in reader.iterate(0, self.step):
            yield self.template.format(self.start_index + index // self.step), encoder.encode(frame, size)


def write_folder(target: Path, files: Iterator[tuple[str, bytes]]) -> None:
    """Writes a folder of files, which appears under its name when it is complete; an old one is replaced."""
    with atomic_folder(target) as temporary:
        for name, data in files:
            (temporary / name).write_bytes(data)
