"""Lists of every format, their errors word for word, their size in memory, and published annotation files."""

import json
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipwise.data.formats.published import (
    activitynet_json,
    count_frames,
    prepare_gym99,
    prepare_jester,
    read_paddle_pickle,
)
from clipwise.data.labels import natural_key, read_classes
from clipwise.data.lists import read_list, write_list
from clipwise.errors import DataError, RecipeError


@pytest.fixture
def folder(tmp_path):
    """A factory: {relative path: text} -> files below a temporary folder; text None makes an empty file."""

    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text or "", encoding="utf-8")
        return tmp_path

    return make


def rows(videos):
    return [(videos.entry(i), videos.label(i)) for i in range(len(videos))]


# -- text columns


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4 1\nb c.mp4 0\n",
        "a.mp4\t1\nb c.mp4\t0\n",
        "a.mp4,1\nb c.mp4,0\n",
        "a.mp4, 1\nb c.mp4, 0\n",
        "a.mp4;1\n\n# a comment\nb c.mp4;0",
        "'a.mp4' 1\n\"b c.mp4\" 0\n",
        "\ufeffa.mp4 1\r\nb c.mp4 0\r\n",
        "a.mp4 two\nb c.mp4 one\n",
        "a.mp4\ttwo\nb c.mp4\tone\n",
        "a.mp4 'two'\n\"b c.mp4\" one\n",
    ],
)
def test_path_and_label(folder, text):
    videos = read_list(folder({"list.txt": text}) / "list.txt")
    assert rows(videos) == [("a.mp4", 1), ("b c.mp4", 0)]
    assert videos.kind == "video"
    assert videos.num_classes == 2
    assert videos.num_frames(0) is None
    assert videos.classes in (None, ["one", "two"])
    assert videos.labels.tolist() == [1, 0]


def test_class_names_with_blanks_need_no_quotes_after_a_file_name(folder):
    base = folder({"list.txt": "a b.mp4 playing guitar\nc.MKV eating\n", "classes.txt": "eating\nplaying guitar\n"})
    videos = read_list(base / "list.txt")
    assert rows(videos) == [("a b.mp4", 1), ("c.MKV", 0)]
    assert videos.path(0) == str(base / "a b.mp4")


def test_names_found_in_a_list_are_numbered_in_natural_order(folder):
    text = "".join(f"{i}.mp4\ttake {n}\n" for i, n in enumerate((10, 2, 1, 10)))
    videos = read_list(folder({"list.txt": text}) / "list.txt")
    assert videos.classes == ["take 1", "take 2", "take 10"]
    assert videos.labels.tolist() == [2, 1, 0, 2]


def test_lists_without_labels(folder):
    videos = read_list(folder({"list.txt": "a.mp4\nb.mp4\n"}) / "list.txt")
    assert rows(videos) == [("a.mp4", None), ("b.mp4", None)]
    assert videos.num_classes is None
    assert videos.labels.tolist() == [-1, -1]


def test_rawframes_with_offset_and_several_labels(folder):
    base = folder(
        {
            "plain.txt": "some/dir-1 163 1\nsome/dir-2 122 0\n",
            "offset.txt": "some/dir-1 12 163 3\nsome/dir-2 213 122 4\n",
            "many.txt": "some/dir-1 163 1 3 5\nsome/dir-2 122 0\n",
            "video_many.txt": "a.mp4 1 2\nb.mp4 0\n",
        }
    )
    plain = read_list(base / "plain.txt")
    assert plain.kind == "rawframes"
    assert [plain.num_frames(i) for i in range(2)] == [163, 122]
    assert plain.labels.tolist() == [1, 0]
    shifted = read_list(base / "offset.txt")
    assert [shifted.offset(i) for i in range(2)] == [12, 213]
    assert [shifted.num_frames(i) for i in range(2)] == [163, 122]
    assert shifted.labels.tolist() == [3, 4]
    many = read_list(base / "many.txt", multi_label=True, num_classes=7)
    assert many.label(0).tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert many.labels.tolist() == [[0, 1, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0]]
    assert many.num_frames(0) == 163
    both = read_list(base / "video_many.txt", multi_label=True)
    assert both.kind == "video"
    assert both.label(0).tolist() == [0, 1, 1]


