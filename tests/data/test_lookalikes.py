"""``check`` finds the same pictures in another encoding, container or size, and raises no false alarm."""

import shutil

import av
import numpy as np
import pytest

from clipwise.cli import main
from clipwise.data.lists import read_list
from clipwise.prepare.check import check_dataset, write_clean_lists
from clipwise.prepare.lookalikes import candidates, find_lookalikes, first_frame_cells, thumbnail
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
def test_few_false_alarms_on_many_films_of_one_camera(name, shared):
    """At most 1 in 1,000 pairs, as if all began with the same frame, were equally long and lay in parts of their own."""
    folder = shared / "data" / name
    train, val = ("train.txt", "val.txt") if name == "grid_digits" else ("loso_train_s0.txt", "loso_val_s0.txt")
    lists = [read_list(folder / part) for part in (train, val)]
    paths = [path for videos in lists for path in list(videos.paths())[:: 4 if name == "grid_digits" else 1]]
    pairs = find_lookalikes(paths, [bytes(64)] * len(paths), [3.0] * len(paths), range(len(paths)), workers=1)
    assert len(pairs) <= len(paths) * (len(paths) - 1) / 2 / 1000


def test_most_copies_of_small_films_in_low_quality_are_found(shared, tmp_path):
    digits = shared / "data/grid_digits"
    sources = list(read_list(digits / "val.txt").paths())[::9]
    kinds = [
        ("libx264", 0.5, {"crf": "28"}),
        ("libx264", 0.75, {"crf": "32"}),
        ("libvpx-vp9", 0.6, {"crf": "34", "b": "0"}),
    ]
    paths, expected = list(sources), set()
    for number, (codec, scale, options) in enumerate(kinds):
        for i, source in list(enumerate(sources))[number::3]:
            encode_again(source, tmp_path / f"{i}.mkv", codec, scale, **options)
            expected.add((i, len(paths)))
            paths.append(str(tmp_path / f"{i}.mkv"))
    cells, lengths = [], []
    for path in paths:
        with open_video(path) as reader:
            cells.append(first_frame_cells(reader.frames([0], transform=thumbnail)[0]))
            lengths.append(reader.duration_s)
    parts = [0] * len(sources) + [1] * len(expected)
    found = set(find_lookalikes(paths, cells, lengths, parts, workers=1))
    assert len(found & expected) >= 0.95 * len(expected)
    assert len(found - expected) <= 1


def test_candidates_need_another_part_the_same_length_and_the_same_first_frame():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, 64).astype(np.uint8) for _ in range(2))
    near = np.clip(a.astype(int) + rng.integers(-6, 7, 64), 0, 255).astype(np.uint8)
    cells = [x.tobytes() for x in (a, near, a, b, np.full(64, 9, np.uint8), np.full(64, 9, np.uint8), near)]
    lengths = np.array([10.0, 10.1, 12.0, 10.0, 3.0, 3.0, 10.0])
    assert candidates(cells, lengths, np.array([0, 1, 1, 1, 0, 1, 1])).tolist() == [1, 1, 0, 0, 1, 1, 1]
    assert not candidates(cells, lengths, np.zeros(7, int)).any()


def test_one_copy_among_many_videos_is_the_candidate():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (30_000, 64)).astype(np.uint8)
    values[29_900] = np.clip(values[7].astype(int) + 3, 0, 255)
    found = candidates(
        [row.tobytes() for row in values], np.full(30_000, 10.0), (np.arange(30_000) >= 28_000).astype(int)
    )
    assert found[[7, 29_900]].all()
    assert found.sum() == 2


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


def test_check_prints_the_measured_rates(clips, capsys):
    main(["check", str(clips), "--workers", "1"])
    assert "99.2% of the copies are found, 0.54 of 1,000 pairs" in capsys.readouterr().out
