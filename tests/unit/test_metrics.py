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
    assert m.mean_class_accuracy(s, inputs["labels"]) == pytest.approx(
        expected["mean_class_accuracy"], abs=1e-15
    )
    assert m.mean_average_precision(s, inputs["multi"]) == pytest.approx(
        expected["mean_average_precision"], abs=1e-14
    )
    assert math.isnan(m.mmit_mean_average_precision(s, inputs["multi"], empty="nan"))
    assert math.isnan(expected["mmit_mean_average_precision"])


def test_mmit_leaves_out_samples_without_a_true_class(inputs, golden):
    expected = golden["fine"]["mmit_without_empty_rows"]
    assert m.mmit_mean_average_precision(inputs["fine"], inputs["multi"]) == pytest.approx(
        expected, abs=1e-14
    )
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


def test_confusion_matrix_counts_and_normalises():
    pred, real = [0, 2, 2, 5], [0, 2, 0, 2]
    np.testing.assert_array_equal(m.confusion_matrix(pred, real), [[1, 1, 0], [0, 1, 1], [0, 0, 0]])
    np.testing.assert_allclose(
        m.confusion_matrix(pred, real, "true"), [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0]]
    )
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
        (lambda: m.top_k_accuracy([[0.1, 0.2]], [2]), "label 2 of sample 0 is outside the 2 classes 0..1"),
        (lambda: m.top_k_accuracy([[0.1, 0.2]], [0, 1]), "scores of 1 samples and 2 labels"),
        (lambda: m.top_k_accuracy([[0.1, np.nan]], [0]), "NaN scores (first: sample 0)"),
        (lambda: m.top_k_accuracy([0.1, 0.2], [0]), "scores have shape (2,)"),
        (lambda: m.top_k_accuracy([[0.1, 0.2], [0.3]], [0, 1]), "rows of different lengths"),
        (lambda: m.top_k_accuracy([[0.1, 0.2]], [0], (0, 1)), "at least 1"),
        (lambda: m.top_k_accuracy([[0.1, 0.2]], [0.0]), "whole numbers"),
        (lambda: m.confusion_matrix([0, 1], [0]), "pred has 2 entries and real has 1"),
        (lambda: m.confusion_matrix([0], [4], num_classes=3), "allows 0..2"),
        (lambda: m.confusion_matrix([0], [0], "rows"), "use 'true', 'pred', 'all' or None"),
        (lambda: m.mean_average_precision([[0.1, 0.2]], [[0, 2]]), "must be 0 or 1"),
        (lambda: m.mean_average_precision([[0.1, 0.2]], [[0]]), "labels (1, 1)"),
        (lambda: m.weighted_score([[[1.0]]], [1, 2]), "1 score sets and 2 weights"),
    ],
)
def test_errors_say_what_was_given(call, words):
    with pytest.raises(ClipwiseError) as error:
        call()
    assert words in str(error.value)
