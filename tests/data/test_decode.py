"""The readers give exactly the frames of a plain decode, and say clearly what they cannot read."""

import gc
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clipwise.errors import DecodeError, MissingExtraError
from clipwise.video.backends import ArrayReader, FrameFolderReader, open_frames
from clipwise.video.decode import PyAVReader, open_video
from clipwise.video.packets import TABLES, PacketTable, TableCache

sys.path.insert(0, str(Path(__file__).parent))
import fuzz


def message_of(source, **options) -> str:
    with pytest.raises(DecodeError) as caught, open_video(source, **options) as reader:
        reader.frames([0])
    return str(caught.value)


@pytest.fixture(autouse=True)
def no_tables_from_before():
    TABLES.clear()


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Path:
    """70 frames of H.264 with B-frames in mp4, a keyframe every 12."""
    folder = tmp_path_factory.mktemp("plain")
    return fuzz.encode(folder / "plain.mp4", "libx264", 70, gop=12, b_frames=2)


# ---- every real and every odd file --------------------------------------------------------------------------------------------------


def real_and_odd(shared: Path) -> list[Path]:
    folders = [shared / "data/real_videos", shared / "data/odd_videos"]
    return [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".jsonl"]


def test_odd_and_real_files_equal_a_plain_decode(shared):
    probe = {}
    for line in (shared / "data/odd_videos/probe.jsonl").read_text().splitlines():
        entry = json.loads(line)
        probe[(shared / "data/odd_videos" / entry["path"]).resolve()] = entry
    rng = random.Random(0)
    wrong, checked, refused = [], 0, []
    for path in real_and_odd(shared):
        known = probe.get(path.resolve())
        try:
            reader = open_video(path)
        except DecodeError as error:
            refused.append((path.name, str(path) in str(error), known.get("frames") if known else 0))
            continue
        with reader, open_video(path) as again:  # the second knows the table, and seeks in the file
            truth = fuzz.decode_all(path)
            assert reader.num_frames == len(truth), path
            if known is not None:
                assert reader.num_frames == known["frames"], path
                assert reader.fps == pytest.approx(known["fps"], rel=1e-6), path
            assert truth[0].shape == (reader.height, reader.width, 3), path
            for count, one in ((1, reader), (16, reader), (16, again)):
                indices = [rng.randrange(len(truth)) for _ in range(count)]
                for index, frame in zip(indices, one.frames(indices)):
                    checked += 1
                    if not np.array_equal(frame, truth[index]):
                        wrong.append((path.name, index))
            start, step = rng.randrange(len(truth)), rng.choice([1, 3] if len(truth) < 100 else [3, 7])
            streamed = dict(reader.iterate(start, step))
            assert list(streamed) == list(range(start, len(truth), step)), path
            wrong += [
                (path.name, index) for index, frame in streamed.items() if not np.array_equal(frame, truth[index])
            ]
    assert not wrong
    assert checked > 800
    broken = {
        "audio_only.mp4",
        "header_only_32B.mp4",
        "html_404.mp4",
        "text_renamed.mp4",
        "truncated_half_moov_at_end.mp4",
        "zero_bytes.mp4",
    }
    assert {name for name, _, _ in refused} == broken
    assert all(named and not frames for _, named, frames in refused)


def test_damage_is_told_and_the_frames_before_it_are_read(shared):
    with open_video(shared / "data/real_videos/corrupted.mp4") as reader:
        assert (reader.header_frames, reader.num_frames) == (50, 28)
        assert reader.damage == "after frame 27: Invalid data found when processing input; packet 30 is damaged"
        with pytest.raises(DecodeError) as caught:
            reader.frames([3, 28])
    assert str(caught.value) == (
        f"{shared}/data/real_videos/corrupted.mp4: there is no frame 28; 28 frames can be decoded, 0 to 27 "
        "(after frame 27: Invalid data found when processing input; packet 30 is damaged)"
    )


# ---- fuzz ---------------------------------------------------------------------------------------------------------------------------


