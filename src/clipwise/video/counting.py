"""Counting the frames of a file by decoding it once, where its packets cannot tell. Part of the PyAV reader."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import av
import numpy as np

from clipwise.video.packets import PacketTable


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
        for messages, frames in reader.decode_on():
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
        why = f"after frame {len(stamps) - 1}: {getattr(error, 'strerror', None) or error}"
        return f"{why}; {table.damage}" if table.damage else why
    if table.damage is not None:
        return table.damage
    if missing > 0 and len(stamps) and (not table.timed or int(np.searchsorted(table.pts, stamps[0])) == missing):
        return f"it begins between two keyframes: its first {missing} packet{'s give' if missing > 1 else ' gives'} no frame"
    if concealed:
        frames = (
            f"{len(concealed)} frames, the first is {min(concealed)}"
            if len(concealed) > 1
            else f"frame {min(concealed)}"
        )
        return f"the decoder has covered up errors in {frames}"
    if reported is not None:
        return f"the decoder reports errors from frame {reported[0]} on: {reported[1]}"
    return f"{len(table)} packets give only {len(stamps)} frames" if missing > 0 else None
