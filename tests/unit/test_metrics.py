"""Metrics against frozen numbers of MMAction2, hand-worked cases, and their error messages."""

import json
import math

import numpy as np
import pytest

from clipwise.errors import ClipwiseError
from clipwise.tasks import metrics as m


@pytest.fixture(scope="module")
def inputs(shared):
    with np.load(shared / "golden/pipeline/metric_inputs.npz") as data:
        return {k: data[k] for k in data.files}


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden/pipeline/metrics_1x.json").read_text())


@pytest.mark.parametrize(("scores", "entry"), [("scores", "ties"), ("fine", "fine")])
def test_recognition_metrics_have_mmaction2s_digits(inputs, golden, scores, entry):
    expected, s = golden[entry], inputs[scores]
    assert m.top_k_accuracy(s, inputs["labels"], (1, 2, 5, 12)) == expected["top_k_accuracy_1_2_5_12"]
    assert m.mean_class_accuracy(s, inputs["labels"]) == pytest.approx(expected["mean_class_accuracy"], abs=1e-15)
    assert m.mean_average_precision(s, inputs["multi"]) == pytest.approx(expected["mean_average_precision"], abs=1e-14)
    assert math.isnan(m.mmit_mean_average_precision(s, inputs["multi"], empty="nan"))
    assert math.isnan(expected["mmit_mean_average_precision"])


def test_mmit_leaves_out_samples_without_a_true_class(inputs, golden):
    expected = golden["fine"]["mmit_without_empty_rows"]
    assert m.mmit_mean_average_precision(inputs["fine"], inputs["multi"]) == pytest.approx(expected, abs=1e-14)
    kept = inputs["multi"].any(axis=1)
    assert not kept.all()
    nan_form = m.mmit_mean_average_precision(inputs["fine"][kept], inputs["multi"][kept], empty="nan")
    assert nan_form == pytest.approx(expected, abs=1e-14)


def test_weighted_score_matches_mmaction2(inputs, golden):
    fused = m.weighted_score([inputs["scores"], inputs["fine"]], [0.5, 1])
    np.testing.assert_allclose(fused[0], golden["weighted_score_first"], rtol=1e-6)


def test_top_k_with_ties_stays_between_all_lost_and_all_won():
    scores = np.random.default_rng(0).integers(0, 4, (500, 9)) / 4
    labels = np.random.default_rng(1).integers(0, 9, 500)
    own = scores[np.arange(500), labels][:, None]
    for k, got in zip((1, 3, 9, 20), m.top_k_accuracy(scores, labels, (1, 3, 9, 20))):
        lost = ((scores >= own).sum(1) <= k).mean()
        won = ((scores > own).sum(1) < k).mean()
        assert lost <= got <= won


def test_top_k_takes_a_single_k_and_lists():
    assert m.top_k_accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1], 1) == [0.5]


def test_confusion_matrix_counts_and_normalizes():
    pred, real = [0, 2, 2, 5], [0, 2, 0, 2]
    np.testing.assert_array_equal(m.confusion_matrix(pred, real), [[1, 1, 0], [0, 1, 1], [0, 0, 0]])
    np.testing.assert_allclose(m.confusion_matrix(pred, real, "true"), [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0]])
    np.testing.assert_allclose(m.confusion_matrix(pred, real, "pred"), [[1, 0.5, 0], [0, 0.5, 1], [0, 0, 0]])
    np.testing.assert_allclose(m.confusion_matrix(pred, real, "all").sum(), 1)
    whole = m.confusion_matrix(pred, real, num_classes=7)
    assert whole.shape == (7, 7)
    assert whole[2, 5] == 1
    assert whole.sum() == 4


def test_mean_class_accuracy_and_a_class_that_is_only_predicted():
    scores = np.eye(4)[[0, 0, 1, 3]]
    labels = [0, 1, 1, 0]
    assert m.mean_class_accuracy(scores, labels) == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert m.mean_class_accuracy(scores, labels, skip_absent=True) == pytest.approx(0.5)