def test_random_files_have_no_wrong_frame(tmp_path):
    """CLIPWISE_FUZZ_FILES sets how many files are made (default 60), CLIPWISE_FUZZ_SEED the first seed."""
    files, first = int(os.environ.get("CLIPWISE_FUZZ_FILES", "60")), int(os.environ.get("CLIPWISE_FUZZ_SEED", "0"))
    checked, seeking, wrong = 0, 0, []
    for seed in range(first, first + files):
        rng = random.Random(seed)
        made = fuzz.random_file(tmp_path, rng, str(seed))
        if made is None:
            continue
        path, settings = made
        try:
            truth = fuzz.decode_all(path)
        except av.error.FFmpegError:  # a container that FFmpeg wrote, but does not read back
            with pytest.raises(DecodeError):
                open_video(path)
            continue
        with open_video(path) as reader, open_video(path) as again:  # the second knows the table, and seeks in the file
            assert reader.num_frames == again.num_frames == len(truth), (seed, settings)
            seeking += again.table.seekable
            for turn in range(6):
                indices = [rng.randrange(len(truth)) for _ in range(rng.choice([1, 2, 5, 16]))]
                for index, frame in zip(indices, (reader, again)[turn % 2].frames(indices)):
                    checked += 1
                    if not np.array_equal(frame, truth[index]):
                        wrong.append((seed, index, fuzz.number_in(frame), settings))
            start, step = rng.randrange(len(truth)), rng.choice([1, 2, 5])
            got = list(reader.iterate(start, step))
            assert [index for index, _ in got] == list(range(start, len(truth), step)), (seed, settings)
            checked += len(got)
            wrong += [(seed, i, "iterate", settings) for i, frame in got if not np.array_equal(frame, truth[i])]
        path.unlink()
    assert not wrong
    assert checked > 20 * files
    assert seeking > files // 4


# ---- the protocol -------------------------------------------------------------------------------------------------------------------


def test_any_order_and_repeats(plain):
    with open_video(plain) as reader:
        indices = [69, 0, 33, 33, 5, 0]
        assert [fuzz.number_in(f) for f in reader.frames(indices)] == indices
        assert reader.frames(np.array([7], np.int32)).shape == (1, 64, 96, 3)
        assert reader.frames([]).shape == (0, 64, 96, 3)
        assert (reader.num_frames, reader.fps, reader.height, reader.width, reader.channels) == (70, 25.0, 64, 96, 3)
        assert reader.duration_s == pytest.approx(2.8)
        np.testing.assert_allclose(reader.pts_s([0, 25, 69]), [0, 1, 2.76])
        assert reader.keyframes.tolist() == [0, 12, 24, 36, 48, 60]


def test_transform_is_called_once_a_frame_and_keeps_memory_small(plain):
    calls = []

    def shrink(frame):
        calls.append(fuzz.number_in(frame))
        return frame[::16, ::16].astype(np.float32)

    with open_video(plain) as reader:
        out = reader.frames([40, 2, 2, 40, 68], transform=shrink)
    assert sorted(calls) == [2, 40, 68]
    assert out.shape == (5, 4, 6, 3)
    assert out.dtype == np.float32
    assert np.array_equal(out[0], out[3])


def test_bytes_and_file_objects_read_the_same(plain):
    with open_video(plain) as reader:
        want = reader.frames([1, 50, 20])
    with open_video(plain.read_bytes()) as reader:
        assert np.array_equal(reader.frames([1, 50, 20]), want)
        assert [i for i, _ in reader.iterate(60, 4)] == [60, 64, 68]
    with plain.open("rb") as file, open_video(file) as reader:
        assert np.array_equal(reader.frames([1, 50, 20]), want)
        assert np.array_equal(next(reader.iterate(20))[1], want[2])
        assert np.array_equal(reader.frames([50])[0], want[1])


def test_iterate_beside_random_access(plain):
    with open_video(plain) as reader:
        seen = []
        for index, frame in reader.iterate(10, 7):
            assert fuzz.number_in(reader.frames([69 - index])[0]) == 69 - index
            seen.append((index, fuzz.number_in(frame)))
    assert seen == [(i, i) for i in range(10, 70, 7)]


@pytest.mark.parametrize("indices", [[0.5], [[1, 2]], ["a"]])
def test_frame_numbers_must_be_whole(plain, indices):
    with (
        open_video(plain) as reader,
        pytest.raises(DecodeError, match="frame numbers must be a flat list of whole numbers"),
    ):
        reader.frames(indices)


@pytest.mark.parametrize("index", [-1, 70])
def test_frames_that_do_not_exist(plain, index):
    with open_video(plain) as reader, pytest.raises(DecodeError) as caught:
        reader.frames([3, index])
    assert str(caught.value) == f"{plain}: there is no frame {index}; 70 frames can be decoded, 0 to 69"


# ---- kinds of files -----------------------------------------------------------------------------------------------------------------


