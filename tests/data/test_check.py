"""``check`` finds what is wrong with a data set, and nothing that is not."""

import json
import random
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from clipwise.cli import main
from clipwise.data.lists import read_list
from clipwise.errors import DataError, DecodeError
from clipwise.prepare.audit import FAULTS
from clipwise.prepare.check import check_dataset, write_clean_lists
from clipwise.video.backends import open_frames
from clipwise.video.packets import TABLES

sys.path.insert(0, str(Path(__file__).parent))
import fuzz


def remux(source: Path, target: Path, frames: int | None = None, faststart: bool = True) -> None:
    """Copies the packets; with the index in front, so that a cut leaves the file readable."""
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for number, packet in enumerate(old.demux(stream)):
            if packet.dts is None or (frames is not None and number >= frames):
                continue
            packet.stream = copy
            new.mux(packet)


def sound_only(target: Path) -> None:
    with av.open(str(target), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def planted(shared, tmp_path) -> tuple[Path, dict[str, str]]:
    """A part of grid_digits with ten faults; entry -> kind of fault."""
    digits = shared / "data/grid_digits"
    rng = random.Random(0)
    lists = {name: (digits / f"{name}.txt").read_text().splitlines() for name in ("train", "val")}
    lists = {"train": rng.sample(lists["train"], 80), "val": rng.sample(lists["val"], 25)}
    for line in lists["train"] + lists["val"]:
        target = tmp_path / line.split()[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(digits / line.split()[0], target)
    shutil.copyfile(digits / "classes.txt", tmp_path / "classes.txt")
    faults: dict[str, str] = {}
    victims = iter(rng.sample([line.split()[0] for line in lists["train"]], 9))

    def plant(kind: str) -> Path:
        entry = next(victims)
        faults[entry] = kind
        return tmp_path / entry

    plant("missing").unlink()
    plant("undecodable").write_bytes(b"")
    plant("undecodable").write_text("not a video at all\n" * 20)
    plant("undecodable").write_text("<html><body>404</body></html>")
    path = plant("truncated")  # cut off, but the index is in front
    remux(path, tmp_path / "whole.mp4")
    path.write_bytes((tmp_path / "whole.mp4").read_bytes()[: (tmp_path / "whole.mp4").stat().st_size * 9 // 10])
    path = plant("damaged")  # a hole in the middle of a keyframe
    remux(path, tmp_path / "whole.mp4")
    data = bytearray((tmp_path / "whole.mp4").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    path = plant("too_short")
    remux(path, tmp_path / "short.mp4", frames=2)
    shutil.copyfile(tmp_path / "short.mp4", path)
    sound_only(plant("undecodable"))
    bad_label = next(victims)
    faults[bad_label] = "bad_label"
    lists["train"] = [f"{line.split()[0]} 10" if line.startswith(bad_label + " ") else line for line in lists["train"]]
    whole = [line for line in lists["train"] if line.split()[0] not in faults]
    copied = whole[0].split()
    shutil.copyfile(tmp_path / copied[0], tmp_path / "videos/renamed copy.mp4")
    lists["val"].append(f"videos/renamed copy.mp4 {copied[1]}")
    faults[copied[0]] = "duplicate"
    for name, lines in lists.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    TABLES.clear()
    return tmp_path, faults


def test_ten_planted_faults_are_all_found(planted):
    folder, faults = planted
    parts = {name: read_list(folder / f"{name}.txt", num_classes=11) for name in ("train", "val")}
    seen = []
    result = check_dataset(parts, num_classes=10, min_frames=4, workers=2, progress=lambda *step: seen.append(step))
    found = {(f.part, parts[f.part].entry(f.index)): f.kind for f in result.faults}
    assert found == {("train", e): k for e, k in faults.items()} | {("val", "videos/renamed copy.mp4"): "duplicate"}
    assert len(faults) == 10
    assert not result.ok
    assert result.counts() == {
        "missing": 1,
        "undecodable": 4,
        "truncated": 1,
        "damaged": 1,
        "too_short": 1,
        "bad_label": 1,
        "duplicate": 2,
    }
    assert (105, 105) in [step[:2] for step in seen]  # all but the missing one; then those that could be copies
    details = {f.kind: f.detail for f in result.faults}
    assert details["too_short"] == "has 2 frames, 4 are needed"
    assert details["bad_label"] == "has the label 10, but there are 10 classes, 0 to 9"
    assert sum(result.histograms["train"]) == 79
    assert result.statistics["sizes"] == {"128x96": 101}
    assert result.statistics["fps"]["median"] == 25.0
    assert result.speed["clips_per_s"] > 1
    as_dict = result.to_dict()
    assert as_dict["counts"] == result.counts()
    assert as_dict["faults"][0].keys() == {"part", "index", "path", "kind", "detail"}
    assert any("in more than one part" in line for line in result.advice)

    left_out = write_clean_lists(parts, result, {"train": folder / "train.clean.txt", "val": folder / "val.clean.txt"})
    assert left_out == {"train": 10, "val": 0}
    clean = {name: read_list(folder / f"{name}.clean.txt") for name in ("train", "val")}
    assert (len(clean["train"]), len(clean["val"])) == (70, 26)
    again = check_dataset(clean, min_frames=4, workers=1)
    assert again.ok, again.faults
    assert again.classes == parts["train"].classes
    assert not [p for p in folder.iterdir() if "part" in p.name]


def test_full_depth_finds_damage_that_only_decoding_shows(tmp_path, shared):
    folder = tmp_path / "videos" / "a"
    folder.mkdir(parents=True)
    odd = shared / "data/odd_videos"
    whole = folder / "whole.mp4"
    shutil.copyfile(odd / "h264_baseline_nob.mp4", whole)
    with av.open(str(whole)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(whole.read_bytes())
    position, size = packets[30]
    for at in range(position + 5, position + size):
        data[at] = 0xA5  # the unit's length and type stay right
    (folder / "bits.mp4").write_bytes(data)
    (tmp_path / "l.txt").write_text("videos/a/whole.mp4 0\nvideos/a/bits.mp4 0\n")
    videos = read_list(tmp_path / "l.txt", num_classes=2)
    full = check_dataset({"train": videos}, depth="full", workers=1)
    assert [(f.index, f.kind) for f in full.faults] == [(1, "truncated")]
    assert full.faults[0].detail.startswith("after frame 29: ")


def test_clean_data_has_no_faults(shared):
    digits = shared / "data/grid_digits"
    parts = {"train": read_list(digits / "train.txt"), "val": read_list(digits / "val.txt")}
    result = check_dataset(parts, depth="short")
    assert result.ok
    assert result.opened == 48
    assert result.entries == {"train": 700, "val": 100}
    assert sum(result.histograms["train"]) == 700
    assert len(result.histograms["val"]) == 10
    assert result.seconds < 10


def test_frame_folders_and_repeats(shared, tmp_path):
    source = shared / "data/rawframes_jumprun/demo_dataset"
    folders = sorted(p for p in source.glob("*/*") if p.is_dir())[:3]
    lines = []
    for number, folder in enumerate(folders):
        shutil.copytree(folder, tmp_path / f"v{number}")
        lines.append(f"v{number} {len(list(folder.glob('img_*.jpg')))} {number % 2}")
    lines[1] = lines[1].replace(lines[1].split()[1], str(int(lines[1].split()[1]) + 5))
    lines.append(lines[0])
    (tmp_path / "l.txt").write_text("\n".join(lines) + "\n")
    videos = read_list(tmp_path / "l.txt", num_classes=2, format="rawframes")
    result = check_dataset({"train": videos}, workers=1)
    assert [(f.index, f.kind) for f in result.faults] == [(1, "truncated"), (3, "repeated")]
    assert result.faults[1].detail == "is listed before, as entry 0"


def test_messages(shared):
    with pytest.raises(DataError, match="there is nothing to check: give at least one list with entries"):
        check_dataset({})
    videos = read_list(shared / "data/grid_digits/val.txt")
    with pytest.raises(DataError, match="depth is 'deep'; allowed: short, normal, full"):
        check_dataset({"val": videos}, depth="deep")
    assert next(iter(FAULTS)) == "missing"


def test_classes_counted_from_one_are_suspected(clips, tmp_path):
    videos = sorted((clips / "train").rglob("*.mp4"))[:4]
    (tmp_path / "train.txt").write_text("".join(f'"{p}" {1 + i % 2}\n' for i, p in enumerate(videos)))
    result = check_dataset({"train": read_list(tmp_path / "train.txt")}, depth="short", workers=1)
    assert any("no entry of 1 of 3 classes: 0. If the list counts classes from 1" in line for line in result.advice)


def numbered_folder(folder: Path, frames: int = 6, size: tuple[int, int] = (48, 96), first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for number in range(1, frames + 1):
        image = av.VideoFrame.from_ndarray(fuzz.picture(first + number, *size), format="rgb24")
        image.save(str(folder / f"img_{number:05}.jpg"), qscale=2)
    return folder


def test_full_depth_reads_every_image_of_a_folder(tmp_path):
    """One image junk, empty, cut off, missing the others' size, as they come: all but the whole folder are reported."""
    names = ["whole", "junk", "empty", "cut", "size"]
    folders = {name: numbered_folder(tmp_path / name, first=20 * at) for at, name in enumerate(names)}
    image = "img_00003.jpg"  # neither the first, nor the middle one, nor the last
    (folders["junk"] / image).write_bytes(b"not an image, but text")
    (folders["empty"] / image).write_bytes(b"")
    data = (folders["cut"] / image).read_bytes()
    (folders["cut"] / image).write_bytes(data[: len(data) // 2])
    small = numbered_folder(tmp_path / "small", size=(24, 96))
    shutil.copy(small / image, folders["size"] / image)
    (tmp_path / "l.txt").write_text("".join(f"{name} 6 {at % 2}\n" for at, name in enumerate(names)))
    videos = read_list(tmp_path / "l.txt", num_classes=2, format="rawframes")
    result = check_dataset({"train": videos}, depth="full", workers=1)
    assert [(fault.kind, Path(fault.path).name) for fault in result.faults] == [("damaged", name) for name in names[1:]]
    assert result.faults[0].detail == f"{image}: is not a JPEG, PNG, WebP, BMP or TIFF image"
    assert result.faults[1].detail == f"{image}: is empty (0 bytes)"
    assert result.faults[2].detail.startswith(f"{image} is damaged, the decoder reports: ")
    assert (
        result.faults[3].detail == f"{image}: is 96x24, the first image 96x48; images of one folder must have one size"
    )
    assert check_dataset({"train": videos}, workers=1).ok  # what normal depth does not open


def test_a_copied_frame_folder_is_a_duplicate(tmp_path):
    numbered_folder(tmp_path / "a")
    numbered_folder(tmp_path / "b", first=30)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    (tmp_path / "train.txt").write_text("a 6 0\nb 6 1\n")
    (tmp_path / "val.txt").write_text("c 6 0\n")
    parts = {name: read_list(tmp_path / f"{name}.txt", num_classes=2, format="rawframes") for name in ("train", "val")}
    result = check_dataset(parts, workers=1)
    assert [(f.part, f.kind, f.path) for f in result.faults] == [
        ("train", "duplicate", str(tmp_path / "a")),
        ("val", "duplicate", str(tmp_path / "c")),
    ]


def test_an_image_of_another_size_is_an_error_by_name(tmp_path):
    folder = numbered_folder(tmp_path / "a")
    shutil.copy(numbered_folder(tmp_path / "b", size=(24, 96)) / "img_00004.jpg", folder)
    with open_frames(folder) as reader, pytest.raises(DecodeError) as caught:
        reader.frames([0, 3])
    assert (
        str(caught.value)
        == f"{folder}/img_00004.jpg: is 96x24, the first image 96x48; images of one folder must have one size"
    )


def test_localization_takes_keys_and_tells_of_crowded_videos(tmp_path, capsys):
    """A key changes what is checked against; a second folder and --fix are told apart."""
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "v.npy", np.zeros((1000, 6), np.float32))
    actions = [{"segment": [n, n + 1.0], "label": "a"} for n in range(150)]
    entry = {"duration": 200.0, "subset": "training", "annotations": actions}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": {"v": entry}}))
    words = ["check", str(tmp_path), "--recipe", "actionformer_tiny"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "150 segments; nms.max_proposals=100 keeps fewer of each video: set nms.max_proposals=300" in out
    assert main([*words, "nms.max_proposals=300"]) == 0
    assert "keeps fewer" not in capsys.readouterr().out
    assert main([*words, "feat_dim=7"]) == 1
    assert "feat_dim 6" in capsys.readouterr().out
    assert main([*words, "feet_dim=7"]) == 2
    assert "did you mean 'feat_dim'" in capsys.readouterr().err
    assert main([*words, str(tmp_path)]) == 2
    assert "is for localization; 2 folders or files given: give one folder" in capsys.readouterr().err
    assert main([*words, "--fix", str(tmp_path / "clean")]) == 2
    assert "--fix given" in capsys.readouterr().err