def test_mean_average_precision_by_hand():
    scores = [[0.9, 0.5], [0.8, 0.5], [0.7, 0.1]]
    labels = [[1, 0], [0, 1], [1, 0]]
    # class 0: 1/2·1 + 1/2·2/3; class 1: two scores tie, so precision 1/2 at recall 1
    assert m.mean_average_precision(scores, labels) == pytest.approx((0.5 + 1 / 3 + 0.5) / 2)
    assert math.isnan(m.mean_average_precision(scores, np.zeros((3, 2))))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: m.top_k_accuracy([[0.1, 0.2]], [2]), "label 2 of sample 0 is outside the classes 0..1"),
        (lambda: m.top_k_accuracy([[0.1, 0.2]], [0, 1]), "scores are of length 1, labels of 2"),
        (lambda: m.top_k_accuracy([[0.1, np.nan]], [0]), "NaN scores (first: sample 0)"),
        (lambda: m.top_k_accuracy([0.1, 0.2], [0]), "scores have shape (2,)"),
        (lambda: m.top_k_accuracy([[0.1, 0.2], [0.3]], [0, 1]), "rows of different lengths"),
        (lambda: m.top_k_accuracy([[0.1, 0.2]], [0], (0, 1)), "at least 1"),
        (lambda: m.top_k_accuracy([[0.1, 0.2]], [0.0]), "whole numbers"),
        (lambda: m.confusion_matrix([0, 1], [0]), "pred is of length 2 and real of 1"),
        (lambda: m.confusion_matrix([0], [4], num_classes=3), "allows 0..2"),
        (lambda: m.confusion_matrix([0], [0], "rows"), "use 'true', 'pred', 'all' or None"),
        (lambda: m.mean_average_precision([[0.1, 0.2]], [[0, 2]]), "must be 0 or 1"),
        (lambda: m.mean_average_precision([[0.1, 0.2]], [[0]]), "labels (1, 1)"),
        (lambda: m.weighted_score([[[1.0]]], [1, 2]), "1 score set and 2 weights"),
    ],
)
def test_errors_say_what_was_given(call, words):
    with pytest.raises(ClipwiseError) as error:
        call()
    assert words in str(error.value)


# ------------------------------------------------------------------------------------------------ proposals


@pytest.fixture(scope="module")
def proposal_sets(inputs):
    truth = {k[3:]: v for k, v in inputs.items() if k.startswith("gt_")}
    return truth, {k[5:]: v for k, v in inputs.items() if k.startswith("prop_")}


def test_average_recall_has_mmaction2s_and_jjboys_digits(proposal_sets, golden, shared):
    got = m.average_recall_at_avg_proposals(*proposal_sets)
    expected = golden["ar_an"]
    assert got.auc == pytest.approx(expected["auc"], abs=1e-12)
    np.testing.assert_allclose(got.average_recall, expected["average_recall"], atol=1e-15)
    np.testing.assert_allclose(got.recall[0], expected["recall_at_0.5"], atol=1e-15)
    np.testing.assert_allclose(got.proposals_per_video[:3], expected["proposals_per_video_first3"])
    jjboy = json.loads((shared / "golden/bmn_jjboy/ar_an.json").read_text())
    assert got.auc == pytest.approx(jjboy["auc"], abs=1e-12)
    for name, value in got.summary().items():
        if name != "AUC":
            assert value == pytest.approx(jjboy[name], abs=1e-15)


# figures of the specification, section 6.4: AR@1, 5, 10, 100, AUC, mAP at .5, .75, .95, average
SYNTHETIC = {
    "A": (
        {},
        (0.23241379310344829, 0.653103448275862, 0.8006896551724138, 0.997241379310345, 92.43689655172412),
        (0.472442413495694, 0.3200256893172691, 0.072535789971357, 0.3075788564863348),
    ),
    "B": (
        {"missing": 1.0},
        (0.12413793103448276, 0.4875862068965517, 0.68, 0.9282758620689654, 84.73034482758621),
        (0.3816475600435416, 0.2459299807494006, 0.0538656991461395, 0.2449439104756784),
    ),
    "C": (
        {"per_video": 30},
        (0.2551724137931034, 0.6579310344827587, 0.7951724137931034, 0.9462068965517242, 89.88689655172416),
        (0.4875993980179237, 0.2964517732526831, 0.0467869950250099, 0.3063265929020043),
    ),
}