def test_rotation_tag_is_honored_unless_told_not_to(shared):
    path = shared / "data/odd_videos/rot90_tag.mov"
    with open_video(path) as turned, open_video(path, rotate=False) as stored:
        assert (turned.height, turned.width) == (568, 320)
        assert (stored.height, stored.width) == (320, 568)
        assert np.array_equal(np.rot90(stored.frames([1])[0], -1), turned.frames([1])[0])


def test_first_of_two_video_streams_is_read(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25), container.add_stream("libx264", rate=25)]
        for stream, (height, width) in zip(streams, [(64, 96), (128, 192)]):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(20):
            for shift, stream in zip((0, 100), streams):
                image = fuzz.picture(index + shift, stream.height, stream.width)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    with open_video(path) as reader:
        assert (reader.num_frames, reader.height) == (20, 64)
        assert [fuzz.number_in(f) for f in reader.frames([19, 4])] == [19, 4]


def test_variable_rate_times_and_start_offset(tmp_path):
    path = fuzz.encode(tmp_path / "v.mkv", "libx264", 30, steps=[2, 4], start=500, b_frames=3)
    with open_video(path) as reader:
        np.testing.assert_allclose(reader.pts_s([0, 1, 2, 3]), [0, 0.04, 0.12, 0.16], atol=1e-3)
        assert [fuzz.number_in(f) for f in reader.frames([29, 1])] == [29, 1]


def test_wrong_header_count_is_not_believed(tmp_path, plain):
    data = bytearray(plain.read_bytes())
    at = data.find(b"stts")
    assert int.from_bytes(data[at + 8 : at + 12], "big") == 1
    data[at + 12 : at + 16] = (500).to_bytes(4, "big")  # the header now claims 500 frames
    path = tmp_path / "liar.mp4"
    path.write_bytes(data)
    with open_video(path) as reader:
        assert reader.num_frames == 70
        assert fuzz.number_in(reader.frames([69])[0]) == 69


