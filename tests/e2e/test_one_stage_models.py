"""Every verb of ActionFormer and TriDet, from their packaged small recipes, on sequences of different lengths."""

import json

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.engine.checkpoint import read_checkpoint, read_passport
from clipwise.infer.localize import Localizer
from helpers import write_loud_actions

SHORT = ["num_workers=0", "batch_size=6", "temporal_dim=50", "warmup_epochs=1", "lr=0.005", "log.every=100"]
SIZES = {
    "actionformer": "model_args={width: 16, num_levels: 3, num_stem: 1, num_heads: 2, window: 5}",
    "tridet": "model_args={width: 16, mlp_width: 16, num_levels: 3, num_stem: 1, num_bins: 8, input_noise: 0.01}",
}


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """Some are longer than a training sample."""
    return write_loud_actions(tmp_path_factory.mktemp("sequences"), longest=60)


def words(name, sequences, folder, *more):
    recipe = [f"{name}_tiny", "--data", str(sequences), "--work-dir", str(folder)]
    return ["train", *recipe, *SHORT, SIZES[name], *more]


@pytest.fixture(scope="module", params=list(SIZES))
def run(request, sequences, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    assert main(words(request.param, sequences, folder, "epochs=20", "val.every=20", "checkpoint.every=20")) == 0
    return request.param, folder


def test_learns_and_tests(run, sequences, capsys):
    """Actions that stand out this clearly are found: 1.0 would be perfect, chance is near 0."""
    _, folder = run
    passport = read_passport(folder / "last.safetensors")
    assert passport.classes == ["jump", "run"]
    assert passport.metrics["mAP"] > 0.5
    checkpoint = str(folder / "last.safetensors")
    capsys.readouterr()
    assert main(["test", checkpoint, "--data", str(sequences), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["mAP"] == pytest.approx(passport.metrics["mAP"])
    assert main(["bench", checkpoint, "--runs", "1", "--seconds", "0"]) == 0
    assert main(["info", checkpoint]) == 0


@pytest.mark.parametrize("name", list(SIZES))
def test_resumes_to_the_same_weights(name, sequences, tmp_path):
    """Random crops, dropped branches, noise, the running norm and the average: all as if nothing had happened."""
    more = ["epochs=2", "val.every=2"]
    assert main(words(name, sequences, tmp_path / "whole", *more)) == 0
    main([*words(name, sequences, tmp_path / "parts", *more), "--max-steps", "4"])
    assert main([*words(name, sequences, tmp_path / "parts", *more), "--resume"]) == 0
    one, other = (read_checkpoint(tmp_path / part / "last.safetensors")[0] for part in ("whole", "parts"))
    assert "loss_norm" in one
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_an_exported_file_looks_at_a_long_video_in_windows(run, tmp_path, capsys):
    """Exported for 52 positions (50, rounded up to what the pyramid needs); of 300, the two actions are found where the checkpoint finds them, and the file says how it looked."""
    _, folder = run
    out = tmp_path / "net.onnx"
    assert main(["export", str(folder / "last.safetensors"), "--out", str(out)]) == 0
    rows = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32) * 0.3
    rows[20:29, 0] += 3
    rows[220:229, 0] += 3
    np.save(tmp_path / "long.npy", rows)
    capsys.readouterr()
    assert main(["localize", str(out), str(tmp_path / "long.npy"), "--duration", "150", "--json"]) == 0
    said = capsys.readouterr()
    segments = json.loads(said.out)["videos"][0]["segments"]
    for start in (10.0, 110.0):
        assert any(abs(s["start_s"] - start) < 1.5 and s["class"] == "jump" for s in segments)
    assert "exported for 52 positions; the video's 300 go through it in windows of 26 s" in said.err


def test_localizes_a_video_longer_than_any_training_sample(run, sequences):
    """The same action twice, 200 positions apart, in one sequence: both are found."""
    _, folder = run
    rows = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32) * 0.3
    rows[20:29, 0] += 3
    rows[220:229, 0] += 3
    found = Localizer(folder / "last.safetensors", device="cpu")(rows, duration_s=150.0)
    for start in (10.0, 110.0):
        assert any(abs(s.start_s - start) < 1.5 and s.name == "jump" for s in found.segments)


def test_starts_from_a_network_of_other_classes(run, sequences, tmp_path, capsys):
    """Everything but the layers of the classes is taken over."""
    name, folder = run
    content = json.loads((sequences / "annotations.json").read_text())
    for i, entry in enumerate(content["database"].values()):
        entry["annotations"][0]["label"] = ("hop", "skip", "jump")[i % 3]
    (tmp_path / "three.json").write_text(json.dumps(content))
    start = folder / "last.safetensors"
    more = [f"annotations={tmp_path / 'three.json'}", f"init={start}", "epochs=2", "val.every=2"]
    assert main([*words(name, sequences, tmp_path / "run", *more), "--max-steps", "1"]) == 0
    assert "re-initialized (2 → 3 classes)" in "".join(capsys.readouterr())
    assert read_passport(tmp_path / "run" / "last.safetensors").model_args["num_classes"] == 3