def synthetic_truth(num_videos, seed=1, labels=5):
    rng = np.random.default_rng(seed)
    truth = {}
    for v in range(num_videos):
        duration = float(np.round(rng.uniform(10, 230), 3))
        truth[f"vid{v:04d}"] = (
            [
                {
                    "segment": np.sort(rng.uniform(0, duration, 2)).tolist(),
                    "label": f"c{int(rng.integers(labels))}",
                }
                for _ in range(int(rng.integers(1, 5)))
            ],
            duration,
        )
    return truth


def synthetic_predictions(truth, per_video=100, missing=0.0, seed=2, labels=5):
    rng = np.random.default_rng(seed)
    out = {}
    for name, (actions, duration) in truth.items():
        boxes = np.array([a["segment"] for a in actions])
        n = per_video if missing == 0 else int(rng.integers(1, per_video + 1))
        pick = rng.integers(len(boxes), size=n)
        width = (boxes[pick, 1] - boxes[pick, 0])[:, None]
        moved = boxes[pick] + rng.standard_normal((n, 2)) * 0.25 * width * rng.random((n, 1)) * 2
        moved = np.sort(np.clip(moved, 0, duration), 1)
        score = rng.random(n)
        out[name] = [
            {
                "segment": [float(a), float(b)],
                "score": float(s),
                "label": actions[q]["label"] if rng.random() < 0.8 else f"c{int(rng.integers(labels))}",
            }
            for (a, b), s, q in zip(moved, score, pick)
        ]
    return out


@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic_sets_have_the_figures_of_the_reference_evaluators(name):
    options, recalls, precisions = SYNTHETIC[name]
    made = synthetic_truth(60)
    truth = {k: v[0] for k, v in made.items()}
    predictions = synthetic_predictions(made, **options)
    got = m.average_recall_at_avg_proposals(truth, predictions)
    np.testing.assert_allclose([*(got.at(n) for n in (1, 5, 10, 100)), got.auc], recalls, rtol=1e-14)
    found = m.detection_map(truth, predictions)
    np.testing.assert_allclose([*found.per_tiou[[0, 5, 9]], found.mean], precisions, rtol=1e-13)


@pytest.fixture(scope="module")
def activitynet(shared):
    folder = shared / "data/activitynet"
    rows = [r.split(",") for r in (folder / "video_info_new.csv").read_text().splitlines()[1:]]
    annotations = json.loads((folder / "anet_anno_action.json").read_text())
    truth = {r[0][2:]: annotations[r[0]]["annotations"] for r in rows if r[5] == "validation"}
    return truth, json.loads((folder / "sample_detection_prediction.json").read_text())["results"]


def test_activitynets_sample_prediction(activitynet):
    """4,728 videos whose scores all tie, with zero-length actions: ActivityNet's own evaluation gives these."""
    truth, predictions = activitynet
    assert len(truth) == 4728
    got = m.average_recall_at_avg_proposals(truth, predictions)
    assert got.at(1) == pytest.approx(0.25540929658576716, rel=1e-14)
    assert got.at(100) == pytest.approx(0.99958864664747, rel=1e-13)
    assert got.auc == pytest.approx(98.5871863430687, rel=1e-13)
    # its label set is that of all 4,926 videos; those 198 more count as false positives
    found = m.detection_map(truth, predictions)
    np.testing.assert_allclose(found.per_tiou, 0.9719758051394811, rtol=1e-13)
    everything = m.detection_map(predictions, predictions)
    assert everything.mean == 1.0
    complete = m.average_recall_at_avg_proposals(predictions, predictions)
    assert complete.at(1) == pytest.approx(0.2580480794355892, rel=1e-14)
    assert complete.auc == pytest.approx(98.59041677554222, rel=1e-13)


def loop_hits(truth, predictions, threshold):
    """Greedy matching one prediction after the other: (score, hit) in order of the list."""
    used, out = set(), []
    for a, b in predictions:
        ious = [max(min(b, y) - max(a, x), 0) / (max(b, y) - min(a, x)) for x, y in truth]
        for j in np.argsort(ious)[::-1]:
            if ious[j] >= threshold and j not in used:
                used.add(j)
                out.append(True)
                break
        else:
            out.append(False)
    return out


