"""Damaged files: what the decoder reports on the way to a frame is never kept back, and after one full decode nothing is."""

import os
import random
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from clipwise.video.decode import open_video
from clipwise.video.packets import TABLES, demux

sys.path.insert(0, str(Path(__file__).parent))
import fuzz


@pytest.mark.parametrize("verify", [False, True])
def test_damage_that_the_decoder_reports_is_told(tmp_path, verify):
    """CLIPWISE_FUZZ_FILES sets how many files are damaged (default 40), CLIPWISE_FUZZ_SEED the first seed."""
    files, first = int(os.environ.get("CLIPWISE_FUZZ_FILES", "40")), int(os.environ.get("CLIPWISE_FUZZ_SEED", "0"))
    silent, outcomes = [], []
    for seed in range(first, first + files):
        rng = random.Random(seed)
        made = fuzz.random_file(tmp_path, rng, "whole")
        if made is None:
            continue
        path, settings = made
        data, kind = fuzz.damage(path.read_bytes(), rng)
        path.write_bytes(data)
        outcome, where = fuzz.compare_with_plain_decode(path, rng, verify=verify)
        outcomes.append(outcome)
        if outcome == "SILENT" or (verify and outcome in ("numbers", "carried")):
            silent.append((seed, kind, settings, where))
        path.unlink()
    assert not silent
    assert len(outcomes) > files // 2
    assert outcomes.count("damage told") > len(outcomes) // 8


def test_an_error_on_the_way_to_a_frame_makes_the_plain_decode_the_truth(tmp_path):
    """One slice of the second group of frames is overwritten: the decoder covers it up, and the frames behind it are changed."""
    whole = fuzz.encode(tmp_path / "whole.mp4", "libx264", 48, gop=16, b_frames=0, size=(128, 192))
    with open_video(whole) as reader:
        sizes = [packet.size for packet in reader._packets]
        data = bytearray(whole.read_bytes())
        at = data.find(bytes(reader._packets[20]))
    data[at + sizes[20] // 2 : at + sizes[20]] = bytes([0xA5]) * (sizes[20] - sizes[20] // 2)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    truth = fuzz.PlainDecode(path)
    assert len(truth.reported) == 1
    TABLES.clear()
    with open_video(path) as reader:
        assert fuzz.number_in(reader.frames([5])[0]) == 5
        assert reader.damage is None  # the first group is sound, and nothing else was decoded
        assert fuzz.digest(reader.frames([25])[0]) == truth.frames[25][1]
        assert reader.damage == "the decoder has covered up errors in frame 20"
        assert reader.num_frames == truth.unbroken
    with open_video(path) as reader:  # known from now on, in this process
        assert reader.damage is not None
    TABLES.clear()
    with open_video(path, verify=True) as reader:
        assert reader.damage is not None


def test_a_stream_that_begins_late_ends_no_other():
    """PyAV then asks at the end for a stream that it has no object for (an IndexError); the packets before are whole."""

    class Container:
        def demux(self, stream):
            yield from (stream, "packet")
            raise IndexError("list index out of range")

    assert list(demux(Container(), "stream")) == ["stream", "packet"]


def test_damage_of_vp8_that_the_decoder_carries_over_keyframes(tmp_path):
    """It reports nothing, and is not rid of it by a keyframe nor by flushing: frames are counted from the start."""
    whole = fuzz.encode(tmp_path / "whole.webm", "libvpx", 40, gop=5, options={"deadline": "realtime", "cpu-used": "8"})
    data = whole.read_bytes()
    rng, found = random.Random(0), 0
    for n in range(20):
        path = tmp_path / f"{n}.webm"
        path.write_bytes(fuzz.damage(data, rng)[0])
        outcome, where = fuzz.compare_with_plain_decode(path, rng, reads=16)
        assert outcome not in ("SILENT", "carried", "numbers"), where
        found += outcome == "equal"
    assert found > 3


@pytest.mark.parametrize("what", ["its number", "its place", "its references", "its picture set", "its kind"])
def test_a_damaged_header_of_a_frame_that_is_left_out(tmp_path, what):
    """A plain decode takes its number for a gap and has other references, or gives frames in another order, or none for it."""
    whole = fuzz.encode(
        tmp_path / "whole.mp4",
        "libx264",
        60,
        b_frames=3,
        gop=60,
        options={"x264-params": "b-pyramid=none:ref=3:scenecut=0"},
    )
    with open_video(whole) as reader:
        packets = [bytes(packet) for packet in reader._packets if packet.size]
        assert reader.table.doubt is None
        assert reader.table.seekable
    number = next(n for n, packet in enumerate(packets) if n > 20 and not packet[4] & 0x60)
    header = packets[number]
    bits = f"{int.from_bytes(header[5:9], 'big'):032b}"
    assert bits.startswith(
        "1" + "00111" + "1"
    )  # first block 0, a B-slice, picture set 0; then 4 bits or more of the frame's number
    at = {"its picture set": 6, "its number": 7, "its place": 11, "its references": 17}.get(what, 0)
    damaged = bytearray(header)
    if what == "its kind":
        damaged[4] ^= 16  # unit 17: reserved
    else:
        damaged[5 + at // 8] ^= 128 >> at % 8
    path = tmp_path / "damaged.mp4"
    path.write_bytes(whole.read_bytes().replace(header, bytes(damaged)))
    truth = fuzz.PlainDecode(path)
    for index in (59, 40, 57, 31):
        TABLES.clear()
        with open_video(path) as reader:
            assert not reader.table.seekable  # the file was decoded once when it was opened
            if index < reader.num_frames:
                assert fuzz.digest(reader.frames([index])[0]) == truth.frames[index][1]
            else:
                assert reader.damage
            assert reader.num_frames == truth.unbroken


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("webm", "libvpx-vp9")])
def test_matroska_that_breaks_off_says_so(tmp_path, suffix, codec):
    """Its packets are whole, as many as there are, and its header names no number of frames; only its length is too short."""
    path = tmp_path / f"whole.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for i in range(60):
            noise = np.random.default_rng(i).integers(0, 32, (120, 160, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert open_video(path).damage is None
    short = tmp_path / f"short.{suffix}"
    short.write_bytes(data[: int(len(data) * 0.55)])
    with open_video(short) as reader, av.open(str(short)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert reader.num_frames == len(decoded) < 60
        assert "ends too early" in reader.damage
        np.testing.assert_array_equal(reader.frames([len(decoded) - 1])[0], decoded[-1])