def test_the_seeds_kinetics_list(folder):
    """Video id, number of frames, class index; the ids have no extension."""
    base = folder({"val.csv": "abc_1,300,7\ndef_2,250,0\n", "videos/abc_1.mkv": None})
    videos = read_list(base / "val.csv", root=base / "videos")
    assert videos.kind == "video"
    assert videos.path(0) == str(base / "videos" / "abc_1.mkv")
    assert rows(videos) == [("abc_1", 7), ("def_2", 0)]
    blanks = folder({"val.txt": "abc_1 300 7\n"})
    assert read_list(blanks / "val.txt", format="counted").kind == "video"


def test_omnisource_lists(folder):
    base = folder(
        {
            "web.txt": "pics/1.jpg 3\npics/2.jpg 0\n",
            "cut.txt": "v/abc 2 4 0 3\nv/none 1 5\nv/def 0 2 1\n",
        }
    )
    pictures = read_list(base / "web.txt")
    assert pictures.kind == "image"
    assert pictures.labels.tolist() == [3, 0]
    cut = read_list(base / "cut.txt", format="untrimmed")
    assert rows(cut) == [("v/abc", 2), ("v/def", 0)]  # without positive clips a video is of no use
    assert cut.positive_clips(0).tolist() == [0, 3]
    assert cut.clip_path(0, 3) == str(base / "v/abc" / "part_3.mp4")


def test_header_csv(folder):
    base = folder({"list.csv": 'label,path,note,start_s,end_s\nb,"x, y.mp4",hm,1.5,3\na,z.mp4,,,\n'})
    videos = read_list(base / "list.csv")
    assert rows(videos) == [("x, y.mp4", 1), ("z.mp4", 0)]
    assert videos.classes == ["a", "b"]
    assert videos.span(0) == (1.5, 3.0)
    assert videos.span(1) is None
    several = folder({"many.csv": "video,class\na.mp4,0 2\nb.mp4,1\n"})
    assert read_list(several / "many.csv", multi_label=True).labels.tolist() == [[1, 0, 1], [0, 1, 0]]
    frames = folder({"frames.csv": "frame_dir;total_frames;label\nd/1;20;1\n"})
    assert read_list(frames / "frames.csv").num_frames(0) == 20


def test_json_of_mmaction2_and_ours(folder):
    base = folder(
        {
            "raw.json": json.dumps([{"frame_dir": "d/1", "total_frames": 9, "label": [2, 1]}]),
            "video.json": json.dumps([{"filename": "a.mp4", "label": [1]}, {"filename": "b.mp4", "label": [0]}]),
            "ours.json": json.dumps({"classes": ["x", "y"], "videos": [{"path": "a.mp4", "label": "y"}]}),
        }
    )
    raw = read_list(base / "raw.json")
    assert (raw.kind, raw.num_frames(0), raw.label(0)) == ("rawframes", 9, 2)
    assert read_list(base / "raw.json", multi_label=True).label(0).tolist() == [0, 1, 1]
    assert rows(read_list(base / "video.json")) == [("a.mp4", 1), ("b.mp4", 0)]
    ours = read_list(base / "ours.json")
    assert (ours.classes, ours.label(0)) == (["x", "y"], 1)


def test_class_folders(folder):
    base = folder(
        {
            "class 10/a.mp4": None,
            "class 2/b.avi": None,
            "class 2/deep/c.MP4": None,
            "class 2/notes.txt": None,
            "class 1/d.webm": None,
            ".hidden/x.mp4": None,
        }
    )
    videos = read_list(base)
    assert videos.classes == ["class 1", "class 2", "class 10"]
    assert rows(videos) == [
        (os.path.join("class 1", "d.webm"), 0),
        (os.path.join("class 2", "b.avi"), 1),
        (os.path.join("class 2", "deep", "c.MP4"), 1),
        (os.path.join("class 10", "a.mp4"), 2),
    ]
    assert len(videos.missing()) == 0
    (base / "classes.txt").write_text("class 10\nclass 1\nclass 2\nnever seen\n")
    renumbered = read_list(base)
    assert renumbered.num_classes == 4
    assert renumbered.labels.tolist() == [1, 2, 2, 0]


