"""A video ViT that says nothing of itself but its clip's shape, and a localizer in a file: what verbs asked them and should not have."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from clipwise.cli import main
from clipwise.engine.checkpoint import read_checkpoint, read_passport

VIT = """
import torch
from torch import nn


class VideoViT(nn.Module):
    def __init__(self, num_classes, num_frames, width):
        super().__init__()
        self.clip_shape = (3, num_frames, 64, 80)
        self.patch = nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16))
        self.position = nn.Parameter(torch.zeros(1, num_frames // 2 * 20, width))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(width, 4, 32, 0.0, batch_first=True) for _ in range(2))
        self.head = nn.Linear(width, num_classes)

    def forward(self, clips):
        x = self.patch(clips).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


def video_vit(num_classes: int, num_frames: int = 8, width: int = 16):
    return VideoViT(num_classes, num_frames, width)
"""
MODEL = "./vit.py:video_vit"
SHORT = [
    "epochs=1",
    "warmup_epochs=0",
    "batch_size=8",
    "num_workers=0",
    "amp=no",
    "--no-check",
    "--device",
    "cpu",
    "--trust",
]


@pytest.fixture(scope="module")
def folder(clips, tmp_path_factory):
    """A folder with the model and a run of it."""
    path = tmp_path_factory.mktemp("strangers")
    (path / "vit.py").write_text(VIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(["train", "tsm_tiny", "--data", str(clips), f"model={MODEL}", "--work-dir", "run", *SHORT]) == 0
        yield path


def test_analysis_counts_the_outputs_of_its_last_layer(folder, clips, capsys):
    words = [
        "analyze",
        "run/last.safetensors",
        "--data",
        str(clips),
        "--limit",
        "2",
        "--no-masks",
        "--no-importance",
        "--json",
    ]
    assert main([*words, "--trust", "--num-workers", "0"]) == 0
    assert '"videos": 2' in capsys.readouterr().out


def test_described_and_measured_by_its_place(folder, capsys):
    """`num_classes` has no default, as in docs/en/models.md."""
    assert main(["info", MODEL, "--json", "--trust"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["num_classes"] == 400
    assert main(["bench", MODEL, "--runs", "1", "--seconds", "0", "--trust"]) == 0


def test_starts_new_classes_from_its_old_weights(folder, clips, tmp_path, capsys):
    """`head` is not called `classifier`; four of the six classes are kept."""
    for part in ("train", "val"):
        for name in sorted(path.name for path in (clips / part).iterdir())[:4]:
            shutil.copytree(clips / part / name, tmp_path / "data" / part / name)
    words = [
        "train",
        "tsm_tiny",
        "--data",
        str(tmp_path / "data"),
        f"model={MODEL}",
        "--work-dir",
        str(tmp_path / "run"),
        *SHORT,
    ]
    assert main([*words, "init=run/last.safetensors", "--max-steps", "1"]) == 0
    assert "classifier re-initialized (6 → 4 classes)" in "".join(capsys.readouterr())
    assert read_passport(tmp_path / "run/last.safetensors").model_args["num_classes"] == 4


def test_an_error_inside_it_names_its_line(folder, clips, tmp_path, capsys):
    words = ["train", "tsm_tiny", "--data", str(clips), f"model={MODEL}", "--work-dir", str(tmp_path), *SHORT]
    assert main([*words, "crop_size=[64,64]", "--max-steps", "1"]) == 1
    text = capsys.readouterr().err
    line = 1 + VIT.splitlines().index(next(row for row in VIT.splitlines() if "+ self.position" in row))
    assert f"vit.py, line {line}, in VideoViT.forward: RuntimeError: The size of tensor a (64)" in text
    assert "bug report" not in text


def test_the_modern_recipe_leaves_out_what_it_cannot_do(folder, clips, tmp_path, capsys):
    words = [
        "train",
        "tsm_tiny",
        "--data",
        str(clips),
        f"model={MODEL}",
        "--work-dir",
        str(tmp_path),
        *SHORT,
        "--modern",
    ]
    assert main([*words, "--max-steps", "1"]) == 0
    assert "has no setting drop_path" in capsys.readouterr().err
    assert main([*words, "--max-steps", "1", "model_args.drop_path=0.2"]) == 2


ONE_STAGE = Path(__file__).parent / "one_stage.py"


@pytest.fixture
def plain_localizer(tmp_path):
    """The localizer without its task: the rules say it."""
    text = ONE_STAGE.read_text().replace('    task = "localization"\n\n', "").replace(") -> PointNet:", "):")
    (tmp_path / "points.py").write_text(text.replace("point_net", "bare_points"))
    return f"{tmp_path / 'points.py'}:bare_points"


def test_a_localizer_learns_slower_below_and_is_audited(plain_localizer, make_sequences, tmp_path, capsys):
    """Stem, two layers, classes, distances: rates of the first step by hand; the recipe of the file is audited with --trust."""
    data = make_sequences(tmp_path / "data")
    recipe = {
        "task": "localization", "model": plain_localizer, "feat_dim": "auto", "epochs": 1, "batch_size": 4, "num_workers": 0,
        "lr": 0.25, "lr_schedule": "constant", "optimizer": "sgd", "optim": {"layer_decay": 0.5, "momentum": 0.0}, "weight_decay": 0.0,
        "temporal_dim": 40,
    }  # fmt: skip
    (tmp_path / "points.yaml").write_text(yaml.safe_dump(recipe))
    check = ["check", str(data), "--recipe", str(tmp_path / "points.yaml")]
    assert main([*check, "--trust"]) == 0
    words = [
        "train",
        str(tmp_path / "points.yaml"),
        "--data",
        str(data),
        "--no-check",
        "--trust",
        "--max-steps",
        "1",
        "--device",
        "cpu",
    ]
    assert main([*words, "--work-dir", str(tmp_path / "slow")]) == 0
    assert main([*words, "--work-dir", str(tmp_path / "even"), "optim.layer_decay=1"]) == 0
    still = main([*words, "--work-dir", str(tmp_path / "still"), "optim.layer_decay=1", "lr=1e-30"])
    assert still == 0
    slow, even, begin = (read_checkpoint(tmp_path / name / "last.safetensors")[0] for name in ("slow", "even", "still"))
    for key, power in {
        "stem.weight": 4,
        "layers.0.0.weight": 3,
        "layers.1.0.weight": 2,
        "classes.weight": 1,
        "distances.weight": 0,
    }.items():
        moved = (even[key] - begin[key]).numpy()
        assert np.abs(moved).max() > 0
        np.testing.assert_allclose((slow[key] - begin[key]).numpy(), moved * 0.5**power, rtol=1e-3, atol=1e-6)
