"""Features a fixed number of frames apart: where in time they lie, by hand, and how one-stage rules use it."""

import json

import numpy as np
import pytest
import torch

from clipwise.data.feature_dataset import FeatureDataset, FeatureStore
from clipwise.data.feature_times import FeatureStrides, feature_times
from clipwise.data.formats.annotation_files import read_annotations
from clipwise.errors import DataError, RecipeError
from clipwise.models.localizer_rules import LabeledVideo, localizer_rules
from clipwise.recipe import load_recipe


def test_a_feature_stands_for_the_middle_of_its_clip(tmp_path):
    """THUMOS14's: clips of 16 frames every 4 at 30 a second: feature i at (4 i + 8) / 30 s."""
    first, covered = FeatureStrides(4, 16).span(437, 30.0, "x")
    middle = first + (np.arange(437) + 0.5) / 437 * covered
    np.testing.assert_allclose(middle, (4 * np.arange(437) + 8) / 30)
    np.save(tmp_path / "a.npy", np.zeros((437, 3), np.float32))
    entry = {"duration": 58.5, "fps": 30.0, "subset": "test", "annotations": [{"segment": [2.0, 4.0], "label": "x"}]}
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": entry}}))
    videos = read_annotations(tmp_path / "gt.json")
    dataset = FeatureDataset(videos, FeatureStore(tmp_path), temporal_dim=None, strides=FeatureStrides(4, 16))
    # seconds · fps / stride - half a clip: the published code's grid
    np.testing.assert_allclose(dataset.segments[0] * 437 - 0.5, [[2 * 30 / 4 - 2, 4 * 30 / 4 - 2]])


def test_frame_rates():
    assert FeatureStrides(16, 16, fps=15.0).span(117, 29.97, "x") == (0.0, 117 * 16 / 15)
    with pytest.raises(DataError, match=r"input\.feature_fps"):
        FeatureStrides(4, 16).span(10, None, "video 'a'")
    with pytest.raises(RecipeError, match=r"input\.stride"):
        load_recipe("actionformer_thumos14_i3d", ["input.stride=null"])


def test_a_resized_position_stands_for_the_start_of_its_part(tmp_path):
    """OpenTAD's resized features: seconds / duration · 192, without the half position of the published code."""
    recipe = load_recipe(
        "actionformer_activitynet_tsp",
        ["input.time_base=starts", "input.stride=null", "input.clip_frames=null", "input.feature_fps=null"],
    )
    times = feature_times(recipe)
    np.save(tmp_path / "a.npy", np.zeros((37, 3), np.float32))
    entry = {"duration": 96.0, "subset": "test", "annotations": [{"segment": [2.0, 4.0], "label": "x"}]}
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": entry}}))
    dataset = FeatureDataset(
        read_annotations(tmp_path / "gt.json"), FeatureStore(tmp_path), temporal_dim=192, strides=times
    )
    np.testing.assert_allclose(
        dataset.segments[0] * 192 - 0.5, [[2 / 96 * 192, 4 / 96 * 192]]
    )  # positions, as the rules count
    first, covered = times.span(37, None, "a", 96.0)
    np.testing.assert_allclose((np.array([4.0, 8.0]) + 0.5) / 192 * covered + first, [2, 4])  # and back, as they decode
    with pytest.raises(RecipeError, match=r"input\.rescale=roi_align"):
        load_recipe("actionformer_thumos14_i3d", ["input.time_base=starts"])


def rules_of(name, *overrides, **settings):
    recipe = load_recipe(name, list(overrides))
    return localizer_rules(recipe.model, {"feat_dim": 4, **recipe.model_args, **settings}, recipe)


def test_crops_keep_segments_that_lie_mostly_inside():
    """A sequence of 100 positions, samples of 32: shifted by the crop, cut at its edges, times unchanged."""
    rules = rules_of("actionformer_tiny", "temporal_dim=32", num_classes=2, temporal_dim=32)
    features = torch.arange(100.0).repeat(4, 1)
    segments = np.array([[0.1, 0.2], [0.5, 0.9]])
    video = LabeledVideo(100, 50.0, segments, np.array([0, 1]), first_s=3.0)
    starts = set()
    for seed in range(30):
        part, known = rules.sample(features, video, np.random.default_rng(seed))
        assert part.shape == (4, 32)
        start = int(part[0, 0])
        starts.add(start)
        assert known.first_s == 3.0 + start / 2
        assert known.covered_s == 16.0
        assert len(known.segments) >= 1
        for (a, b), label in zip(known.segments * 32 + start, known.labels):
            whole = segments[label] * 100
            np.testing.assert_allclose([a, b], whole.clip(start + 0.5, start + 32.5), atol=1e-9)
            assert b - a >= 0.5 * (whole[1] - whole[0])
    assert len(starts) > 5


def test_short_sequences_lose_a_tenth_at_most():
    rules = rules_of("actionformer_tiny", num_classes=2, temporal_dim=96)
    video = LabeledVideo(40, 20.0, np.array([[0.4, 0.6]]), np.array([0]))
    lengths = {rules.sample(torch.zeros(4, 40), video, np.random.default_rng(s))[1].positions for s in range(60)}
    assert min(lengths) == 36
    assert max(lengths) == 40


def test_one_class_for_all_labels():
    with pytest.raises(RecipeError, match=r"num_classes=1"):
        rules_of("actionformer_activitynet_tsp", num_classes=200)
    rules = rules_of("actionformer_activitynet_tsp")
    assert not rules.labeled
    points = rules.points(378, torch.device("cpu"))
    video = LabeledVideo(192, 192.0, np.array([[0.1, 0.3]]), np.array([17]))
    assert rules.targets([video], points)[0].classes.any()
