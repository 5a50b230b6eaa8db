"""Lists as inputs of predict and features are read by the one reader of lists; files of names only may hold anything."""

import json
import os

import pytest

from clipwise.errors import DataError
from clipwise.infer.inputs import expand_inputs


@pytest.fixture
def videos(tmp_path):
    for name in ("a.mp4", "b c.mp4", "sub/d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("l.txt", "a.mp4 0\nb c.mp4 1\n", ["a.mp4", "b c.mp4"]),
        ("l.txt", "a.mp4\nb c.mp4\nsub/d.mp4\n", ["a.mp4", "b c.mp4", "sub/d.mp4"]),
        ("l.txt", "path label\na.mp4 0\n", ["a.mp4"]),
        ("l.txt", '# mine\na.mp4\t0\n"b c.mp4"\t1\n', ["a.mp4", "b c.mp4"]),
        ("l.txt", "a.mp4 long jump\nsub/d.mp4 run\n", ["a.mp4", "sub/d.mp4"]),
        ("l.txt", "a.mp4 0 3\nsub/d.mp4 1 2 5\n", ["a.mp4", "sub/d.mp4"]),
        ("l.txt", "\ufeffa.mp4 0\r\ngone.mp4 1\r\n", ["a.mp4", "gone.mp4"]),
        ("l.txt", "sub 30 1\n", ["sub"]),
        ("l.csv", "video,label\na.mp4,run\n", ["a.mp4"]),
        ("l.csv", "video,label,start,end\na.mp4,run,1,2\na.mp4,run,3,4\n", ["a.mp4"]),  # each video once
        ("l.json", json.dumps([{"path": "a.mp4", "label": 1}, {"path": "sub/d.mp4", "label": 0}]), ["a.mp4", "sub/d.mp4"]),
    ],
)  # fmt: skip
def test_lists(videos, name, content, expected):
    (videos / name).write_text(content, encoding="utf-8", newline="")
    assert [os.path.relpath(found, videos) for found in expand_inputs([str(videos / name)])] == expected


def test_names_of_other_files_and_addresses(videos):
    (videos / "x.npy").write_bytes(b"")
    (videos / "l.txt").write_text("rtsp://camera/1\nhttps://host/a.mp4\nx.npy\n")
    assert list(expand_inputs([str(videos / "l.txt")])) == [
        "rtsp://camera/1",
        "https://host/a.mp4",
        str(videos / "x.npy"),
    ]


def test_what_is_no_list(videos):
    (videos / "l.txt").write_text("\n")
    with pytest.raises(DataError, match=r"l\.txt: the list is empty"):
        list(expand_inputs([str(videos / "l.txt")]))
    with pytest.raises(DataError, match="Give a video, a folder, a list or an address"):
        list(expand_inputs([str(videos / "none.csv")]))
    (videos / "f.csv").write_text("1.0,2.0\n")
    assert list(expand_inputs([str(videos / "f.csv")], (".txt",))) == [str(videos / "f.csv")]  # features of localize
