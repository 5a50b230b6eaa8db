"""``bench --train`` counts the run's own steps, divides their time, and says what holds them up."""

import json
import time

import pytest
import torch

from clipwise.analyze import training_speed
from clipwise.analyze.peak import matmul_peak
from clipwise.analyze.step_timing import Marks
from clipwise.analyze.training_advice import advise
from clipwise.analyze.training_speed import loader_speed, measure_training, with_precision
from clipwise.cli import main
from clipwise.cli.bench_train import recipe_of, show
from clipwise.engine.train import Run
from clipwise.errors import ClipwiseError
from clipwise.recipe import load_recipe

SMALL = ["batch_size=2", "num_workers=0", "amp=no", "crop_size=[32,32]"]
QUICK = dict(device="cpu", repeats=2, min_s=0.0, min_steps=2, warmup=1)


def test_a_step_is_divided_into_its_parts(monkeypatch):
    steps = []
    original = Run.learn

    def learn(self, batch, key, accumulate, step):
        steps.append(key)
        return original(self, batch, key, accumulate, step)

    monkeypatch.setattr(Run, "learn", learn)
    speed = measure_training(load_recipe("tsm_tiny", SMALL), **QUICK)
    assert len(steps) == 1 + 2 + 2 * 2  # warm-up, probe, repeats
    assert len(set(steps)) == len(steps)  # each step has its own random numbers
    assert (speed.steps, speed.batch_size, speed.processes, speed.precision) == (2, 2, 1, "fp32")
    assert speed.clips_per_s == pytest.approx(sum(speed.repeats) / 2)
    assert sum(speed.ms.values()) == pytest.approx(speed.step_ms, rel=0.5)
    assert min(speed.ms["forward"], speed.ms["backward"], speed.ms["optimizer"]) > 0
    assert speed.tflops == pytest.approx(speed.gflops_per_clip * speed.clips_per_s / 1000)
    assert speed.share_of_peak == pytest.approx(speed.tflops / speed.peak_tflops)


def test_sources(clips, make_sequences, tmp_path):
    recipe = load_recipe("tsm_tiny", SMALL)
    for source in ("cached", "files"):
        speed = measure_training(recipe, source=source, data=str(clips), **QUICK, peak_tflops=1.0)
        assert speed.source == source
        assert speed.peak_tflops == 1.0
        assert (speed.ms["data"] > 1) == (source == "files")  # decoding takes its time
    with pytest.raises(ClipwiseError, match="needs data"):
        measure_training(recipe, source="files", **QUICK)
    assert loader_speed(recipe, str(clips), warmup=1, device="cpu", limit=2) > 0
    sizes = ["feat_dim=16", "temporal_dim=16", 'model_args={"hidden_dim": 16, "matching_dim": 8, "map_dim": 4}']
    assert measure_training(load_recipe("bmn_tiny", sizes), **QUICK, peak_tflops=1.0).clips_per_s > 0


def test_marks_lie_between_the_parts():
    class Owner:
        def __init__(self, seconds):
            self.seconds = seconds

        def __getattr__(self, name):
            return lambda: time.sleep(self.seconds)

    class FakeRun:
        task, accelerator, network = Owner(0.02), Owner(0.04), Owner(0.01)

    marks, run = Marks(torch.device("cpu")), FakeRun()
    with marks.around(run):
        for _ in range(2):
            marks.waited(0.005)
            marks.mark("start")
            run.task.loss(), run.accelerator.backward(), run.network.step()
    ms = marks.milliseconds()
    assert ms["data"] == pytest.approx(5)
    assert 20 <= ms["forward"] < 40 <= ms["backward"] < 80
    assert 10 <= ms["optimizer"] < 30
    assert "loss" not in vars(run.task)  # as it was


def make_speed(**changes):
    values = dict(
        source="files", clips_per_s=100.0, repeats=[99.0, 100.0, 102.0], steps=5, batch_size=4, processes=1, precision="bf16",
        compile="no", step_ms=40.0, ms={"data": 10.0, "forward": 10.0, "backward": 18.0, "optimizer": 2.0, "copy": 0.0},
        gflops_per_clip=1.0, tflops=0.1, peak_tflops=1.0, memory_mb=100, device="cpu",
    )  # fmt: skip
    return training_speed.TrainingSpeed(**values | changes)


def test_advice():
    recipe = load_recipe("tsm_tiny")
    speed = make_speed()
    assert speed.spread == pytest.approx(0.03)
    (text,) = advise(speed, recipe, gain=5.0)
    assert "10.0 of 40.0 ms" in text
    assert "`clipwise prepare resize` makes reading 5.0 times faster" in text
    assert "prepare resize" not in advise(speed, recipe, gain=1.0)[0]
    assert not advise(make_speed(source="cached"), recipe)
    assert not advise(make_speed(ms={**speed.ms, "data": 1.0}), recipe)


def test_the_gain_of_prepared_files_is_measured(clips):
    from clipwise.analyze.training_advice import reading_gain

    paths = [str(p) for p in sorted((clips / "train").rglob("*.mp4"))[:2]]
    assert 0.2 < reading_gain(load_recipe("tsm_tiny"), paths) < 20
    assert reading_gain(load_recipe("tsm_tiny"), ["/nowhere.mp4"]) is None


def test_precisions():
    recipe = load_recipe("tsm_tiny")
    assert [(r.amp, r.tf32) for r in (with_precision(recipe, p) for p in ("fp32", "tf32", "bf16"))] == [
        ("no", False),
        ("no", True),
        ("bf16", False),
    ]
    assert matmul_peak(torch.device("cpu"), "fp32", size=64, runs=2) > 0


def test_command_line(capsys):
    words = ["bench", "tsm_tiny", "--train", *SMALL, "--device", "cpu", "--seconds", "0", "--repeats", "1"]
    assert main([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["training"]
    assert found["versions"]["torch"] == torch.__version__
    assert main([*words, "--frontier"]) == 2
    assert "one of them" in capsys.readouterr().err


def test_what_is_printed(capsys):
    show("mine", [make_speed(source="device"), make_speed(advice=["do this"])])
    out = capsys.readouterr().out
    assert "mine: batch 4, bf16, cpu" in out
    assert "  share of its matrix product                   10%         10%" in out
    assert out.endswith("-> do this\n")
    assert recipe_of("tsm_tiny", ["batch_size=3"]).batch_size == 3
    assert recipe_of("tsm_r50", ["amp=bf16"]).num_segments == 8
