"""The packet table: which frames a video file really holds, and where decoding may start.

A container's header says how many frames there should be; the packets say how many there are. One pass over the packets
(no decoding, a few milliseconds for ten seconds of video) gives the presentation time stamps, whose order is the order of the
frames, and the time stamps of the keyframes. Everything that random access needs follows from these two lists. Where the packets
cannot be relied on, the table says why (``doubt``), and :mod:`clipwise.video.pyav_sequential` decodes the file once.
"""

from __future__ import annotations

import logging
import os
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av.logging
import numpy as np

from clipwise.video.bitstream import PacketCheck, UnitCheck

# Containers whose time stamps can be trusted for seeking. AVI has no presentation time stamps, transport streams seek coarsely.
SEEKABLE_CONTAINERS = frozenset({"mov", "mp4", "matroska", "webm"})

# Packets of files up to this size are kept from the pass over them until the reader is closed, so that nothing is read twice.
KEEP_MAX_BYTES = 8 << 20
PACKET_BYTES = 700  # of memory that each takes besides its data: hours of small packets would be hundreds of megabytes
# Bounds of what a process remembers: 16 MB of time stamps, and about as much for the tables around them.
CACHE_MAX_FRAMES = 2_000_000
CACHE_MAX_TABLES = 20_000

I_FRAME = 1  # PyAV's number of the kind


av.logging.set_skip_repeated(False)  # a message that repeats the one before counts as well
logging.getLogger("libav").addHandler(logging.NullHandler())  # none is printed
logging.getLogger("libav").propagate = False


class DecoderMessages:
    """What FFmpeg reports as errors in this thread: how a decoder tells of damage that it covers up.

    >>> with DecoderMessages() as messages:  # of (level, decoder, text)
    ...     frames = packet.decode()

    Outside, FFmpeg's messages are dropped before they reach Python: those of its own threads could block at the end of a decoder.
    """

    _lock = threading.Lock()
    _listening = 0

    def __init__(self) -> None:
        self._capture = av.logging.Capture()

    def __enter__(self) -> list[Any]:
        with self._lock:
            DecoderMessages._listening += 1
            if self._listening == 1:
                av.logging.set_level(av.logging.ERROR)
        return self._capture.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._capture.__exit__(*error)
        with self._lock:
            DecoderMessages._listening -= 1
            if not self._listening:
                av.logging.set_level(None)


# A fork while another thread holds the lock would leave the child's copy locked for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: setattr(DecoderMessages, "_lock", threading.Lock()))


class SurpriseError(Exception):
    """The file does not behave as its packet table says."""


class Watch:
    """Lets frames pass that fit the packet table, from a keyframe on.

    A keyframe must be an I-frame, frames must come in the order of their time stamps, and the decoder must not report errors. Before
    the keyframe's time stamp it may: those frames refer to others that were not decoded, and nobody asks for them here.
    """

    def __init__(self, key: int, messages: list[Any]):
        self.key, self.messages, self.newest = key, messages, -(1 << 62)

    def __call__(self, frames: list[Any], fed: int | None) -> list[Any]:
        """``frames`` that the packet of time stamp ``fed`` brought forth.

        Raises:
            SurpriseError: they do not fit.
        """
        if self.messages:
            if fed is None or fed >= self.key:
                raise SurpriseError(f"the decoder reports: {self.messages[0][2].strip()}")
            self.messages.clear()
        for frame in frames:
            stamp = frame.pts
            if stamp is None or stamp <= self.newest:
                raise SurpriseError("frames come in another order than their time stamps")
            self.newest = stamp
            if stamp == self.key and frame.pict_type != I_FRAME:
                raise SurpriseError(f"the frame at {stamp} is marked as a keyframe and is none")
            if frame.is_corrupt:
                raise SurpriseError(f"the frame at {stamp} is damaged")
        return frames


@dataclass(frozen=True)
class PacketTable:
    """The frames of one video stream.

    Attributes:
        pts: (n,) int64, time stamps in display order, in units of the stream's time base; frame number = position.
        keys: (k,) int64, sorted time stamps of the packets at which decoding can start.
        timed: ``pts`` are the file's time stamps; otherwise they merely count.
        seekable: frames can be found by their time stamp. Where not, frames are counted from the start of the file.
        damage: what is wrong with the file, or None.
        rotation: degrees by which the container says the frames are to be turned, anticlockwise.
        hidden: packets that an edit list hides: in the header's count, but no frames of the video.
        note: which marks of the container are false, or None; frames are right all the same.
        doubt: why only a decode of the whole file can tell which frames there are; None in a table that is finished.
    """

    pts: np.ndarray
    keys: np.ndarray
    timed: bool
    seekable: bool
    damage: str | None = None
    rotation: int = 0
    hidden: int = 0
    note: str | None = None
    doubt: str | None = None

    def __len__(self) -> int:
        return len(self.pts)

    def key_before(self, pts: np.ndarray) -> np.ndarray:
        """(m,) time stamps -> (m,) time stamps of the keyframe to start at for each."""
        return self.keys[np.maximum(np.searchsorted(self.keys, pts, side="right") - 1, 0)]

    def keyframe_indices(self) -> np.ndarray:
        """(k,) frame numbers of the keyframes."""
        return np.searchsorted(self.pts, self.keys)