def test_folders_of_frame_folders_and_of_plain_videos(folder):
    base = folder({f"{c}/clip/img_{i:05}.jpg": None for c in "ab" for i in range(1, 4)})
    videos = read_list(base)
    assert videos.kind == "rawframes"
    assert [videos.num_frames(i) for i in range(2)] == [3, 3]
    assert count_frames(base / "a" / "clip") == 3
    plain = read_list(folder({"only/one.mp4": None}) / "only")
    assert rows(plain) == [("one.mp4", None)]


# -- where files lie, class names


def test_the_root_of_relative_paths(folder, monkeypatch):
    base = folder({"sets/list.txt": "v/a.mp4 0\n", "v/a.mp4": None})
    monkeypatch.chdir(base)
    assert read_list(base / "sets/list.txt").path(0) == "v/a.mp4"  # from the current folder
    (base / "sets/v").mkdir()
    (base / "sets/v/a.mp4").touch()
    assert read_list(base / "sets/list.txt").path(0) == str(base / "sets/v/a.mp4")  # beside the list
    assert read_list(base / "sets/list.txt", root="/data").path(0) == "/data/v/a.mp4"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("classes.txt", "zero\n one \n", ["zero", "one"]),
        ("classes.txt", "1 ApplyEyeMakeup\n2 Archery\n", ["ApplyEyeMakeup", "Archery"]),
        ("classes.txt", "riding a bike 1\nabseiling 0\n", ["abseiling", "riding a bike"]),
        ("classes.txt", "take 1\ntake 2\n", ["take 1", "take 2"]),
        (
            "classes.csv",
            "action\nApplying sunscreen\nArm wrestling\n",
            ["Applying sunscreen", "Arm wrestling"],
        ),
        ("classes.json", '["a b", "c"]', ["a b", "c"]),
        ("classes.json", '{"Holding [something]": "1", "Closing": "0"}', ["Closing", "Holding [something]"]),
        (
            "classes.txt",
            "Clabel:  0; set:   1; Glabel:   1; (VT) round-off\nClabel:  1; set: 21; Glabel: 2; (FX) switch leap\n",
            ["(VT) round-off", "(FX) switch leap"],
        ),
    ],
)
def test_files_of_class_names(folder, name, text, expected):
    assert read_classes(folder({name: text}) / name) == expected


def test_natural_order():
    assert sorted(["c10", "c2", "C1", "b"], key=natural_key) == ["b", "C1", "c2", "c10"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1), min_size=2, max_size=6))
def test_any_names_can_be_ordered(names):
    assert len(sorted(names, key=natural_key)) == len(names)


# -- errors


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the list is empty"),
        ("a.mp4 0\nb.mp4 x\n", {}, "line 2: the label 'x' is a name, but the labels before are numbers."),
        ("a.mp4 x\nb.mp4 0\n", {}, "line 2: the label 0 is a number, but the labels before are names."),
        ("a.mp4 0\nb.mp4 -1\n", {}, "line 2: the label -1 is negative"),
        (
            "a.mp4 0\nb.mp4 3\n",
            {"num_classes": 2},
            "line 2: the label 3 is out of range: with 2 classes, 0 to 1.",
        ),
        ("a.mp4 1\nb.mp4 2\n", {"num_classes": 2}, "line 2: .*If the list counts classes from 1, subtract 1"),
        ("a.mp4 wlak\n", {"classes": ["walk", "run"]}, "line 1: the class 'wlak' .*did you mean 'walk'?"),
        ("a.mp4 0 1 2 3\n", {}, "4 numbers after the path"),
        ("a.mp4 0\nb.mp4 0 1\n", {}, "line 2: expected `path label`|1, 2 numbers after the path"),
        ("d 10 0\ne 0\n", {"format": "rawframes"}, "line 2: expected `folder num_frames label`"),
        ("d 0 1\n", {"format": "rawframes"}, "line 1: a folder with 0 frames"),
        (
            "d x 1\n",
            {"format": "rawframes"},
            "line 1: expected `folder num_frames label`, but the line is 'd x 1'",
        ),
        ("d 0\n", {"format": "untrimmed"}, "expected `folder label num_clips"),
        ("path,label\na.mp4,1\nb.mp4\n", {}, "line 3: 1 column, but the header has 2."),
        ("path,label,start_s,end_s\na.mp4,1,x,2\n", {}, "line 2: a number was expected"),
    ],
)
def test_errors_name_file_and_line(folder, text, options, message):
    base = folder({"list.txt": text})
    with pytest.raises(DataError, match=message) as caught:
        read_list(base / "list.txt", **options)
    assert "list.txt" in str(caught.value)


