"""Wrong command lines: what was given, what is allowed and what to do is said, before the work; nothing given is dropped."""

import json
import re
import shutil

import numpy as np
import pytest

from clipwise.cli import main
from clipwise.errors import RecipeError
from clipwise.recipe import load_recipe


def refused(capsys, *words) -> str:
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("SOLVER.BASE_LR=1", "did you mean 'lr'?"), ("optimizer.lr=1", "did you mean 'lr'?"),
        ("optim_wrapper.optimizer.lr=1", "did you mean 'lr'?"), ("TRAIN.BATCH_SIZE=4", "did you mean 'batch_size'?"),
        ("train_dataloader.batch_size=4", "did you mean 'batch_size'?"), ("TEST.NUM_ENSEMBLE_VIEWS=1", "'test.num_clips'"),
        ("default_hooks.checkpoint.interval=1", "'checkpoint.every'"), ("log.interval=1", "'log.every'"),
        ("model.backbone=resnet50", "model is a name (tsm_tiny), its settings are model_args.KEY"), ("trainer.devices=2", "torchrun"),
        ("DATA.NUM_FRAMES=8", "num_segments"), ("frames=8", "num_segments"), ("freeze=2", "'model_args.frozen_stages'"),
        ("patience=3", "no early stopping"), ("tesst.num_clips=3", "'test.num_clips'"), ("augment.foo=1", "known: augment.resize"),
        ("foo=1", "`clipwise explain RECIPE --keys`"), ("per_device_eval_batch_size=4", "'val.batch_size'"), ("fsdp=true", "'parallel.mode'"),
    ],
)  # fmt: skip
def test_foreign_keys_name_ours(word, hint):
    with pytest.raises(RecipeError, match=re.escape(hint)):
        load_recipe("tsm_tiny", [word])


@pytest.mark.parametrize(
    "word", ["lr=true", "epochs=false", "seed=-1", "seed=99999999999999999999999", "optim.betas=[1,1]", "num_workers=100000"]
)  # fmt: skip
def test_values_that_no_run_can_have(word):
    with pytest.raises(RecipeError, match=r"must be .*, given"):
        load_recipe("tsm_tiny", [word])


@pytest.mark.parametrize(
    "words",
    [
        "stream CKPT V --reconnect -1", "stream CKPT V --timeout nan", "stream CKPT V --max-seconds 0", "stream CKPT V --min-duration -1",
        "features CKPT V --out o --fps nan", "features CKPT V --out o --batch-size 0", "features CKPT V --out o --frame-rate 0",
        "check V --num-classes -1", "check V --workers 0", "check V --fps nan", "check V --show -1", "predict CKPT V --ray-workers 0",
        "localize CKPT V --duration 0", "compare a b --resamples 0", "bench CKPT --seconds nan", "export CKPT --num-calibration 0",
        "prepare resize a b --short-side 0", "fuse a b --weights nan 1", "info tsm_tiny --size 0", "demo --epochs 0", "test CKPT --num-workers -1",
    ],
)  # fmt: skip
def test_numbers_outside_their_range(words, capsys):
    assert re.search(r"is not a (whole )?number", refused(capsys, *words.split()))


@pytest.fixture(scope="module")
def bmn(make_sequences, tmp_path_factory):
    folder = make_sequences(tmp_path_factory.mktemp("wrong"))
    words = [
        "feat_dim=auto",
        "temporal_dim=16",
        "windows.least=0",
        "epochs=1",
        "warmup_epochs=0",
        "num_workers=0",
        "amp=no",
        "batch_size=4",
    ]
    assert (
        main(["train", "bmn_tiny", "--data", str(folder), "--work-dir", str(folder / "run"), "--no-check", *words]) == 0
    )
    return folder / "run" / "last.safetensors"


