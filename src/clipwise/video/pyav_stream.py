"""Streaming through a whole video with bounded memory: what the tools need, and training does not. Part of the PyAV reader."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from clipwise.errors import DecodeError
from clipwise.video.counting import count_by_decoding
from clipwise.video.packets import SurpriseError, Watch
from clipwise.video.reader import DecoderMessages


def iterate(reader: Any, start: int, step: int) -> Iterator[tuple[int, np.ndarray]]:
    """``(index, frame)`` for ``start, start + step, …``, from a file handle of its own."""
    if step < 1 or start < 0:
        raise DecodeError(f"{reader.name}: start must be 0 or more and step 1 or more, not {start} and {step}")
    with _twin(reader) as twin:
        expected = start
        if twin.table.seekable and start < reader.num_frames:
            try:
                for index, array in _by_pts(twin, start, step):
                    yield index, array
                    expected = index + step
            except (SurpriseError, av.error.FFmpegError) as error:
                twin.check_clock(error)
                twin.start_clock()
                count_by_decoding(twin, error)
                reader.use_table(twin.table)
            else:
                return
        if expected < twin.num_frames:
            for index, frame in _decoded(twin):
                if index >= expected and (index - expected) % step == 0:
                    yield index, twin.upright(frame).copy()


def decoded_frames(reader: Any) -> Iterator[tuple[int, av.VideoFrame]]:
    """``(index, frame)`` as FFmpeg decodes them, from a file handle of its own.

    Where the file holds fewer frames than its packets promised, the reader's table is corrected, and the frames just end.
    """
    with _twin(reader) as twin:
        count = 0
        try:
            for count, frame in _decoded(twin):
                yield count, frame
        except DecodeError as error:
            damage = reader.damage or str(error).removeprefix(f"{reader.name}: ")
            table = replace(reader.table, pts=reader.table.pts[: count + 1], seekable=False, damage=damage)
            reader.use_table(table, keep=True)


def _twin(reader: Any) -> Any:
    kind: Any = type(reader)
    twin = kind.__new__(kind)
    twin.__dict__.update(reader.__dict__)
    twin._container = None
    twin._reformat = VideoReformatter().reformat
    if isinstance(reader._source, io.IOBase):
        position = reader._source.tell()
        reader._source.seek(0)
        twin._source = reader._source.read()
        reader._source.seek(position)
    twin.start_clock()
    twin.open()
    return twin


def _by_pts(reader: Any, start: int, step: int) -> Iterator[tuple[int, np.ndarray]]:
    table, codec = reader.table, reader._codec
    stamps = table.pts[start::step].tolist()
    wanted = set(stamps)
    packets, packet = reader.seek(int(table.key_before(table.pts[start : start + 1])[0]), stamps[0])
    messages: list[Any] = []
    watch = Watch(packet.pts, messages)
    skips = step > 1 and reader.skips
    at = 0
    while packet is not None and at < len(stamps):
        reader.start_clock()
        if skips:
            codec.skip_frame = "DEFAULT" if packet.pts in wanted or not packet.size else "NONREF"
        with DecoderMessages() as said:
            frames = packet.decode()
        messages += said
        for frame in watch(frames, packet.pts):
            if frame.pts in wanted and frame.pts >= stamps[0]:
                if at >= len(stamps) or frame.pts != stamps[at]:
                    raise SurpriseError("a frame is missing")
                yield start + at * step, reader.upright(frame).copy()
                at += 1
        packet = next(packets, None)
    if at < len(stamps):
        raise SurpriseError("the file ends early")


def _decoded(reader: Any) -> Iterator[tuple[int, av.VideoFrame]]:
    count = 0
    try:
        for _, frames in reader.decode_on():
            reader.start_clock()
            for frame in frames:
                yield count, frame
                count += 1
                if count >= reader.num_frames:
                    return
    except av.error.FFmpegError as error:
        why = getattr(error, "strerror", None) or error
        raise DecodeError(f"{reader.name}: frame {count} cannot be decoded: {why}") from error
    missing = f"the file ends after {count} frames, not {reader.num_frames}"
    raise DecodeError(f"{reader.name}: frame {count} cannot be decoded: {missing}")
