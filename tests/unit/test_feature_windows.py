"""Windows of a fixed time over features: where they lie, what they learn, how what they find is joined. Numbers by hand."""

import numpy as np
import pytest
import torch

from clipwise.data.feature_dataset import FeatureDataset, FeatureStore
from clipwise.data.feature_windows import TimeWindows, cut_window
from clipwise.data.formats.annotation_files import annotations_of
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.models import create_model
from clipwise.models.bmn import BMN
from clipwise.models.localizer_rules import keep_settled, settled_args
from clipwise.recipe import load_recipe
from clipwise.tasks.part_choice import choose_part, settle
from clipwise.tasks.unlike_training import describe_unlike
from clipwise.tasks.window_choice import TrainingTimes, choose_window, describe_coarse, longest_share
from clipwise.tasks.window_merge import merge_windows


def test_windows_cover_the_video_and_the_last_ends_with_it():
    windows = TimeWindows(4.0, overlap=0.5)
    assert windows.starts(3.0).tolist() == [0]
    assert windows.starts(4.0).tolist() == [0]
    assert windows.starts(10.0).tolist() == [0, 2, 4, 6]
    assert windows.starts(9.0).tolist() == [0, 2, 4, 5]
    assert TimeWindows(4.0, overlap=0.25).starts(11.0).tolist() == [0, 3, 6, 7]
    assert len(TimeWindows(10.0).starts(3 * 3600)) == 2159  # (10800 - 10) / 5 + 1


def test_a_window_learns_what_lies_in_it_by_three_quarters():
    windows = TimeWindows(10.0, min_inside=0.75)
    segments = np.array([[12, 16], [8, 12], [9, 13], [17, 21], [16, 24], [30, 31], [10, 20]], float)
    shares, which = windows.inside(segments, 10.0)
    # [8, 12]: 2 of 4 s inside; [9, 13]: 3 of 4; [17, 21]: 3 of 4; [16, 24]: 4 of 8
    assert which.tolist() == [0, 2, 3, 6]
    np.testing.assert_allclose(shares, [[0.2, 0.6], [0, 0.3], [0.7, 1], [0, 1]])
    assert windows.inside(np.zeros((0, 2)), 0.0)[1].size == 0


def test_features_of_a_window():
    values = np.arange(10, dtype=np.float32)[:, None]  # half a second each
    rows, start, length = cut_window(values, 5.0, 1.0, 2.0, 4)  # as fine as the features: they themselves
    assert (rows[:, 0].tolist(), start, length) == ([2, 3, 4, 5], 1.0, 2.0)
    rows, *_ = cut_window(values, 5.0, 4.0, 2.0, 4)  # beyond the end: zeros
    assert rows[:, 0].tolist() == [8, 9, 0, 0]
    rows, *_ = cut_window(values, 5.0, 1.0, 2.0, 2)  # twice as coarse: means over pairs, of the interpolation
    np.testing.assert_allclose(rows[:, 0], [2.5, 4.5])
    rows, *_ = cut_window(values, 5.0, 1.0, 2.0, 8)  # twice as fine: a quarter on either side of 2, 3, 4, 5
    np.testing.assert_allclose(rows[:, 0], [1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.25])
    rows, start, length = cut_window(values, 5.0, 1.3, 2.0, None)  # own positions: whole ones
    assert (rows[:, 0].tolist(), start, length) == ([3, 4, 5, 6], 1.5, 2.0)
    rows, start, length = cut_window(values, 5.0, 0.0, 8.0, None)
    assert (len(rows), start, length) == (10, 0.0, 5.0)


def test_cutting_does_not_depend_on_the_rest_of_the_video():
    values = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    whole, *_ = cut_window(values, 500.0, 200.0, 31.0, 17)
    part, *_ = cut_window(values[190:240], 50.0, 10.0, 31.0, 17)
    np.testing.assert_allclose(whole, part, atol=1e-6)