def test_hole_in_the_file_names_the_frame(tmp_path):
    whole = fuzz.encode(tmp_path / "whole.mp4", "mpeg4", 60, gop=60, size=(256, 256))
    data = bytearray(whole.read_bytes())
    third = len(data) // 3
    data[third : third + third // 2] = bytes(third // 2)
    path = tmp_path / "hole.mp4"
    path.write_bytes(data)
    truth = len(fuzz.decode_all(path))
    assert truth < 60
    with PyAVReader(path, verify=True) as reader:
        assert reader.num_frames == truth
        assert reader.damage.startswith(f"after frame {truth - 1}: ")
    TABLES.clear()
    with open_video(path) as reader:
        with pytest.raises(DecodeError) as caught:
            reader.frames([50])
        assert str(caught.value).startswith(
            f"{path}: there is no frame 50; {truth} frames can be decoded, 0 to {truth - 1} (after frame {truth - 1}: "
        )
        assert reader.num_frames == truth


def test_picture_size_that_changes_half_way(tmp_path):
    small, large = (
        fuzz.encode(tmp_path / "a.ts", "mpeg2video", 10),
        fuzz.encode(tmp_path / "b.ts", "mpeg2video", 10, size=(128, 192)),
    )
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    truth = len(fuzz.decode_all(path))
    assert truth > 15
    with PyAVReader(path, verify=True) as reader:
        assert reader.num_frames == truth
        assert reader.frames(range(truth)).shape == (truth, 64, 96, 3)


# ---- errors, word for word ----------------------------------------------------------------------------------------------------------


def test_messages_for_what_is_no_video(tmp_path, shared):
    odd = shared / "data/odd_videos"
    assert message_of(odd / "zero_bytes.mp4") == f"{odd}/zero_bytes.mp4: is empty (0 bytes)"
    assert message_of(odd / "text_renamed.mp4") == f"{odd}/text_renamed.mp4: is a text file, not a video"
    assert (
        message_of(odd / "html_404.mp4")
        == f"{odd}/html_404.mp4: is a web page, not a video; the download that made it has failed"
    )
    assert message_of(odd / "audio_only.mp4") == f"{odd}/audio_only.mp4: has no video stream, only audio"
    cut = "has no index (moov box): the file was cut off before its end, or never finished"
    assert message_of(odd / "truncated_half_moov_at_end.mp4") == f"{odd}/truncated_half_moov_at_end.mp4: {cut}"
    assert message_of(odd / "header_only_32B.mp4") == f"{odd}/header_only_32B.mp4: {cut}"
    missing = tmp_path / "no.mp4"
    assert message_of(missing) == f"{missing}: there is no such file"
    assert (
        message_of(tmp_path)
        == f"{tmp_path}: is a folder, not a video file; folders of frames are read with FrameFolderReader"
    )
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(random.Random(1).randbytes(5000))
    assert (
        message_of(noise) == f"{noise}: is not a video that FFmpeg can read: Invalid data found when processing input"
    )
    assert message_of(b"") == "<bytes>: is empty (0 bytes)"
    assert message_of(b"hello there") == "<bytes>: is a text file, not a video"
    assert message_of(5) == "a video is given as a path, bytes or a file that can seek, not as int"
    assert message_of(noise, backend="decord") == "there is no decoder 'decord'; choose auto, pyav or torchcodec"
    assert (
        message_of(noise, device="x:0") == "device='x:0' works only with backend='torchcodec'; PyAV decodes on the CPU"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_does_not_hang(tmp_path):
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    assert message_of(path) == f"{path}: is a pipe or a device, not a file"


def test_timeout_ends_a_slow_decode(tmp_path):
    path = fuzz.encode(tmp_path / "long.mp4", "libx264", 300, gop=300, size=(256, 256), options={"preset": "ultrafast"})
    with open_video(path, timeout_s=1000) as reader:
        reader._timeout_s = 1e-4
        started = time.monotonic()
        with pytest.raises(DecodeError) as caught:
            reader.frames([299])
    assert str(caught.value) == f"{path}: decoding took longer than 0.0001 s"
    assert time.monotonic() - started < 1


def test_packets_of_large_files_are_not_kept(plain, monkeypatch):
    indices = [33, 2, 39, 17]
    TABLES.clear()
    with open_video(plain) as reader:
        assert len(reader._packets) > reader.num_frames
        kept = reader.frames(indices)
    monkeypatch.setattr("clipwise.video.packets.KEEP_MAX_BYTES", 100)
    TABLES.clear()
    with open_video(plain) as reader:
        assert not reader._packets
        assert np.array_equal(reader.frames(indices), kept)


def test_torchcodec_is_an_extra(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'clipwise\[codec\]'"):
        open_video(plain, backend="torchcodec")


def test_torchcodec_gives_the_same_frames(plain, tmp_path):
    try:
        import torchcodec.decoders
    except (ImportError, OSError, RuntimeError):
        pytest.skip("torchcodec or FFmpeg's shared libraries are not installed")
    cases = {  # file -> who reads it; TorchCodec alone numbers the AVI wrongly, and converts the last two otherwise
        plain: "torchcodec",
        fuzz.encode(tmp_path / "long.mkv", "libx264", 60, b_frames=3, gop=30): "torchcodec",
        fuzz.encode(tmp_path / "uneven.mp4", "libx264", 60, b_frames=3, steps=[1, 3, 1, 2]): "torchcodec",
        fuzz.encode(tmp_path / "b.avi", "mpeg4", 40, b_frames=2, gop=12): "pyav",
        fuzz.encode(tmp_path / "odd.webm", "libvpx-vp9", 40, size=(65, 97)): "pyav",
        fuzz.encode(tmp_path / "deep.mp4", "libx265", 40, pix_fmt="yuv420p10le"): "pyav",
    }
    indices = [33, 2, 2, 39, 17]
    for path, reader in cases.items():
        with open_video(path) as pyav, open_video(path, backend="torchcodec") as other:
            assert (other.fell_back is None) == (reader == "torchcodec"), path
            frames = other.frames(indices)
            assert [fuzz.number_in(frame) for frame in frames] == indices, path
            same_ffmpeg = torchcodec.ffmpeg_major_version == av.library_versions["libavutil"][0] - 52
            difference = np.abs(pyav.frames(indices).astype(int) - frames)
            assert difference.max() == 0 if same_ffmpeg or reader == "pyav" else difference.mean() < 2, path
            assert (other.num_frames, other.height, other.width) == (pyav.num_frames, pyav.height, pyav.width)
            small = other.frames(indices, transform=lambda frame: frame[::2, ::2])
            assert np.array_equal(small, frames[:, ::2, ::2])
    with pytest.raises(DecodeError, match="TorchCodec cannot open it on the device nowhere"):
        open_video(plain, backend="torchcodec", device="nowhere")


# ---- processes and memory -----------------------------------------------------------------------------------------------------------


def read_one(path: str) -> int:
    with open_video(path) as reader:
        return fuzz.number_in(reader.frames([37])[0])


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
def test_works_in_child_processes_after_use_in_the_parent(plain, method, monkeypatch):
    assert read_one(str(plain)) == 37
    if method == "fork":
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(read_one, [str(plain)] * 4) == [37] * 4
        return
    code = (
        "import multiprocessing as m, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from fuzz import read_37\n"
        "if __name__ == '__main__':\n"
        f"    assert read_37({str(plain)!r}) == 37\n"
        f"    print(m.get_context('spawn').Pool(1).map(read_37, [{str(plain)!r}] * 2))\n"
    )
    script = plain.parent / "spawned.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[37, 37]", done.stderr


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_is_flat_over_2000_opens(plain, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(plain.read_bytes()[:3000])

    def use(times: int) -> None:
        for _ in range(times):
            with open_video(plain) as reader:
                reader.frames([5, 30])
            with pytest.raises(DecodeError):
                open_video(broken)
        gc.collect()

    use(300)
    before = resident_mb()
    use(1000)
    middle = resident_mb()
    use(1000)
    assert resident_mb() - middle < 3
    assert middle - before < 8


def test_long_file_is_streamed_in_small_memory(tmp_path):
    path = fuzz.encode(
        tmp_path / "large.mp4", "libx264", 120, size=(720, 1280), options={"preset": "ultrafast"}, gop=60
    )
    with open_video(path) as reader:
        list(zip(range(5), reader.iterate()))
        before = resident_mb()
        highest = max(resident_mb() for _ in reader.iterate(0, 2))
    assert highest - before < 40  # 60 frames would be 166 MB


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_hours_of_small_packets_are_not_kept(tmp_path):
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        packet = (stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))) + stream.encode())[0]
        for number in range(50_000):
            copy = av.Packet(bytes(packet))
            copy.pts = copy.dts = number
            copy.time_base, copy.is_keyframe, copy.stream = Fraction(1, 25), True, stream
            file.mux(copy)
    before = resident_mb()
    with open_video(path) as reader:
        assert reader.num_frames == 50_000
        assert resident_mb() - before < 22  # with packets of 24 bytes kept: 39 MB


def test_table_is_kept_and_refreshed_when_the_file_changes(tmp_path):
    path = fuzz.encode(tmp_path / "a.mp4", "libx264", 12)
    with open_video(path) as reader:
        table = reader.table
    with open_video(path) as reader:
        assert reader.table is table
    fuzz.encode(path, "libx264", 9)
    with open_video(path) as reader:
        assert reader.num_frames == 9


def test_table_cache_is_bounded():
    def table(frames: int) -> PacketTable:
        return PacketTable(np.arange(frames), np.zeros(1, np.int64), True, True)

    cache = TableCache(max_frames=100, max_tables=4)
    for name in range(6):
        cache.put((name,), table(10))
    assert [name for name in range(6) if cache.get((name,))] == [2, 3, 4, 5]
    cache.get((2,))
    cache.put((7,), table(75))
    assert [name for name in range(8) if cache.get((name,))] == [2, 5, 7]
    cache.put((8,), table(101))
    assert cache.get((8,)) is None


# ---- folders and arrays -------------------------------------------------------------------------------------------------------------


def picture_files(folder: Path, names: list[str]) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for number, name in enumerate(names):
        frame = av.VideoFrame.from_ndarray(fuzz.picture(number, 64, 96), format="rgb24")
        frame.save(str(folder / name), **({"qscale": 2} if name.endswith("jpg") else {}))


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ([f"img_{i:05}.jpg" for i in range(1, 6)], {}),
        ([f"img_{i:05}.jpg" for i in range(5)], {"start_index": 0}),
        ([f"img_{i:05}.jpg" for i in range(5)], {"start_index": None}),
        ([f"{i:04}.png" for i in range(1, 6)], {"template": "{:04}.png"}),
        ([f"img_{i:05}.jpg" for i in range(13, 18)], {"offset": 12}),
        ([f"img_{i:05}.jpg" for i in range(1, 6)], {"template": "img_%05d.jpg"}),
        ([f"img_{i:05}.jpg" for i in range(1, 6)], {"num_frames": 5}),
    ],
)
def test_frame_folders(tmp_path, names, options):
    picture_files(tmp_path / "v", names)
    with open_frames(tmp_path / "v", **options) as reader:
        assert (reader.num_frames, reader.height, reader.width) == (5, 64, 96)
        assert [fuzz.number_in(f) for f in reader.frames([4, 0, 0])] == [4, 0, 0]


