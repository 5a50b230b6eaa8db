"""Exported localizers give what PyTorch gives: raw outputs and segments of videos that are shorter and longer than the file's input."""

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.engine.checkpoint import load_model_and_passport
from clipwise.export.runtimes import load_exported_model
from clipwise.infer.localize import Localizer
from helpers import write_loud_actions

SHORT = ["num_workers=0", "batch_size=6", "lr=0.005", "log.every=100", "epochs=1"]
ONE_STAGE = ["temporal_dim=50", "warmup_epochs=0"]
SIZES = {
    "bmn": [
        "temporal_dim=24",
        "model_args={max_duration: 16, hidden_dim: 16, matching_dim: 8, map_dim: 8, num_samples: 8}",
        "windows.least=0",
    ],
    "actionformer": [*ONE_STAGE, "model_args={width: 16, num_levels: 3, num_stem: 1, num_heads: 2, window: 5}"],
    "tridet": [
        *ONE_STAGE,
        "model_args={width: 16, mlp_width: 16, num_levels: 3, num_stem: 1, num_bins: 8, input_noise: 0.01}",
    ],
}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    sequences = write_loud_actions(folder, longest=60)
    made = {}
    for name, keys in SIZES.items():
        run = folder / name
        assert main(["train", f"{name}_tiny", "--data", str(sequences), "--work-dir", str(run), *SHORT, *keys]) == 0
        made[name] = run / "last.safetensors"
    return made


@pytest.fixture(scope="module", params=[(n, f) for n in SIZES for f in SUFFIXES], ids="-".join)
def pair(request, checkpoints, tmp_path_factory):
    """Localizers of a checkpoint and of its exported file."""
    name, format = request.param
    pytest.importorskip({"onnx": "onnxruntime"}.get(format, format))
    file = tmp_path_factory.mktemp("file") / f"{name}{SUFFIXES[format]}"
    assert main(["export", str(checkpoints[name]), "--format", format, "--out", str(file)]) == 0
    loaded = load_exported_model(file, "cpu")
    return Localizer(checkpoints[name], device="cpu"), Localizer(file, loaded=loaded, device="cpu")


def test_raw_outputs_are_equal(pair):
    """A batch of three: whole, padded from position 17 (a one-stage network's last channel says so), and nothing but padding."""
    checkpoint, file = pair
    network, _ = load_model_and_passport(checkpoint.path)  # the localizer's leaves out what it will not decode
    about = file.model.description
    features = torch.randn(3, *about.shape, generator=torch.Generator().manual_seed(1)) * 3
    if about.shape[0] == 7:
        features[:, -1] = 1.0
    features[1, :, 17:] = 0
    features[2] = 0
    with torch.inference_mode():
        wanted, found = network(features), file.model(features)
    assert len(wanted) == len(found) == len(about.outputs)
    for name, one, other in zip(about.outputs, wanted, found):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_segments_are_equal(pair):
    """Videos longer than a one-stage network's file go through it in windows; so does the checkpoint for this comparison."""
    checkpoint, file = pair
    for length in (1, 2, 23, 47, 51, 52, 53, 131):
        rows = np.random.default_rng(length).normal(size=(length, 6)).astype(np.float32) * 0.3
        rows[length // 3 : length // 3 + 8, 0] += 3
        checkpoint.exported_length = file.exported_length
        wanted, found = (one(rows, duration_s=length / 2).segments for one in (checkpoint, file))
        assert len(wanted) == len(found), length
        assert wanted or length < 3
        for one, other in zip(wanted, found):
            assert one.name == other.name
            assert (other.start_s, other.end_s) == pytest.approx((one.start_s, one.end_s), abs=0.01)
            assert other.score == pytest.approx(one.score, abs=1e-3)