def test_segments_of_windows_become_one_list():
    """Windows at 0, 5, 10 s of 10 s, a video of 20 s: segments with middles before 7.5, before 12.5, and after that count."""
    segments = [
        np.array([[1.0, 3.0], [7.0, 9.0], [9.0, 10.0]]),  # middles 2, 8, 9.5: the first stays
        np.array([[2.0, 4.2], [4.0, 5.0]]),  # 7–9.2 and 9–10
        np.array([[9.0, 11.0], [0.0, 2.0]]),  # 19–21, cut to 20; 10–12 belongs to the window before
    ]
    scores = [np.array([0.9, 0.8, 0.7]), np.array([0.6, 0.5]), np.array([0.4, 0.3])]
    found = merge_windows(segments, scores, None, [0, 5, 10], 10.0, 20.0)
    np.testing.assert_allclose(found.segments_s, [[1, 3], [7, 9.2], [9, 10], [19, 20]])
    np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.5, 0.4])
    assert found.labels is None
    assert len(merge_windows(segments, scores, None, [0, 5, 10], 10.0, 20.0, most=2).scores) == 2


def test_the_same_segment_in_two_windows_is_weakened_once():
    """6.4–8.4 (middle 7.4, of the first) and 6.6–8.6 (middle 7.6, of the second): IoU 1.8 / 2.2."""
    segments = [np.array([[6.4, 8.4], [6.0, 8.4]]), np.array([[1.6, 3.6]])]
    scores = [np.array([0.9, 0.85]), np.array([0.8])]
    found = merge_windows(segments, scores, None, [0, 5], 10.0, 15.0, alpha=0.4, low=0.5, high=0.9)
    iou = 1.8 / 2.2
    weakened = 0.8 * np.exp(-(iou**2) / 0.4)  # by the first only: 6–8.4 overlaps it by 1.8 / 2.6 = 0.69 ...
    weakened *= np.exp(-((1.8 / 2.6) ** 2) / 0.4)  # ... which is above 0.5 + 0.4 · 0.24 as well
    np.testing.assert_allclose(found.scores, [0.9, 0.85, weakened])  # within a window nothing changes
    labels = [np.array([0, 0]), np.array([1])]
    found = merge_windows(segments, scores, labels, [0, 5], 10.0, 15.0)
    assert found.scores.tolist() == [0.9, 0.85, 0.8]  # classes do not touch each other
    assert found.labels.tolist() == [0, 0, 1]


def test_merging_equals_the_loop_over_all_pairs():
    rng = np.random.default_rng(0)
    starts = np.arange(0, 45, 5.0)
    segments = [np.sort(rng.uniform(0, 10, (30, 2)), axis=1) for _ in starts]
    scores = [np.sort(rng.uniform(size=30))[::-1] for _ in starts]
    found = merge_windows(segments, scores, None, starts, 10.0, 48.0, low=0.3)
    rows = []
    for n, start in enumerate(starts):
        for (a, b), s in zip(segments[n] + start, scores[n]):
            if abs((a + b) / 2 - (start + 5)) == min(abs((a + b) / 2 - (t + 5)) for t in starts):
                rows += [[a, min(b, 48.0), s, n]] * int(a < 48)
    wanted = []
    while rows:
        best = max(rows, key=lambda r: r[2])
        rows.remove(best)
        wanted.append(best[:3])
        for r in rows:
            inter = max(0.0, min(r[1], best[1]) - max(r[0], best[0]))
            iou = inter / (r[1] - r[0] + best[1] - best[0] - inter)
            if r[3] != best[3] and iou > 0.3 + 0.6 * (best[1] - best[0]) / 10:
                r[2] *= np.exp(-(iou**2) / 0.4)
    np.testing.assert_allclose(np.column_stack([found.segments_s, found.scores]), wanted)


def times(videos, segments, step):
    """Each video with segments of the given lengths."""
    return TrainingTimes.of([np.array([[0, x] for x in segments]) / v for v in videos], videos, step)


def test_short_segments_in_long_videos_get_windows():
    """20 actions of 10 s in 400 s, features a second apart: 20 s hold them twice, 64 positions are as fine as the features."""
    choice = choose_window(times([400.0, 300.0], [10.0] * 20, 1.0), 64)
    assert choice.length_s == 64
    assert "2.92 % of its video = 1.9 of 64 positions; windows of 64 s are used (10 positions)" in choice.why
    # actions of 60 s beside: 120 s hold them twice; two seconds a position, a multiple of the features' own
    assert choose_window(times([900.0], [10.0] * 10 + [60.0] * 3, 1.0), 64).length_s == 128
    free = choose_window(times([900.0], [4.0] * 10 + [60.0] * 3, 1.0), None)
    assert (free.positions, free.length_s) == (120, 120)  # 4 s are 4 positions of the features


