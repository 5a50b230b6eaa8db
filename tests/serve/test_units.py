"""Parts of the server that need no socket: segments, subtitles, windows, readers across the process border, localization."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import clipwise
from clipwise.engine.checkpoint import Passport, save_weights
from clipwise.errors import CheckpointError, ClipwiseError
from clipwise.infer.segments import Segment, to_srt
from clipwise.prepare.synthetic import make_long_videos
from clipwise.recipe import load_recipe
from clipwise.serve.batching import BatchQueue
from clipwise.serve.decoders import DecoderPool
from clipwise.serve.limits import Limits
from clipwise.video.decode import open_video


@pytest.fixture(scope="module")
def pool():
    pool = DecoderPool(1, Limits())
    yield pool
    pool.close()


def test_subtitles_are_in_order_and_harmless():
    text = to_srt(
        [
            Segment.from_dict({"start_s": 0.0, "end_s": 1.2345, "class": "a <b>\n\nc", "score": 0.456}),
            Segment.from_dict({"start_s": 3599.9996, "end_s": 3661.5, "class": "跑", "score": 1.0}),
        ]
    )
    assert text == ("1\n00:00:00,000 --> 00:00:01,234\na ‹b› c (0.46)\n\n2\n01:00:00,000 --> 01:01:01,500\n跑 (1.00)\n")


def test_windows_have_the_shape_of_the_test_protocol():
    from serving import Brightness

    from clipwise.data.clip_spec import ClipSpec
    from clipwise.serve.analysis import Analyzer

    predictor = Brightness()
    recipe = predictor.passport.recipe
    recipe["num_segments"] = 4
    recipe["test"].update(num_segments=6, num_clips=1, twice_sample=True, crop="three", crop_size=56)
    recipe["val"].update(crop_size=64, crop="center")
    predictor.spec = ClipSpec.from_recipe(predictor.passport.recipe, "test")
    spec = Analyzer(predictor, BatchQueue(predictor)).window_spec
    assert (spec.num_segments, spec.transform.crop_size, spec.transform.num_crops) == (6, 56, 3)
    assert not spec.twice_sample


def test_limits_must_be_positive():
    with pytest.raises(ClipwiseError, match="max_files is -1"):
        Limits(max_files=-1)


def test_the_remote_reader_gives_the_same_frames(pool, videos):
    with open_video(videos / "levels.mp4") as near, pool.open(videos / "levels.mp4", "x.mp4", threading.Event()) as far:
        assert (far.num_frames, far.fps, far.height, far.width) == (near.num_frames, near.fps, near.height, near.width)
        assert far.duration_s == near.duration_s
        wanted = [140, 3, 3, 77]
        assert np.array_equal(far.frames(wanted), near.frames(wanted))
        assert np.array_equal(far.pts_s(wanted), near.pts_s(wanted))
        for start, step in ((0, 1), (5, 7)):
            streamed = list(far.iterate(start, step))
            assert [i for i, _ in streamed] == list(range(start, near.num_frames, step))
            assert np.array_equal(np.stack([f for _, f in streamed]), near.frames([i for i, _ in streamed]))
        part = far.iterate(0)
        assert next(part)[0] == 0
        assert np.array_equal(far.frames([100]), near.frames([100]))  # between two parts of a stream
        assert sum(1 for _ in part) == near.num_frames - 1


class _Gated:
    """Scores a clip by its first value, once the gate is open."""

    def __init__(self):
        self.gate, self.working, self.batches = threading.Event(), threading.Event(), []

    def score(self, frames):
        self.working.set()
        assert self.gate.wait(20)
        self.batches.append(tuple(frames.shape[:3]))
        if frames.shape[1] == 3:
            raise RuntimeError("three views are too many")
        return frames[:, 0, 0, 0, 0, :1].numpy().astype(float)


def test_clips_that_wait_share_a_batch_with_those_of_their_shape():
    scorer = _Gated()
    queue = BatchQueue(scorer, max_batch=4)
    queue.start()

    def clip(value, views=1):
        return np.full((views, 2, 4, 4, 3), value, np.uint8)

    first = queue.submit(clip(9))
    assert scorer.working.wait(20)  # the network is at work; what comes now has to wait
    same = [queue.submit(clip(i)) for i in range(4)]
    other, broken = queue.submit(clip(7, views=2)), queue.submit(clip(1, views=3))
    last = queue.submit(clip(5, views=2))
    scorer.gate.set()
    assert [float(f.result(20)[0]) for f in (first, *same, other, last)] == [9, 0, 1, 2, 3, 7, 5]
    with pytest.raises(RuntimeError, match="too many"):
        broken.result(20)
    assert scorer.batches[:2] == [(1, 1, 2), (4, 1, 2)]
    assert sorted(scorer.batches[2:]) == [(1, 3, 2), (2, 2, 2)]
    assert float(queue.score([clip(3)])[0, 0]) == 3  # goes on after an error
    queue.close()
    assert not queue.alive


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A recognizer and a BMN on its features, neither trained."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(3)
    recipe = load_recipe("tsm_tiny").model_dump()
    model = clipwise.create_model("tsm_tiny", num_classes=3)
    passport = Passport("tsm_tiny", {"num_classes": 3}, classes=["a", "b", "c"], recipe=recipe)
    save_weights(folder / "tsm.safetensors", model.state_dict(), passport)
    from clipwise.infer.features import FeatureExtractor, WindowRule

    extractor = FeatureExtractor(folder / "tsm.safetensors", WindowRule(stride=8), device="cpu")
    recipe = load_recipe("bmn_tiny", ["temporal_dim=64", "window_s=null"])
    args = {**recipe.model_args, "feat_dim": extractor.feat_dim, "temporal_dim": recipe.temporal_dim}
    values = {**recipe.model_dump(), "feat_dim": extractor.feat_dim}
    passport = Passport("bmn", args, recipe=values, data={"features": extractor.describe()})
    save_weights(folder / "bmn.safetensors", clipwise.create_model("bmn", **args).state_dict(), passport)
    return folder


def test_localization_through_the_border_is_localization(pool, networks, tmp_path):
    from clipwise.infer.localize import Localizer
    from clipwise.infer.predictor import load
    from clipwise.serve.analysis import Analyzer, Options, ServedLocalizer

    make_long_videos(tmp_path, 1, seconds=6)
    video = tmp_path / "long_000.mp4"
    expected = Localizer(networks / "bmn.safetensors", device="cpu")(video).in_time
    assert expected
    predictor = load(networks / "tsm.safetensors", "cpu")
    served = ServedLocalizer(str(networks / "bmn.safetensors"), None, ["c", "a"], "cpu")
    batches = BatchQueue(predictor)
    batches.start()
    try:
        with pool.open(video, "long.mp4", threading.Event()) as reader:
            result = Analyzer(predictor, batches, localizer=served)(reader, Options())
    finally:
        batches.close()
    assert result["segments_from"] == "localizer"
    found = [(s["start_s"], s["end_s"], s["class"], s["score"]) for s in result["segments"]]
    assert found == [(round(s.start_s, 3), round(s.end_s, 3), s.name, round(s.score, 5)) for s in expected]
    assert {s["index"] for s in result["segments"]} <= {0, 1, None}
    assert all(s["index"] == {"c": 0, "a": 1}.get(s["class"]) for s in result["segments"])


def test_a_video_unlike_the_training_is_noted(pool, networks, tmp_path):
    """Trained (as its passport says) on videos of 60 to 90 s as a whole; six seconds are ten times shorter."""
    from clipwise.engine.checkpoint import read_checkpoint
    from clipwise.infer.predictor import load
    from clipwise.serve.analysis import Analyzer, Options, ServedLocalizer

    tensors, passport = read_checkpoint(networks / "bmn.safetensors")
    passport.data = {**passport.data, "times": {"video_s": [60.0, 70.0, 90.0]}}
    save_weights(networks / "minutes.safetensors", tensors, passport)
    make_long_videos(tmp_path, 1, seconds=6)
    predictor = load(networks / "tsm.safetensors", "cpu")
    batches = BatchQueue(predictor)
    batches.start()
    results = {}
    try:
        for name in ("minutes", "bmn"):
            served = ServedLocalizer(str(networks / f"{name}.safetensors"), None, ["c", "a"], "cpu")
            with pool.open(tmp_path / "long_000.mp4", "long.mp4", threading.Event()) as reader:
                results[name] = Analyzer(predictor, batches, localizer=served)(reader, Options())
    finally:
        batches.close()
    assert "trained on whole videos of 60 to 90 s" in results["minutes"]["note"]
    assert results["bmn"]["note"] is None


def test_the_localizers_recognizer_is_looked_for_at_the_start(networks, tmp_path):
    from clipwise.serve.analysis import ServedLocalizer

    moved = tmp_path / "elsewhere"
    moved.mkdir()
    bmn = networks / "bmn.safetensors"
    (moved / "bmn.safetensors").write_bytes(bmn.read_bytes())
    own = str(networks / "tsm.safetensors")
    hidden = networks / "tsm.safetensors"
    try:
        hidden.rename(networks / "away.safetensors")
        with pytest.raises(CheckpointError):
            ServedLocalizer(str(moved / "bmn.safetensors"), None, ["a"], "cpu")
        served = ServedLocalizer(str(moved / "bmn.safetensors"), str(networks / "away.safetensors"), ["a"], "cpu")
        assert served.index == {"a": 0}
    finally:
        (networks / "away.safetensors").rename(own)