def demux(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of one stream.

    Where others begin after the file was opened, PyAV asks at the end for what it has no object for; this one's packets are through.
    """
    with suppress(IndexError):
        yield from container.demux(stream)


def scan_packets(container, stream, keep: list[Any] | None = None) -> PacketTable:
    """Reads every packet of ``stream`` once, without decoding; those of a small file are put into ``keep``.

    ``damage`` is set where a packet is flagged as cut off or is no longer a well-formed sequence of H.264/HEVC units: then only
    decoding can tell how many frames there are, as where ``doubt`` is set.
    """
    names = set(container.format.name.split(","))
    seekable = not SEEKABLE_CONTAINERS.isdisjoint(names)
    check = _check_for(stream.codec_context)
    pts, keys = array("q"), array("q")  # lists of numbers take five times as much, which hours of video feel
    timed, damage, number, hidden, marked, starts, reordered, newest = True, None, -1, 0, 0, False, False, -(1 << 62)
    room = KEEP_MAX_BYTES
    for packet in demux(container, stream):
        size = packet.size
        if keep is not None:
            room -= size + PACKET_BYTES
            keep.append(packet)
            if room < 0:
                keep.clear()
                keep = None
        if not size:
            continue
        number += 1
        if damage is None and packet.is_corrupt:
            damage = f"packet {number} is cut off"
        stamp = packet.pts
        if stamp is None:
            timed = False
            stamp = number
        key: bool | None = packet.is_keyframe
        if key:
            marked += 1
            if check.doubt is None and packet.has_sidedata("new_extradata"):
                check.verifiable, check.doubt = False, f"the decoder's settings change at packet {number}"
        if damage is None and (seekable or not number):
            key = check.key(number, bytes(packet), bool(key), stamp > newest, stamp)
            if key is None:
                damage = f"packet {number} is damaged"
        if not number:
            starts = bool(key)
        if key:
            keys.append(stamp)
        if stamp > newest:
            newest = stamp
        else:
            reordered = True
        if packet.is_discard:  # an edit list hides packets that are still needed to decode others
            hidden += 1
        else:
            pts.append(stamp)
    stamps = np.sort(np.asarray(pts, dtype=np.int64))
    timed = timed and "avi" not in names and len(keys) > 0 and (len(stamps) < 2 or bool((np.diff(stamps) > 0).all()))
    note = _false_marks(check, marked, len(keys)) if seekable and damage is None else None
    doubt = check.doubt if seekable else None
    if seekable and not reordered and check.must_reorder and len(stamps) > 1:
        doubt = "its time stamps are in the order of decoding, though its frames are shown in another"
    if damage is None and doubt is None and len(stamps):
        doubt = _doubt(check, stamps, keys, timed, seekable, starts)
    seekable = seekable and timed and check.verifiable and check.changed is None
    if not timed:
        stamps = np.arange(len(stamps), dtype=np.int64)
    return PacketTable(stamps, np.sort(np.asarray(keys, np.int64)), timed, seekable, damage, 0, hidden, note, doubt)


def _check_for(codec: Any) -> PacketCheck:
    if codec.name in ("h264", "hevc"):
        return UnitCheck(codec)
    from clipwise.video.bitstream_others import check_for_other

    return check_for_other(codec)


def _false_marks(check: PacketCheck, marked: int, keys: int) -> str | None:
    if keys < marked:
        return f"marks {marked} packets as keyframes, of which {keys} are"
    if check.changed is not None:
        return f"parameter sets change at packet {check.changed} and keyframes do not repeat them"
    return None


def _doubt(
    check: PacketCheck, stamps: np.ndarray, keys: Sequence[int], timed: bool, seekable: bool, starts: bool
) -> str | None:
    """Why the packets may be more than the frames, or their order another."""
    if (timed and min(keys) > stamps[0]) or not (timed or starts):
        return "the file does not begin with a keyframe"
    if not (seekable and timed and check.reorders and len(stamps) > 2):
        return None
    steps = np.diff(stamps)
    typical = float(np.median(steps))
    uneven = int((np.abs(steps - typical) > max(1.5, typical / 4)).sum())
    # A rate that varies all over is meant so; a few holes in an even one are where packets have been lost.
    if 0 < uneven <= max(1, len(steps) // 10):
        return f"its time stamps have {uneven} gap{'s' if uneven > 1 else ''}, as if packets had been lost"
    return None


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


# ---- where the tables of a whole data set may lie in one file: clipwise.video.packet_index ----------------------------------------------

INDEX_NAME = "clipwise_index.npz"
SEARCH_LEVELS = 4


@cache
def index_path(folder: str) -> Path | None:
    """The index file that covers a folder; remembered, also that there is none."""
    for level in [Path(folder), *Path(folder).parents][:SEARCH_LEVELS]:
        if (level / INDEX_NAME).is_file():
            return level / INDEX_NAME
    return None
