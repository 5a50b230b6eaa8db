"""Sources of frames other than a video file: folders of images, arrays in memory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from clipwise.errors import DecodeError
from clipwise.video.packets import DecoderMessages
from clipwise.video.reader import FrameSink, VideoReader

RGB_TEMPLATE = "img_{:05}.jpg"
FLOW_TEMPLATE = "flow_{}_{:05}.jpg"
TIMES_NAME = ".clipwise-times.json"  # {"first": number of the first file, "times_s": […], "end_s": …}

_PICTURE_CODECS = (
    (b"\xff\xd8", "mjpeg"),
    (b"\x89PNG", "png"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)

_CHROMA = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


class PictureDecoder:
    """Decodes JPEG, PNG, WebP, BMP and TIFF from bytes, without opening a container for each. Not to be shared by threads.

    Attributes:
        reported: what the decoder said was wrong with the last image, although it gave one (a JPEG that was cut off), or None.
    """

    def __init__(self) -> None:
        self._jpeg: Any = None
        self.reported: str | None = None
        self._reformat = VideoReformatter().reformat

    def rgb(self, data: bytes, name: str = "<bytes>") -> np.ndarray:
        """Bytes of an image -> (H, W, 3) uint8."""
        # Interpolated chroma, as libjpeg gives it (OpenCV, Pillow): mean difference 0.2 levels, where swscale's shortcut has 0.7 to 1.2.
        return _plane(self._reformat(self._decode(data, name), format="rgb24", interpolation=_CHROMA, threads=1), 3)

    def gray(self, data: bytes, name: str = "<bytes>") -> np.ndarray:
        """Bytes of an image -> (H, W) uint8; of a JPEG the stored luminance itself, as OpenCV's grayscale reading gives it."""
        frame = self._decode(data, name)
        if not (frame.format.name.startswith("yuvj") or frame.format.name == "gray"):
            frame = self._reformat(frame, format="gray", dst_color_range="JPEG", threads=1)
        return _plane(frame, 1)[..., 0]

    def _decode(self, data: bytes, name: str):
        codec_name = next((codec for magic, codec in _PICTURE_CODECS if data.startswith(magic)), None)
        if codec_name is None:
            what = "is empty (0 bytes)" if not data else "is not a JPEG, PNG, WebP, BMP or TIFF image"
            raise DecodeError(f"{name}: {what}")
        codec: Any = self._jpeg if codec_name == "mjpeg" else None
        if codec is None:
            codec = av.CodecContext.create(codec_name, "r")
            codec.thread_count = 1
            codec.thread_type = "NONE"
            if codec_name == "mjpeg":  # a PNG decoder that is used again mixes its images
                self._jpeg = codec
        try:
            with DecoderMessages() as messages:
                frames = codec.decode(av.Packet(data))
            self.reported = messages[0][2].strip() if messages else None
        except (av.error.FFmpegError, ValueError) as error:
            self._jpeg = None
            raise DecodeError(f"{name}: cannot be decoded: {getattr(error, 'strerror', None) or error}") from error
        if len(frames) != 1:
            self._jpeg = None
            raise DecodeError(f"{name}: cannot be decoded: the file holds no complete image")
        return frames[0]


def _plane(frame, channels: int) -> np.ndarray:
    plane: Any = frame.planes[0]
    return np.ndarray(
        (frame.height, frame.width, channels), np.uint8, buffer=plane, strides=(plane.line_size, channels, 1)
    )


