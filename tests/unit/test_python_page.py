"""The blocks of docs/en/python.md as they stand there, a script of a user, and networks that are handed in as objects."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import clipwise
from clipwise.cli import main
from clipwise.errors import CheckpointError, RecipeError
from helpers import load_script

ROOT = Path(__file__).resolve().parents[2]
PAGES = [page for page in (ROOT / "docs/en/python.md", ROOT / "docs/zh/python.md") if page.is_file()]
SCRIPT = Path(__file__).with_name("user_script.py")
SHORT = ["epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=0", "amp=no", "log.every=1"]


def blocks(page):
    """(whether it is run, code)."""
    text = page.read_text(encoding="utf-8")
    return [
        (not mark, code) for mark, code in re.findall(r"(<!-- not run.*?-->\n)?```python\n(.*?)```", text, re.DOTALL)
    ]


def squeezed(code):
    """Without comments, which are in the page's language."""
    return re.sub(r"\s*#.*", "", code)


@pytest.fixture
def folder(tmp_path, monkeypatch, clips, trained):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_videos").symlink_to(clips)
    first, second = sorted((clips / "val").rglob("*.mp4"))[:2]
    shutil.copyfile(first, "video.mp4")
    shutil.copyfile(second, "other.mp4")
    (tmp_path / "runs/mine").mkdir(parents=True)
    shutil.copyfile(trained, "runs/mine/best.safetensors")
    return tmp_path


def test_the_page(folder):
    pytest.importorskip("pandas")
    names = {"__name__": "page"}
    for run, code in blocks(PAGES[0]):
        if run:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, "python.md", "exec"), names)
    assert (folder / "runs/loop/mine.safetensors").is_file()
    expected = names["predictor"](names["frames"]).scores
    model = clipwise.load_model("runs/mine/best.safetensors")
    with torch.inference_mode():
        assert np.array_equal(model(names["views"]).softmax(1).mean(0).numpy(), expected)


def test_lightning(folder):
    pytest.importorskip("lightning")
    videos = clipwise.read_list("my_videos/train")
    names = {"clipwise": clipwise, "torch": torch, "DataLoader": DataLoader, "videos": videos}
    names["recipe"] = clipwise.load_recipe("tsm_tiny", SHORT)
    exec(next(code for run, code in blocks(PAGES[0]) if not run), names)
    assert clipwise.load("runs/lightning/mine.safetensors")("video.mp4").scores.sum() == pytest.approx(1, abs=1e-5)


def test_the_loop_is_short_and_both_languages_show_the_same_code():
    loop = next(code for _, code in blocks(PAGES[0]) if "Accelerator" in code)
    assert len(loop.splitlines()) <= 25
    codes = [[squeezed(code) for _, code in blocks(page)] for page in PAGES]
    assert all(code == codes[0] for code in codes)


def test_a_users_script_runs(clips, tmp_path):
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 75
    load_script(SCRIPT).main(clips, tmp_path)


