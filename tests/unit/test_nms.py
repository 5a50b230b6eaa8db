"""Batched NMS against the rules carried out literally, one candidate at a time."""

import math

import numpy as np
import pytest

from clipwise.errors import ClipwiseError
from clipwise.tasks.nms import nms


def literal(boxes, scores, method, sigma, threshold, min_score):
    """One class: the published loop in float64."""
    rest = [[float(a), float(b), float(s), i] for i, ((a, b), s) in enumerate(zip(boxes, scores))]
    if method == "hard":
        rest = [r for r in rest if r[2] > min_score]
    kept = []
    while rest:
        best = max(rest, key=lambda r: r[2])  # the first of equals
        kept.append(best)
        others = []
        for r in rest:
            if r is best:
                continue
            inter = max(0.0, min(r[1], best[1]) - max(r[0], best[0]))
            iou = inter / ((r[1] - r[0] + 1e-6) + (best[1] - best[0] + 1e-6) - inter)
            if method == "gaussian":
                r[2] *= math.exp(-iou * iou / sigma)
            elif iou >= threshold:
                if method != "linear":
                    continue
                r[2] *= 1 - iou
            if method == "hard" or r[2] >= min_score:
                others.append(r)
        rest = others
    return [(r[3], r[2]) for r in kept]


def candidates(seed, count=60, classes=4):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 30, count)
    boxes = np.stack([start, start + rng.uniform(0.2, 12, count)], 1)
    return boxes, rng.uniform(0.001, 1, count).astype(np.float32), rng.integers(0, classes, count)


@pytest.mark.parametrize("method", ["gaussian", "linear", "vanilla", "hard"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_literal_loop_class_by_class(method, seed):
    boxes, scores, labels = candidates(seed)
    expected = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        for i, score in literal(boxes[members], scores[members], method, 0.5, 0.3, 0.05):
            expected.append((members[i], score))
    expected.sort(key=lambda e: -e[1])
    for top_k in (None, 17):
        got = nms(boxes, scores, labels, method=method, sigma=0.5, threshold=0.3, min_score=0.05, top_k=top_k)
        wanted = expected[:top_k]
        assert got.indices.tolist() == [i for i, _ in wanted]
        np.testing.assert_allclose(got.scores, [s for _, s in wanted], rtol=1e-5)
        np.testing.assert_allclose(got.segments, boxes[got.indices], rtol=1e-6)


def test_all_classes_together_without_labels():
    boxes, scores, _ = candidates(9)
    got = nms(boxes, scores, sigma=0.75)
    assert got.indices.tolist() == [i for i, _ in literal(boxes, scores, "gaussian", 0.75, 0.5, 0.001)]


def test_a_vote_by_hand():
    """Segments (0, 10) and (0, 8): IoU 0.8. Weights of the kept first: 1 * 1 and 0.5 * 0.8; of the score alone 1 and 0.5."""
    boxes, scores = [[0, 10], [0, 8], [20, 21]], [1.0, 0.5, 0.4]
    options = {"method": "hard", "threshold": 0.5, "voting": 0.7}
    got = nms(boxes, scores, **options)
    assert got.indices.tolist() == [0, 2]
    np.testing.assert_allclose(got.segments, [[0, (10 + 0.4 * 8) / 1.4], [20, 21]], rtol=1e-6)
    np.testing.assert_allclose(got.scores, [1.0, 0.4], rtol=1e-6)
    alone = nms(boxes, scores, **options, voting_weights="score")
    np.testing.assert_allclose(alone.segments[0], [0, (10 + 0.5 * 8) / 1.5], rtol=1e-6)
    apart = nms(boxes, scores, [0, 1, 0], **options)
    np.testing.assert_allclose(apart.segments, boxes, rtol=1e-6)


def test_the_first_of_a_class_stays_though_it_is_weak():
    got = nms([[0, 1], [0, 1], [5, 6]], [1e-4, 9e-5, 0.5], [0, 0, 1], min_score=0.001)
    assert got.indices.tolist() == [2, 0]


def test_nothing_and_segments_without_length():
    assert len(nms(np.zeros((0, 2)), []).indices) == 0
    got = nms(
        [[3, 3], [3, 3]], [0.9, 0.8], voting=0.9
    )  # the same place twice: IoU 0, as their intersection has no length
    assert np.isfinite(got.segments).all()
    assert got.indices.tolist() == [0, 1]


def test_refusals():
    with pytest.raises(ClipwiseError, match="do not fit"):
        nms([[0, 1]], [0.5, 0.4])
    with pytest.raises(ClipwiseError, match="NaN"):
        nms([[0, math.nan]], [0.5])
    with pytest.raises(ClipwiseError, match="'gaussian'"):
        nms([[0, 1]], [0.5], method="greedy")


@pytest.mark.parametrize("method", ["vanilla", "hard"])
def test_more_candidates_than_meet_at_a_time(method):
    boxes, scores, _ = candidates(3, count=900)
    boxes = boxes * 4 % 120  # less crowded: many stay
    boxes.sort(axis=1)
    got = nms(boxes, scores, method=method, threshold=0.3, min_score=0.05)
    assert got.indices.tolist() == [i for i, _ in literal(boxes, scores, method, 0.5, 0.3, 0.05)]
    assert len(got.indices) > 40


def test_linear_decay_of_equal_segments():
    """The second is the first once more, and leaves with a factor of (nearly) 0; what has left does not come back."""
    boxes, scores = [[0.0, 64.0], [0.0, 64.0], [0.0, 64.0], [70.0, 80.0]], [0.9, 0.8, 0.7, 0.1]
    assert nms(boxes, scores, method="linear").indices.tolist() == [0, 3]