def test_pictures_are_decoded_as_opencv_does(shared):
    cv2 = pytest.importorskip("cv2")
    folder = shared / "data/rawframes_jumprun/demo_dataset/jumping/0001"
    with open_frames(folder) as reader:
        frames = reader.frames([0, 3])
    for number, frame in zip((1, 4), frames):
        want = cv2.imread(str(folder / f"img_{number:05}.jpg"))[..., ::-1]
        assert np.abs(frame.astype(int) - want).max() <= 4
        assert np.abs(frame.astype(int) - want).mean() < 0.3


def test_flow_folder_gives_x_and_y(tmp_path):
    x, y = np.full((40, 60), 100, np.uint8), np.full((40, 60), 180, np.uint8)
    for number in (1, 2, 3):
        for axis, plane in (("x", x), ("y", y)):
            frame = av.VideoFrame.from_ndarray(plane + number, format="gray")
            frame.save(str(tmp_path / f"flow_{axis}_{number:05}.jpg"), qscale=2)
    with open_frames(tmp_path, modality="Flow") as reader:
        flow = reader.frames([2, 0])
        assert (reader.num_frames, reader.channels) == (3, 2)
    assert flow.shape == (2, 40, 60, 2)
    np.testing.assert_allclose(flow.mean((1, 2)), [[103, 183], [101, 181]], atol=1)


