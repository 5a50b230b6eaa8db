"""``check`` finds the same pictures in another encoding, container or size, and raises no false alarm."""

import shutil

import av
import numpy as np
import pytest

from clipwise.data.lists import read_list
from clipwise.prepare.check import check_dataset, write_clean_lists
from clipwise.prepare.lookalikes import candidates, find_lookalikes
from clipwise.video.decode import open_video


def encode_again(source, target, codec="libx264", scale=1.0, **options):
    with open_video(source) as reader, av.open(str(target), "w") as container:
        stream = container.add_stream(codec, rate=round(reader.fps), options=options)
        width, height = (int(side * scale / 2) * 2 for side in (reader.width, reader.height))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _, frame in reader.iterate():
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(width, height, interpolation="BICUBIC")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def test_a_copy_in_another_encoding_is_found(shared, tmp_path):
    digits, real = shared / "data/grid_digits", shared / "data/real_videos"
    lines = {part: (digits / f"{part}.txt").read_text().splitlines()[::12] for part in ("train", "val")}
    lists = {part: [f"{digits / line.split()[0]} 0" for line in these] for part, these in lines.items()}
    originals = [line.split()[0] for line in lists["train"][:3]]
    originals += [str(real / name) for name in ("clean_and_jerk.mp4", "demo.mp4")]
    lists["train"] += [f"{path} 0" for path in originals[3:]]
    copies = [tmp_path / name for name in ("crf.mp4", "codec.webm", "larger.mkv", "smaller.mp4", "old.avi")]
    encode_again(originals[0], copies[0], crf="26")
    encode_again(originals[1], copies[1], "libvpx", b="300k")
    encode_again(originals[2], copies[2], scale=1.7)
    encode_again(originals[3], copies[3], scale=0.5, crf="32")
    encode_again(originals[4], copies[4], "mpeg4", b="400k")
    lists["val"] += [f"{path} 0" for path in copies]
    for part, these in lists.items():
        (tmp_path / f"{part}.txt").write_text("\n".join(these) + "\n")
    parts = {part: read_list(tmp_path / f"{part}.txt", num_classes=1) for part in lists}
    result = check_dataset(parts, workers=1)
    found = {(fault.part, fault.path): fault for fault in result.faults}
    assert set(result.counts()) == {"lookalike"}
    assert set(found) == {("train", path) for path in originals} | {("val", str(path)) for path in copies}
    fault = found["val", str(copies[3])]
    assert fault.detail == f"looks the same as entry {len(lists['train']) - 2} of train, {originals[3]}"
    assert any("in more than one part" in line for line in result.advice)
    left_out = write_clean_lists(parts, result, {part: tmp_path / f"{part}.clean.txt" for part in parts})
    assert left_out == {"train": 5, "val": 0}


@pytest.mark.parametrize("name", ["grid_digits", "weizmann4"])
def test_no_false_alarm_on_many_films_of_one_camera(name, shared):
    folder = shared / "data" / name
    train, val = ("train.txt", "val.txt") if name == "grid_digits" else ("loso_train_s0.txt", "loso_val_s0.txt")
    lists = [read_list(folder / part) for part in (train, val)]
    paths = [path for videos in lists for path in list(videos.paths())[:: 4 if name == "grid_digits" else 1]]
    # As if all began with the same picture, were equally long and lay in parts of their own: all are compared with all.
    assert find_lookalikes(paths, [1] * len(paths), [3.0] * len(paths), range(len(paths)), workers=1) == []


def test_candidates_need_another_part_the_same_length_and_two_common_bands():
    a, b = 0x1111_2222_3333_4444, 0x9999_2222_8888_4444
    bits = np.array([a, b, a, 0x5555_2222_7777_8888, 0, 0, 0x0000_2223_0000_0001], np.uint64)
    lengths = np.array([10.0, 10.1, 12.0, 10.0, 3.0, 3.0, 10.0])
    assert candidates(bits, lengths, np.array([0, 1, 1, 1, 0, 1, 1])).tolist() == [1, 1, 0, 0, 1, 1, 0]
    assert not candidates(bits, lengths, np.zeros(7, int)).any()


def test_three_hundred_thousand_videos_take_no_comparison_of_all_with_all():
    rng = np.random.default_rng(0)
    bits, lengths = rng.integers(1, 2**63, 300_000, np.uint64), np.full(300_000, 10.0)
    bits[7] = bits[299_000] ^ np.uint64(1 << 40 | 1)
    found = candidates(bits, lengths, (np.arange(300_000) >= 280_000).astype(int))
    assert found[[7, 299_000]].all()
    assert found.sum() < 100


def test_a_film_in_which_nothing_moves_is_left_alone(tmp_path):
    for name in "ab":
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "20" if name == "a" else "30"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            image = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 1, 3))
            for _ in range(20):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    (tmp_path / "a.txt").write_text("a.mp4 0\n")
    (tmp_path / "b.txt").write_text("b.mp4 0\n")
    parts = {name: read_list(tmp_path / f"{name}.txt", num_classes=1) for name in "ab"}
    assert check_dataset(parts, workers=1).ok
    shutil.copyfile(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert check_dataset(parts, workers=1).counts() == {"duplicate": 2}
