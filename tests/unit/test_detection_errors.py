"""Error analysis of detections against cases worked out by hand."""

import json

import numpy as np
import pytest

from clipwise.cli import main
from clipwise.errors import DataError
from clipwise.tasks.detection_errors import ERROR_TYPES, detection_errors
from clipwise.tasks.detection_metrics import detection_map


def action(start, end, label):
    return {"segment": [start, end], "label": label}


def found(start, end, label, score):
    return {**action(start, end, label), "score": score}


TRUTH = {"v": [action(0, 10, "a"), action(20, 30, "a"), action(50, 90, "b")]}
FOUND = {
    "v": [
        found(0, 10, "a", 0.9),  # true positive
        found(0, 9, "a", 0.8),  # IoU 0.9, but taken: double detection
        found(50, 90, "a", 0.7),  # IoU 1 with b: wrong label
        found(20, 24, "a", 0.6),  # IoU 0.4: localization
        found(40, 60, "a", 0.5),  # IoU 10 / 50 with b: confusion
        found(95, 99, "a", 0.4),  # background
        found(20, 30, "a", 0.3),  # true positive
        found(50, 90, "b", 0.9),  # true positive
        found(0, 5, "b", 0.1),  # IoU 0.5 with a: wrong label
    ]
}


def test_the_profile_of_the_six_types():
    """a has G = 2, so its predictions come in pairs; b has G = 1."""
    errors = detection_errors(TRUTH, FOUND, {"v": 100}, 0.5)
    tp, double, wrong, place, confused, nothing = range(6)
    expected = np.zeros((4, 6))
    expected[0, [tp, double]] = 2 / 3, 1 / 3
    expected[1, [wrong, place]] = 2 / 3, 1 / 3
    expected[2, [confused, nothing]] = 1 / 2, 1 / 2
    expected[3, tp] = 1
    np.testing.assert_allclose(errors.profile[:4], expected, rtol=1e-12)
    assert np.isnan(errors.profile[4:]).all()
    assert errors.counts.sum(1).tolist() == [3, 3, 2, 1, 0, 0, 0, 0, 0, 0]


def test_normalized_precision_and_what_each_type_costs():
    """N = 3 actions / 2 classes. a: 1 at the first hit, 1.5 / (1.5 + 5) at the second, so 8 / 13; b: 1."""
    errors = detection_errors(TRUTH, FOUND, {"v": 100}, 0.5)
    assert errors.normalized_map == pytest.approx((8 / 13 + 1) / 2, rel=1e-12)
    assert errors.mean_ap == pytest.approx(((1 + 2 / 7) / 2 + 1) / 2, rel=1e-12)
    # one error of each type stands before a's second hit: without it 1.5 / (1.5 + 4), so 7 / 11
    expected = (7 / 11 - 8 / 13) / 2
    assert errors.gain == pytest.approx(dict.fromkeys(ERROR_TYPES[1:], expected), rel=1e-9)
    assert errors.missed == 0


def test_buckets_of_each_characteristic():
    """Coverages are 0.1, 0.1 and 0.4, lengths 10, 10 and 40 s; a happens twice."""
    errors = detection_errors(TRUTH, FOUND, {"v": 100}, 0.5)
    of_a, of_b = (2, 9 / 14, 8 / 13, 0), (1, 1, 1, 0)
    expected = {
        "coverage": [(0, 0.2, *of_a), (0.2, 0.4, *of_b)],
        "length": [(0, 30, *of_a), (30, 60, *of_b)],
        "instances": [(0, 1, *of_b), (1, 4, *of_a)],
    }
    for name, rows in expected.items():
        np.testing.assert_allclose(errors.sensitivity[name], rows, rtol=1e-12, atol=1e-12)
    assert "coverage" not in detection_errors(TRUTH, FOUND, {"v": float("nan")}, 0.5).sensitivity
    with pytest.raises(DataError, match="unknown buckets 'deciles'; known: activitynet, thumos, quintiles"):
        detection_errors(TRUTH, FOUND, None, 0.5, "deciles")


def test_predictions_that_take_actions_of_another_bucket_are_left_out():
    """N = 2. The short action's hit follows one false positive: 1 / 2, normalized 2 / 3; the long one's comes first."""
    truth = {"v": [action(0, 10, "a"), action(20, 60, "a")]}
    given = {"v": [found(20, 60, "a", 0.9), found(70, 80, "a", 0.8), found(0, 10, "a", 0.7)]}
    short, long = detection_errors(truth, given, None, 0.5).sensitivity["length"]
    assert (short.mean_ap, short.normalized_map) == pytest.approx((1 / 2, 2 / 3))
    assert (long.mean_ap, long.normalized_map) == (1, 1)


@pytest.mark.parametrize(("wrong", "missed"), [(18, 0), (19, 1)])
def test_what_is_found_at_a_precision_of_a_twentieth_is_missed(wrong, missed):
    """N = 1: the hit has precision 1 / 19 or 1 / 20."""
    noise = [found(50, 51, "a", 0.9)] * wrong
    errors = detection_errors({"v": [action(0, 10, "a")]}, {"v": [*noise, found(0, 10, "a", 0.1)]}, None, 0.5)
    assert errors.missed == missed
    assert errors.sensitivity["length"][0].missed == missed


