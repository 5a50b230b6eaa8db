"""The packet table: which frames a video file really holds, and where decoding may start.

A container's header says how many frames there should be; the packets say how many there are. One pass over the packets
(no decoding, about a millisecond for ten seconds of video) gives the presentation time stamps, whose order is the order of the
frames, and the time stamps of the keyframes. Everything that random access needs follows from these two lists.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from clipwise.video.packet_index import PacketIndex

# Containers whose time stamps can be trusted for seeking. AVI has no presentation time stamps, transport streams seek coarsely.
SEEKABLE_CONTAINERS = frozenset({"mov", "mp4", "matroska", "webm"})

# Packets of files up to this size are kept from the pass over them until the reader is closed, so that nothing is read twice.
KEEP_MAX_BYTES = 8 << 20
# Bounds of what a process remembers: 16 MB of time stamps, and about as much for the tables around them.
CACHE_MAX_FRAMES = 2_000_000
CACHE_MAX_TABLES = 20_000


@dataclass(frozen=True)
class PacketTable:
    """The frames of one video stream.

    Attributes:
        pts: (n,) int64, time stamps in display order, in units of the stream's time base; frame number = position.
        keys: (k,) int64, sorted time stamps of the packets at which decoding can start.
        timed: ``pts`` are the file's time stamps; otherwise they merely count.
        seekable: frames can be found by their time stamp. Where not, frames are counted from the start of the file.
        damage: what is wrong with the file, or None.
        rotation: degrees by which the container says the pictures are to be turned, anticlockwise.
        hidden: packets that an edit list hides: in the header's count, but no frames of the video.
    """

    pts: np.ndarray
    keys: np.ndarray
    timed: bool
    seekable: bool
    damage: str | None = None
    rotation: int = 0
    hidden: int = 0

    def __len__(self) -> int:
        return len(self.pts)

    def __bool__(self) -> bool:
        return True

    def key_before(self, pts: np.ndarray) -> np.ndarray:
        """(m,) time stamps -> (m,) time stamps of the keyframe to start at for each."""
        return self.keys[np.maximum(np.searchsorted(self.keys, pts, side="right") - 1, 0)]

    def keyframe_indices(self) -> np.ndarray:
        """(k,) frame numbers of the keyframes."""
        return np.searchsorted(self.pts, self.keys)


def scan_packets(container, stream, keep: list[Any] | None = None) -> PacketTable:
    """Reads every packet of ``stream`` once, without decoding; those of a small file are put into ``keep``.

    ``damage`` is set where a packet is flagged as cut off or is no longer a well-formed sequence of H.264/HEVC units, or where the
    file does not begin with a keyframe: then only decoding can tell how many frames there are.
    """
    pts: list[int] = []
    keys: list[int] = []
    timed, damage, number, hidden = True, None, -1, 0
    prefix = _unit_length_bytes(stream.codec_context)
    room = KEEP_MAX_BYTES
    for packet in container.demux(stream):
        size = packet.size
        if keep is not None:
            room -= size
            keep.append(packet)
            if room < 0:
                keep.clear()
                keep = None
        if not size:
            continue
        number += 1
        if damage is None:
            if packet.is_corrupt:
                damage = f"packet {number} is cut off"
            elif prefix and not _well_formed(bytes(packet), prefix):
                damage = f"packet {number} is damaged"
        stamp = packet.pts
        if stamp is None:
            timed = False
            stamp = number
        elif packet.is_keyframe:
            keys.append(stamp)
        if packet.is_discard:  # an edit list hides packets that are still needed to decode others
            hidden += 1
        else:
            pts.append(stamp)
    stamps = np.sort(np.asarray(pts, dtype=np.int64))
    names = set(container.format.name.split(","))
    timed = timed and "avi" not in names and len(keys) > 0 and (len(stamps) < 2 or bool((np.diff(stamps) > 0).all()))
    seekable = timed and not SEEKABLE_CONTAINERS.isdisjoint(names)
    if damage is None and seekable and len(stamps) and min(keys) > stamps[0]:
        damage = "the first packet is not a keyframe"
    if not timed:
        stamps = np.arange(len(stamps), dtype=np.int64)
    return PacketTable(stamps, np.sort(np.asarray(keys, dtype=np.int64)), timed, seekable, damage, hidden=hidden)


def _unit_length_bytes(codec) -> int:
    """Bytes of the length before each H.264/HEVC unit (mp4 and Matroska store them so), 0 where units are stored otherwise."""
    position = {"h264": 4, "hevc": 21}.get(codec.name)
    extra = codec.extradata if position is not None else None
    if position is None or extra is None or len(extra) <= position or extra[0] != 1:
        return 0
    return (extra[position] & 3) + 1


def _well_formed(data: bytes, prefix: int) -> bool:
    # Inside a unit there are never three zero bytes in a row: those are holes in the file. Three in a row hold an aligned pair, and
    # numpy counts pairs fifty times faster than bytes.find looks for three. (The first unit's length is left out: it begins with zeros.)
    size = len(data)
    pairs = max(0, size - prefix) // 2
    suspicious = pairs > np.count_nonzero(np.frombuffer(data, np.uint16, pairs, prefix)) if pairs else False
    at = 0
    while at < size:
        head = at + prefix
        end = head + int.from_bytes(data[at:head], "big")
        # The first bit of a unit is 0.
        if end == head or end > size or data[head] & 0x80 or (suspicious and data.find(b"\0\0\0", head, end) >= 0):
            return False
        at = end
    return True


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


class TableCache:
    """Least recently used packet tables of this process, found by path, size and modification time."""

    def __init__(self, max_frames: int = CACHE_MAX_FRAMES, max_tables: int = CACHE_MAX_TABLES):
        self.max_frames, self.max_tables = max_frames, max_tables
        self._tables: OrderedDict[tuple, PacketTable] = OrderedDict()
        self._frames = 0
        self._lock = threading.Lock()

    @staticmethod
    def key(path: str) -> tuple:
        status = os.stat(path)
        return (os.path.abspath(path), status.st_size, status.st_mtime_ns)

    def get(self, key: tuple) -> PacketTable | None:
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
            return table

    def put(self, key: tuple, table: PacketTable) -> None:
        if len(table) > self.max_frames:
            return
        with self._lock:
            old = self._tables.pop(key, None)
            self._frames += len(table) - (len(old) if old is not None else 0)
            self._tables[key] = table
            while self._frames > self.max_frames or len(self._tables) > self.max_tables:
                self._frames -= len(self._tables.popitem(last=False)[1])

    def clear(self) -> None:
        with self._lock:
            self._tables.clear()
            self._frames = 0


TABLES = TableCache()
# A fork while another thread holds the lock would leave the child's copy locked for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: setattr(TABLES, "_lock", threading.Lock()))


# ---- tables of a whole data set in one file: clipwise.video.packet_index ---------------------------------------------------------------

INDEX_NAME = "clipwise_index.npz"
SEARCH_LEVELS = 4


def find_table(key: tuple[str, int, int]) -> PacketTable | None:
    """The table of a video (path, size, modification time) in the index of its folder, or of one of the folders above."""
    index = index_of(os.path.dirname(key[0]))
    return index.get(key) if index is not None else None


@cache
def index_of(folder: str) -> PacketIndex | None:
    """The index that covers a folder; remembered, also that there is none."""
    for level in [Path(folder), *Path(folder).parents][:SEARCH_LEVELS]:
        if (level / INDEX_NAME).is_file():
            return _open_index(level / INDEX_NAME)
    return None


@cache
def _open_index(path: Path) -> PacketIndex:
    from clipwise.video.packet_index import PacketIndex

    return PacketIndex(path)


def forget_indexes() -> None:
    """Look for index files anew."""
    index_of.cache_clear()
    _open_index.cache_clear()
