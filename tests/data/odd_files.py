"""Files whose container says what is not so: cut, remuxed, joined or stripped of their marks. Made from numbered frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import av

X265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}
TS_PACKET = 188


def remux(source: Path, target: Path, edit: Callable[[int, av.Packet], bool | None]) -> Path:
    """Copies the packets of a video; ``edit(number, packet)`` may change one, or leave it out by returning False."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for number, packet in enumerate(old.demux(stream)):
            if packet.size and edit(number, packet) is not False:
                packet.stream = copy
                new.mux(packet)
    return target


def without(source: Path, target: Path, numbers: Iterable[int]) -> Path:
    """Without some packets, as after a loss on the way."""
    lost = set(numbers)
    return remux(source, target, lambda number, _: number not in lost)


def from_keyframe(source: Path, target: Path, which: int) -> Path:
    """Without the packets before a keyframe."""
    with av.open(str(source)) as old:
        keys = [n for n, p in enumerate(old.demux(old.streams.video[0])) if p.size and p.is_keyframe]
    return remux(source, target, lambda number, _: number >= keys[which])


def stamped_as_decoded(source: Path, target: Path) -> Path:
    """With presentation times that are the decoding times, as careless tools write them."""

    def edit(_: int, packet: av.Packet) -> None:
        packet.pts = packet.dts

    return remux(source, target, edit)


def all_marked_as_keyframes(source: Path, target: Path) -> Path:
    def edit(_: int, packet: av.Packet) -> None:
        packet.is_keyframe = True

    return remux(source, target, edit)


def without_sync_samples(source: Path, target: Path) -> Path:
    """An MP4 without its list of sync samples: all of them count as such."""
    data = source.read_bytes()
    assert data.count(b"stss") == 1
    target.write_bytes(data.replace(b"stss", b"free"))
    return target


def cut_transport_stream(source: Path, target: Path, part: float) -> Path:
    """Without its first packets, as where a recording begins somewhere."""
    data = source.read_bytes()
    target.write_bytes(data[int(len(data) // TS_PACKET * part) * TS_PACKET :])
    return target


def joined(first: Path, second: Path, target: Path) -> Path:
    """Two H.264 files in one: the second's parameter sets stand in its first packet only, as after ``cat`` of raw streams."""
    shift = 0
    with av.open(str(target), "w") as new:
        copy = None
        for source in (first, second):
            with av.open(str(source)) as old:
                stream = old.streams.video[0]
                sets = b"" if copy is None else _parameter_sets(bytes(stream.codec_context.extradata or b""))
                copy = copy or new.add_stream_from_template(stream)
                end = 0
                for packet in old.demux(stream):
                    if packet.size:
                        moved = av.Packet(sets + bytes(packet))
                        sets = b""
                        moved.pts, moved.dts = packet.pts + shift, packet.dts + shift
                        moved.time_base, moved.duration = packet.time_base, packet.duration
                        moved.is_keyframe, moved.stream = packet.is_keyframe, copy
                        end = max(end, moved.pts + packet.duration)
                        new.mux(moved)
            shift = end
    return target


def _parameter_sets(extradata: bytes) -> bytes:
    """Those of an MP4's H.264 header, each after its length in four bytes."""
    out, at = b"", 5
    for mask in (31, 255):
        count = extradata[at] & mask
        at += 1
        for _ in range(count):
            length = int.from_bytes(extradata[at : at + 2], "big")
            out += length.to_bytes(4, "big") + extradata[at + 2 : at + 2 + length]
            at += 2 + length
    return out
