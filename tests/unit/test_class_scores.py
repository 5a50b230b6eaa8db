"""Scores of whole videos from every form of file, fused, and multiplied into what a localizer found."""

import json

import numpy as np
import pytest

from clipwise.errors import ClipwiseError, DataError
from clipwise.infer.class_scores import read_fused_class_scores, read_video_class_scores
from clipwise.infer.segments import Localization, Segment

SCORES = {"a": [0.7, 0.2, 0.1], "b": [0.0, 0.5, 0.5]}
CLASSES = ["dive", "run", "swim"]


@pytest.fixture
def files(tmp_path):
    """The same scores in each form."""
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    cuhk = {v: [{"label": c, "score": s} for c, s in zip(CLASSES, row)] for v, row in SCORES.items()}
    (tmp_path / "cuhk.json").write_text(json.dumps({"results": cuhk}))
    (tmp_path / "opentad.json").write_text(json.dumps({"results": SCORES, "class": CLASSES}))
    lines = ["video," + ",".join(CLASSES), *(f"v_{v}.mp4," + ",".join(map(str, row)) for v, row in SCORES.items())]
    (tmp_path / "plain.csv").write_text("\n".join(lines))
    np.savez(tmp_path / "all.npz", **{f"v_{v}": np.array(row) for v, row in SCORES.items()}, classes=np.array(CLASSES))
    np.save(tmp_path / "matrix.npy", np.array([SCORES["b"], SCORES["a"]]))
    (tmp_path / "matrix.txt").write_text("v_b\nv_a\n")
    (tmp_path / "folder").mkdir()
    for v, row in SCORES.items():
        np.save(tmp_path / "folder" / f"{v}.npy", np.stack([np.array(row) + 0.1, np.array(row) - 0.1]))  # two views
    (tmp_path / "folder" / "classes.txt").write_text("\n".join(CLASSES))
    return tmp_path


@pytest.mark.parametrize("name", ["cuhk.json", "opentad.json", "plain.csv", "all.npz", "matrix.npy", "folder"])
def test_each_form_says_the_same(files, name):
    found = read_video_class_scores(str(files / name))
    assert found.classes == CLASSES
    assert {v: np.round(row, 12).tolist() for v, row in found.scores.items()} == SCORES


def test_files_are_fused(files, tmp_path):
    """By hand: weights 1 and 3; the second file has its classes in another order."""
    other = {"a": [0.0, 0.6, 0.4], "b": [0.2, 0.2, 0.6]}
    (tmp_path / "other.json").write_text(json.dumps({"results": other, "class": ["swim", "dive", "run"]}))
    fused = read_fused_class_scores([str(files / "cuhk.json"), str(tmp_path / "other.json")], [1, 3])
    assert fused.classes == CLASSES
    np.testing.assert_allclose(fused.scores["a"], [0.25 * 0.7 + 0.75 * 0.6, 0.25 * 0.2 + 0.75 * 0.4, 0.25 * 0.1])
    np.testing.assert_allclose(fused.scores["b"], [0.75 * 0.2, 0.25 * 0.5 + 0.75 * 0.6, 0.25 * 0.5 + 0.75 * 0.2])


def test_what_does_not_fit_is_named(files, tmp_path):
    cuhk = str(files / "cuhk.json")
    (tmp_path / "o.json").write_text(json.dumps({"results": SCORES, "class": ["dive", "run", "fly"]}))
    (tmp_path / "v.json").write_text(json.dumps({"results": {"a": SCORES["a"]}, "class": CLASSES}))
    (tmp_path / "l.json").write_text(json.dumps({"results": {"a": [-1, 0, 2]}, "class": CLASSES}))
    (tmp_path / "n.csv").write_text("clip,dive\nx,1\n")
    (files / "matrix.txt").write_text("v_b\n")
    for paths, weights, text in (
        ([cuhk, str(tmp_path / "o.json")], None, "'fly' is in one of them only"),
        ([cuhk, str(tmp_path / "v.json")], None, "'b' is in one of them only"),
        ([cuhk], [1, 2], "as many weights"),
        ([str(tmp_path / "l.json")], None, "probabilities are expected"),
        ([str(tmp_path / "n.csv")], None, "a column 'video'"),
        ([str(files / "matrix.npy")], None, "2 rows, but"),
        ([str(tmp_path / "none.npz")], None, "does not exist"),
    ):
        with pytest.raises((ClipwiseError, DataError), match=text):
            read_fused_class_scores(paths, weights)


def localizer(classes):
    """A localizer that found two segments of classes of its own."""
    from clipwise.infer.localize import Localizer

    made = Localizer.__new__(Localizer)
    made.rules = type("Rules", (), {"labeled": True, "windows": None})()
    made.passport = type("Passport", (), {"classes": classes})()
    made.path, made.classes_per_segment = "tad.safetensors", 1
    made.max_segments, made.min_score, made.max_overlap = 20, 0.0, 1.0
    return made


def found():
    none = np.zeros(0, np.float32)
    detections = [Segment(0, 1, "run", 0.9, 1, 0.9, 1.0), Segment(2, 3, "dive", 0.5, 0, 0.5, 1.0)]
    return Localization("v_a.mp4", 4.0, [], detections, np.array([[0, 1, 0.9], [2, 3, 0.5]]), none, none)


def test_a_named_segment_counts_as_its_class_does_in_the_video(files):
    """By hand: run 0.9 · 0.2 = 0.18 falls behind dive 0.5 · 0.7 = 0.35."""
    scores = read_fused_class_scores([str(files / "cuhk.json")])
    result = localizer(CLASSES)._with_video_classes(found(), scores)
    assert [(s.name, round(s.score, 6)) for s in result.detections] == [("dive", 0.35), ("run", 0.18)]
    others = type(scores)(["dive", "fly"], {"a": np.array([0.5, 0.5])})
    with pytest.raises(DataError, match="do not know 'run'"):
        localizer(["dive", "run"])._with_video_classes(found(), others)


def test_a_network_of_one_class_is_named_by_the_video(files):
    """ActionFormer on ActivityNet: each segment once for each of the two best classes."""
    scores = read_fused_class_scores([str(files / "cuhk.json")])
    result = localizer(["action"])._with_video_classes(found(), scores)
    assert [(s.name, round(s.score, 6)) for s in result.detections] == [
        ("dive", 0.63),
        ("dive", 0.35),
        ("run", 0.18),
        ("run", 0.1),
    ]
