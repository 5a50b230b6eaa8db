"""Files whose container marks are false: frame ``i`` is all the same the ``i``-th of a plain decode, and ``check`` says what is wrong."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from clipwise.data.clip_spec import ClipSpec
from clipwise.prepare.audit import Look
from clipwise.prepare.prepare import extract_frames, index_videos, resize_videos
from clipwise.recipe import RecognitionRecipe
from clipwise.video import open as open_any
from clipwise.video.decode import open_video
from clipwise.video.packet_index import find_table, forget_indexes
from clipwise.video.packets import TABLES, TableCache

sys.path.insert(0, str(Path(__file__).parent))
import fuzz
import odd_files as odd


@pytest.fixture(autouse=True)
def no_tables_from_before():
    TABLES.clear()
    forget_indexes()


def check_single_reads(path: Path) -> list[np.ndarray]:
    """Every frame read alone, by a reader that has just scanned the file and by one that knows its table, equals a plain decode."""
    truth = fuzz.decode_all(path)
    for known in (False, True):
        wrong = []
        for index in range(len(truth)):
            if not known:
                TABLES.clear()
            with open_video(path) as reader:
                if not np.array_equal(reader.frames([index])[0], truth[index]):
                    wrong.append(index)
                assert reader.num_frames == len(truth)
        assert not wrong, (path.name, known, wrong)
    return truth


def look(path: Path):
    TABLES.clear()
    return Look(False, 1, None, 1, "rgb", None).one(str(path), "video", None, 0)


# ---- leading packets that give no frame ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cut_streams(tmp_path_factory) -> dict[str, tuple[Path, int]]:
    """Transport streams that begin between two keyframes, and how many frames a plain decode gives of each."""
    folder = tmp_path_factory.mktemp("cut")
    whole = {
        "h264": fuzz.encode(folder / "h264_whole.ts", "libx264", 100, gop=25, b_frames=2),
        "hevc": fuzz.encode(folder / "hevc_whole.ts", "libx265", 100, gop=25, b_frames=2, options=odd.X265),
        "mpeg2": fuzz.encode(folder / "mpeg2_whole.ts", "mpeg2video", 100, gop=25, b_frames=0),
    }
    cut = {name: odd.cut_transport_stream(path, folder / f"{name}.ts", 0.13) for name, path in whole.items()}
    # The encoders put a keyframe at every 25th frame, so what is left of the first group shows nothing.
    return {name: (path, 75) for name, path in cut.items()}


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2"])
def test_a_stream_that_begins_between_keyframes_has_the_frames_that_decode(cut_streams, codec, tmp_path):
    path, frames = cut_streams[codec]
    assert len(fuzz.decode_all(path)) == frames
    with open_video(path) as reader:
        assert reader.num_frames == frames
        assert reader.damage.startswith("begins between two keyframes: its first ")
        assert [fuzz.number_in(f) for f in reader.frames([0, 40, frames - 1])] == [25, 65, 99]
        assert [fuzz.number_in(f) for _, f in reader.iterate(0, 37)] == [25, 62, 99]
    record = look(path)
    assert (record.fault, record.num_frames) == ("damaged", frames)
    assert "begins between two keyframes" in record.detail


def test_preparing_a_cut_stream(cut_streams, tmp_path):
    path, frames = cut_streams["h264"]
    made = resize_videos([path], tmp_path / "small", short_side=32, workers=1)
    assert not made.failed
    assert "begins between two keyframes" in made.damaged[0][1]
    with open_video(made.outputs[str(path)]) as reader:
        assert reader.num_frames == frames
    made = extract_frames([path], tmp_path / "frames", workers=1)
    assert made.num_frames[made.outputs[str(path)]] == frames
    copy = tmp_path / "indexed" / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    index_videos(copy.parent, workers=1)
    TABLES.clear()
    assert len(find_table(TableCache.key(str(copy)))) == frames


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_open_groups_cut_at_a_keyframe(tmp_path, codec, container):
    params = "open-gop=1:keyint=12:min-keyint=12:scenecut=0"
    options = {
        "libx264": {"x264-params": params},
        "libx265": {"preset": "ultrafast", "x265-params": f"{params}:log-level=none"},
    }
    whole = fuzz.encode(tmp_path / f"whole.{container}", codec, 60, b_frames=3, options=options[codec])
    check_single_reads(odd.from_keyframe(whole, tmp_path / f"cut.{container}", 2))


@pytest.mark.parametrize("b_frames", [0, 2])
def test_avi_that_begins_with_a_p_frame(tmp_path, b_frames):
    whole = fuzz.encode(tmp_path / "whole.avi", "mpeg4", 40, gop=12, b_frames=b_frames)
    path = odd.without(whole, tmp_path / "cut.avi", range(5))
    truth = check_single_reads(path)
    with open_video(path) as reader:
        assert (reader.num_frames, reader.damage is None) == (len(truth), False)


def test_lost_first_packets(tmp_path):
    whole = fuzz.encode(tmp_path / "whole.mp4", "libx264", 60, gop=12, b_frames=2)
    assert len(check_single_reads(odd.without(whole, tmp_path / "cut.mp4", {0, 1, 2}))) == 48


def test_evaluation_uses_a_corrected_count_at_once(tmp_path):
    """The packets of an AVI promise 60 frames, and a decode breaks off: the clip is cut from the frames that there are."""
    whole = fuzz.encode(tmp_path / "whole.avi", "mpeg4", 60, gop=60, size=(256, 256))
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        packet = next(p for n, p in enumerate(container.demux(container.streams.video[0])) if n == 40)
    at = data.find(bytes(packet))
    data[at : at + packet.size] = bytes(packet.size)
    path = tmp_path / "hole.avi"
    path.write_bytes(data)
    there = len(fuzz.decode_all(path))
    recipe = RecognitionRecipe(model="tsn_r50", num_classes=2, num_segments=4)
    spec = ClipSpec.from_recipe(recipe.model_dump(mode="json"), "val")
    with open_video(path) as reader:
        assert 0 < there < reader.num_frames
        frames, _ = spec.read(reader, np.random.default_rng(0))
        assert (frames.shape[1], reader.num_frames) == (4, there)
        assert reader.damage.startswith(f"after frame {there - 1}: ")


# ---- marks, orders and settings that are false --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("container", "b_frames"), [("mp4", 0), ("mp4", 2), ("mov", 2)])
def test_mpeg4_without_sync_samples_is_read_by_its_real_keyframes(tmp_path, container, b_frames):
    whole = fuzz.encode(tmp_path / f"whole.{container}", "mpeg4", 40, gop=12, b_frames=b_frames)
    path = odd.without_sync_samples(whole, tmp_path / f"bare.{container}")
    check_single_reads(path)
    TABLES.clear()
    with open_video(path) as reader, open_video(whole) as good:
        assert reader.table.seekable
        assert reader.keyframes.tolist() == good.keyframes.tolist()
    assert look(path).note == "marks 40 packets as keyframes, of which 4 are"
    assert look(whole).note == ""


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_b_frames_stamped_in_the_order_of_decoding(tmp_path, codec, container):
    options = odd.X265 if codec == "libx265" else {}
    whole = fuzz.encode(tmp_path / "whole.mp4", codec, 40, gop=12, b_frames=2, options=options)
    path = odd.stamped_as_decoded(whole, tmp_path / f"odd.{container}")
    check_single_reads(path)
    assert look(path).note


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_packets_that_are_no_keyframes_marked_as_such(tmp_path, codec, container):
    options = odd.X265 if codec == "libx265" else {}
    whole = fuzz.encode(tmp_path / "whole.mp4", codec, 30, gop=10, b_frames=0, options=options)
    path = odd.all_marked_as_keyframes(whole, tmp_path / f"odd.{container}")
    check_single_reads(path)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_parameter_sets_that_change_half_way(tmp_path, container):
    first = fuzz.encode(tmp_path / "a.mp4", "libx264", 20, gop=10, options={"qp": "18"})
    # Another initial quantizer in the picture parameter set: with the first file's, all is decoded without an error, and grey.
    second = fuzz.encode(tmp_path / "b.mp4", "libx264", 30, gop=10, options={"qp": "40"})
    path = odd.joined(first, second, tmp_path / f"joined.{container}")
    assert [fuzz.number_in(frame) for frame in check_single_reads(path)] == [*range(20), *range(30)]
    assert look(path).note == "parameter sets change at packet 20 and keyframes do not repeat them"


def test_parameter_sets_that_every_keyframe_repeats_are_no_hindrance(tmp_path):
    path = fuzz.encode(
        tmp_path / "a.mp4",
        "libx264",
        30,
        gop=10,
        options={"x264-params": "repeat-headers=1:keyint=10", "flags": "-global_header"},
    )
    with open_video(path) as reader:
        assert reader.table.seekable
        assert reader.table.note is None
    check_single_reads(path)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_lost_packets(tmp_path, codec, container):
    options = odd.X265 if codec == "libx265" else {}
    whole = fuzz.encode(tmp_path / "whole.mp4", codec, 60, gop=12, b_frames=2, options=options)
    path = odd.without(whole, tmp_path / f"odd.{container}", {14, 15, 24, 39, 50})
    truth = check_single_reads(path)
    record = look(path)
    assert record.num_frames == len(truth)
    assert record.fault or codec == "mpeg4"  # MPEG-4's decoder notices nothing, and gives every frame that is left


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_lost_packets_of_codecs_without_b_frames(tmp_path, codec):
    options = {"deadline": "realtime", "cpu-used": "8"}
    whole = fuzz.encode(tmp_path / "whole.webm", codec, 40, gop=10, options=options)
    check_single_reads(odd.without(whole, tmp_path / "odd.webm", {10, 15, 33}))


@pytest.mark.parametrize(("codec", "container"), [("libvpx-vp9", "webm"), ("libvpx-vp9", "mp4"), ("libvpx", "mkv")])
def test_a_file_of_google_codecs_cut_between_keyframes(tmp_path, codec, container):
    """The decoder refuses the packets before the first keyframe; they give no frame, and the rest is read."""
    options = {"deadline": "realtime", "cpu-used": "8"}
    whole = fuzz.encode(tmp_path / "whole.webm", codec, 60, gop=15, options=options)
    path = odd.without(whole, tmp_path / f"odd.{container}", set(range(4)))
    truth = check_single_reads(path)
    assert [fuzz.number_in(frame) for frame in truth] == list(range(15, 60))
    record = look(path)
    assert record.num_frames == 45
    assert "its first 11 packets give no frame" in record.detail


# ---- the room alone -----------------------------------------------------------------------------------------------------------------


def test_frames_by_square_brackets(tmp_path):
    path = fuzz.encode(tmp_path / "a.mp4", "libx264", 80, gop=12, b_frames=2)
    with open_any(path) as video:
        assert [fuzz.number_in(f) for f in video[[3, 70]]] == [3, 70]
        assert (fuzz.number_in(video[-1]), fuzz.number_in(video[5]), len(video)) == (79, 5, 80)
        assert [fuzz.number_in(f) for f in video[10:20:4]] == [10, 14, 18]
        assert [fuzz.number_in(f) for f in video] == list(range(80))