def test_a_localizer_takes_only_its_own_options(bmn, trained, capsys):
    rows = bmn.parent.parent / "features" / "v_0.npy"
    assert "--threshold is for recognizers" in refused(capsys, "localize", bmn, rows, "--threshold", "0.3")
    assert "--topk is for recognizers" in refused(capsys, "test", bmn, "--topk", "3")
    assert "--max-segments" in refused(capsys, "localize", trained, rows, "--max-segments", "3")
    assert "is a recipe where a checkpoint is expected" in refused(capsys, "localize", "tsm_tiny", rows)
    text = refused(capsys, "test", "tsm_tiny", bmn)
    assert "is a bmn, a localization network" in text
    assert "not a" not in text


def test_a_wrong_labeler_is_refused_before_the_features(bmn, clips, tmp_path, capsys):
    video = next(clips.rglob("*.mp4"))
    assert "nowhere" in refused(capsys, "localize", bmn, video, "--labeler", tmp_path / "nowhere.safetensors")
    assert "not a recognizer" in refused(capsys, "localize", bmn, video, "--labeler", bmn)


def test_starts_from_what_is_no_checkpoint(trained, bmn, clips, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("a: 1")
    words = [
        "train",
        "tsm_tiny",
        "--data",
        clips,
        "--work-dir",
        tmp_path / "run",
        "--no-check",
        "epochs=1",
        "warmup_epochs=0",
        "num_workers=0",
    ]
    assert "is a recipe, not a checkpoint" in refused(capsys, *words, f"init={tmp_path / 'recipe.yaml'}")
    assert "is a folder without a .safetensors file" in refused(capsys, *words, f"init={clips}")
    assert "holds a bmn" in refused(capsys, *words, f"init={bmn}")
    assert "clipwise train hf:x/y" in refused(capsys, *words, "init=hf:x/y")
    assert "clipwise train hf:x/y" in refused(capsys, *words, "model=hf:x/y")
    assert "None is registered" in refused(capsys, *words, "loss=focal")
    assert "dataset" not in refused(capsys, *words, "lists.format=vide")


def test_a_key_that_an_option_replaces(clips, tmp_path, capsys):
    assert "give one of them" in refused(capsys, "train", "tsm_tiny", "--data", clips, "train_data=nowhere")
    assert "--val-data" in refused(capsys, "train", "tsm_tiny", "--data", clips, "val_data=nowhere")


def test_a_run_s_name_stays_in_runs(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "lies outside runs/" in refused(capsys, "train", "tsm_tiny", "--data", clips, "name=../../x")


def test_what_is_no_list_is_named(trained, clips, tmp_path, capsys):
    video = next(clips.rglob("*.mp4"))
    np.save(tmp_path / "x.npy", np.zeros((3, 3)))
    for words in (
        ["test", trained, "--data", video],
        ["check", video],
        ["prepare", "annotations", video, tmp_path / "o", "--to", "via"],
    ):
        assert f"{video} is a video, not a list" in refused(capsys, *words)
    assert "is a binary file, not a list" in refused(capsys, "check", tmp_path / "x.npy")
    (tmp_path / "numbers.json").write_text("[1, 2]")
    assert "TypeError" not in refused(capsys, "check", tmp_path / "numbers.json")


def test_what_is_no_checkpoint_is_named(trained, clips, tmp_path, capsys):
    video = next(clips.rglob("*.mp4"))
    (tmp_path / "s.json").write_text(json.dumps({"results": []}))
    for words in (["bench", video], ["info", video], ["convert", video, "--out", tmp_path / "x.safetensors"]):
        assert "is a video, not a checkpoint" in refused(capsys, *words)
    assert "is a file of results" in refused(capsys, "info", tmp_path / "s.json")
    assert "is a clipwise checkpoint already" in refused(
        capsys, "convert", trained, "--out", tmp_path / "x.safetensors"
    )
    assert "does not exist" in refused(capsys, "convert", tmp_path / "no.pth", "--out", tmp_path / "x.safetensors")
    for address in ("ftp://127.0.0.1/x", "s3://a/b", "file:///etc/passwd"):
        assert "hf://org/name" in refused(capsys, "predict", address, video)


def test_options_without_effect(trained, clips, tmp_path, capsys):
    video = next(clips.rglob("*.mp4"))
    assert "--fps has no effect" in refused(capsys, "predict", trained, video, "--fps", "3")
    text = refused(
        capsys, "export", trained, "--int8", "--calibration", tmp_path / "nowhere", "--out", tmp_path / "a.onnx"
    )
    assert "nowhere does not exist" in text
    assert "writing" not in text
    (tmp_path / "file").write_text("x")
    assert "is not a folder" in refused(capsys, "export", trained, "--out", tmp_path / "file" / "x.onnx")


def test_frames_do_not_go_among_the_videos(clips, tmp_path, capsys):
    shutil.copytree(clips / "val", tmp_path / "val")
    before = sorted(tmp_path.rglob("*"))
    assert "Choose another target folder" in refused(capsys, "prepare", "frames", tmp_path / "val", tmp_path / "val")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stranger_s_checkpoint_with_impossible_numbers(trained, clips, tmp_path, capsys):
    """With valid checksums: who made the file chose the numbers."""
    import torch

    from clipwise.engine.checkpoint import read_checkpoint, save_weights

    video = next(clips.rglob("*.mp4"))

    def made(name, change):
        tensors, passport = read_checkpoint(trained)
        passport.state = None
        change(passport)
        save_weights(tmp_path / f"{name}.safetensors", tensors, passport)
        return tmp_path / f"{name}.safetensors"

    negative = made("negative", lambda p: p.model_args.update(num_classes=-3))
    assert main(["info", str(negative)]) == 0  # the file is described all the same
    assert "can't be made" in capsys.readouterr().out
    assert "can't be made" in refused(capsys, "predict", negative, video)
    for key in ("num_segments", "clip_len"):
        endless = made(key, lambda p, key=key: p.recipe.update({key: 10**9}))
        assert "frames: a video's views have at most" in refused(capsys, "predict", endless, video)
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "sparse.pth")
    assert "only dense ones are read" in refused(capsys, "info", tmp_path / "sparse.pth")


def test_scores_that_are_no_numbers_are_no_answer(trained, clips, tmp_path, capsys):
    from clipwise.engine.checkpoint import read_checkpoint, save_weights

    tensors, passport = read_checkpoint(trained)
    passport.state = None
    broken = {key: value * float("nan") if value.is_floating_point() else value for key, value in tensors.items()}
    save_weights(tmp_path / "nan.safetensors", broken, passport)
    video = next(clips.rglob("*.mp4"))
    assert "scores are not finite" in refused(capsys, "predict", tmp_path / "nan.safetensors", video)
    assert "scores are not finite" in refused(
        capsys, "test", tmp_path / "nan.safetensors", "--data", clips, "--num-workers", "0"
    )


def test_fewer_names_than_outputs(trained, clips, tmp_path, capsys):
    """0.1 trained such networks; outputs without a name go by their number."""
    from clipwise.engine.checkpoint import read_checkpoint, save_weights

    tensors, passport = read_checkpoint(trained)
    passport.state, passport.classes, passport.data = None, ["only one"], {"train": 5}
    save_weights(tmp_path / "few.safetensors", tensors, passport)
    assert (
        main(["predict", str(tmp_path / "few.safetensors"), str(next(clips.rglob("*.mp4"))), "--json", "--topk", "6"])
        == 0
    )
    top = json.loads(capsys.readouterr().out)["predictions"][0]["predictions"]
    assert {row["class"] for row in top} == {"only one", "1", "2", "3", "4", "5"}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("eight", "shift_div must be a whole number, given 'eight' (its default is 8)"),
        ("2.5", "shift_div must be a whole number, given 2.5"), ("null", "shift_div must be a whole number, given None"),
        ("true", "shift_div must be a whole number, given True"), ("0", "shift_div is 0"), ("-1", "shift_div is -1"),
        ("1000", "2 to 32 (8 in the paper)"),
    ],
)  # fmt: skip
def test_a_model_s_setting_of_another_kind(value, sentence, clips, tmp_path, capsys):
    words = ["--data", clips, "--work-dir", tmp_path / "run", f"model_args.shift_div={value}"]
    assert sentence in refused(capsys, "train", "tsm_tiny", *words)
    if "must be" in sentence:
        assert sentence in refused(capsys, "explain", "tsm_tiny", f"model_args.shift_div={value}")