def test_errors_of_missing_and_wrong_things(folder):
    base = folder(
        {
            "bad.json": "{\n,",
            "empty/x.txt": None,
            "c/a.mp4": None,
            "d/classes.txt": "a\nb\na\n",
            "d/l.txt": "a.mp4 0",
        }
    )
    with pytest.raises(DataError, match=r"nowhere.txt does not exist.*one subfolder per class"):
        read_list(base / "nowhere.txt")
    with pytest.raises(DataError, match=r"bad.json, line 2: not valid JSON"):
        read_list(base / "bad.json")
    with pytest.raises(DataError, match="neither class folders nor videos"):
        read_list(base / "empty")
    with pytest.raises(DataError, match="the class name 'a' occurs twice"):
        read_list(base / "d/l.txt")
    with pytest.raises(DataError, match="the folder 'c' is none of the known classes"):
        read_list(base, classes=["z"])
    with pytest.raises(RecipeError, match="known: auto, folder, video"):
        read_list(base / "d/l.txt", format="videos")
    with pytest.raises(DataError, match="wants a file"):
        read_list(base, format="video")
    (base / "gap.txt").write_text("a 0\nb 2\n")
    with pytest.raises(DataError, match="without gaps"):
        read_classes(base / "gap.txt")


# -- the list itself


def test_subsets_pickles_and_fingerprints(folder):
    base = folder({"l.txt": "a b.mp4 1\nü.mp4 0\nc.mp4 2\n", "m.txt": "a.mp4 0 2\nb.mp4 1\nc.mp4 2\n"})
    videos = read_list(base / "l.txt")
    part = videos.subset([2, 0])
    assert rows(part) == [("c.mp4", 2), ("a b.mp4", 1)]
    assert part.num_classes == 3
    assert rows(videos.subset(np.array([False, True, False]))) == [("ü.mp4", 0)]
    copy = pickle.loads(pickle.dumps(videos))
    assert rows(copy) == rows(videos)
    assert copy.fingerprint() == videos.fingerprint()
    assert part.fingerprint() != videos.fingerprint()
    many = read_list(base / "m.txt", multi_label=True)
    assert many.subset([1, 0]).labels.tolist() == [[0, 1, 0], [1, 0, 1]]
    assert len(many.subset([])) == 0
    with pytest.raises(IndexError):
        videos.path(3)
    assert videos.missing().tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["copy.txt", "copy.csv"])
def test_lists_are_read_back_as_they_were_written(folder, name):
    base = folder(
        {
            "l.txt": "a b.mp4\t1\n'c'.mp4\t0\n",
            "r.txt": "d/1 3 20 1\nd/2 0 30 0\n",
            "m.txt": "a.mp4 0 2\nb.mp4 1\n",
            "classes.txt": "x\ny\nz\n",
        }
    )
    for source, options in (("l.txt", {}), ("r.txt", {}), ("m.txt", {"multi_label": True})):
        videos = read_list(base / source, **options)
        again = read_list(write_list(videos, base / name), **options)
        assert [os.path.abspath(p) for p in again.paths()] == [os.path.abspath(p) for p in videos.paths()]
        assert again.labels.tolist() == videos.labels.tolist()
        assert again.classes == videos.classes
        assert [again.num_frames(i) for i in range(2)] == [videos.num_frames(i) for i in range(2)]
        assert [again.offset(i) for i in range(2)] == [videos.offset(i) for i in range(2)]