def test_short_videos_are_one_window_of_their_length():
    choice = choose_window(times([3.0, 3.0, 2.8], [0.2, 0.4], 0.04), None)
    assert (choice.length_s, choice.positions) == (3.0, 75)


def test_segments_that_grow_with_their_videos_need_whole_ones():
    fractions = [np.array([[0.2, 0.7]])] * 5
    grown = TrainingTimes.of(fractions, [10.0, 15.0, 20.0, 30.0, 240.0], 0.5)
    choice = choose_window(grown, 64)
    assert choice.length_s is None
    assert "each video goes in as a whole" in choice.why


def test_parts_that_training_sees_hold_the_longest_segments():
    """Actions of 40 s at 5 features a second are 200 positions; 96 at a time never held one: nothing was learned, and nothing said."""
    long = times([50.0, 150.0], [10.0] + [40.0] * 9, 0.2)
    assert (choose_part(long, None).positions, choose_part(long, None).length_s) == (
        320,
        None,
    )  # 1.5 x 200, in steps of 32
    assert (
        "up to 40 s = 200 positions; training sees 96 at a time, so the longest are never seen whole"
        in choose_part(long, 96).why
    )
    assert "use temporal_dim=auto" in choose_part(long, 96).why
    assert "never" not in choose_part(long, 200).why
    assert choose_part(times([50.0], [40.0], 0.2), None).positions == 256  # the longest video, not more
    assert choose_part(times([3.0], [0.5], 0.04), None).positions == 96
    endless = choose_part(times([9000.0], [800.0], 0.2), None)
    assert endless.positions == 2304
    assert "features further apart" in endless.why


def test_more_segments_than_are_kept_are_told():
    spans = np.column_stack([np.arange(150.0), np.arange(150.0) + 1])
    videos = AnnotationSet("some", {"v": VideoAnnotation("v", 200.0, None, spans, ("a",) * 150)})
    _, _, notes = settle(load_recipe("actionformer_tiny"), videos, 0.2)
    assert any("has 150 segments" in note and "nms.max_proposals=300" in note for note in notes)
    recipe = load_recipe("actionformer_tiny", ["nms.max_proposals=150"])
    assert not any("has 150" in note for note in settle(recipe, videos, 0.2)[2])


def test_segments_shorter_than_the_features_are_told():
    assert "0.3 s, less than the 0.533 s between two features" in describe_coarse(times([400.0], [0.3] * 5, 0.533))
    assert describe_coarse(times([400.0], [0.6] * 5, 0.533)) is None


def test_what_is_far_outside_of_training_is_said():
    facts = {"video_s": [2.9, 2.95, 3.0], "feature_step_s": 0.04}
    assert "30 s, the network was trained on whole videos of 2.9 to 3 s" in describe_unlike(facts, None, 64, 30.0, 750)
    assert describe_unlike(facts, None, 64, 5.0, 125) is None
    assert describe_unlike(facts, 3.0, 64, 30.0, 750) is None  # windows
    assert "0.5 s apart, the network was trained on 0.04 s" in describe_unlike(facts, 3.0, 64, 30.0, 60)
    assert "750 positions are squeezed" in describe_unlike({}, None, 75, 30.0, 750)  # of 0.1
    assert describe_unlike({}, None, 100, 200.0, 400) is None
    assert describe_unlike({}, None, None, 3000.0, 75000) is None


@pytest.mark.parametrize("length", [None, 64])
def test_equal_positions_are_no_warning(length):
    assert describe_unlike({"video_s": [3, 3, 3], "feature_step_s": 0.04}, None, length, 3.0, 75) is None


