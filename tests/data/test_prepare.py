"""Preparing data: what is made is right, complete, and made once."""

import hashlib
import json
import os
import random
import sys
import tarfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clipwise.data.formats.tar_shards import read_sample
from clipwise.data.lists import read_list
from clipwise.errors import DataError, DecodeError, MissingExtraError
from clipwise.prepare.flow import FlowEstimator, quantize_flow
from clipwise.prepare.make_lists import split_groups
from clipwise.prepare.parallel import run_jobs
from clipwise.prepare.prepare import (
    extract_flow,
    extract_frames,
    index_videos,
    make_lists,
    resize_videos,
    write_shards,
)
from clipwise.video.backends import FLOW_TEMPLATE, open_frames
from clipwise.video.decode import open_video
from clipwise.video.packet_index import PacketIndex, find_table, forget_indexes
from clipwise.video.packets import INDEX_NAME, TABLES, TableCache

sys.path.insert(0, str(Path(__file__).parent))
import fuzz


@pytest.fixture(autouse=True)
def no_tables_from_before():
    TABLES.clear()
    forget_indexes()


@pytest.fixture
def videos(tmp_path) -> Path:
    """Five kinds of videos in two subfolders, and two files that are none."""
    folder = tmp_path / "videos"
    (folder / "a").mkdir(parents=True)
    (folder / "b c").mkdir()
    fuzz.encode(folder / "a/one.mp4", "libx264", 30, size=(128, 192), b_frames=3, gop=250)
    fuzz.encode(folder / "a/one.avi", "mpeg4", 24, size=(128, 192), b_frames=2)
    fuzz.encode(folder / "a/vfr.mkv", "libx264", 20, size=(64, 96), steps=[2, 6], b_frames=2)
    fuzz.encode(
        folder / "b c/rate.webm",
        "libvpx-vp9",
        16,
        size=(50, 98),
        fps=Fraction(30000, 1001),
        options={"deadline": "realtime", "cpu-used": "8"},
    )
    fuzz.encode(folder / "b c/ümlaut (x).mov", "libx264", 9, size=(64, 96))
    (folder / "a/empty.mp4").write_bytes(b"")
    (folder / "a/notes.txt").write_text("not a video")
    return folder


# ---- resize -------------------------------------------------------------------------------------------------------------------------


def test_resize_keeps_every_frame_its_time_and_its_picture(videos, tmp_path):
    seen = []
    result = resize_videos(
        videos, tmp_path / "out", short_side=80, gop=4, workers=2, progress=lambda *step: seen.append(step)
    )
    assert sorted(Path(t).relative_to(tmp_path / "out").as_posix() for t in result.outputs.values()) == [
        "a/one.avi.mp4",
        "a/one.mp4",
        "a/vfr.mp4",
        "b c/rate.mp4",
        "b c/ümlaut (x).mp4",
    ]
    assert result.failed == [(str(videos / "a/empty.mp4"), f"{videos}/a/empty.mp4: is empty (0 bytes)")]
    assert len(result.done) == 5
    assert [step[:2] for step in seen] == [(i, 6) for i in range(1, 7)]
    for source, target in result.outputs.items():
        with open_video(source) as old, open_video(target) as new:
            assert new.num_frames == old.num_frames
            assert min(new.height, new.width) == min(80, min(old.height, old.width))
            indices = range(old.num_frames)
            np.testing.assert_allclose(new.pts_s(indices), old.pts_s(indices), atol=2e-3)
            if "vfr" not in source:  # whose header claims an even rate
                assert new.fps == pytest.approx(old.fps)
            assert np.diff(np.append(new.keyframes, new.num_frames)).max() <= 4
            if (old.height, old.width) == (new.height, new.width):
                assert [fuzz.number_in(f) for f in new.frames(indices)] == list(indices)
                assert np.abs(new.frames([3]).astype(int) - old.frames([3])).mean() < 4
        with av.open(target) as container:
            assert all(frame.pict_type != av.video.frame.PictureType.B for frame in container.decode(video=0))
    again = resize_videos(videos, tmp_path / "out", short_side=80, gop=4, workers=1)
    assert (len(again.skipped), len(again.done), len(again.failed)) == (5, 0, 1)
    with pytest.raises(DataError) as caught:
        resize_videos(videos, tmp_path / "out", short_side=100, gop=4)
    assert (
        str(caught.value)
        == f"{tmp_path}/out: was made with short_side=80; choose another folder, the same settings, or overwrite"
    )
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_resize_goes_on_after_an_interruption(videos, tmp_path):
    resize_videos(videos / "a/one.mp4", tmp_path / "out", short_side=64)

    class StopError(Exception):
        pass

    def stop(done, total, message):
        if done == 2:
            raise StopError

    with pytest.raises(StopError):
        resize_videos(videos / "a", tmp_path / "out", short_side=64, workers=1, progress=stop)
    made = sorted(p.name for p in (tmp_path / "out").glob("*.mp4"))
    assert "one.mp4" in made
    result = resize_videos(videos / "a", tmp_path / "out", short_side=64, workers=1)
    assert len(result.skipped) == len(made)
    assert len(result.skipped) + len(result.done) == 3


