"""What only a file's own bytes tell: whether packets are what their container says, whether a header could hold a rotation tag.

Containers mark the packets at which decoding may start, and marks can be false: a file without a list of sync samples marks every
packet, a careless remuxer writes decoding times as presentation times, a file joined from two goes on with other parameter sets.
The first bytes of each packet tell; reading them costs 2 to 20 microseconds.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from clipwise.video.slice_headers import HEADER_BYTES, SliceHeaders


class PacketCheck:
    """Looks at the packets of one stream in turn; here for codecs of which nothing needs to be looked at.

    Attributes:
        verifiable: keyframe marks can be relied on, after this check; without it frames are counted from the start of the file.
        reorders: the codec has B-frames, and loses frames or shows wrong ones where others are missing.
        doubt: why only a decode of the whole file can tell which frames there are.
        changed: number of the packet from which on other parameter sets hold that later keyframes do not repeat.
    """

    def __init__(self, codec: Any):
        self.name = codec.name
        self.extra = bytes(codec.extradata or b"")
        self.delay: int = codec.reorder_depth
        self.verifiable: bool = codec.codec.intra_only
        self.reorders = False
        self.doubt: str | None = None
        self._new_sets: int | None = None
        self._incomplete: int | None = None

    def key(self, number: int, data: bytes, marked: bool, newest: bool, stamp: int) -> bool | None:
        """Looks at a packet.

        Args:
            number: of the packet.
            marked: the container calls it a keyframe.
            newest: its time stamp is later than those of all packets before.
            stamp: that time stamp.

        Returns:
            Whether decoding can start here; None: the packet is damaged.
        """
        return marked

    @property
    def must_reorder(self) -> bool:
        """The stream's header says that frames are shown in another order than they are stored."""
        # In H.264 the delay is FFmpeg's guess, and slices tell of B-frames.
        return self.delay > 0 and self.name == "hevc"

    @property
    def changed(self) -> int | None:
        return self._new_sets if self._incomplete is not None else None

    def _note_sets(self, number: int, key: bool, complete: bool, new: bool) -> None:
        if new and self._new_sets is None:
            self._new_sets = number
        # New sets are harmless where every keyframe, from the first on, brings all of its own, and nothing else brings any.
        if (key and not complete) or (new and not key):
            self._incomplete = number

    def _note_strange(self, number: int) -> None:
        self.doubt = self.doubt or f"packet {number} is not built as {self.name} is"

    def _note_b_frame(self, number: int) -> None:
        # Every B-frame is stored after a frame that is shown later, or its decoder has nothing to reorder.
        if self.delay and self.doubt is None:
            self.doubt = f"packet {number} holds a B-frame whose time stamp is the latest so far"


class UnitCheck(PacketCheck):
    """H.264 and HEVC as MP4 and Matroska store them: units, each after its length."""

    def __init__(self, codec: Any):
        super().__init__(codec)
        self.h264 = codec.name == "h264"
        self.reorders = True
        place = 4 if self.h264 else 21
        self.prefix = (self.extra[place] & 3) + 1 if len(self.extra) > place and self.extra[0] == 1 else 0
        self.verifiable = self.prefix > 0
        self.slices = SliceHeaders(self.extra) if self.h264 and self.prefix else None

    def key(self, number: int, data: bytes, marked: bool, newest: bool, stamp: int) -> bool | None:
        prefix, h264 = self.prefix, self.h264
        if not prefix:
            return marked
        # Inside a unit there are never three zero bytes in a row: those are holes in the file. Three in a row hold an aligned pair,
        # and numpy counts pairs fifty times faster than bytes.find looks for three. (The first unit's length is left out: it begins
        # with zeros.)
        size = len(data)
        pairs = max(0, size - prefix) // 2
        suspicious = pairs > np.count_nonzero(np.frombuffer(data, np.uint16, pairs, prefix)) if pairs else False
        sets, recovery, frame, at, new = 0, False, 0, 0, False
        while at < size:
            head = at + prefix
            end = head + int.from_bytes(data[at:head], "big")
            # The first bit of a unit is 0.
            if end == head or end > size or data[head] & 0x80 or (suspicious and data.find(b"\0\0\0", head, end) >= 0):
                return None
            kind = data[head] & 31 if h264 else data[head] >> 1 & 63
            if not frame:
                if kind in ((1, 5) if h264 else range(32)):
                    frame = head
                elif kind in ((7, 8) if h264 else (32, 33, 34)):
                    sets |= 1 << kind
                    new = new or data[head:end] not in self.extra
                elif h264 and kind == 6:
                    recovery = True
            at = end
        if not frame:
            self.doubt = self.doubt or f"packet {number} holds no frame"
            return False
        key = marked and self._starts(data, frame, recovery)
        if sets or key:
            self._note_sets(number, key, sets == (0x180 if h264 else 7 << 32), new)
        if new:
            self.slices = None
        if self.slices is not None and self.doubt is None:
            strange = self.slices.look(data[frame : frame + HEADER_BYTES], stamp)
            self.doubt = strange and f"packet {number} {strange}"
        if newest and h264 and _slice_type(data, frame) == "B":
            self._note_b_frame(number)
        return key

    def _starts(self, data: bytes, frame: int, recovery: bool) -> bool:
        if not self.h264:
            return 16 <= data[frame] >> 1 & 63 <= 23
        return data[frame] & 31 == 5 or recovery or _slice_type(data, frame) in "I?"


def _slice_type(data: bytes, head: int) -> str:
    """P, B or I by the header of a frame's first H.264 slice: a 1 (slice 0), then the type as an Exp-Golomb number; "?" for others."""
    byte = data[head + 1] if head + 1 < len(data) else 0
    if byte & 0xF0 == 0xA0 or byte & 0xFC == 0x9C:  # 1 010…, 1 00111…
        return "B"
    if byte & 0xF0 == 0xB0 or byte == 0x88:  # 1 011…, 1 0001000
        return "I"
    return "P" if byte & 0xC0 == 0xC0 or byte & 0xFC == 0x98 else "?"


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
    for kind, places in ((b"mvhd", (36, 48)), (b"tkhd", (40, 52))):  # of the matrix in versions 0 and 1 of the box
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
    rolls = (b"\x76\x75\x84", b"\x76\x75\x88")  # ProjectionPoseRoll, 4 or 8 bytes
    return end < 0 or any(roll in head[:end] for roll in rolls)