def test_context_layers_of_bmn_see_further():
    """The base alone sees 2 positions to either side, its curve 1 more; dilations 1, 2, 4 add 7."""
    for context, reach in ((0, 3), (3, 10)):
        torch.manual_seed(0)
        model = BMN(8, 40, 4, hidden_dim=8, matching_dim=4, map_dim=4, num_samples=4, context=context).double().eval()
        for layer in (model.base.conv1, model.base.conv2, *model.base.context, model.start.conv, model.start.score):
            torch.nn.init.constant_(layer.weight, 0.02)
            torch.nn.init.constant_(layer.bias, 0.1)
        x = torch.zeros(1, 8, 40, dtype=torch.float64)
        still = model(x)[1]
        x[0, :, 20] = 1
        changed = torch.nonzero((model(x)[1] - still)[0].abs() > 0).flatten()
        assert (int(changed.min()), int(changed.max())) == (20 - reach, 20 + reach)
    plain, deep = BMN(8, 40, 4), BMN(8, 40, 4, context=1)
    assert set(deep.state_dict()) - set(plain.state_dict()) == {"base.context.0.weight", "base.context.0.bias"}


def test_few_windows_come_several_times_shifted_elsewhere(tmp_path):
    """Two videos of 12 s, windows of 8 s: 4 windows, 12 of an epoch of at least 12, each at a place of its own."""
    (tmp_path / "f").mkdir()
    for name in "ab":
        np.save(tmp_path / "f" / f"{name}.npy", np.arange(24, dtype=np.float32).reshape(12, 2))
    annotations = annotations_of(
        {name: {"duration": 12.0, "annotations": [{"segment": [1.0, 11.0], "label": "x"}]} for name in "ab"}
    )
    windows = TimeWindows(8.0, min_inside=0.5, least=12)
    data = FeatureDataset(annotations, FeatureStore(tmp_path / "f"), temporal_dim=8, windows=windows, seed=0)
    assert len(data) == 12
    assert len({(data[i]["index"], round(float(data[i]["start_s"]), 3)) for i in range(12)}) > 6
    assert len(FeatureDataset(annotations, FeatureStore(tmp_path / "f"), temporal_dim=8, windows=windows)) == 4


def test_feature_dropout_of_actionformer_leaves_whole_channels_out():
    """In training a channel is 0 at every position or scaled by 1 / (1 - p); the mask is left alone; off in evaluation."""
    model = create_model(
        "actionformer", feat_dim=64, num_classes=2, temporal_dim=8, width=8, num_levels=2, window=3, feature_dropout=0.5
    )
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, given: seen.append(given))
    x = torch.ones(1, 65, 8)
    torch.manual_seed(0)
    model.train()(x)
    model.eval()(x)
    (features, mask), (whole, _) = seen
    assert set(features.unique().tolist()) == {0.0, 2.0}
    assert 16 < int((features[0, :, 0] == 0).sum()) < 48
    assert torch.equal(features[0, :, 0], features[0, :, 5])
    assert (mask == 1).all()
    assert (whole == 1).all()


def test_the_longest_proposal_reaches_as_far_as_the_segments():
    """One action over four fifths of each video: half of a video, the recipe's share, would miss all of them."""
    fractions = [np.array([[0.1, 0.9]]) for _ in range(20)]
    times = TrainingTimes.of(fractions, [10.0 + n for n in range(20)], 0.25)
    assert longest_share(times, None) == pytest.approx(0.8)
    assert longest_share(times, 64.0) < 0.5
    recipe = load_recipe("bmn_tiny", ["temporal_dim=100", "window_s=null"])
    assert settled_args(recipe)["max_duration"] == 50
    assert settled_args(recipe, 0.5)["max_duration"] == 50
    assert settled_args(recipe, 0.8)["max_duration"] == 84  # and a little more
    assert settled_args(recipe, 1.0)["max_duration"] == 100
    whole = load_recipe("bmn_grid_sentences", ["window_s=null"])
    assert settled_args(whole, 0.8)["max_duration"] == 24  # a number of positions stays
    known = {"temporal_dim": 100, "window_s": None, "model_args": {**recipe.model_args, "max_duration": 84}}
    again = settled_args(keep_settled(load_recipe("bmn_tiny"), known))  # what a resumed run starts from
    assert again["max_duration"] == 84
    assert again["feature_dropout"] == 0.3
