"""What a command line says and the verb does not look at is refused or named, never dropped."""

import pytest

from clipwise.cli import main
from clipwise.recipe import load_recipe


@pytest.mark.parametrize(
    ("verb", "word"),
    [("test", "lr=3"), ("test", "optim.momentum=0.5"), ("test", "amp=bf16"), ("test", "num_classes=3"), ("export", "epochs=77"),
     ("export", "model_args.num_segments=4"), ("analyze", "lr=3")],
)  # fmt: skip
def test_keys_of_training_are_refused_after_a_checkpoint(trained, clips, tmp_path, verb, word, capsys):
    rest = {"test": [], "export": ["--out", str(tmp_path / "x.onnx")], "analyze": ["--data", str(clips / "val")]}[verb]
    assert main([verb, str(trained), word, *rest, "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    key = word.partition("=")[0].replace("model_args.num_segments", "model_args")
    assert f"{key}: no effect on `clipwise {verb}`" in said
    assert not (tmp_path / "x.onnx").exists()


def test_a_key_that_repeats_what_holds_is_no_change(trained, clips, capsys):
    lr = load_recipe(trained.parent / "recipe.yaml").lr
    assert main(["test", str(trained), f"lr={lr}", "test.num_clips=1", "num_workers=0", "--device", "cpu"]) == 0


def test_beside_a_recipe_they_are_named(trained, clips):
    """Command lines of other tools change one config for training and test."""
    words = [str(trained), "lr=3", "test.num_clips=1", "num_workers=0", "--data", str(clips / "val"), "--device", "cpu"]
    with pytest.warns(UserWarning, match="lr: no effect on `clipwise test`"):
        assert main(["test", "tsm_tiny", *words]) == 0


def test_an_exported_file_takes_no_lists(trained, capsys):
    assert main(["export", str(trained), "num_workers=3"]) == 2
    assert "num_workers: no effect on `clipwise export`" in capsys.readouterr().err


def test_a_folder_in_the_place_of_a_recipe(clips, capsys):
    assert main(["train", str(clips), "--data", "tsm_tiny"]) == 2
    assert "is a folder where a recipe is expected" in capsys.readouterr().err


def test_a_root_beside_a_folder_of_classes_is_named(clips):
    from clipwise.data.lists import read_part

    with pytest.warns(UserWarning, match=r"data_root=/nowhere without effect: .* is a folder of classes"):
        assert len(read_part(clips / "train", {"data_root": "/nowhere"}, "train"))


def test_the_device_that_computes_nothing_is_refused(trained, clips, capsys):
    video = next((clips / "val").rglob("*.mp4"))
    assert main(["predict", str(trained), str(video), "--device", "meta"]) == 2
    assert "device 'meta' can't be used here (it computes nothing)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model=tms_tiny", "tms_tiny"),
        ("loss=./nothing.py:focal", "nothing.py"),
        ("init=no/such/file.safetensors", "no/such/file.safetensors"),
    ],
)
def test_explain_looks_at_names(word, said, capsys):
    assert main(["explain", "tsm_tiny", word]) == 2
    assert said in capsys.readouterr().err


def test_a_model_that_takes_any_setting_is_explained_with_any(capsys):
    from torch import nn

    from clipwise.models import register_model

    @register_model
    def any_settings_net(num_classes: int, **settings) -> nn.Module:
        return nn.Linear(2, num_classes)

    words = ["model=any_settings_net", "model_args={width: 3}", "init=null", "num_segments=8"]
    assert main(["explain", "tsm_tiny", *words]) == 0, capsys.readouterr().err