def test_detections_are_matched_as_in_a_plain_loop():
    rng = np.random.default_rng(5)
    for _ in range(20):
        truth = np.sort(rng.random((rng.integers(1, 9), 2)), 1) + np.array([0, 0.01])
        near = truth[rng.integers(len(truth), size=40)] + 0.1 * rng.standard_normal((40, 2))
        boxes = np.sort(near, 1) + np.array([0, 0.01])
        labels = {"v": [{"segment": t, "label": "x"} for t in truth.tolist()]}
        scored = {"v": [{"segment": b, "label": "x", "score": -i} for i, b in enumerate(boxes.tolist())]}
        got = m.detection_map(labels, scored, (0.3, 0.6))
        for threshold, value in zip((0.3, 0.6), got.per_tiou):
            hits = np.array(loop_hits(truth.tolist(), boxes.tolist(), threshold))
            precision = np.maximum.accumulate((hits.cumsum() / np.arange(1, 41))[::-1])[::-1]
            assert value == pytest.approx(precision[hits].sum() / len(truth))


def test_two_segments_of_no_length_count_as_a_detection_but_not_as_recall():
    truth = {"v": [{"segment": [1, 1], "label": "x"}], "w": [{"segment": [0, 5], "label": "x"}]}
    predictions = {
        "v": [{"segment": [9, 9], "label": "x", "score": 0.9}],
        "w": [{"segment": [0, 5], "label": "x", "score": 0.8}],
    }
    assert m.detection_map(truth, predictions).mean == 1.0
    assert m.average_recall_at_avg_proposals(truth, predictions).at(100) == 0.5


def test_videos_without_proposals_and_unknown_labels_are_answered():
    truth = {"v": [{"segment": [0, 4], "label": "x"}], "w": [{"segment": [0, 5], "label": "y"}], "empty": []}
    predictions = {
        "v": [{"segment": [0, 4], "label": "x", "score": 0.9}, {"segment": [0, 4], "label": "z", "score": 1}],
        "elsewhere": [{"segment": [0, 4], "label": "x", "score": 0.95}],
    }
    assert m.average_recall_at_avg_proposals(truth, predictions).at(100) == 0.5
    found = m.detection_map(truth, predictions)
    assert found.ignored == 1
    assert found.classes == ["x", "y"]
    np.testing.assert_allclose(found.per_class[0], [0.5, 0])  # the better-scored one elsewhere is false


def test_thumos_map_leaves_out_ambiguous_and_repeated_actions():
    action = {"segment": [0, 4], "label": "x"}
    truth = {
        "v": [
            action,
            dict(action),
            {"segment": [5, 9], "label": "Ambiguous"},
            {"segment": [3, 3], "label": "x"},
        ]
    }
    predictions = {"v": [{"segment": [0, 2], "label": "x", "score": 0.9}]}
    got = m.thumos_map(truth, predictions)
    assert got.classes == ["x"]
    np.testing.assert_allclose(got.tiou, [0.3, 0.4, 0.5, 0.6, 0.7])
    np.testing.assert_allclose(got.per_tiou, [1, 1, 1, 0, 0])


def test_temporal_iou_and_iop():
    np.testing.assert_allclose(m.temporal_iou([[0, 1], [0.5, 1.5]], [0.5, 1]), [0.5, 0.5])
    np.testing.assert_allclose(m.temporal_iop([0.4, 1.1], [[0, 1], [0.5, 1.5]]), [0.6, 0.6])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: m.average_recall_at_avg_proposals({"v": []}, {"v": []}), "holds no action"),
        (
            lambda: m.average_recall_at_avg_proposals({"v": [[0, 1]]}, {"w": [[0, 1, 1]]}),
            "no proposal for any video",
        ),
        (lambda: m.average_recall_at_avg_proposals({"v": [[0, 1]]}, {"v": [[0, 1]]}), "(n, 3) is needed"),
        (lambda: m.average_recall_at_avg_proposals({"v": [[0, 1]]}, {"v": [[0, np.nan, 1]]}), "'v' has NaN"),
        (
            lambda: m.detection_map({"v": [{"segment": [0, 1], "label": "x"}]}, {"v": [{"segment": [0, 1]}]}),
            "'label'",
        ),
        (lambda: m.detection_map({}, {}), "holds no action"),
    ],
)
def test_errors_of_segment_metrics(call, words):
    with pytest.raises(ClipwiseError) as error:
        call()
    assert words in str(error.value)
