"""Whole runs: resume after a kill, determinism, test equals predict, and what a run leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import clipwise
from clipwise.engine.checkpoint import read_checkpoint, read_passport
from clipwise.engine.test import evaluate
from clipwise.engine.train import train
from clipwise.errors import CheckpointError, DataError, WorkError
from clipwise.io.parse import read_json_lines
from clipwise.recipe import load_recipe
from helpers import TINY

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def same_weights(a: Path, b: Path) -> bool:
    left, right = read_checkpoint(a)[0], read_checkpoint(b)[0]
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def losses(folder: Path) -> list[tuple]:
    return [
        (line["epoch"], line["iter"], line["loss"])
        for line in read_json_lines(folder / "log.jsonl")
        if line["mode"] == "train"
    ]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "clipwise", *map(str, words)]


@pytest.fixture(scope="module")
def undisturbed(clips, tmp_path_factory) -> Path:
    """A run from beginning to end, in a process of its own."""
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(
        command("train", "tsm_tiny", "--data", clips, "--work-dir", folder, "--seed", 0, "--deterministic", *TINY),
        check=True, capture_output=True, env=ENVIRONMENT,
    )  # fmt: skip
    return folder


def test_same_seed_gives_identical_weights(clips, undisturbed, tmp_path):
    arguments = command(
        "train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path, "--seed", 0, "--deterministic", *TINY
    )
    subprocess.run(arguments, check=True, capture_output=True, env=ENVIRONMENT)
    assert same_weights(tmp_path / "last.safetensors", undisturbed / "last.safetensors")
    assert losses(tmp_path) == losses(undisturbed)


def test_another_seed_gives_other_weights(clips, undisturbed, tmp_path):
    arguments = command("train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path, "--seed", 1, *TINY)
    subprocess.run(arguments, check=True, capture_output=True, env=ENVIRONMENT)
    assert not same_weights(tmp_path / "last.safetensors", undisturbed / "last.safetensors")


def test_sigkill_in_mid_epoch_and_resume_is_the_same_run(clips, undisturbed, tmp_path):
    """Killed with SIGKILL in the middle of an epoch; resumed with another number of workers."""
    arguments = command(
        "train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path, "--seed", 0, "--deterministic", *TINY, "checkpoint.every_steps=1"
    )  # fmt: skip
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "last.safetensors").is_file():  # the first step's checkpoint
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    passport = read_passport(tmp_path / "last.safetensors")
    assert passport.epoch == 0
    assert passport.step in (1, 2)
    subprocess.run([*arguments, "num_workers=1", "--resume"], check=True, capture_output=True, env=ENVIRONMENT)
    assert losses(tmp_path) == losses(undisturbed)
    assert same_weights(tmp_path / "last.safetensors", undisturbed / "last.safetensors")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_a_resumable_checkpoint(clips, undisturbed, tmp_path, number):
    arguments = command(
        "train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path, "--seed", 0, "--deterministic", *TINY
    )
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 2/2 step 1/3" in line:
            process.send_signal(number)
            break
    rest = process.stderr.read()
    assert process.wait() == 130
    assert "resume with --resume" in rest
    assert read_passport(tmp_path / "last.safetensors").epoch == 1
    subprocess.run([*arguments, "--resume"], check=True, capture_output=True, env=ENVIRONMENT)
    assert same_weights(tmp_path / "last.safetensors", undisturbed / "last.safetensors")


def test_accumulation_ema_and_adamw_resume_exactly(clips, tmp_path):
    """What lies beside the weights (averaged weights, moments, half-taken epochs) comes back too."""
    overrides = [
        *TINY,
        "accumulate=2",
        "ema_decay=0.9",
        "batch_size=4",
        "augment.mixup=0.2",
        "checkpoint.every_steps=1",
        "epochs=2",
    ]
    recipe = load_recipe("tsm_tiny", overrides)
    whole = train(recipe, data=str(clips), work_dir=tmp_path / "whole", quiet=True)
    half = load_recipe("tsm_tiny", [*overrides, "lr_schedule=cosine"])

    class StopError(Exception):
        pass

    from clipwise.engine import train as module

    original, saved = module.Run.save, []

    def save(self, best=False):
        original(self, best)
        saved.append(self.step)
        if len(saved) == 2:
            self.saver.wait()
            raise StopError

    module.Run.save = save
    try:
        with pytest.raises(StopError):
            train(half, data=str(clips), work_dir=tmp_path / "half", quiet=True)
    finally:
        module.Run.save = original
    resumed = train(half, data=str(clips), work_dir=tmp_path / "half", quiet=True, resume=True)
    assert same_weights(whole.last, resumed.last)
    assert losses(tmp_path / "whole") == losses(tmp_path / "half")


def test_predict_gives_the_scores_of_test(clips, trained):
    result = evaluate(trained, data=clips)
    predictor = clipwise.load(trained, device="cpu")
    assert len(result.paths) == 12
    for path, score in zip(result.paths, result.scores):
        np.testing.assert_array_equal(predictor(path).scores, score)


def test_a_run_leaves_its_story(clips, trained):
    folder = trained.parent
    lines = read_json_lines(folder / "log.jsonl")
    train_keys = {"mode", "epoch", "iter", "lr", "loss", "top1_acc", "top5_acc", "data_time", "time", "memory"}
    assert train_keys <= lines[0].keys()
    assert {"top1_acc", "top5_acc", "mean_class_accuracy"} <= next(x for x in lines if x["mode"] == "val").keys()
    assert load_recipe(folder / "recipe.yaml").epochs == 2
    assert (folder / "log.csv").read_text().count("\n") == len(lines) + 1
    passport = read_passport(folder / "last.safetensors")
    assert passport.classes == ["cross", "grows", "moves left", "moves right", "ring", "shrinks"]
    assert passport.data["samples"] == 24
    assert passport.model_args["num_classes"] == 6
    assert passport.metrics.keys() >= {"top1_acc"}
    assert len(list(folder.glob("state-*.pt"))) == 2  # of the newest checkpoint and the one before
    assert read_passport(folder / "previous.safetensors").epoch == 1


def test_init_replaces_a_head_of_another_size_and_says_so(clips, trained, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("".join(f"{p} {i % 2}\n" for i, p in enumerate(sorted(clips.rglob("*.mp4")))))
    recipe = load_recipe("tsm_tiny", [*TINY, "epochs=1", "train_data=" + str(tmp_path / "list.txt")])
    train(recipe, work_dir=tmp_path / "run", init=str(trained), validate=False)
    assert "last.safetensors: classifier re-initialized (6 → 2 classes)." in capsys.readouterr().err
    assert clipwise.load_model(tmp_path / "run" / "last.safetensors").classifier.out_features == 2


def test_resume_on_other_data_is_refused(clips, trained, tmp_path):
    (tmp_path / "list.txt").write_text(
        "".join(f"{p} {i % 6}\n" for i, p in enumerate(sorted(clips.rglob("*.mp4"))[:12]))
    )
    with pytest.raises(CheckpointError, match="not the one that the checkpoint was trained on"):
        train(
            load_recipe("tsm_tiny", [*TINY, f"train_data={tmp_path / 'list.txt'}"]),
            work_dir=tmp_path,
            resume=str(trained),
            quiet=True,
        )


def test_nan_loss_stops_with_file_names(clips, tmp_path):
    with pytest.raises(WorkError, match=r"the loss or its gradient is nan at epoch 1, step \d+; the batch: .*mp4"):
        train(
            load_recipe("tsm_tiny", [*TINY, "lr=1e30", "grad_clip=null", "optimizer=sgd"]),
            data=str(clips),
            work_dir=tmp_path,
            quiet=True,
        )


def test_a_broken_training_video_is_skipped_by_name_and_a_broken_test_video_counts_as_wrong(clips, trained, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    videos = sorted((clips / "train").rglob("*.mp4"))
    names = ["cross", "grows", "moves left", "moves right", "ring", "shrinks"]
    lines = [f'"{p}" {names.index(p.parent.name)}' for p in videos] + [f"{broken} 0"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    recipe = load_recipe("tsm_tiny", [*TINY, "epochs=1"])
    result = train(
        recipe, data=str(tmp_path / "list.txt"), val_data=str(clips / "val"), work_dir=tmp_path / "run", quiet=True
    )
    assert list(result.skipped) == [str(broken)]
    scored = evaluate(trained, data=tmp_path / "list.txt")
    assert len(scored.scores) == 25
    assert list(scored.failures) == [str(broken)]
    assert np.isnan(scored.scores[-1]).all()
    clean = evaluate(trained, data=clips / "train")
    assert scored.metrics["top1_acc"] == pytest.approx(clean.metrics["top1_acc"] * 24 / 25)
    process = subprocess.run(
        command("test", trained, "--data", tmp_path / "list.txt", "--json"),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.returncode == 1
    assert json.loads(process.stdout)["videos"] == 25
    assert "1 of 25 videos could not be decoded" in process.stderr
    for accepted in ("--allow-missing", "test.allow_missing=true"):
        words = command("test", trained, "--data", tmp_path / "list.txt", accepted)
        process = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT)
        assert process.returncode == 0, accepted
        assert "could not be decoded" in process.stderr


def test_too_many_classes_are_refused(clips, tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"{p} {i}\n" for i, p in enumerate(sorted(clips.rglob("*.mp4"))[:4])))
    recipe = load_recipe("tsm_tiny", [*TINY, "num_classes=2", f"train_data={tmp_path / 'list.txt'}"])
    with pytest.raises(DataError, match=r"label|classes"):
        train(recipe, work_dir=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_what_was_held_out_is_kept_and_tested(clips, tmp_path, capsys):
    """A folder without a validation part: the run keeps both lists, a test takes the second and warns about the first."""
    from clipwise.cli import main
    from clipwise.data.lists import read_list

    result = train(load_recipe("tsm_tiny", [*TINY, "epochs=1"]), data=str(clips / "train"), work_dir=tmp_path / "run")
    assert "lists/val.txt" in capsys.readouterr().err
    train_list, val_list = (read_list(tmp_path / "run" / "lists" / f"{part}.txt") for part in ("train", "val"))
    assert (len(train_list), len(val_list)) == (18, 6)
    assert not {train_list.path(i) for i in range(18)} & {val_list.path(i) for i in range(6)}
    assert train_list.classes == read_passport(result.last).classes
    own = evaluate(result.last)
    assert own.paths == [val_list.path(i) for i in range(6)]
    assert own.metrics["top1_acc"] == result.metrics["top1_acc"]
    assert own.trained_on == 0
    assert main(["test", str(result.last), "--data", str(clips / "train")]) == 0
    assert "18 of these 24 videos were trained on" in capsys.readouterr().err
    assert evaluate(result.last, data=clips / "val").trained_on == 0


def test_what_was_held_out_stays_with_its_checkpoint(clips, tmp_path):
    """A second run in the folder holds out other videos; a moved folder keeps its lists; they need no list_format."""
    recipe = load_recipe("tsm_tiny", [*TINY, "epochs=1", "lists.format=folder"])
    first = train(recipe, data=str(clips / "train"), work_dir=tmp_path / "run", quiet=True)
    own = evaluate(first.last)
    assert (len(own.paths), own.trained_on) == (6, 0)
    train(recipe, data=str(clips / "val"), work_dir=tmp_path / "run", quiet=True)
    assert evaluate(first.last).paths != own.paths
    (tmp_path / "run").rename(tmp_path / "moved")
    earlier = evaluate(tmp_path / "moved" / "earlier-1" / "last.safetensors")
    assert earlier.paths == own.paths
    assert earlier.metrics == own.metrics
    assert evaluate(tmp_path / "moved" / "earlier-1" / "last.safetensors", data=clips / "train").trained_on == 18


def test_the_recipes_own_list_is_tested_in_its_own_format(clips, tmp_path):
    """Two numbers after a path could be labels, or a count of frames and a label (as here): the recipe says which."""
    paths = sorted(clips.rglob("*.mp4"))[:8]
    (tmp_path / "list.txt").write_text("".join(f"{p} 40 {i % 3}\n" for i, p in enumerate(paths)))
    named = [f"{part}_data={tmp_path / 'list.txt'}" for part in ("train", "val")]
    recipe = load_recipe("tsm_tiny", [*TINY, "epochs=1", "multi_label=true", "lists.format=counted", *named])
    result = evaluate(train(recipe, work_dir=tmp_path / "run", quiet=True).last)
    assert [label.tolist() for label in result.labels[:3]] == np.eye(3).tolist()
    assert result.trained_on == 8


def test_the_lists_of_a_run_can_be_trained_on_in_its_folder(clips, tmp_path):
    recipe = load_recipe("tsm_tiny", [*TINY, "epochs=1"])
    train(recipe, data=str(clips / "train"), work_dir=tmp_path, quiet=True)
    again = train(recipe, data=str(tmp_path / "lists"), work_dir=tmp_path, quiet=True)
    train(recipe, data=str(tmp_path / "lists"), work_dir=tmp_path, quiet=True, resume=True)
    assert len(evaluate(again.last).paths) == 6


def test_resuming_an_earlier_run_loses_nothing_of_the_later_one(clips, tmp_path):
    """``--resume earlier-1/last.safetensors`` in the folder where another run was made since."""
    recipe, folder = load_recipe("tsm_tiny", TINY), tmp_path / "run"
    train(recipe, data=str(clips), work_dir=folder, quiet=True, max_steps=4)
    later = load_recipe("tsm_tiny", [*TINY, "epochs=1", "seed=3"])
    train(later, data=str(clips), work_dir=folder, quiet=True)
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    train(recipe, data=str(clips), work_dir=folder, quiet=True, resume=str(folder / "earlier-1" / "last.safetensors"))
    assert {p.name: p.read_bytes() for p in (folder / "earlier-2").iterdir()} == before
    train(recipe, data=str(clips), work_dir=tmp_path / "undisturbed", quiet=True)
    assert same_weights(folder / "last.safetensors", tmp_path / "undisturbed" / "last.safetensors")


def test_a_kill_while_an_earlier_run_is_moved_aside_loses_nothing(clips, tmp_path, monkeypatch):
    recipe = load_recipe("tsm_tiny", [*TINY, "epochs=1"])
    train(recipe, data=str(clips), work_dir=tmp_path, quiet=True)
    rename, moved = Path.rename, []

    def killed(self, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data=str(clips), work_dir=tmp_path, quiet=True)
    monkeypatch.undo()
    train(recipe, data=str(clips), work_dir=tmp_path, quiet=True, validate=False)
    assert (tmp_path / "earlier-2" / "last.safetensors").is_file()
    assert not (tmp_path / "best.safetensors").exists()


def test_without_validation_nothing_is_held_out(clips, tmp_path):
    recipe = load_recipe("tsm_tiny", [*TINY, "epochs=1"])
    result = train(recipe, data=str(clips / "train"), work_dir=tmp_path, validate=False, quiet=True)
    passport = read_passport(result.last)
    assert passport.data["samples"] == 24
    assert not (tmp_path / "lists").exists()
    assert evaluate(result.last, data=clips / "train").trained_on == 24
    with pytest.raises(DataError, match="no test data"):
        evaluate(result.last)
    with pytest.raises(CheckpointError, match=r"of 18 samples, is not the one .* of 24\. Resume with .* --no-validate"):
        train(recipe, data=str(clips / "train"), work_dir=tmp_path, resume=True, quiet=True)


def test_a_new_run_in_a_used_folder_loses_nothing(clips, tmp_path, capsys):
    recipe = load_recipe("tsm_tiny", [*TINY, "epochs=1", "checkpoint.keep=1"])
    first = train(recipe, data=str(clips), work_dir=tmp_path, quiet=True)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.suffix in (".safetensors", ".pt", ".jsonl")}
    assert first.best is not None
    capsys.readouterr()
    again = train(recipe, data=str(clips), work_dir=tmp_path, init=str(first.best), validate=False)
    assert f"its files are in {tmp_path / 'earlier-1'} now" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (tmp_path / "earlier-1").iterdir() if p.name in before} == before
    assert again.best is None  # not the earlier run's
    train(recipe, data=str(clips), work_dir=tmp_path, quiet=True, resume=True)
    assert not (tmp_path / "earlier-2").exists()