def test_means_over_the_overlaps():
    """IoU 0.6: a hit at 0.5, a localization error at 0.7."""
    errors = detection_errors({"v": [action(0, 10, "a")]}, {"v": [found(0, 6, "a", 1)]}, None, [0.5, 0.7])
    assert errors.profile[0].tolist() == [0.5, 0, 0, 0.5, 0, 0]
    assert (errors.missed, errors.mean_ap) == (0.5, 0.5)


def test_equal_segments_of_two_classes_and_videos_without_actions():
    truth = {"v": [action(0, 10, "Diving"), action(0, 10, "CliffDiving")]}
    given = {
        "v": [found(0, 10, "CliffDiving", 0.9), found(0, 10, "CliffDiving", 0.8)],
        "w": [found(0, 1, "CliffDiving", 0.7), found(0, 1, "unknown", 0.7)],
    }
    errors = detection_errors(truth, given, None, 0.5)
    assert errors.counts[:3].argmax(1).tolist() == [0, 1, 5]
    assert errors.counts.sum() == 3


def world(seed):
    rng = np.random.default_rng(seed)
    truth, given = {}, {}
    for n in range(6):
        start = rng.uniform(0, 80, 8)
        truth[str(n)] = [action(s, s + rng.uniform(1, 40), "abc"[rng.integers(3)]) for s in start.tolist()]
        start = rng.uniform(0, 80, 150)
        given[str(n)] = [
            found(s, s + rng.uniform(1, 40), "abcd"[rng.integers(4)], float(rng.random())) for s in start.tolist()
        ]
    return truth, given


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_map_and_with_its_definition(seed):
    truth, given = world(seed)
    errors = detection_errors(truth, given, None, [0.3, 0.5], "quintiles")
    assert errors.mean_ap == pytest.approx(detection_map(truth, given, [0.3, 0.5]).mean, rel=1e-12)
    assert sum(b.actions for b in errors.sensitivity["length"]) == 48
    assert len(errors.sensitivity["length"]) == 5
    # types of the best 10G, one prediction after another
    count = np.zeros((10, 6))
    for label in "abc":
        size = sum(e["label"] == label for entries in truth.values() for e in entries)
        best = sorted(
            ((e["score"], v, e) for v, es in given.items() for e in es if e["label"] == label), key=lambda r: -r[0]
        )
        for threshold in (0.3, 0.5):
            used = set()
            for rank, (_, video, e) in enumerate(best[: 10 * size]):
                overlaps = [(overlap(a["segment"], e["segment"]), i) for i, a in enumerate(truth[video])]
                own = [(o, i) for o, i in overlaps if o >= threshold and truth[video][i]["label"] == label]
                free = [(o, i) for o, i in own if (video, i) not in used]
                if free:
                    used.add((video, max(free)[1]))
                    kind = 0
                else:
                    most, i = max(overlaps)
                    same = truth[video][i]["label"] == label
                    kind = (1 if same else 2) if most >= threshold else 5 if most < 0.1 else 3 if same else 4
                count[rank // size, kind] += 0.5
    np.testing.assert_allclose(errors.counts, count)


def overlap(a, b):
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return inter / (a[1] - a[0] + b[1] - b[0] - inter)


@pytest.fixture
def files(tmp_path):
    result, gt = tmp_path / "result.json", tmp_path / "gt.json"
    result.write_text(json.dumps({"results": FOUND}))
    gt.write_text(json.dumps({"database": {"v": {"duration": 100, "subset": "validation", "annotations": TRUTH["v"]}}}))
    return str(result), str(gt)


def test_through_the_command_line(files, tmp_path, capsys):
    words = ["eval-detections", *files, "--tiou", "0.5"]
    assert main([*words, "--json"]) == 0
    assert "errors" not in json.loads(capsys.readouterr().out)[files[0]]
    assert main([*words, "--errors", "--json"]) == 0
    errors = json.loads(capsys.readouterr().out)[files[0]]["errors"]
    assert errors["mAP_N"] == pytest.approx(21 / 26)
    assert errors["profile"][1]["wrong label"] == pytest.approx(2 / 3)
    assert errors["profile"][9] == {"rank": "10G", "predictions": 0, **dict.fromkeys(ERROR_TYPES)}
    assert errors["sensitivity"]["coverage"][1]["mean_ap"] == 1
    assert main([*words, "--report", str(tmp_path / "page")]) == 0
    out = capsys.readouterr().out
    assert "double detection" in out
    assert str(tmp_path / "page" / "index.html") in out
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 6
    assert "80.77%" in page  # mAP_N, 21 / 26


def test_videos_play_over_their_actions_and_best_predictions(files, tmp_path, capsys):
    """Three actions: three blocks, and the best six of the nine predictions."""
    (tmp_path / "clips").mkdir()
    words = ["eval-detections", *files, "--videos", str(tmp_path / "clips")]
    assert main(words) == 2
    assert "--videos is for the page of --report" in capsys.readouterr().err
    words += ["--report", str(tmp_path / "page")]
    assert main(words) == 2
    assert "has no file of the videos of the ground truth, as v.mp4" in capsys.readouterr().err
    (tmp_path / "clips" / "v.mp4").write_bytes(b"")
    assert main(words) == 0
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert 'src="../clips/v.mp4"' in page
    assert 'data-length="100.0"' in page
    assert page.count('class="block ') == 9