_MEASURE = """
import sys, resource, time
from clipwise.data.lists import read_list
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
videos = read_list(sys.argv[1])
print(time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, len(videos))
"""


def test_long_lists_are_quick_and_small(tmp_path):
    for count, seconds in ((10_000, 1.0), (300_000, 6.0)):
        path = tmp_path / "long.txt"
        path.write_text("".join(f"train/class_{i % 400}/{i:011}_000010_000020.mp4 {i % 400}\n" for i in range(count)))
        answer = subprocess.run([sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True)
        took, grown, entries = map(float, answer.stdout.split())
        assert entries == count
        assert took < seconds
        assert grown < 200  # MiB
    start = time.perf_counter()
    videos = read_list(path)
    assert len(pickle.dumps(videos)) < 25e6
    assert videos.subset(range(0, 300_000, 2)).entry(1).startswith("train/class_2/")
    assert time.perf_counter() - start < 20


# -- published files


def test_jester_from_its_published_files(folder):
    names = ["Swiping Left", "Swiping Right", "No gesture"]
    files = {
        "a/jester-v1-labels.csv": "\n".join(names),
        "a/jester-v1-train.csv": "11;No gesture\n7;Swiping Left\n99;Swiping Left\n",
        "a/jester-v1-validation.csv": "8;Swiping Right\n",
    }
    frames = {f"f/{clip}/{i:05}.jpg": None for clip, n in ((11, 3), (7, 5), (8, 2)) for i in range(1, n + 1)}
    base = folder(files | frames)
    parts = prepare_jester(base / "a", base / "f", base / "out")
    assert rows(parts["train"]) == [("11", 2), ("7", 0)]
    assert parts["train"].frame_template == "{:05}.jpg"
    train = read_list(base / "out" / "train_rawframes.txt")
    assert [os.path.relpath(path, base / "f") for path in train.paths()] == ["11", "7"]
    assert [train.num_frames(i) for i in range(2)] == [3, 5]
    assert train.classes == names
    assert read_list(base / "out" / "val_rawframes.txt").labels.tolist() == [1]
    assert (base / "out" / "train_missing.txt").read_text() == "99\n"
    assert read_list(base / "a/jester-v1-train.csv", root=base / "f").labels.tolist() == [2, 0, 0]


def test_gym99_from_its_published_files(folder):
    ids = ["0LtLS9wROrk_E_002407_002435_A_0003_0005", "0LtLS9wROrk_E_002407_002435_A_0006_0008"]
    base = folder(
        {
            "a/gym99_train_element_v1.1.txt": f"{ids[0]} 1\nzzzzzzzzzzz_E_000001_000002_A_0001_0002 0\n",
            "a/gym99_val_element.txt": f"{ids[1]} 0\n",
            "a/gym99_categories.txt": "Clabel: 0; set: 1; Glabel: 1; (VT) a\nClabel: 1; set: 1; Glabel: 2; (VT) b\n",
            f"v/{ids[0]}.mp4": None,
            f"v/{ids[1]}.mp4": None,
        }
        | {
            f"f/{ids[k]}/{name}": None
            for k in (0, 1)
            for name in ("img_00001.jpg", "flow_x_00001.jpg", "flow_y_00001.jpg")
        }
    )
    videos = prepare_gym99(base / "a", base / "v", base / "out")
    assert [os.path.basename(p) for p in videos["train"].paths()] == [f"{ids[0]}.mp4"]
    assert read_list(base / "out/train.txt").labels.tolist() == [1]
    assert read_list(base / "out/val.txt").classes == ["(VT) a", "(VT) b"]
    frames = prepare_gym99(base / "a", base / "f", base / "out2")
    assert frames["val"].num_frames(0) == 1  # flow pictures do not count
    assert read_list(base / "a/gym99_val_element.txt", root=base / "v").kind == "video"
    with pytest.raises(DataError, match="None of the 2 clips of the train list exists"):
        prepare_gym99(base / "a", base / "nowhere", base / "out3")
    with pytest.raises(DataError, match="gym99_train_element"):
        prepare_gym99(base / "v", base / "v", base / "out3")


def test_kinetics_csv(folder):
    text = "label,youtube_id,time_start,time_end,split\nriding a bike,abc,3,13,val\nabseiling,def,0,10,val\n"
    base = folder({"val.csv": text, "v/riding_a_bike/abc_000003_000013.mp4": None})
    videos = read_list(base / "val.csv", root=base / "v")
    assert videos.classes == ["abseiling", "riding a bike"]
    assert videos.labels.tolist() == [1, 0]
    assert videos.path(0) == str(base / "v/riding_a_bike/abc_000003_000013.mp4")
    named = read_list(base / "val.csv", root=base / "v", classes=["riding_a_bike", "abseiling"])
    assert named.labels.tolist() == [0, 1]


def test_something_something(folder):
    base = folder(
        {
            "something-something-v2-labels.json": '{"Closing something": "0", "Holding something": "1"}',
            "something-something-v2-train.json": json.dumps(
                [
                    {"id": "78687", "label": "holding potato", "template": "Holding [something]"},
                    {"id": "2", "label": "closing it", "template": "Closing [something]"},
                ]
            ),
            "v/78687.webm": None,
        }
    )
    videos = read_list(base / "something-something-v2-train.json", root=base / "v")
    assert videos.labels.tolist() == [1, 0]
    assert videos.path(0) == str(base / "v/78687.webm")


def test_activitynet_both_forms(shared):
    videos = read_list(shared / "data/activitynet/anet_anno_action.json")
    assert len(videos) == 14_859 + 7_293
    assert videos.num_classes == 200
    assert videos.classes[:2] == ["Applying sunscreen", "Arm wrestling"]
    start, end = videos.span(0)
    assert (start, end) == (6.195294851794072, 77.73085420904837)
    assert videos.class_name(videos.label(0)) == "Ballet"
    source = shared / "data/grid_sentences/phrase2_activitynet_gt.json"
    validation = activitynet_json(source, subset="validation", segments=False)
    assert len(validation) == 100
    assert validation.multi_label


def test_real_lists(shared):
    data = shared / "data"
    digits = read_list(data / "grid_digits/train.txt")
    assert (len(digits), digits.num_classes, digits.classes[3]) == (700, 10, "three")
    assert len(digits.missing()) == 0
    folders = read_list(data / "grid_digits/videos")
    assert folders.classes == digits.classes  # from the file beside the folder
    frames = read_list(data / "weizmann4/train_rawframes.txt")
    assert (frames.kind, frames.num_frames(0)) == ("rawframes", len(os.listdir(frames.path(0))))
    jump = read_list(data / "rawframes_jumprun/demo_dataset/annotations.txt")
    assert [(jump.offset(i), jump.num_frames(i), jump.label(i)) for i in (0, 2)] == [(1, 17, 0), (1, 15, 1)]
    path = data / "rawframes_jumprun/demo_dataset_multilabel/annotations.txt"
    many = read_list(path, format="rawframes_offset", multi_label=True)
    assert many.label(0).tolist() == [1, 0, 1, 0, 1]


def test_paddle_pickles(folder):
    base = folder({"train.list": "a.pkl\nb.pkl\n"})
    for name, label in (("a", 3), ("b", 300)):
        for protocol in (2, 4):
            content = (f"vid_{name}", label, [b"\xff\xd8jpeg", b"two"])
            (base / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol))
            assert read_paddle_pickle(base / f"{name}.pkl") == content
    videos = read_list(base / "train.list")
    assert videos.kind == "pickle"
    assert videos.labels.tolist() == [3, 300]
    (base / "evil.pkl").write_bytes(pickle.dumps(os.getcwd))
    with pytest.raises(DataError, match=r"asks for \w+\.getcwd, which is neither"):
        read_paddle_pickle(base / "evil.pkl")
    (base / "junk.pkl").write_bytes(b"junk")
    with pytest.raises(DataError, match="be read as a pickle"):
        read_paddle_pickle(base / "junk.pkl")