class FrameFolderReader(VideoReader):
    """Reads a folder with one image per frame (RGB), or two per frame (optical flow, x and y).

    The file of frame ``i`` has the number ``i + start_index + offset``. Where ``TIMES_NAME`` lies among the images, as ``clipwise prepare``
    leaves it for videos of a variable frame rate, frames have its times.

    Two flow templates are about: the recipes of MMAction2 name ``{}_{:05d}.jpg`` (``x_00001.jpg``), its extraction tools and ours
    write ``flow_{}_{:05d}.jpg`` (``flow_x_00001.jpg``). A template that finds nothing is an error that lists what is there.
    """

    def __init__(self, folder: str | os.PathLike, *, template: str | None = None, modality: str = "rgb",
                 start_index: int | None = 1, offset: int = 0, num_frames: int | None = None, fps: float = 0.0):  # fmt: skip
        """
        Args:
            folder: folder of the images.
            template: file name with one number field, ``img_{:05}.jpg`` or ``img_%05d.jpg``; for flow a first field for x or y.
            modality: ``"rgb"`` for frames (H, W, 3), ``"flow"`` for (H, W, 2); capitals do not matter.
            start_index: number of the first file; None: the smallest that is there.
            offset: added to every number (annotations "with offset").
            num_frames: how many frames; None: count the files in the folder, up to the first that is missing.
            fps: frames per second, if known.
        """
        self.folder = os.fspath(folder)
        self.name = self.folder
        self.flow = modality.lower() == "flow"
        if modality.lower() not in ("rgb", "flow"):
            raise DecodeError(f"{self.name}: modality must be rgb or flow, not {modality!r}")
        self.channels = 2 if self.flow else 3
        self.template = brace_template(template or (FLOW_TEMPLATE if self.flow else RGB_TEMPLATE), self.flow)
        self._fps = fps
        if num_frames is None or start_index is None:
            first, count = self._look_around(start_index, offset)
            start_index = first - offset
            num_frames = count if num_frames is None else num_frames
        self.first = start_index + offset
        self.num_frames = num_frames
        if num_frames < 1:
            raise DecodeError(f"{self.name}: num_frames must be 1 or more, not {num_frames}")
        self._pictures = PictureDecoder()

    @cached_property
    def _times(self) -> tuple[np.ndarray, float] | None:
        """(n,) seconds from the first frame, and when the last one goes; None where they follow from the frame rate."""
        try:
            with open(os.path.join(self.folder, TIMES_NAME), encoding="utf-8") as file:
                noted = json.load(file)
            first = self.first - int(noted["first"])
            times = np.asarray(noted["times_s"], np.float64)[max(first, 0) :][: self.num_frames]
            return (
                (times - times[0], float(noted["end_s"]) - times[0])
                if len(times) == self.num_frames and first >= 0
                else None
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DecodeError(
                f"{self.folder}/{TIMES_NAME}: cannot be read: {error}; delete it if it is not needed"
            ) from error

    @property
    def fps(self) -> float:  # type: ignore[override]
        if self._fps or self._times is None:
            return self._fps
        return self.num_frames / self._times[1]

    @property
    def duration_s(self) -> float:
        return super().duration_s if self._times is None else self._times[1]

    def pts_s(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return super().pts_s(indices) if self._times is None else self._times[0][self._check_indices(indices)]

    def _look_around(self, start_index: int | None, offset: int) -> tuple[int, int]:
        """First file number and how many follow it without a gap."""
        try:
            names = os.listdir(self.folder)
        except OSError as error:
            raise DecodeError(f"{self.name}: there is no such folder") from error
        numbers = template_numbers(names, self.template)
        first = min(numbers, default=0) if start_index is None else start_index + offset
        count = 0
        while first + count in numbers:
            count += 1
        if not count:
            wanted = self._files(first)[0]
            seen = ", ".join(sorted(names)[:4]) or "nothing"
            raise DecodeError(
                f"{self.name}: there is no {os.path.basename(wanted)}; the folder holds {seen}; set the file name template or start_index"
            )
        return first, count

    def _files(self, number: int) -> list[str]:
        if self.flow:
            return [os.path.join(self.folder, self.template.format(axis, number)) for axis in "xy"]
        return [os.path.join(self.folder, self.template.format(number))]

    def _load(self, index: int) -> np.ndarray:
        planes = []
        for file in self._files(index + self.first):
            try:
                data = Path(file).read_bytes()
            except OSError as error:
                raise DecodeError(f"{file}: there is no such file (frame {index} of {self.num_frames})") from error
            planes.append(self._pictures.gray(data, file) if self.flow else self._pictures.rgb(data, file))
            if self._pictures.reported is not None and self.damage is None:
                self.damage = f"{os.path.basename(file)} is damaged, the decoder reports: {self._pictures.reported}"
        if not self.flow:
            return planes[0]
        if planes[0].shape != planes[1].shape:
            raise DecodeError(
                f"{self.name}: x and y flow of frame {index} differ in size: {planes[0].shape}, {planes[1].shape}"
            )
        return np.stack(planes, axis=-1)

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        for index in indices.tolist():
            frame = self._load(index)
            if frame.shape[:2] != self._size:
                (height, width), (first_height, first_width) = frame.shape[:2], self._size
                raise DecodeError(
                    f"{self._files(index + self.first)[0]}: is {width}x{height}, the first image {first_width}x{first_height}; "
                    "images of one folder must have one size"
                )
            sink(index, frame)

    @cached_property
    def _size(self) -> tuple[int, int]:  # type: ignore[override]
        shape = self._load(0).shape
        return shape[0], shape[1]


def brace_template(template: str, flow: bool) -> str:
    """The template in Python's brace form, checked by filling it in."""
    braces = re.sub(r"%(0\d+)?d", lambda m: "{:" + (m[1] or "") + "d}", template)
    if flow:
        braces = braces.replace("%s", "{}")
    try:
        filled = (
            {braces.format("x", 1), braces.format("y", 1), braces.format("x", 2)}
            if flow
            else {braces.format(1), braces.format(2)}
        )
    except (ValueError, IndexError, KeyError, TypeError):
        filled = set()
    if len(filled) != (3 if flow else 2):
        example = FLOW_TEMPLATE if flow else RGB_TEMPLATE
        raise DecodeError(
            f"file name template {template!r} does not fit; it needs {'a field for x or y and ' if flow else ''}a number field, as in {example!r}"
        )
    return braces


def template_numbers(names: Sequence[str], template: str) -> set[int]:
    """Frame numbers of the file names that a template would have made; for flow those with both x and y."""
    parts = re.split(r"\{[^}]*\}", template)
    if len(parts) == 2:
        pattern = re.compile(re.escape(parts[0]) + r"(\d+)" + re.escape(parts[1]))
        found = {int(m[1]) for n in names if (m := pattern.fullmatch(n))}
        present = set(names)
        return {number for number in found if template.format(number) in present}
    pattern = re.compile(re.escape(parts[0]) + r"[xy]" + re.escape(parts[1]) + r"(\d+)" + re.escape(parts[2]))
    found = {int(m[1]) for n in names if (m := pattern.fullmatch(n))}
    present = set(names)
    return {n for n in found if template.format("x", n) in present and template.format("y", n) in present}


class ArrayReader(VideoReader):
    """Frames that are in memory already."""

    def __init__(self, array: np.ndarray, *, fps: float = 0.0, name: str = "<array>"):
        """
        Args:
            array: (T, H, W, C) uint8, C = 3 for RGB, 2 for flow. Not copied.
            fps: frames per second, if known.
            name: for messages.
        """
        if array.ndim != 4 or array.dtype != np.uint8 or array.shape[-1] not in (2, 3) or not array.size:
            raise DecodeError(
                f"{name}: frames in memory are uint8 of shape (T, H, W, 3), or (T, H, W, 2) for flow, not {array.dtype} {array.shape}"
            )
        self.array, self.fps, self.name = array, fps, name
        self.num_frames, height, width, self.channels = array.shape
        self._size = (height, width)

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        for index in indices.tolist():
            sink(index, self.array[index])


def open_frames(folder: str | os.PathLike, **options: Any) -> VideoReader:
    """Opens a folder of frames; see :class:`FrameFolderReader` for the options.

    Raises:
        DecodeError: there is no such folder, or no frame in it that fits the template.
    """
    return FrameFolderReader(folder, **options)
