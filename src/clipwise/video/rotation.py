"""Whether a file could hold a rotation tag, judged by its header.

FFmpeg tells of rotation only on decoded frames, and crops are drawn before anything is decoded.
"""

from __future__ import annotations

import io
import struct
from typing import Any


def may_be_rotated(source: Any, container_name: str) -> bool:
    """Whether the header of a file could hold a rotation tag. False is certain; True means: look at the first frame.

    FFmpeg tells of rotation only on decoded frames, and crops are drawn before anything is decoded.
    """
    names = container_name.split(",")
    if "mov" not in names and "matroska" not in names:
        return False  # AVI, transport streams, FLV, ASF… have no such tag
    try:
        if isinstance(source, bytes):
            file: Any = io.BytesIO(source)
        elif isinstance(source, str):
            if "://" in source:
                return True
            file = open(source, "rb")  # noqa: SIM115
        else:
            return True
        with file:
            return _mp4_turned(file) if "mov" in names else _matroska_turned(file)
    except OSError:
        return True


# The unit matrix of the track header and the movie header, in 16.16 and 2.30 fixed point.
_UPRIGHT = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def _mp4_turned(file) -> bool:
    while True:
        head = file.read(16)
        if len(head) < 8:
            return True
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        skip = len(head)
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if kind == b"moov":
            break
        if size < 8:
            return True
        file.seek(size - skip, io.SEEK_CUR)
    if size > 1 << 26:
        return True
    moov = head[8:] + file.read(size - skip)
    found = 0
    for kind, places in (
        (b"mvhd", (36, 48)),
        (b"tkhd", (40, 52)),
    ):  # where the matrix lies in versions 0 and 1 of the box
        at = moov.find(kind)
        while at >= 0:
            start = at + 4 + places[moov[at + 4] == 1]
            if moov[start : start + 36] != _UPRIGHT:
                return True
            found += 1
            at = moov.find(kind, start)
    return found < 2


def _matroska_turned(file) -> bool:
    head = file.read(1 << 16)
    end = head.find(b"\x1f\x43\xb6\x75")  # the first cluster: the header has ended
    return end < 0 or any(
        roll in head[:end] for roll in (b"\x76\x75\x84", b"\x76\x75\x88")
    )  # ProjectionPoseRoll, 4 or 8 bytes
