"""Decoding a file from its start: counting its frames, reading what cannot be found by time stamps, streaming. Part of the PyAV reader.

What a plain decode gives is the truth; this is where it is asked.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from clipwise.errors import DecodeError
from clipwise.io.text import plural
from clipwise.video.packets import DecoderMessages, PacketTable, SurpriseError, Watch, demux
from clipwise.video.reader import FrameSink


def decode_on(reader: Any) -> Iterator[tuple[list[str], list[Any]]]:
    """Decodes from the start: what the decoder said of each packet, and its frames. Ends with FFmpeg's error, or with the file.

    Packets before the first frame may be refused by the decoder: a file cut between two keyframes begins with those (VP9, AV1).
    """
    if not reader.fresh:
        reader.open()
    reader.fresh = False
    begun = False
    for packet in demux(reader.container, reader.stream):
        reader.check_clock()
        with DecoderMessages() as messages:
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                if begun:
                    raise
                frames = []
        begun = begun or bool(frames)
        yield [text.strip() for _, _, text in messages], frames


def first_rotation(reader: Any) -> int:
    """Degrees by which the first frame says that it is to be turned, in quarters."""
    try:
        for _, frames in decode_on(reader):
            if frames:
                return round(frames[0].rotation / 90) * 90
    except av.error.FFmpegError as error:
        reader.check_clock(error)
    return 0


def read_from_start(reader: Any, sink: FrameSink) -> None:
    """Hands the frames that ``sink`` wants to it, counting from the start of the file."""
    count, last = 0, max(sink.missing, default=-1)
    error: Exception | None = None
    try:
        for messages, frames in decode_on(reader):
            for frame in frames:
                if count in sink.missing:
                    if frame.is_corrupt:
                        reader.concealed.add(count)
                    sink(count, reader.upright(frame))
                count += 1
            if messages and reader.damage is None:
                damage = f"the decoder reports errors from frame {count} on: {messages[0]}"
                reader.use_table(replace(reader.table, damage=damage), keep=True)
            if count > last:
                return
    except av.error.FFmpegError as broken:
        reader.check_clock(broken)
        error = broken
    ends = f"the file ends after {plural(count, 'frame')}, not {reader.num_frames}"
    why = _reason(error) if error is not None else ends
    damage = reader.damage or f"after frame {count - 1}: {why}"
    reader.use_table(replace(reader.table, pts=reader.table.pts[:count], seekable=False, damage=damage), keep=True)
    raise DecodeError(
        f"{reader.name}: frame {min(sink.missing)} cannot be decoded; decoding broke off after {plural(count, 'frame')}: {why}"
    ) from error


def count_by_decoding(reader: Any, surprise: Exception | None = None) -> None:
    """Replaces a reader's packet table by what a plain decode from the start gives; what it is, is the truth.

    Args:
        reader: a ``PyAVReader``.
        surprise: why the table is not believed any more, if it was; frames are then never found by their time stamps again.
    """
    table: PacketTable = reader.table
    pts: list[int | None] = []
    reported: tuple[int, str] | None = None
    error: av.error.FFmpegError | None = None
    try:
        for messages, frames in decode_on(reader):
            if messages and reported is None:
                reported = (len(pts), messages[0])
            for frame in frames:
                if frame.is_corrupt:
                    reader.concealed.add(len(pts))
                pts.append(frame.pts)
    except av.error.FFmpegError as broken:
        reader.check_clock(broken)
        error = broken
    stamps = np.asarray([-1 if p is None else p for p in pts], dtype=np.int64)
    same = len(stamps) == len(table) and (not table.timed or bool((stamps == table.pts).all()))
    note = table.note
    if surprise is not None or not same:
        note = note or table.doubt or (str(surprise) if surprise is not None else None)
    damage = _damage(table, stamps, reader.concealed, reported, error)
    # In a damaged file the frames depend on where decoding began: only a decode from the start is the truth.
    seekable = table.seekable and same and damage is None and surprise is None
    timed = table.timed and (len(stamps) < 2 or bool((np.diff(stamps) > 0).all()))
    if not timed:
        stamps, seekable = np.arange(len(stamps)), False
    reader.use_table(
        replace(table, pts=stamps, timed=timed, seekable=seekable, damage=damage, note=note, doubt=None), keep=True
    )


def _damage(
    table: PacketTable,
    stamps: np.ndarray,
    concealed: set[int],
    reported: tuple[int, str] | None,
    error: Exception | None,
) -> str | None:
    """What is wrong, the surest first."""
    missing = len(table) - len(stamps)
    if error is not None:
        why = f"after frame {len(stamps) - 1}: {_reason(error)}"
        return f"{why}; {table.damage}" if table.damage else why
    if table.damage is not None:
        return table.damage
    if missing > 0 and len(stamps) and (not table.timed or int(np.searchsorted(table.pts, stamps[0])) == missing):
        return (
            f"begins between two keyframes: its first {missing} packet{'s give' if missing > 1 else ' gives'} no frame"
        )
    if concealed:
        frames = (
            f"{plural(len(concealed), 'frame')}, the first is {min(concealed)}"
            if len(concealed) > 1
            else f"frame {min(concealed)}"
        )
        return f"the decoder has covered up errors in {frames}"
    if reported is not None:
        return f"the decoder reports errors from frame {reported[0]} on: {reported[1]}"
    few = f"{plural(len(table), 'packet gives', 'packets give')} only {plural(len(stamps), 'frame')}"
    return few if missing > 0 else None


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
    twin.container = None
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
    stamps = table.pts[start::step]
    packets, packet = reader.seek(int(table.key_before(stamps[:1])[0]), int(stamps[0]))
    messages: list[Any] = []
    watch = Watch(packet.pts, messages)
    skips = step > 1 and reader.skips
    wanted = set(stamps.tolist()) if skips else ()
    at = 0
    while packet is not None and at < len(stamps):
        reader.start_clock()
        if skips:
            codec.skip_frame = "DEFAULT" if packet.pts in wanted or not packet.size else "NONREF"
        with DecoderMessages() as said:
            frames = packet.decode()
        messages += said
        for frame in watch(frames, packet.pts):
            if at < len(stamps) and frame.pts >= stamps[at]:
                if frame.pts != stamps[at]:
                    raise SurpriseError("a frame is missing")
                yield start + at * step, reader.upright(frame).copy()
                at += 1
        packet = next(packets, None)
    if at < len(stamps):
        raise SurpriseError("the file ends early")


def _decoded(reader: Any) -> Iterator[tuple[int, av.VideoFrame]]:
    count = 0
    try:
        for _, frames in decode_on(reader):
            reader.start_clock()
            for frame in frames:
                yield count, frame
                count += 1
                if count >= reader.num_frames:
                    return
    except av.error.FFmpegError as error:
        raise DecodeError(f"{reader.name}: frame {count} cannot be decoded: {_reason(error)}") from error
    missing = f"the file ends after {plural(count, 'frame')}, not {reader.num_frames}"
    raise DecodeError(f"{reader.name}: frame {count} cannot be decoded: {missing}")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