def test_lists_of_other_names_in_a_folder(tmp_path):
    """MMAction2's names: one pair of lists is found, several are named, and neither is taken for class folders."""
    from clipwise.data.lists import find_splits

    for kind in ("videos", "rawframes"):
        (tmp_path / kind).mkdir()
    for part in ("train", "val"):
        (tmp_path / f"kinetics400_{part}_list_videos.txt").write_text("videos/a.mp4 0\n")
    found = find_splits(tmp_path)
    assert (found.train.name, found.held_out) == ("kinetics400_train_list_videos.txt", False)
    assert found.val is not None
    assert found.val.name == "kinetics400_val_list_videos.txt"
    for part in ("train", "val"):
        (tmp_path / f"kinetics400_{part}_list_rawframes.txt").write_text("rawframes/a 9 0\n")
    with pytest.raises(
        DataError, match=r"several training lists: kinetics400_train_list_rawframes\.txt, kinetics400_train"
    ):
        find_splits(tmp_path)


def test_lists_of_other_names_do_not_come_before_folders_of_classes(tmp_path):
    """``train/`` and ``val/`` with class folders are meant, whatever else lies there; flat ones have their labels in lists."""
    from clipwise.data.lists import find_splits

    (tmp_path / "train" / "run").mkdir(parents=True)
    (tmp_path / "val" / "run").mkdir(parents=True)
    for part in ("train", "val"):
        (tmp_path / f"my_{part}_notes.txt").write_text("nothing to read\n")
    assert find_splits(tmp_path).train == tmp_path / "train"
    for part in ("train", "val"):
        (tmp_path / part / "run").rmdir()
        (tmp_path / f"._my_{part}_notes.txt").write_bytes(b"\0")  # what macOS leaves
    assert find_splits(tmp_path).train == tmp_path / "my_train_notes.txt"