def test_resize_turns_and_keeps_colors(shared, tmp_path):
    odd = shared / "data/odd_videos"
    names = ["rot90_tag.mov", "h264_fullrange.mp4", "h264_yuv444.mp4", "h264_10bit.mp4"]
    result = resize_videos([odd / name for name in names], tmp_path, short_side=2000, workers=1, crf=10)
    assert not result.failed
    for source, target in result.outputs.items():
        with open_video(source) as old, open_video(target, rotate=False) as new:
            assert (new.height, new.width) == (old.height, old.width)
            difference = old.frames([1]).astype(int) - new.frames([1])
            assert np.abs(difference).mean() < 2.5, source
            assert np.abs(difference.mean((0, 1, 2))).max() < 1, source


def test_resize_keeps_what_can_be_read_of_a_damaged_file(shared, tmp_path):
    source = shared / "data/real_videos/corrupted.mp4"
    result = resize_videos(source, tmp_path, short_side=128, workers=1)
    assert result.damaged == [
        (str(source), "after frame 27: Invalid data found when processing input; packet 30 is damaged")
    ]
    with open_video(result.outputs[str(source)]) as reader:
        assert (reader.num_frames, reader.damage) == (28, None)


def test_resize_messages(tmp_path, videos):
    with pytest.raises(DataError, match=r"there is no such file or folder"):
        resize_videos(tmp_path / "no", tmp_path / "out")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"holds no video files \(looked for "):
        resize_videos(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(DataError, match="crf must be 0 to 51, not 99"):
        resize_videos(videos, tmp_path / "out", crf=99)
    with pytest.raises(DataError, match="would be overwritten by its own result; choose another target folder"):
        resize_videos(videos / "a/one.mp4", videos / "a")


# ---- index --------------------------------------------------------------------------------------------------------------------------


def test_index_is_found_used_and_outdated(videos, monkeypatch):
    result = index_videos(videos, workers=2)
    assert (len(result.done), len(result.failed)) == (5, 1)
    assert len(PacketIndex(videos / INDEX_NAME)) == 5
    TABLES.clear()
    truth = {}
    for path in sorted(result.outputs):
        truth[path] = fuzz.decode_all(Path(path))
        table = find_table(TableCache.key(path))
        assert len(table) == len(truth[path])
    monkeypatch.setattr("clipwise.video.decode.scan_packets", lambda *_: pytest.fail("the packets were read again"))
    rng = random.Random(0)
    for path, frames in truth.items():
        with open_video(path) as reader:
            indices = [rng.randrange(len(frames)) for _ in range(8)]
            for index, frame in zip(indices, reader.frames(indices)):
                assert np.array_equal(frame, frames[index])
    monkeypatch.undo()
    assert len(index_videos(videos, workers=1).skipped) == 5
    fuzz.encode(videos / "a/one.mp4", "libx264", 7)
    with open_video(videos / "a/one.mp4") as reader:
        assert reader.num_frames == 7  # the file has changed: its entry is not used
    again = index_videos(videos, workers=1)
    assert again.done == [str(videos / "a/one.mp4")]


def test_index_moves_with_its_folder_and_stays_small(videos, tmp_path):
    index_videos(videos, workers=1)
    moved = videos.rename(tmp_path / "moved")
    forget_indexes()
    assert find_table(TableCache.key(str(moved / "a/one.mp4"))) is not None
    fuzz.encode(moved / "long.mp4", "libx264", 300, gop=8)
    index_videos(moved, workers=1)
    assert (moved / INDEX_NAME).stat().st_size < 6000
    (moved / INDEX_NAME).write_bytes(b"broken")
    forget_indexes()
    with pytest.raises(DataError, match="cannot be read as a packet index; delete it"):
        open_video(moved / "a/one.mp4")


def test_index_verified_knows_hidden_damage(shared, tmp_path):
    source = shared / "data/odd_videos/bitflips_in_mdat.mp4"
    target = tmp_path / "v.mp4"
    target.write_bytes(source.read_bytes())
    result = index_videos(tmp_path, verify=True, workers=1)
    assert result.damaged[0][1].startswith("after frame 34")
    TABLES.clear()
    with open_video(target) as reader:
        assert reader.num_frames == 35
        assert reader.damage.startswith("after frame 34")


# ---- frames and flow ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["img_{:05}.jpg", "%06d.png"])
def test_frames_are_the_videos_frames(videos, tmp_path, template):
    result = extract_frames(videos / "a", tmp_path / "frames", template=template, workers=1)
    assert len(result.failed) == 1
    assert result.num_frames == {
        str(tmp_path / f"frames/{n}"): c for n, c in (("one.avi", 24), ("one", 30), ("vfr", 20))
    } or (sorted(result.num_frames.values()) == [20, 24, 30])
    source = str(videos / "a/one.mp4")
    with open_video(source) as video, open_frames(result.outputs[source], template=template) as folder:
        assert folder.num_frames == video.num_frames
        want, have = video.frames(range(30)), folder.frames(range(30))
        assert [fuzz.number_in(f) for f in have] == list(range(30))
        difference = np.abs(want.astype(int) - have)
        assert difference.max() == 0 if template.endswith("png") else difference.mean() < 3
    assert len(extract_frames(videos / "a", tmp_path / "frames", template=template, workers=1).skipped) == 3


def test_frames_step_and_size(videos, tmp_path):
    source = videos / "a/one.mp4"
    result = extract_frames(source, tmp_path / "f", step=7, short_side=64, start_index=0, workers=1)
    with open_frames(result.outputs[str(source)], start_index=0) as reader:
        assert (reader.num_frames, reader.height, reader.width) == (5, 64, 96)
    with pytest.raises(DataError, match=r"frames are written as .jpg or .png, not as '.bmp'; change the template"):
        extract_frames(source, tmp_path / "g", template="{:03}.bmp")


def test_flow_is_quantized_as_in_denseflow():
    flow = np.array([-25.0, -20, -10, 0, 0.1, 10, 20, 30])
    assert quantize_flow(flow).tolist() == [0, 0, 64, 128, 128, 191, 255, 255]


def test_flow_needs_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError) as caught:
        FlowEstimator("dis")
    assert str(caught.value) == (
        "Optical flow needs opencv-contrib-python-headless, which is not installed. Install it with: pip install 'clipwise[flow]'"
    )
    with pytest.raises(DataError, match="there is no flow method 'brox'; choose tvl1 or dis"):
        FlowEstimator("brox")


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_flow_of_a_moving_texture(tmp_path, method):
    cv2 = pytest.importorskip("cv2", reason="the extra flow is not installed")
    if method == "tvl1" and not hasattr(cv2, "optflow"):
        pytest.skip("OpenCV without its contributed modules")
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (140, 200, 3)).astype(np.uint8), (0, 0), 3)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    path = tmp_path / "v/move.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for at in range(5):  # the window moves right by 3 and down by 2, so the picture moves by -3, -2
            view = np.ascontiguousarray(scene[20 + 2 * at : 84 + 2 * at, 20 + 3 * at : 116 + 3 * at])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode(None))
    result = extract_flow(path, tmp_path / "flow", method=method, workers=1)
    folder = Path(result.outputs[str(path)])
    assert result.num_frames == {str(folder): 4}
    assert sorted(p.name for p in folder.iterdir())[:5] == [
        *(f"flow_x_{i:05}.jpg" for i in range(1, 5)),
        "flow_y_00001.jpg",
    ]
    with open_frames(folder, modality="flow", template=FLOW_TEMPLATE) as reader:
        flow = reader.frames(range(4))[:, 12:-12, 12:-12].astype(float)
    assert flow[..., 0].mean() == pytest.approx(128 - 3 * 255 / 40, abs=2)
    assert flow[..., 1].mean() == pytest.approx(128 - 2 * 255 / 40, abs=2)
    with pytest.raises(DecodeError, match=r"there is no x_00001.jpg; the folder holds flow_x_00001.jpg"):
        open_frames(folder, modality="flow", template="{}_{:05d}.jpg")  # the template of MMAction2's recipes
    assert len(extract_flow(path, tmp_path / "flow", method=method, workers=1).skipped) == 1