@pytest.mark.slow  # a minute without a cache: mypy reads torch
def test_a_users_script_is_typed(tmp_path):
    pytest.importorskip("mypy")
    words = ["--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), str(SCRIPT)]
    done = subprocess.run([sys.executable, "-m", "mypy", *words], capture_output=True, text=True, cwd=tmp_path)
    assert [line for line in done.stdout.splitlines() if "user_script" in line] == []


@pytest.mark.slow  # half a minute: pyright reads torch, and needs node (`npm install pyright`)
def test_a_users_script_is_typed_for_pyright_too(tmp_path):
    if (pyright := shutil.which("pyright")) is None:
        pytest.skip("pyright is not installed")
    source = str(Path(clipwise.__file__).parents[1])
    settings = {"include": ["user_script.py"], "typeCheckingMode": "standard", "extraPaths": [source]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    shutil.copyfile(SCRIPT, tmp_path / "user_script.py")
    words = [pyright, "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    found = json.loads(subprocess.run(words, capture_output=True, text=True).stdout)
    assert found["summary"]["filesAnalyzed"] == 1
    assert found["generalDiagnostics"] == []


def test_the_default_collate_and_epochs(clips):
    videos = clipwise.read_list(clips / "train")
    spec = clipwise.ClipSpec.from_recipe(clipwise.load_recipe("tsm_tiny"))
    dataset = clipwise.ClipDataset(videos, spec, seed=3)
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert set(batch) == {"frames", "label", "index"}
    assert batch["frames"].shape == (4, 1, 8, 64, 80, 3)
    assert torch.equal(batch["frames"][0], dataset[0, 0]["frames"])  # what our own loop gets in epoch 0
    dataset.set_epoch(1)
    assert torch.equal(dataset[0]["frames"], dataset[1, 0]["frames"])
    assert not torch.equal(dataset[0]["frames"], batch["frames"][0])
    assert spec.normalize(batch["frames"]).shape == (4, 3, 8, 64, 80)
    tested = clipwise.ClipDataset(videos, clipwise.ClipSpec.from_recipe(clipwise.load_recipe("tsm_tiny"), "val"))
    assert next(iter(DataLoader(tested, batch_size=4)))["error"] == [""] * 4


def test_a_training_video_that_cannot_be_read_is_replaced_with_a_warning(clips, tmp_path):
    folder = tmp_path / "some"
    shutil.copytree(clips / "train", folder)
    sorted(folder.rglob("*.mp4"))[0].write_bytes(b"no video")
    dataset = clipwise.ClipDataset(
        clipwise.read_list(folder), clipwise.ClipSpec.from_recipe(clipwise.load_recipe("tsm_tiny"))
    )
    with pytest.warns(UserWarning, match="skipped in training"):
        batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch["index"][0] != 0


class Small(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body, self.head = nn.Conv3d(3, 4, 3, 2, 1), nn.Linear(4, num_classes)

    def forward(self, clips):
        return self.head(self.body(clips).relu().mean((2, 3, 4)))


def test_a_network_as_an_object(clips, tmp_path, capsys):
    """It is the one that is trained; its checkpoint resumes and loads with the network handed in, and says so without."""
    torch.manual_seed(0)
    network = Small(6)
    before = network.head.weight.detach().clone()
    recipe = clipwise.load_recipe("tsm_tiny", SHORT)
    options = dict(data=str(clips), quiet=True, device="cpu")
    seen = []

    class Follow(clipwise.Callback):
        def on_step(self, figures):
            seen.append(("step", figures["iter"], figures["loss"]))

        def on_epoch(self, figures):
            seen.append(("epoch", figures["epoch"], figures["top1_acc"]))

        def on_end(self, result):
            seen.append(("end", result.last.name, result.metrics["top1_acc"]))

    result = clipwise.train(recipe, model=network, work_dir=tmp_path / "run", callbacks=[Follow()], **options)
    assert not torch.equal(network.head.weight, before)
    log = [line for line in (tmp_path / "run/log.jsonl").read_text().splitlines() if '"train"' in line]
    assert [kind for kind, *_ in seen] == ["step"] * len(log) + ["epoch", "end"]
    assert seen[-2][2] == seen[-1][2] == result.metrics["top1_acc"]
    video = sorted((clips / "val").rglob("*.mp4"))[0]
    loaded = clipwise.load(result.last, device="cpu", model=Small(6))
    assert torch.equal(loaded.model.head.weight, network.head.weight)
    assert loaded(video).scores.shape == (6,)
    figures = clipwise.evaluate(
        result.last, data=clips / "val", model=Small(6), device="cpu", overrides=["num_workers=0"]
    ).metrics
    assert figures["top1_acc"] == result.metrics["top1_acc"]
    with pytest.raises(
        RecipeError, match=r"passed to train as an object, a .*Small, .*clipwise\.load\(checkpoint, model=network\)"
    ):
        clipwise.load(result.last)
    assert main(["predict", str(result.last), str(video)]) == 2
    assert "passed to train as an object" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="does not fit Small"):
        clipwise.load(result.last, model=Small(5))
    # stopped and resumed it ends with the same weights
    torch.manual_seed(0)
    half = clipwise.train(recipe, model=Small(6), work_dir=tmp_path / "half", max_steps=1, **options)
    assert half.interrupted
    again = Small(6)
    clipwise.train(recipe, model=again, work_dir=tmp_path / "half", resume=True, **options)
    assert torch.equal(again.head.weight, network.head.weight)


def test_without_validation_an_epoch_has_its_training_figures(clips, tmp_path):
    seen = []

    class Follow(clipwise.Callback):
        def on_epoch(self, figures):
            seen.append(figures)

    recipe = clipwise.load_recipe("tsm_tiny", SHORT)
    options = dict(data=str(clips), quiet=True, device="cpu", validate=False)
    clipwise.train(recipe, model=Small(6), work_dir=tmp_path, callbacks=[Follow()], **options)
    assert [(f["epoch"], f["iter"] == f["iters"], "loss" in f) for f in seen] == [(1, True, True)]


def test_saving_says_what_it_needs(clips, tmp_path):
    model = clipwise.create_model("tsm_tiny", num_classes=3)
    with pytest.raises(CheckpointError, match="2 class names were given, but the model has 3 outputs"):
        clipwise.save_model(model, tmp_path / "a.safetensors", classes=["a", "b"])
    with pytest.raises(CheckpointError, match=r"Linear was not made by clipwise\.create_model"):
        clipwise.save_model(nn.Linear(1, 1), tmp_path / "a.safetensors")
    path = clipwise.save_model(model, tmp_path / "deep/a.safetensors", classes=["a", "b", "c"])
    again = clipwise.load(path, device="cpu")
    assert again.classes == ["a", "b", "c"]
    assert all(torch.equal(a, b) for a, b in zip(again.model.state_dict().values(), model.state_dict().values()))


def test_a_passport_of_a_newer_schema_is_refused(tmp_path):
    from clipwise.engine.checkpoint import SCHEMA, Passport, read_passport, save_weights

    model = clipwise.create_model("tsm_tiny", num_classes=2)
    path = clipwise.save_model(model, tmp_path / "now.safetensors")
    assert read_passport(path).schema == SCHEMA
    newer = Passport("tsm_tiny", {"num_classes": 2}, versions={"clipwise": "9.1"}, schema=SCHEMA + 1)
    save_weights(path, model.state_dict(), newer)
    with pytest.raises(CheckpointError, match=rf"passport has schema {SCHEMA + 1}, newer than this clipwise knows"):
        clipwise.load(path)
