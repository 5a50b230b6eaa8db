"""Streaming through a whole video with bounded memory: what the tools need, and training does not. Part of the PyAV reader."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from clipwise.errors import DecodeError
from clipwise.video.decode import reason
from clipwise.video.pyav_reader import SKIPS_NON_REFERENCE, PyAVReader, SurpriseError


def iterate(reader: PyAVReader, start: int, step: int) -> Iterator[tuple[int, np.ndarray]]:
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
                twin._check_clock(error)
                reader._use_table(replace(reader.table, seekable=False), keep=True)
            else:
                return
        if expected < twin.num_frames:
            for index, frame in _decoded(twin):
                if index >= expected and (index - expected) % step == 0:
                    yield index, twin.upright(frame).copy()


def pictures(reader: PyAVReader) -> Iterator[tuple[int, av.VideoFrame]]:
    """``(index, frame)`` as FFmpeg decodes them, from a file handle of its own."""
    with _twin(reader) as twin:
        yield from _decoded(twin)


def _twin(reader: PyAVReader) -> PyAVReader:
    twin = PyAVReader.__new__(PyAVReader)
    twin.__dict__.update(reader.__dict__)
    twin._container = None
    twin._reformat = VideoReformatter().reformat
    if isinstance(reader._source, io.IOBase):
        position = reader._source.tell()
        reader._source.seek(0)
        twin._source = reader._source.read()
        reader._source.seek(position)
    twin._start_clock()
    twin._open()
    return twin


def _by_pts(reader: PyAVReader, start: int, step: int) -> Iterator[tuple[int, np.ndarray]]:
    table, codec = reader.table, reader._codec
    stamps = table.pts[start::step].tolist()
    wanted = set(stamps)
    packets, packet = reader._seek(int(table.key_before(table.pts[start : start + 1])[0]), stamps[0])
    skips = step > 1 and codec.name in SKIPS_NON_REFERENCE
    at = 0
    while packet is not None and at < len(stamps):
        reader._start_clock()
        if skips:
            codec.skip_frame = "DEFAULT" if packet.pts in wanted or not packet.size else "NONREF"
        for frame in packet.decode():
            if frame.pts in wanted and frame.pts >= stamps[0]:
                if at >= len(stamps) or frame.pts != stamps[at] or frame.is_corrupt:
                    raise SurpriseError("a frame is missing")
                yield start + at * step, reader.upright(frame).copy()
                at += 1
        packet = next(packets, None)
    if at < len(stamps):
        raise SurpriseError("the file ends early")


def _decoded(reader: PyAVReader) -> Iterator[tuple[int, av.VideoFrame]]:
    if not reader._fresh:
        reader._open()
    reader._fresh = False
    count = 0
    try:
        for packet in reader._container.demux(reader._stream):
            reader._start_clock()
            for frame in packet.decode():
                yield count, frame
                count += 1
                if count >= reader.num_frames:
                    return
    except av.error.FFmpegError as error:
        raise DecodeError(f"{reader.name}: frame {count} cannot be decoded: {reason(error)}") from error
    missing = f"the file ends after {count} frames, not {reader.num_frames}"
    raise DecodeError(f"{reader.name}: frame {count} cannot be decoded: {missing}")