# ---- lists --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def class_folder(tmp_path) -> Path:
    """3 classes × 6 persons × 2 takes; the files' content only has to differ."""
    folder = tmp_path / "classes"
    for name in ("bend", "jump", "wave hello"):
        (folder / name).mkdir(parents=True)
        for person in range(6):
            for take in "ab":
                (folder / name / f"p{person}_{take}.mp4").write_bytes(f"{name}{person}{take}".encode())
    return folder


def test_lists_keep_groups_together(class_folder, tmp_path):
    result = make_lists(
        class_folder, tmp_path / "lists", shares={"train": 0.5, "val": 0.25, "test": 0.25}, group=r"(p\d+)_"
    )
    people = {}
    for name, path in result.paths.items():
        part = read_list(path)
        assert part.classes == ["bend", "jump", "wave hello"]
        people[name] = {Path(p).name[:2] for p in part.paths()}
        assert all(Path(p).exists() for p in part.paths())
        assert len(set(result.counts[name])) == 1  # every class as often as the others
    assert sum(sum(counts) for counts in result.counts.values()) == 36
    assert not people["train"] & people["val"]
    assert not people["train"] & people["test"]
    assert not people["val"] & people["test"]
    assert set.union(*people.values()) == {f"p{i}" for i in range(6)}
    assert sum(result.counts["train"]) == 18
    before = Path(result.paths["train"]).read_text()
    make_lists(class_folder, tmp_path / "lists", shares={"train": 0.5, "val": 0.25, "test": 0.25}, group=r"(p\d+)_")
    assert Path(result.paths["train"]).read_text() == before


