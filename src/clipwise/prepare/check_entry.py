"""Looking at one entry of a data set, for :mod:`clipwise.prepare.check`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clipwise.errors import ClipwiseError, DecodeError
from clipwise.prepare.lookalikes import first_frame_cells, thumbnail
from clipwise.video.decode import open_frames, open_video
from clipwise.video.pyav_reader import PyAVReader


@dataclass(frozen=True)
class Record:
    """What one look at an entry told."""

    fault: str = ""
    detail: str = ""
    num_frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    codec: str = ""
    keyframe_distance: int = 0
    seekable: bool = True
    cells: bytes = b""  # brightness of the first frame, see lookalikes
    bytes: int = 0
    duration_s: float = 0.0
    note: str = ""  # which marks of the file are false, though all frames are read rightly


@dataclass(frozen=True)
class Look:
    """How to look at an entry; goes to the worker processes."""

    full: bool
    min_frames: int
    frame_template: str | None
    start_index: int | None
    modality: str
    timeout_s: float | None

    def __call__(self, chunk: list[tuple[str, str, int | None, int]]) -> list[Record]:
        return [self.one(*entry) for entry in chunk]

    def one(self, path: str, kind: str, num_frames: int | None, offset: int) -> Record:
        try:
            if kind == "video":
                return self._video(path)
            if kind == "rawframes":
                return self._folder(path, num_frames, offset)
            if kind == "image":
                with open_video(path, timeout_s=self.timeout_s) as reader:
                    reader.frames([0])
                return Record()
            return (
                Record()
                if os.path.isdir(path) or os.path.getsize(path)
                else Record("undecodable", "is empty (0 bytes)")
            )
        except (ClipwiseError, OSError, ValueError, RuntimeError, MemoryError) as error:
            return Record("undecodable", _without(path, str(error) or type(error).__name__))

    def _video(self, path: str) -> Record:
        with PyAVReader(path, timeout_s=self.timeout_s, verify=self.full) as reader:
            cells = first_frame_cells(reader.frames([0], transform=thumbnail)[0])
            if not self.full and reader.table.seekable:
                # First, last and a middle keyframe: any decoding error in them, at a hundredth of the cost of a full decode.
                keys = reader.keyframes
                try:
                    reader.frames([int(keys[len(keys) // 2]), int(keys[-1])], transform=_corner)
                except DecodeError:
                    if not reader.damage:
                        raise
            fault, detail = _video_fault(reader)
            if not fault and reader.num_frames < self.min_frames:
                fault, detail = "too_short", f"has {reader.num_frames} frames, {self.min_frames} are needed"
            table = reader.table
            keys = np.append(reader.keyframes, reader.num_frames)
            distance = int(np.diff(keys).max()) if table.seekable else reader.num_frames
            return Record(fault, detail, reader.num_frames, reader.fps, reader.height, reader.width, reader.codec, distance,
                          table.seekable, cells, os.path.getsize(path), reader.duration_s, table.note or "")  # fmt: skip

    def _folder(self, path: str, num_frames: int | None, offset: int) -> Record:
        options: dict[str, Any] = {
            "template": self.frame_template,
            "modality": self.modality,
            "start_index": self.start_index,
            "offset": offset,
        }
        with open_frames(path, **options) as reader:
            there = reader.num_frames
            record = Record("", "", there, reader.fps, reader.height, reader.width, "pictures", 1)
            used = there if num_frames is None else min(there, num_frames)
            try:
                reader.frames(range(used) if self.full else sorted({0, used // 2, used - 1}), transform=_corner)
            except DecodeError as error:
                return replace(record, fault="damaged", detail=_without(path, str(error)).removeprefix(path + os.sep))
            if reader.damage:
                return replace(record, fault="damaged", detail=reader.damage)
        if num_frames is not None and there < num_frames:
            return Record("truncated", f"holds {there} frames, the list says {num_frames}", there)
        if there < self.min_frames:
            return Record("too_short", f"has {there} frames, {self.min_frames} are needed", there)
        return record


def _video_fault(reader: PyAVReader) -> tuple[str, str]:
    expected, there = reader.header_frames, reader.num_frames
    if reader.damage:
        begins_late = reader.damage.startswith("begins between")
        return ("damaged" if there >= expected > 0 or begins_late else "truncated"), reader.damage
    if expected and there + reader.table.hidden < expected:
        return "truncated", f"has {there} frames, its header says {expected}"
    if reader.concealed:
        return "damaged", f"frame {min(reader.concealed)} has errors that the decoder has covered up"
    return "", ""


def _corner(frame: np.ndarray) -> np.ndarray:
    return frame[:1, :1].copy()


def _without(path: str, message: str) -> str:
    return message.removeprefix(f"{path}: ")
