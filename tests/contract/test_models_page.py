"""The files and commands of docs/en/models.md, as they stand there."""

import math
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import clipwise
from clipwise.cli import main
from clipwise.engine.evaluate import measure
from clipwise.engine.metric_names import check_metrics
from clipwise.errors import ClipwiseError, RecipeError
from clipwise.io.plugins import Registry, trusting
from clipwise.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/en/models.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
SHORT = ["epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=0", "amp=no"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def command(verb, number=0):
    return [words for words in COMMANDS if words[0] == verb][number]


def test_the_page_names_what_there_is():
    assert set(FILES) == {"my_net.py", "my_parts.py"}
    assert [words[0] for words in COMMANDS] == ["train", "train", "train", "test"]


def test_a_model_in_a_file(folder, clips):
    (folder / "my_videos").symlink_to(clips)
    assert main([*command("train"), *SHORT]) == 0
    model = clipwise.load_model(folder / "runs/tsm_tiny/last.safetensors", trust=True)
    assert model.stem.out_channels == 16


def test_a_list_format_a_transform_a_loss_and_a_metric(folder, clips, capsys):
    for part in ("train", "val"):
        videos = sorted((clips / part).rglob("*.mp4"))
        (folder / f"{part}.txt").write_text("".join(f"{video}\n" for video in videos), encoding="utf-8")
    assert main([*command("train", 2), *SHORT]) == 0
    capsys.readouterr()
    assert main([*command("test"), "--json"]) == 0
    assert "worst_class_accuracy" in capsys.readouterr().out
    # without trust a new process has none of them
    recipe = load_recipe("tsm_tiny", [*SHORT, "loss=./other_parts.py:focal"])
    with pytest.raises(RecipeError, match=r"loss '\./other_parts\.py:focal' is code"):
        clipwise.train(recipe, data=str(clips), work_dir=folder / "other", quiet=True)


def test_what_they_compute(folder):
    """Numbers by hand."""
    sys.path.insert(0, str(folder))
    try:
        import my_parts
    finally:
        sys.path.remove(str(folder))
    # p = 1/2: (1 - 1/2)² · ln 2
    assert my_parts.focal(torch.zeros(1, 2), torch.tensor([1])).item() == pytest.approx(0.25 * math.log(2))
    scores = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # class 0: both right; class 1: one of two
    assert measure(scores, [0, 0, 1, 1], ["worst_class_accuracy"]) == {"worst_class_accuracy": 0.5}
    with pytest.raises(ClipwiseError, match=r"'worst_clas_accuracy' is not known; did you mean 'worst_class_accuracy'"):
        check_metrics(["worst_clas_accuracy"], False)
    with pytest.raises(ClipwiseError, match="several labels a video"):
        check_metrics(["worst_class_accuracy"], True)
    frames = torch.full((1, 1, 1, 1, 3), 200, dtype=torch.uint8)
    dark = my_parts.darken(frames, np.random.default_rng(0))
    assert 100 <= int(dark.min()) <= 200


def test_label_smoothing_beside_a_loss_of_ones_own_is_refused(folder, clips):
    recipe = load_recipe("tsm_tiny", [*SHORT, "loss=./my_parts.py:focal", "augment.label_smoothing=0.1"])
    with pytest.raises(RecipeError, match="label_smoothing has no effect"):
        clipwise.train(recipe, data=str(clips), work_dir=folder, quiet=True, trust=True)


def test_a_name_belongs_to_one_function():
    registry = Registry("thing", "clipwise.things")

    def one():
        return 1

    registry.register(one)
    assert registry.find("one").make is one
    registry.register(one)  # a cell run twice

    def other():
        return 2

    with pytest.raises(RecipeError, match="'one' is registered by"):
        registry.register(other, name="one")
    with pytest.raises(RecipeError, match="Did you mean 'one'"):
        registry.find("onee")
    with trusting(), pytest.raises(RecipeError, match="No module named"):
        registry.find("no_such_module:one")
    with trusting(), pytest.raises(RecipeError, match="no_such"):
        registry.find("math:no_such")
    with trusting():
        assert registry.find("math:sqrt").make(4) == 2
