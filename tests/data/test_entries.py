"""Entries of every kind of list, opened and compared with the frames they stand for."""

import pickle

import numpy as np
import pytest

from clipwise.data.entries import PickledFrames, SpanReader, open_entry, read_image
from clipwise.data.lists import read_list
from clipwise.data.sampling import sample_frames
from clipwise.errors import DataError
from clipwise.video.decode import open_video


@pytest.fixture
def clip(shared):
    return shared / "data/real_videos/demo.mp4"


def test_a_part_of_a_video_in_seconds(clip, tmp_path):
    (tmp_path / "l.csv").write_text(f"path,label,start_s,end_s\n{clip},1,1.0,2.5\n{clip},0,,\n{clip},0,8,99\n")
    videos = read_list(tmp_path / "l.csv")
    with open_video(clip) as whole, open_entry(videos, 0) as part, open_entry(videos, 1) as all_of_it:
        first, last = round(whole.fps), round(2.5 * whole.fps)
        assert part.num_frames == last - first
        assert np.array_equal(part.frames([0, 3, part.num_frames - 1]), whole.frames([first, first + 3, last - 1]))
        shrunk = part.frames([2, 2], transform=lambda frame: frame[::8, ::8])
        assert np.array_equal(shrunk[0], whole.frames([first + 2])[0][::8, ::8])
        assert all_of_it.num_frames == whole.num_frames
        with pytest.raises(DataError, match="there is no frame"):
            part.frames([part.num_frames])
        with open_entry(videos, 2) as tail:
            assert tail.num_frames == whole.num_frames - round(8 * whole.fps)
        with pytest.raises(DataError, match="begins after the end"):
            SpanReader(whole, 100, 101)
        assert SpanReader(whole, 1.001, 1.002).num_frames == 1


def test_frame_folders_with_offset(shared):
    videos = read_list(shared / "data/rawframes_jumprun/demo_dataset/annotations.txt")
    with open_entry(videos, 0) as shifted:
        folder = shared / "data/rawframes_jumprun/demo_dataset/jumping/0001"
        assert shifted.num_frames == 17
        expected = read_image(folder / "img_00002.jpg").frames([0])
        assert np.array_equal(shifted.frames([0]), expected)


def test_pictures_repeat_to_a_clip(shared, tmp_path):
    picture = shared / "data/rawframes_jumprun/demo_dataset/jumping/0001/img_00001.jpg"
    (tmp_path / "web.txt").write_text(f"{picture} 3\n")
    with open_entry(read_list(tmp_path / "web.txt"), 0) as reader:
        frames = sample_frames(reader.num_frames, clip_len=8, frame_interval=8, rng=np.random.default_rng(0))
        clip = reader.frames(frames.reshape(-1))
    assert clip.shape[0] == 8
    assert (clip == clip[:1]).all()
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / "none.jpg")


def test_positive_parts_of_untrimmed_videos(clip, tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    for part in (1, 4):
        (folder / f"part_{part}.mp4").symlink_to(clip)
    (tmp_path / "cut.txt").write_text("v 0 6 1 4\n")
    videos = read_list(tmp_path / "cut.txt", format="untrimmed")
    rng = np.random.default_rng(0)
    names = set()
    for _ in range(12):
        with open_entry(videos, 0, rng=rng) as reader:
            names.add(reader.name)
    assert {name.rsplit("/", 1)[1] for name in names} == {"part_1.mp4", "part_4.mp4"}


def test_pickled_frames(shared, tmp_path):
    folder = shared / "data/rawframes_jumprun/demo_dataset/jumping/0001"
    pictures = [(folder / f"img_{i:05}.jpg").read_bytes() for i in (1, 2, 3)]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(("a", 5, pictures), 2))
    (tmp_path / "none.pkl").write_bytes(pickle.dumps(("a", 5, []), 2))
    (tmp_path / "train.list").write_text("a.pkl\n")
    videos = read_list(tmp_path / "train.list")
    assert videos.label(0) == 5
    with open_entry(videos, 0) as reader:
        assert isinstance(reader, PickledFrames)
        assert (reader.num_frames, reader.label) == (3, 5)
        expected = read_image(folder / "img_00003.jpg").frames([0])
        assert np.array_equal(reader.frames([2]), expected)
        assert expected.shape[1:3] == (reader.height, reader.width)
    with pytest.raises(DataError, match="holds no frames"):
        PickledFrames(tmp_path / "none.pkl")


def test_flow_needs_frame_folders(clip, tmp_path):
    (tmp_path / "l.txt").write_text(f"{clip} 0\n")
    with pytest.raises(DataError, match="clipwise prepare flow"):
        open_entry(read_list(tmp_path / "l.txt"), 0, modality="flow")
