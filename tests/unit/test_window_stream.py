"""Segments that are said while windows still come are those of the whole video, each said once and never taken back."""

import numpy as np
import pytest

from clipwise.data.feature_windows import TimeWindows
from clipwise.infer.segments import Segment, choose_segments
from clipwise.tasks.window_merge import merge_windows
from clipwise.tasks.window_stream import WindowStream


def found_in_windows(seed, windows=12, each=40, classes=2):
    """Actions of 0.5 to 7 s seen in every window, with errors of place and score, among false alarms."""
    rng = np.random.default_rng(seed)
    starts = TimeWindows(10.0).starts(5.0 * (windows + 1))
    covered = starts[-1] + 10.0
    actions = np.sort(rng.uniform(0, covered - 7, 3 * windows))
    actions = np.column_stack([actions, actions + rng.uniform(0.5, 7, len(actions))])
    kinds = rng.integers(0, classes, len(actions))
    boxes, scores, labels = [], [], []
    for start in starts:
        seen = actions.clip(start, start + 10)
        whole = np.flatnonzero(seen[:, 1] - seen[:, 0] > 0.3 * (actions[:, 1] - actions[:, 0]))
        which = rng.choice(whole, each)
        some = seen[which] - start + rng.normal(size=(each, 2)) * 0.2
        some[:, 1] = np.maximum(some[:, 1], some[:, 0] + 0.1)
        boxes.append(some.clip(0, 10))
        scores.append(np.sort(rng.uniform(0, 1, each))[::-1])
        labels.append(kinds[which])
    return starts, covered, boxes, scores, labels


@pytest.mark.parametrize("seed", range(8))
def test_what_is_said_early_is_the_answer(seed):
    starts, covered, boxes, scores, labels = found_in_windows(seed)
    merged = merge_windows(boxes, scores, labels, starts, 10.0, covered)
    detections = [
        Segment(a, b, str(c), s, c)
        for (a, b), s, c in zip(merged.segments_s.tolist(), merged.scores.tolist(), merged.labels.tolist())
    ]
    answer = choose_segments(detections, 15, 0.2, 0.4)
    stream = WindowStream(starts, 10.0, covered)
    said, early = [], 0
    for number in range(len(starts)):
        some = list(stream.add(boxes[number], scores[number], labels[number]))
        border = starts[number + 1] if number + 1 < len(starts) else covered
        assert all(one.end_s <= border for one in some)
        early += len(some) if number + 1 < len(starts) else 0
        said += some
    weakest = min(s.score for s in answer)
    kept = sorted((s for s in said if s.score >= weakest), key=lambda s: -s.score)
    assert len(answer) == 15
    assert [(s.start_s, s.end_s, s.score, s.index) for s in answer] == [tuple(s) for s in kept]
    assert early > 0.6 * len(said)  # not all at the end


def test_a_segment_waits_for_what_may_replace_it():
    """By hand: A of window 0 reaches into window 1, whose B overlaps it by 2.5 of 3.7 s with a better score. C stands alone."""
    a, b, c = [5.5, 8.5], [6.0, 9.2], [1.0, 2.0]
    stream = WindowStream(np.array([0.0, 5.0]), 10.0, 15.0)
    assert [tuple(s) for s in stream.add(np.array([a, c]), np.array([0.8, 0.5]), None)] == [(*c, 0.5, 0)]
    assert [tuple(s) for s in stream.add(np.array([b]) - 5.0, np.array([0.9]), None)] == [(*b, 0.9, 0)]