def test_the_published_label_map_is_found_beside_the_list(tmp_path):
    """The seeds' Kinetics files: kinetics_val_list.txt and kinetics_class2ind.txt in one folder."""
    (tmp_path / "abc.mp4").write_bytes(b"")
    (tmp_path / "kinetics_val_list.txt").write_text("abc 250 1\n")
    (tmp_path / "kinetics_class2ind.txt").write_text("abseiling 0\nair drumming 1\n")
    videos = read_list(tmp_path / "kinetics_val_list.txt")
    assert videos.classes == ["abseiling", "air drumming"]
    assert videos.path(0).endswith("abc.mp4")


def test_videos_beside_class_folders_are_not_left_out_silently(tmp_path):
    for name in ("run/a.mp4", "walk/b.mp4", "stray.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"1 video, stray\.mp4, lies beside the 2 class folders \(run, walk\)"):
        read_list(tmp_path)


@pytest.mark.parametrize(
    ("entries", "words"), [("a.mp4\nb.mp4\n", "without labels"), ("a.mp4 0 1\nb.mp4 1\n", "several labels")]
)
def test_only_videos_of_one_label_are_held_out(tmp_path, entries, words):
    from clipwise.data.hold_out import hold_out

    (tmp_path / "list.txt").write_text(entries)
    with pytest.raises(DataError, match=f"{words}.*give a validation list"):
        hold_out(read_list(tmp_path / "list.txt", multi_label="several" in words))


def test_a_class_with_one_video_is_named_as_its_list_names_it(tmp_path):
    from clipwise.data.hold_out import hold_out

    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 0\nc.mp4 1\n")
    with pytest.raises(DataError, match="class 1 has only one video"):
        hold_out(read_list(tmp_path / "list.txt"))
