"""Paired statistics against brute force, and clipwise compare."""

import json

import numpy as np
import pytest

from clipwise.cli import main
from clipwise.engine.evaluate import TestResult
from clipwise.errors import ClipwiseError, DataError
from clipwise.report.comparison import compare
from clipwise.tasks.paired import accuracy_difference, class_accuracy_difference, sign_test, wilson_interval

CLASSES = ["run", "walk", "sit"]


@pytest.fixture
def outcomes():
    rng = np.random.default_rng(3)
    a = rng.random(120) < 0.6
    return a, np.where(rng.random(120) < 0.7, a, rng.random(120) < 0.8), rng.integers(0, 4, 120)


def test_interval_equals_resampling_the_videos(outcomes):
    a, b, labels = outcomes
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(a), (20_000, len(a)))
    delta = b.astype(float) - a
    brute = np.quantile(delta[picks].mean(1), [0.025, 0.975])
    quick = accuracy_difference(a, b, resamples=20_000)
    assert quick.difference == pytest.approx(delta.mean())
    assert [quick.low, quick.high] == pytest.approx(brute, abs=0.009)

    by_class = []
    for pick in picks[:4000]:
        groups = labels[pick]
        by_class.append(np.mean([delta[pick][groups == k].mean() for k in np.unique(groups)]))
    brute = np.quantile(by_class, [0.025, 0.975])
    quick = class_accuracy_difference(a, b, labels, resamples=4000)
    assert quick.difference == pytest.approx(np.mean([delta[labels == k].mean() for k in range(4)]))
    assert [quick.low, quick.high] == pytest.approx(brute, abs=0.012)


def test_interval_is_repeatable_and_turns_its_sign(outcomes):
    a, b, _ = outcomes
    assert accuracy_difference(a, b, seed=5) == accuracy_difference(a, b, seed=5)
    there, back = accuracy_difference(a, b), accuracy_difference(b, a)
    assert there.difference == -back.difference
    assert accuracy_difference(a, a).low == accuracy_difference(a, a).high == 0
    assert not accuracy_difference(a, a).clear
    with pytest.raises(ClipwiseError, match="paired outcomes"):
        accuracy_difference(a, b[:-1])


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 5, 0.0625), (8, 2, 0.109375), (3, 3, 1.0), (0, 0, 1.0), (1, 9, 0.021484375)]
)
def test_sign_test_against_the_binomial_table(gained, lost, p):
    assert sign_test(gained, lost) == pytest.approx(p)
    assert sign_test(lost, gained) == pytest.approx(p)


def test_sign_test_of_many():
    assert sign_test(5200, 5000) == pytest.approx(0.0487, abs=5e-4)  # normal approximation with continuity: 0.0488
    assert sign_test(0, 20_000) == 0.0


def test_wilson_interval():
    low, high = wilson_interval([0, 8, 10], [10, 10, 10])
    assert low == pytest.approx([0.0, 0.4902, 0.7225], abs=1e-4)
    assert high == pytest.approx([0.2775, 0.9433, 1.0], abs=1e-4)


def make(labels, predictions, paths=None, classes=CLASSES, failures=()):
    scores = [np.where(np.arange(len(classes)) == p, 0.8, 0.1).astype(np.float32) for p in predictions]
    names = paths or [f"data/{n:03}.mp4" for n in range(len(labels))]
    for n in failures:
        scores[n] = np.full(len(classes), np.nan, np.float32)
    return TestResult(list(names), list(labels), scores, list(classes), {names[n]: "broken" for n in failures})


@pytest.fixture
def two():
    labels = [0] * 10 + [1] * 10 + [2] * 10
    a = [0] * 8 + [1] * 2 + [1] * 3 + [0] * 7 + [2] * 10
    b = [0] * 7 + [1] * 3 + [1] * 10 + [2] * 10
    return make(labels, a), make(labels, b)


def test_flips_by_hand(two):
    result = compare(two[0], two[1], ("old", "new"))
    assert (int(result.gained.sum()), int(result.lost.sum())) == (7, 1)
    assert result.p_value == pytest.approx(2 * 9 / 2**8)
    assert result.values["top1_acc"] == pytest.approx((21 / 30, 27 / 30))
    flips = {f["class"]: f for f in result.class_flips()}
    assert next(iter(flips)) == "walk"
    assert (flips["walk"]["gained"], flips["walk"]["lost"]) == (7, 0)
    assert (flips["run"]["gained"], flips["run"]["lost"]) == (0, 1)
    changed = result.changed()
    assert len(changed) == 8
    assert {c["path"] for c in changed if c["change"] == "lost"} == {"data/007.mp4"}
    assert "No clear winner" in result.verdict or "new is better" in result.verdict


def test_moved_and_shuffled_lists_are_matched(two):
    a, b = two
    order = np.random.default_rng(0).permutation(30)
    moved = make(
        [two[1].labels[n] for n in order],
        [int(b.predictions[n]) for n in order],
        [f"/elsewhere/{two[1].paths[n]}" for n in order],
    )
    same = compare(a, moved)
    straight = compare(a, b)
    assert (same.gained == straight.gained).all()
    assert same.left_out == 0
    part = make(two[1].labels[:25], b.predictions[:25], two[1].paths[:25])
    assert compare(a, part).left_out == 5


def test_failed_videos_are_wrong(two):
    a, b = two
    broken = make(b.labels, b.predictions, b.paths, failures=[29])
    result = compare(a, broken)
    assert result.lost[29]
    assert [c["b"] for c in result.changed() if c["path"] == "data/029.mp4"] == ["could not be decoded"]


def test_what_can_not_be_compared(two):
    a = two[0]
    others = {
        "no video in common": make([0], [0], ["other.avi"]),
        "different class names": make(two[0].labels, [0] * 30, classes=["sit", "run", "walk"]),
        "B has 4": make(two[0].labels, [0] * 30, classes=[*CLASSES, "fly"]),
        "disagree": make([1] * 30, [0] * 30),
    }
    for words, other in others.items():
        with pytest.raises(DataError, match=words):
            compare(a, other)
    hot = TestResult(["a"], [np.array([1, 0, 1])], [np.array([0.5, 0.2, 0.3])], CLASSES)
    with pytest.raises(DataError, match="several"):
        compare(hot, hot)


def test_command(two, tmp_path, capsys):
    a, b = tmp_path / "old.json", tmp_path / "new.json"
    two[0].save(a)
    two[1].save(b)
    assert main(["compare", str(a), str(b), "--report", str(tmp_path / "report")]) == 0
    out = capsys.readouterr().out
    assert "7 gained, 1 lost, p = 0.0703" in out
    assert "+20.00" in out
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "old → new" in page
    assert main(["compare", str(a), str(b), "--json", "--names", "A", "B"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["measures"]["top1_acc"]["difference"] == pytest.approx(0.2)
    assert facts["a"] == "A"
    assert len(facts["changed"]) == 8


@pytest.mark.parametrize("extra", [["--confidence", "2"], ["--resamples", "3"]])
def test_wrong_use(two, tmp_path, extra, capsys):
    two[0].save(tmp_path / "a.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json"), *extra]) == 2
    assert extra[0] in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "gone.json")]) == 2
    assert "gone.json" in capsys.readouterr().err