def test_frame_folder_messages(tmp_path):
    picture_files(tmp_path / "v", ["img_00001.jpg", "img_00002.jpg", "img_00004.jpg"])
    with pytest.raises(DecodeError) as caught:
        FrameFolderReader(tmp_path / "v", template="x_{:05}.jpg")
    assert str(caught.value) == (
        f"{tmp_path}/v: there is no x_00001.jpg; the folder holds img_00001.jpg, img_00002.jpg, img_00004.jpg; "
        "set the file name template or start_index"
    )
    assert FrameFolderReader(tmp_path / "v").num_frames == 2  # up to the gap
    with pytest.raises(DecodeError) as caught:
        FrameFolderReader(tmp_path / "v", num_frames=4).frames([2])
    assert str(caught.value) == f"{tmp_path}/v/img_00003.jpg: there is no such file (frame 2 of 4)"
    (tmp_path / "v" / "img_00002.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.raises(DecodeError, match=r"img_00002.jpg: cannot be decoded: "):
        FrameFolderReader(tmp_path / "v").frames([1])
    (tmp_path / "v" / "img_00002.jpg").write_bytes(b"")
    with pytest.raises(DecodeError, match=r"img_00002.jpg: is empty \(0 bytes\)"):
        FrameFolderReader(tmp_path / "v").frames([1])
    with pytest.raises(DecodeError, match="there is no such folder"):
        FrameFolderReader(tmp_path / "w")
    with pytest.raises(
        DecodeError,
        match=r"file name template 'img.jpg' does not fit; it needs a number field, as in 'img_\{:05\}.jpg'",
    ):
        FrameFolderReader(tmp_path / "v", template="img.jpg")
    with pytest.raises(DecodeError, match="modality must be rgb or flow, not 'depth'"):
        FrameFolderReader(tmp_path / "v", modality="depth")


def test_arrays_are_read_like_videos(plain):
    with open_video(plain) as reader:
        everything = reader.frames(range(reader.num_frames))
        some = reader.frames([9, 60])
    with open_video(everything) as array:
        assert np.array_equal(array.frames([9, 60]), some)
        assert (array.num_frames, array.height, array.width) == (70, 64, 96)
        assert [i for i, _ in array.iterate(66, 2)] == [66, 68]
    with pytest.raises(DecodeError) as caught:
        ArrayReader(np.zeros((2, 8, 8), np.uint8))
    assert str(caught.value) == (
        "<array>: frames in memory are uint8 of shape (T, H, W, 3), or (T, H, W, 2) for flow, not uint8 (2, 8, 8)"
    )


def test_edit_list_hides_frames(tmp_path):
    """A clip cut without re-encoding: packets before the cut are there, but are not frames of the video."""
    whole = fuzz.encode(tmp_path / "whole.mp4", "libx264", 60, gop=30, b_frames=2)
    path = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        shift = None
        for packet in source.demux(stream):
            if packet.dts is None:
                continue
            shift = int(Fraction(10, 25) / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = copy
            target.mux(packet)
    truth = fuzz.decode_all(path)
    with open_video(path) as reader:
        assert reader.num_frames == len(truth)
        indices = [0, 5, 20, reader.num_frames - 1]
        for index, frame in zip(indices, reader.frames(indices)):
            assert np.array_equal(frame, truth[index])