def test_lists_from_a_list(class_folder, tmp_path):
    made = make_lists(class_folder, tmp_path / "l", shares={"train": 0.5, "val": 0.5}, group=r"(p\d+)_")
    again = make_lists(made.paths["train"], tmp_path / "m", shares={"train": 0.5, "val": 0.5}, group=r"(p\d+)_")
    parts = [read_list(path) for path in again.paths.values()]
    assert parts[0].classes == ["bend", "jump", "wave hello"]
    assert sorted(p for part in parts for p in part.paths()) == sorted(read_list(made.paths["train"]).paths())
    (tmp_path / "gone.csv").write_text("video,label\ngone.mp4,bend\n")
    with pytest.raises(DataError, match=r"1 of 1 video do not exist, the first .*gone\.mp4"):
        make_lists(tmp_path / "gone.csv", tmp_path / "n", shares={"train": 1.0})
    (tmp_path / "bare.txt").write_text("gone.mp4\n")
    with pytest.raises(DataError, match="each video must have one label"):
        make_lists(tmp_path / "bare.txt", tmp_path / "n", shares={"train": 1.0})


def test_lists_put_copies_together_and_know_ucf(class_folder, tmp_path):
    for at, path in enumerate(sorted(class_folder.rglob("*.mp4"))):
        path.rename(path.with_name(f"v_X_g{at % 6 + 1:02}_c{at // 6 + 1:02}.mp4"))
    result = make_lists(class_folder, tmp_path / "l")
    assert result.rule == "UCF101's group (v_Class_g01_c01)"
    plain = tmp_path / "plain"
    for name in ("a", "b"):
        (plain / name).mkdir(parents=True)
        for number in range(10):
            (plain / name / f"x{number}.mp4").write_bytes(bytes([number // 2, ord(name)]))
    result = make_lists(plain, tmp_path / "m", shares={"train": 0.6, "val": 0.4})
    assert (result.rule, result.copies) == ("every video for itself", 10)
    assert result.counts == {"train": [6, 6], "val": [4, 4]}
    content = {name: {Path(p).read_bytes() for p in read_list(path).paths()} for name, path in result.paths.items()}
    assert not content["train"] & content["val"]


def test_split_comes_near_the_shares():
    rng = np.random.default_rng(3)
    groups = np.sort(rng.integers(0, 120, 2000))
    groups = np.unique(groups, return_inverse=True)[1]
    labels = rng.integers(0, 10, 2000)
    part = split_groups(groups, labels, np.array([0.8, 0.1, 0.1]))
    for share, at in zip((0.8, 0.1, 0.1), range(3)):
        counts = np.bincount(labels[part[groups] == at], minlength=10)
        np.testing.assert_allclose(counts / np.bincount(labels), share, atol=0.06)
    assert set(split_groups(np.arange(3), np.zeros(3, int), np.array([0.98, 0.01, 0.01]))) == {0, 1, 2}


def test_lists_messages(class_folder, tmp_path):
    with pytest.raises(DataError, match="shares must be positive and add up to 1"):
        make_lists(class_folder, tmp_path, shares={"train": 0.5})
    with pytest.raises(DataError, match=r"the group pattern 'q.*' does not match 'bend/p0_a'"):
        make_lists(class_folder, tmp_path, group=r"q(\d)")
    with pytest.raises(DataError, match="needs parentheses around what names the group"):
        make_lists(class_folder, tmp_path, group=r"p\d")
    with pytest.raises(DataError, match="1 group cannot be split into 3 parts"):
        make_lists(class_folder, tmp_path, group=r"(p)\d")


# ---- shards -------------------------------------------------------------------------------------------------------------------------


def test_shards_come_back_as_they_went_in(class_folder, tmp_path):
    videos = read_list(class_folder, format="folder")
    result = write_shards(videos, tmp_path / "s", samples_per_shard=10, workers=2)
    assert sorted(result.outputs) == [f"shard-{i:06}.tar" for i in range(4)]
    packed = read_list(tmp_path / "s")
    assert (packed.kind, len(packed), packed.classes) == ("shard", 36, videos.classes)
    whole = {read_sample(packed.entry(i))["mp4"]: packed.label(i) for i in range(36)}
    assert whole == {Path(videos.path(i)).read_bytes(): videos.label(i) for i in range(36)}
    assert packed.labels.tolist() != sorted(packed.labels)  # shuffled
    with tarfile.open(tmp_path / "s/shard-000000.tar") as tar:  # WebDataset: members of a sample follow each other
        names = tar.getnames()
    assert [n.split(".", 1)[1] for n in names[:3]] == ["mp4", "cls", "json"]
    assert len({n.split(".")[0] for n in names[:3]}) == 1


def test_shards_go_on_where_they_stopped(class_folder, tmp_path):
    videos = read_list(class_folder, format="folder")
    write_shards(videos, tmp_path / "s", samples_per_shard=10, workers=1)
    first = (tmp_path / "s/shard-000002.tar").read_bytes()
    (tmp_path / "s/shard-000002.tar").unlink()
    result = write_shards(videos, tmp_path / "s", samples_per_shard=10, workers=1)
    assert result.done == ["shard-000002.tar"]
    assert len(result.skipped) == 3
    assert (tmp_path / "s/shard-000002.tar").read_bytes() == first
    with pytest.raises(DataError, match="holds shards of another list or of other settings"):
        write_shards(videos, tmp_path / "s", samples_per_shard=12)
    (tmp_path / "s/shard-000001.tar").write_bytes(first[: len(first) // 2])
    with pytest.raises(DataError, match=r"shard-000001.tar: shorter than its index says"):
        read_list(tmp_path / "s")
    (tmp_path / "s/shard-000001.tar.index.json").unlink()
    with pytest.raises(DataError, match=r"shard-000001.tar: .*write this shard again"):
        read_list(tmp_path / "s")


def test_a_file_that_is_gone_fails_its_shard_only(class_folder, tmp_path):
    videos = read_list(class_folder, format="folder")
    gone = videos.path(0)
    Path(gone).unlink()
    result = write_shards(videos, tmp_path / "s", samples_per_shard=12, workers=1, shuffle_seed=None)
    assert result.failed == [("shard-000000.tar", f"{gone}: cannot be read: No such file or directory")]
    assert len(result.done) == 2
    assert not list((tmp_path / "s").glob("*.part"))


def test_shards_of_webdataset_are_read(tmp_path):
    with tarfile.open(tmp_path / "w.tar", "w") as tar:
        for name, data in (("d/a.jpg", b"1"), ("d/a.cls", b"4"), ("d/b.jpg", b"2"), ("d/b.cls", b"1,3")):
            (tmp_path / "x").write_bytes(data)
            tar.add(tmp_path / "x", arcname=name)
    videos = read_list(tmp_path / "w.tar", multi_label=True)
    assert [videos.many_labels[i].tolist() for i in range(2)] == [[4], [1, 3]]
    assert [read_sample(videos.entry(i))["jpg"] for i in range(2)] == [b"1", b"2"]
    with pytest.raises(DataError, match="multi_label: true"):
        read_list(tmp_path / "w.tar")


# ---- parallel -----------------------------------------------------------------------------------------------------------------------


def double_or_die(number: int) -> int:
    if number == 3:
        import os

        os._exit(9)
    if number == 5:
        raise DataError("five")
    return 2 * number


def test_a_process_that_dies_takes_only_its_job(tmp_path):
    results = run_jobs(double_or_die, list(range(7)), workers=2)
    assert [*results[:3], results[4], results[6]] == [0, 2, 4, 8, 12]
    assert "the process that worked on it died" in str(results[3])
    assert str(results[5]) == "five"


def test_result_is_plain_data(videos, tmp_path):
    result = resize_videos(videos / "b c", tmp_path / "out", short_side=48, workers=1)
    assert json.loads(json.dumps(result.to_dict()))["done"] == result.done


def test_the_same_frames_give_the_same_file(tmp_path):
    """x264 may read memory that nobody wrote; other contents of freed memory must not change a file."""
    from clipwise.prepare.synthetic import draw_action, write_video

    frames = draw_action("moves right", 30, np.random.default_rng(5))
    sizes = np.random.default_rng(0).integers(1, 200_000, 12)
    hashes = set()
    for size in sizes:
        junk = np.full(size, size % 251, np.uint8)
        del junk
        write_video(tmp_path / "clip.mp4", frames)
        hashes.add(hashlib.sha256((tmp_path / "clip.mp4").read_bytes()).hexdigest())
    assert len(hashes) == 1


@pytest.mark.parametrize("make", [resize_videos, extract_frames])
@pytest.mark.parametrize("older", [False, True])
def test_a_replaced_source_is_made_again(tmp_path, make, older):
    """Also where the new file is older than the old one's result, as after a copy that keeps times."""
    (tmp_path / "in").mkdir()
    source = fuzz.encode(tmp_path / "in" / "a.mp4", "libx264", 12)
    options = {"short_side": 32, "workers": 1}
    first = make(tmp_path / "in", tmp_path / "out", **options)
    assert (len(first.done), len(first.skipped)) == (1, 0)
    again = make(tmp_path / "in", tmp_path / "out", **options)
    assert (len(again.done), len(again.skipped)) == (0, 1)
    fuzz.encode(source, "libx264", 9)
    if older:
        os.utime(source, (1_000_000_000, 1_000_000_000))
    third = make(tmp_path / "in", tmp_path / "out", **options)
    assert (len(third.done), len(third.skipped)) == (1, 0)
    made = Path(third.outputs[str(source)])
    with open_frames(made) if made.is_dir() else open_video(made) as reader:
        assert reader.num_frames == 9


def test_a_result_that_no_note_names_is_made_again_where_its_source_is_newer(tmp_path):
    """As after a run that was killed, or one of 0.1."""
    (tmp_path / "in").mkdir()
    source = fuzz.encode(tmp_path / "in" / "a.mp4", "libx264", 12)
    first = resize_videos(tmp_path / "in", tmp_path / "out", short_side=32, workers=1)
    (tmp_path / "out" / ".clipwise-sources.json").unlink()
    assert resize_videos(tmp_path / "in", tmp_path / "out", short_side=32, workers=1).skipped
    (tmp_path / "out" / ".clipwise-sources.json").unlink()
    later = Path(first.outputs[str(source)]).stat().st_mtime + 10
    os.utime(source, (later, later))
    assert resize_videos(tmp_path / "in", tmp_path / "out", short_side=32, workers=1).done
