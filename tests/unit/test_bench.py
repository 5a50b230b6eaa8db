"""Speeds are counted as said, and the frontier recommends what its own figures say."""

import time

import numpy as np
import pytest
import torch

from clipwise.analyze.frontier import Point, changed_keys, judge, make_protocols, measure_frontier
from clipwise.analyze.measure import Latency, bench_end_to_end, bench_model, num_views, time_calls
from clipwise.cli import main
from clipwise.data.lists import read_list
from clipwise.engine.checkpoint import load_model_and_passport, read_passport
from clipwise.errors import ClipwiseError
from clipwise.infer.predictor import Predictor, load
from clipwise.recipe import apply_overrides, load_recipe, make_recipe

CPU = torch.device("cpu")


def test_latency_of_known_times():
    latency = Latency.of(np.arange(1, 101) / 1000)
    assert latency.runs == 100
    assert latency.mean_ms == pytest.approx(50.5)
    assert latency.p50_ms == pytest.approx(50.5)
    assert latency.p99_ms == pytest.approx(99.01)


def test_calls_are_warmed_up_and_counted():
    calls = []

    def call():
        calls.append(0)
        time.sleep(0.2 if len(calls) <= 2 else 0.002)

    latency = time_calls(call, CPU, warmup=2, min_runs=5, min_s=0.0)
    assert latency.runs == 5
    assert len(calls) == 7
    assert 2 <= latency.p50_ms < 100  # the slow first calls are not in it


def test_a_slow_call_is_not_repeated_for_ever():
    latency = time_calls(lambda: time.sleep(0.05), CPU, warmup=1, min_runs=1000, min_s=100, max_s=0.2)
    assert 3 <= latency.runs < 10


@pytest.mark.parametrize(
    ("recipe", "views"),
    [
        ("slowonly_r50_8x8x1_256e_kinetics400_rgb", 30),
        ("tsn_r50_1x1x3_100e_kinetics400_rgb", 10),
        ("tsm_r50_1x1x8_50e_sthv1_rgb", 6),
    ],
)
def test_views_of_published_protocols(recipe, views):
    from clipwise.data.clip_spec import ClipSpec

    values = load_recipe(recipe).model_dump()
    spec = ClipSpec.from_recipe(values, "test")
    clips = {"three": 3, "ten": 10, "center": 1}[values["test"]["crop"]]
    times = (values["test"]["num_clips"] if not spec.num_segments else 1) * (2 if values["test"]["twice_sample"] else 1)
    assert num_views(spec) == clips * times == views


def test_model_and_end_to_end(trained, clips):
    predictor = load(trained, "cpu")
    alone = bench_model(predictor, min_runs=3, min_s=0)
    assert alone.views == 1
    assert alone.view_shape == (8, 64, 80, 3)
    assert alone.videos_per_s == pytest.approx(1000 / alone.latency.mean_ms)
    assert alone.memory_mb > 50
    paths = [str(p) for p in sorted((clips / "val").rglob("*.mp4"))[:3]]
    whole = bench_end_to_end(predictor, [*paths, str(clips / "absent.mp4")])
    assert whole.videos == 3
    parts = whole.decode_ms + whole.preprocess_ms + whole.model_ms
    assert parts == pytest.approx(whole.latency.mean_ms, rel=0.02)
    assert min(whole.decode_ms, whole.preprocess_ms, whole.model_ms) > 0


def point(total_ms: float, accuracy: float) -> Point:
    return Point(1, "center", 64, "fp32", "pytorch", 1, accuracy=accuracy, total_ms=total_ms)


def test_frontier_and_recommendation():
    points = [point(10, 0.70), point(20, 0.89), point(25, 0.80), point(40, 0.90), point(50, 0.90)]
    judge(points, tolerance=0.01)
    assert [p.on_frontier for p in points] == [True, True, False, True, False]
    assert [p.recommended for p in points] == [False, True, False, False, False]
    points = [point(10, 0.70), point(20, 0.89), point(40, 0.90)]
    judge(points, tolerance=0.0)
    assert [p.recommended for p in points] == [False, False, True]


def test_overrides_of_a_point_rebuild_its_protocol(trained):
    passport = read_passport(trained)
    before = make_recipe(passport.recipe).model_dump()
    for protocol in make_protocols(passport, [1, 2], ["center"], [64, 48]):
        words = changed_keys(passport.recipe, protocol.recipe)
        again = make_recipe(apply_overrides(passport.recipe, words)).model_dump()
        assert again == make_recipe(protocol.recipe).model_dump()
        assert (again == before) == (protocol.clips == 1 and protocol.size == 64)
    with pytest.raises(ClipwiseError, match="1 or 2"):
        list(make_protocols(passport, [3], None, None))
    with pytest.raises(ClipwiseError, match="can't be combined"):
        next(make_protocols(passport, None, ["corner"], None))


def test_frontier_scores_as_test_does(trained, clips):
    from clipwise.engine.test import evaluate

    model, passport = load_model_and_passport(trained)
    predictor = Predictor(model, passport, device=CPU)
    videos = read_list(str(clips / "val"))
    frontier = measure_frontier(predictor, videos, limit=100, clips=[1, 2], precisions=["fp32"], backends=["pytorch"])
    assert frontier.videos == 12
    assert len(frontier.points) == 2
    by_clips = {p.clips: p for p in frontier.points}
    expected = evaluate(trained, data=clips / "val", device="cpu").metrics["top1_acc"]
    assert by_clips[1].accuracy == pytest.approx(expected)
    twice = evaluate(trained, data=clips / "val", device="cpu", overrides=by_clips[2].overrides)
    assert by_clips[2].accuracy == pytest.approx(twice.metrics["top1_acc"])
    assert (by_clips[1].views, by_clips[2].views) == (1, 2)
    with pytest.raises(ClipwiseError, match="needs --calibration"):
        measure_frontier(predictor, videos, precisions=["int8"])


def test_command_line(trained, clips, capsys):
    assert main(["bench", "tsn_tiny", "--runs", "3", "--seconds", "0", "--json"]) == 0
    assert '"view_shape"' in capsys.readouterr().out
    assert main(["bench", str(trained), "--frontier"]) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["bench", str(trained), "--frontier", "--data", str(clips / "val"), "--limit", "4", "--backends", "pytorch", "--precisions", "fp32"]) == 0  # fmt: skip
    assert "recommended" in capsys.readouterr().out
