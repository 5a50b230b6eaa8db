"""Late fusion: formats, order, weights, the command."""

import json
import pickle

import numpy as np
import pytest

from clipwise.cli import main
from clipwise.engine.evaluate import TestResult
from clipwise.errors import DataError
from clipwise.infer import fusion

NAMES = ["a/one.mp4", "a/two.mp4", "b/one.mp4", "b/three.mp4"]
LABELS = [0, 1, 2, 1]


@pytest.fixture
def scores():
    return np.random.default_rng(0).dirichlet(np.ones(6), size=4).astype(np.float32)


def result(scores, names=NAMES, labels=LABELS, classes=None):
    out = TestResult(list(names), list(labels), list(scores), classes)
    out.compute()
    return out


@pytest.mark.parametrize("suffix", ["json", "csv", "pkl"])
def test_our_files_come_back(tmp_path, scores, suffix):
    path = tmp_path / f"s.{suffix}"
    result(scores).save(path)
    read = fusion.read_scores(path)
    np.testing.assert_allclose(read.scores, scores, rtol=1e-6)
    assert read.names == (None if suffix == "pkl" else NAMES)
    assert read.labels == (None if suffix == "pkl" else LABELS)


def test_class_names_and_failures(tmp_path, scores):
    scores[2] = np.nan
    classes = [f"c{i}" for i in range(6)]
    for suffix in ("json", "csv"):
        path = tmp_path / f"s.{suffix}"
        result(scores, classes=classes).save(path)
        read = fusion.read_scores(path)
        assert read.classes == classes
        assert np.isnan(read.scores[2]).all()
        assert not np.isnan(read.scores[[0, 1, 3]]).any()
    figures = fusion.measure_fused(fusion.fuse([read.scores, read.scores], [1, 1]), LABELS)
    right = (scores[[0, 1, 3]].argmax(1) == np.array(LABELS)[[0, 1, 3]]).sum()
    assert figures["top1_acc"] == pytest.approx(right / 4)


def test_mmaction2_lists(tmp_path, scores):
    (tmp_path / "m.json").write_text(json.dumps(scores.tolist()))
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(list(scores), protocol=2))
    for name in ("m.json", "m.pkl"):
        np.testing.assert_allclose(fusion.read_scores(tmp_path / name).scores, scores, rtol=1e-6)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pkl", pickle.dumps([Bomb()]), "asks for builtins.exec"),
        ("x.pkl", b"\x80\x04broken", "can't be read as a pickle"),
        ("x.json", b"{}", "not a score file"),
        ("x.json", b"[]", "not a score file"),
        ("x.npy", b"", "read from .json, .csv or .pkl"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        fusion.read_scores(tmp_path / name)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        fusion.read_scores(tmp_path / "none.json")


def test_fuse_is_a_plain_weighted_sum(scores):
    other = scores[::-1].copy()
    np.testing.assert_allclose(fusion.fuse([scores, other], [1, 0.5]), scores + 0.5 * other)
    logits = np.log(scores)
    np.testing.assert_allclose(fusion.fuse([logits, logits], [1, 1], "softmax"), 2 * scores, rtol=1e-5)


def test_order_is_repaired_by_name(scores):
    order = [2, 0, 3, 1]
    shuffled = fusion.ScoreFile(
        "flow", scores[order], [f"/flow/{NAMES[i][:-4]}" for i in order], [LABELS[i] for i in order]
    )
    first = fusion.ScoreFile("rgb", scores, [f"/data/rgb/{n}" for n in NAMES], LABELS)
    (a, b), labels = fusion.align([first, shuffled])
    np.testing.assert_array_equal(a, b)
    assert labels == LABELS
    bare = fusion.ScoreFile("m.pkl", scores)
    listed = [(n, label) for n, label in zip(NAMES, LABELS)]
    (a, b), labels = fusion.align([bare, shuffled], listed)
    np.testing.assert_array_equal(a, b)
    assert labels == LABELS


def test_disagreements_are_named(scores):
    first = fusion.ScoreFile("rgb", scores, NAMES, LABELS)
    with pytest.raises(DataError, match="flow has 3 videos, rgb 4"):
        fusion.align([first, fusion.ScoreFile("flow", scores[:3])])
    with pytest.raises(DataError, match=r"flow has no scores for b/three\.mp4"):
        fusion.align([first, fusion.ScoreFile("flow", scores, [*NAMES[:3], "b/four.mp4"])])
    with pytest.raises(DataError, match="flow has 5 classes, rgb 6"):
        fusion.align([first, fusion.ScoreFile("flow", scores[:, :5], NAMES)])
    with pytest.raises(DataError, match="disagree on the label of video 4: 0 and 1"):
        fusion.align([first, fusion.ScoreFile("flow", scores, NAMES, [0, 1, 2, 0])])
    with pytest.raises(DataError, match="the list of labels 2"):
        fusion.align([first], [(None, 1), (None, 2)])


def test_search_finds_the_weights_that_matter():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 400)
    truth = np.eye(5)[labels]
    good = truth + rng.normal(0, 0.7, truth.shape)
    noise = rng.normal(0, 0.7, truth.shape)
    weights, accuracy = fusion.search_weights([good, noise], labels)
    alone = fusion.measure_fused(good, labels)["top1_acc"]
    assert weights[0] == 1
    assert weights[1] < 0.3
    assert accuracy >= alone
    # two equal witnesses: even weights win, and both together beat each
    also = truth + rng.normal(0, 0.7, truth.shape)
    weights, accuracy = fusion.search_weights([good, also], labels)
    assert 0.5 < weights[1] < 2
    assert accuracy > alone
    weights, _ = fusion.search_weights([noise, good, good], labels)
    assert weights[0] < weights[1] + weights[2] or weights[0] == 1
    assert fusion.search_weights([good], labels) == ([1.0], alone)


