"""benchmarks/gpu.py runs, keeps what it measured, and its stand-ins are the papers' networks."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from clipwise.models import create_model
from clipwise.models.cost import training_flops
from clipwise.models.registry import model_arguments

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("gpu")
    finally:
        sys.path.remove(str(BENCHMARKS))


def run(gpu, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, words)])
    return gpu.main()


@pytest.mark.parametrize(
    ("kind", "name", "frames"),
    [
        ("tsn", "tsn_r50", 3),
        ("tsm", "tsm_r50", 8),
        ("slowonly", "slowonly_r50", 4),
        ("tpn_slowonly", "tpn_slowonly_r50", 8),
        ("tpn_tsm", "tpn_tsm_r50", 8),
    ],
)
def test_a_stand_in_has_the_same_weights_and_work(gpu, kind, name, frames):
    plain = importlib.import_module("plain_networks")
    args = {"num_segments": frames} if "num_segments" in model_arguments(name) else {}
    with torch.device("meta"):
        theirs, ours = plain.PlainNetwork(kind, 10, frames), create_model(name, num_classes=10, **args)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())
    shape = (3, frames, 64, 64)
    assert training_flops(lambda: plain.PlainNetwork(kind, 10, frames), shape) == training_flops(
        lambda: create_model(name, num_classes=10, **args), shape
    )


def test_training_flops_of_a_layer_by_hand():
    def make():
        return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 5))

    # forward, gradient of the weights, and of the inputs but for the first layer's
    assert training_flops(make, (4,)) == 2 * (4 * 6 + 6 * 5) + 2 * (4 * 6 + 6 * 5) + 2 * 6 * 5


def test_parts_run_are_kept_and_resume(gpu, monkeypatch, tmp_path, capsys):
    results, page = tmp_path / "results.json", tmp_path / "speed.md"
    common = ["--device", "cpu", "--tiny", "--results", results, "--work", tmp_path / "work"]
    for part, only in (
        ("peak", "fp32"),
        ("train", "TSN 3, fp32"),
        ("plain", ""),
        ("bmn", "fp32"),
        ("loader", "TSM 8, as is"),
        ("compile", "TSN"),
        ("graphs", "BMN"),
        ("clips", "PyAV"),
    ):
        assert run(gpu, monkeypatch, *common, "--part", part, "--only", only) == 0, capsys.readouterr().out
    found = json.loads(results.read_text())["parts"]
    step = found["train"]["TSN 3, fp32"]
    assert step["clips_per_s"] == pytest.approx(1000 * step["batch_size"] / step["step_ms"], rel=0.3)
    assert sum(step["ms"].values()) == pytest.approx(step["step_ms"], rel=0.5)
    assert found["loader"]["TSM 8, as is"]["clips_per_s"] > 0
    before = results.read_text()
    assert run(gpu, monkeypatch, *common, "--part", "train", "--only", "TSN 3, fp32") == 0
    assert json.loads(results.read_text()) == json.loads(before)

    page.write_text(f"before\n{gpu.gpu_tables.BEGIN}\nold\n{gpu.gpu_tables.END}\nafter\n", encoding="utf-8")
    assert run(gpu, monkeypatch, "--write", "--results", results, "--page", page) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text  # noqa: PT018
    assert f"{step['clips_per_s']:,.0f}" in text


@pytest.mark.slow
def test_every_part_runs(gpu, monkeypatch, tmp_path, capsys):
    words = ["--device", "cpu", "--tiny", "--results", tmp_path / "results.json", "--work", tmp_path / "work"]
    assert run(gpu, monkeypatch, *words) == 0, capsys.readouterr().out
    found = json.loads((tmp_path / "results.json").read_text())["parts"]
    assert set(found) == set(gpu.PARTS)
    assert found["run"]["deterministic twice, amp no"]["different"] == 0
    assert found["golden"]["slowonly_r50_4"]["fp32_from_reference"] < 1e-4


def test_a_failure_stays_where_it_was(gpu, monkeypatch, tmp_path, capsys):
    def broken():
        raise torch.OutOfMemoryError("no room")

    parts = {"peak": (lambda s: iter([("broken", broken), ("sound", lambda: {"tflops": 1.0})]), "", 1)}
    monkeypatch.setattr(gpu, "PARTS", parts)
    results = tmp_path / "results.json"
    assert run(gpu, monkeypatch, "--device", "cpu", "--tiny", "--part", "peak", "--results", results) == 1
    found = json.loads(results.read_text())["parts"]["peak"]
    assert "no room" in found["broken"]["error"]
    assert found["sound"]["tflops"] == 1.0


def test_the_best_batch_is_found(gpu, monkeypatch):
    parts = gpu.gpu_parts
    setting = parts.Setting(torch.device("cpu"), False, Path(), {})
    speeds = {8: 10.0, 16: 15.0, 32: None}

    def measure(batch):
        if speeds[batch] is None:
            raise torch.OutOfMemoryError
        return {"clips_per_s": speeds[batch], "batch_size": batch}

    best = parts.best_batch(setting, measure, (8, 16, 32))
    assert best["batch_size"] == 16
    assert best["tried"] == {"8": 10.0, "16": 15.0, "32": "out of memory"}
    with pytest.raises(RuntimeError, match="no batch fits"):
        parts.best_batch(setting, measure, (32,))
