"""Packets of codecs other than H.264 and HEVC; see :mod:`clipwise.video.bitstream`."""

from __future__ import annotations

from typing import Any

from clipwise.video.bitstream import PacketCheck


class StartCodeCheck(PacketCheck):
    """MPEG-4 Part 2, MPEG-1 and MPEG-2: headers after start codes.

    Where a motion vector of MPEG-1 or MPEG-2 leads out of the picture, FFmpeg leaves the block as its memory happens to be, and reports
    nothing: such a picture depends on all that was decoded before, so frames are counted from the start of the file.
    """

    def __init__(self, codec: Any):
        super().__init__(codec)
        self.mpeg4 = codec.name == "mpeg4"
        self.verifiable, self.reorders = self.mpeg4, True

    def key(self, number: int, data: bytes, marked: bool, newest: bool, stamp: int) -> bool | None:
        at = data.find(b"\0\0\1\xb6" if self.mpeg4 else b"\0\0\1\0")
        if at < 0 or at + 5 >= len(data) or data[:3] != b"\0\0\1":
            self._note_strange(number)
            return False
        kind = data[at + 4] >> 6 if self.mpeg4 else (data[at + 5] >> 3 & 7) - 1  # 0 I, 1 P, 2 B
        key = marked and kind == 0
        header = self._header(data[:at])
        if header or key:
            self._note_sets(number, key, bool(header), bool(header) and header not in self.extra)
        if newest and kind == 2:
            self._note_b_frame(number)
        if self.mpeg4 and data.find(b"\0\0\1\xb6", at + 4) >= 0 and self.doubt is None:
            self.doubt = f"packet {number} holds several frames"
        return key

    def _header(self, head: bytes) -> bytes:
        """The sequence's header, where one stands before a frame."""
        if not self.mpeg4:
            at = head.find(b"\0\0\1\xb3")
            return head[at : at + 12] if at >= 0 else b""
        at = head.find(b"\0\0\1")
        while 0 <= at < len(head) - 3:
            after = head.find(b"\0\0\1", at + 3)
            if 0x20 <= head[at + 3] <= 0x2F:
                return head[at : after if after >= 0 else len(head)]
            at = after
        return b""


class VPCheck(PacketCheck):
    """VP8, VP9 and AV1: whose decoders start at any keyframe, and do not tell of much.

    VP8's tells of nothing, and carries what damage did to it over keyframes: its frames are counted from the start of the file.
    """

    def __init__(self, codec: Any):
        super().__init__(codec)
        self.verifiable = codec.name != "vp8"

    def key(self, number: int, data: bytes, marked: bool, newest: bool, stamp: int) -> bool | None:
        if self.name == "vp8":
            key = not data[0] & 1
            good = not key or data[3:6] == b"\x9d\x01\x2a"
        elif self.name == "vp9":
            key, good = marked, data[0] >> 6 == 2
        else:
            key, good = marked, _av1_units_fit(data)
        if not good:
            self._note_strange(number)
        return marked and key


def _av1_units_fit(data: bytes) -> bool:
    """Whether a packet is a row of AV1's units: a header byte or two, and the length in groups of seven bits."""
    at, size = 0, len(data)
    while at < size:
        head = data[at]
        at += 2 if head & 4 else 1
        if head & 0x81:
            return False
        if not head & 2:
            return True  # without a length: to the end
        length, shift = 0, 0
        while at < size:
            byte = data[at]
            length |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                break
        at += length
    return at == size


def check_for_other(codec: Any) -> PacketCheck:
    """The check for a stream's codec."""
    if codec.name in ("mpeg4", "mpeg2video", "mpeg1video"):
        return StartCodeCheck(codec)
    if codec.name in ("vp8", "vp9", "av1", "libdav1d", "libaom-av1"):
        return VPCheck(codec)
    return PacketCheck(codec)