def test_golden_gym_arithmetic():
    """MMAction2's report_accuracy: sum of c_i * s_i, mean class accuracy with a predicted, never present class."""
    a = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.35, 0.25]])
    b = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.2, 0.7, 0.1]])
    fused = fusion.fuse([a, b], [1, 1])
    figures = fusion.measure_fused(fused, [0, 1, 1], (1, 2))
    # predictions 2, 1, 1: classes 0 -> 0, 1 -> 1, 2 (predicted only) -> 0
    assert figures == pytest.approx({"top1_acc": 2 / 3, "top2_acc": 1.0, "mean_class_accuracy": 1 / 3})


def test_command(tmp_path, scores, capsys):
    other = scores[[1, 0, 3, 2]]
    rgb, flow = tmp_path / "rgb.json", tmp_path / "flow.csv"
    result(scores).save(rgb)
    result(other).save(flow)
    listed = tmp_path / "val.txt"
    listed.write_text("".join(f"{n} {label}\n" for n, label in zip(NAMES, LABELS)))
    out = tmp_path / "fused.json"
    args = ["fuse", str(rgb), str(flow), "--weights", "1", "2", "--labels", str(listed), "--out", str(out), "--json"]
    assert main(args) == 0
    told = json.loads(capsys.readouterr().out)
    expected = scores + 2 * other
    assert told["metrics"]["top1_acc"] == pytest.approx((expected.argmax(1) == np.array(LABELS)).mean())
    np.testing.assert_allclose(fusion.read_scores(out).scores, expected, rtol=1e-6)
    assert main(["fuse", str(rgb), str(flow)]) == 0  # our files carry the labels
    assert "top5_acc\t" in capsys.readouterr().out
    assert main(["fuse", str(rgb), str(flow), "--search"]) == 0
    assert "too good to report" in capsys.readouterr().out
    assert main(["fuse", str(rgb), str(flow), "--search", str(rgb), str(flow)]) == 0
    for wrong in (["--weights", "1"], ["--weights", "1", "1", "--search"], ["--out", "x.txt"], ["--search", str(rgb)]):
        assert main(["fuse", str(rgb), str(flow), *wrong]) == 2
