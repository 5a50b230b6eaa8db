"""Killed anywhere around a checkpoint, a run ends with the files of an undisturbed one; damaged files are refused or replaced."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clipwise.engine import checkpoint as ckpt
from clipwise.engine import saver as saving
from clipwise.engine.checkpoint import read_checkpoint, read_passport
from clipwise.engine.log import RunLog
from clipwise.engine.resume import load_state
from clipwise.engine.run_folder import RunFolder
from clipwise.engine.train import train
from clipwise.errors import CheckpointError, WorkError
from clipwise.io.parse import read_json_lines
from clipwise.recipe import load_recipe

RECIPE = [
    "epochs=3", "warmup_epochs=0", "batch_size=8", "log.every=2", "num_workers=0", "amp=no", "model_args.dropout=0.5",
    "checkpoint.every_steps=1", "checkpoint.keep=2", "crop_size=32", "val.resize=36", "val.crop_size=32", "augment.resize=36",
]  # fmt: skip


def make(clips: Path, folder: Path, *overrides: str, **options):
    return train(
        load_recipe("tsm_tiny", [*RECIPE, *overrides]), data=str(clips), work_dir=folder, quiet=True, **options
    )


def contents(folder: Path) -> dict[str, object]:
    """All files by name; logs without times, recipes and checkpoints by their bytes, states by their values."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "log.jsonl":
            found[path.name] = [
                {k: v for k, v in line.items() if k not in ("time", "data_time", "memory")}
                for line in read_json_lines(path)
            ]
        elif path.name == "log.csv":
            found[path.name] = path.read_text().count("\n")
        elif path.suffix == ".pt":
            state = load_state(folder / "x", ckpt.Passport("x", state=path.name))
            found[path.name] = [
                state["epoch"],
                state["batch"],
                state["best"],
                state["best_epoch"],
                state["log"]["averages"].keys(),
            ]
        else:
            found[path.name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("whole")
    make(clips, folder)
    return contents(folder)


def run_and_die(clips: Path, folder: Path, fatal: int) -> int:
    """A run in a forked process that is gone at its ``fatal``-th file operation; returns its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code, count = 1, 0
    try:
        import builtins

        def counted(original, writes=lambda *a, **k: True):
            def call(*args, **kwargs):
                nonlocal count
                here = str(folder) in str(args[0]) if args and not isinstance(args[0], int) else True
                if here and writes(*args, **kwargs):
                    count += 1
                    if count == fatal:
                        os._exit(9)
                return original(*args, **kwargs)

            return call

        for name in ("replace", "fsync", "unlink", "link", "rename"):
            setattr(os, name, counted(getattr(os, name)))
        builtins.open = counted(open, lambda path, mode="r", *a, **k: any(c in mode for c in "wax"))
        for name in ("save_state", "save_weights"):  # before a file, and after it
            setattr(saving, name, counted(getattr(saving, name)))
        make(clips, folder, resume="auto")
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_killed_at_any_file_operation_a_run_ends_with_the_same_files(clips, whole, tmp_path, start):
    """Every fourth operation of a run of nine checkpoints, three of them better than those before; each life ends at one."""
    folder, lives = tmp_path / "run", 0
    # The first life dies early; each of the next at an operation further on, and so at other places around a checkpoint.
    while True:
        code = run_and_die(clips, folder, 12 + start * 5 + lives * 7)
        if code == 0:
            break
        assert code == 9, "the run failed instead of dying"
        lives += 1
        assert lives < 60
    assert lives >= 5
    assert contents(folder) == whole


def test_a_kill_between_last_and_best_loses_no_best(clips, whole, tmp_path, monkeypatch):
    """``last`` of the best epoch is written, ``best`` is not (what 0.1 left when it was killed there)."""

    class DiedError(Exception):
        pass

    write = saving.Saver.write_copies

    def die(self, weights, passport, best, whole_epoch):
        if best:
            raise DiedError
        write(self, weights, passport, best, whole_epoch)

    best = next(
        line["epoch"] for line in whole["log.jsonl"] if line["mode"] == "val"
    )  # the first validation is the best so far
    monkeypatch.setattr(saving.Saver, "write_copies", die)
    with pytest.raises(DiedError):
        make(clips, tmp_path)
    monkeypatch.undo()
    assert read_passport(tmp_path / "last.safetensors").epoch == best
    assert not (tmp_path / "best.safetensors").exists()
    make(clips, tmp_path, resume=True, max_steps=3)
    assert read_passport(tmp_path / "best.safetensors").epoch == best
    make(clips, tmp_path, resume=True)
    assert contents(tmp_path) == whole


def test_a_kill_before_best_of_an_equal_epoch_is_written(clips, tmp_path, monkeypatch):
    """Two epochs measure the same, so the second is best; the file that is there has its figures already."""
    words = (
        "lr=1e-12",
        "checkpoint.keep=0",
        "checkpoint.every_steps=null",
        "optimizer=sgd",
        "model_args.norm_eval=true",
    )

    class DiedError(Exception):
        pass

    write = saving.Saver.write_copies

    def die(self, weights, passport, best, whole_epoch):
        if passport.epoch == 2:
            raise DiedError
        write(self, weights, passport, best, whole_epoch)

    monkeypatch.setattr(saving.Saver, "write_copies", die)
    with pytest.raises(DiedError):
        make(clips, tmp_path, *words)
    monkeypatch.undo()
    assert read_passport(tmp_path / "best.safetensors").epoch == 1
    make(clips, tmp_path, *words, resume=True, max_steps=7)
    assert read_passport(tmp_path / "best.safetensors").epoch == 2


def flip(path: Path, count: int, seed: int = 0) -> None:
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in rng.choice(len(data), count, replace=False):
        data[place] ^= int(rng.integers(1, 256))
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "state truncated", "state flipped", "state gone", "gone"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(clips, whole, tmp_path, damage, capsys):
    make(clips, tmp_path, max_steps=5)
    target = tmp_path / "last.safetensors"
    if "state" in damage:
        target = tmp_path / (read_passport(target).state or "").format(rank=0)
    if "truncated" in damage:
        target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    elif "flipped" in damage:
        flip(target, 100)
    else:
        target.unlink()
    train(load_recipe("tsm_tiny", RECIPE), data=str(clips), work_dir=tmp_path, resume=True)
    said = capsys.readouterr().err
    assert f"Falling back to the checkpoint before, {tmp_path / 'previous.safetensors'}" in said
    assert "resuming from" in said
    found = contents(tmp_path)
    assert "last.safetensors.damaged" in found or damage == "gone"
    found.pop("last.safetensors.damaged", None)
    assert found == whole


def test_without_a_whole_checkpoint_resume_is_refused(clips, tmp_path):
    make(clips, tmp_path, max_steps=2)
    for name in ("last", "previous"):
        flip(tmp_path / f"{name}.safetensors", 100)
    with pytest.raises(CheckpointError, match=r"no checkpoint of .* is whole"):
        make(clips, tmp_path, resume=True)


def test_one_flipped_byte_is_refused(trained, tmp_path):
    """A byte anywhere: in the header, in the passport, in the weights. What loads all the same has the same content."""
    tensors, passport = read_checkpoint(trained)
    data, copy = trained.read_bytes(), tmp_path / "copy.safetensors"
    header = int.from_bytes(data[:8], "little")
    begin = data.index(b"clipwise")
    rng = np.random.default_rng(0)
    places = [
        *rng.integers(0, 8 + header, 60),
        *rng.integers(begin, begin + 3000, 60),
        *rng.integers(8 + header, len(data), 60),
    ]
    loaded = 0
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1
        copy.write_bytes(changed)
        try:
            again, other = read_checkpoint(copy)
        except CheckpointError:
            continue
        loaded += 1
        assert other == passport
        assert again.keys() == tensors.keys()
        assert all((again[k] == tensors[k]).all() for k in tensors)
    assert loaded < 5


@pytest.mark.parametrize(
    "text", ["no json", "[]", "{}", "[" * 100_000, '{"model": 3}', '{"model": "x", "classes": {}}', "9" * 5000]
)
def test_a_passport_that_is_not_ours_is_refused_with_a_sentence(text, tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "x.safetensors", metadata={"clipwise": text})
    with pytest.raises(CheckpointError, match="passport"):
        read_passport(tmp_path / "x.safetensors")


def test_slow_storage_deletes_no_newer_state(clips, tmp_path):
    """The first process still writes the second checkpoint; the other one's state of the third lies there already."""
    make(clips, tmp_path, max_steps=2)
    kept = {p.name for p in tmp_path.glob("state-*.pt")}
    for name in ("state-0-0-0-rank1.pt", "state-1-3-0-rank1.pt", "state-1-4-1-rank1.pt"):
        (tmp_path / name).write_bytes(b"x")
    saver = saving.Saver(tmp_path, None, 0)  # type: ignore[arg-type]
    saver.named = [str(read_passport(tmp_path / f"{name}.safetensors").state) for name in ("previous", "last")]
    saver.tidy(before=(0, 2))
    newer = {"state-1-3-0-rank1.pt", "state-1-4-1-rank1.pt"}
    assert {p.name for p in tmp_path.glob("state-*.pt")} == kept | newer
    saver.tidy()  # before a run writes anything: what no checkpoint names is left over
    assert {p.name for p in tmp_path.glob("state-*.pt")} == kept


def test_a_missing_state_of_another_process_is_refused(clips, tmp_path, monkeypatch):
    import torch

    from clipwise.engine import resume

    make(clips, tmp_path, max_steps=2)
    last = tmp_path / "last.safetensors"
    path = tmp_path / (read_passport(last).state or "").format(rank=0)
    state = torch.load(path, weights_only=True)
    torch.save({**state, "processes": 2}, path)
    monkeypatch.setattr(resume, "world", lambda: (1, 2))
    with pytest.raises(CheckpointError, match=r"rank1\.pt, the training state of .*, is not there"):
        resume._read_start(last)
    torch.save({**state, "processes": 1}, path)  # a process that was not there: nothing is missing
    assert resume._read_start(last).own is None


# -- one run a folder


def test_a_second_run_in_the_folder_is_refused(clips, tmp_path):
    held = RunFolder(tmp_path)
    try:
        with pytest.raises(
            CheckpointError, match=f"in use by another run: process {os.getpid()} on {socket.gethostname()}"
        ):
            make(clips, tmp_path)
    finally:
        held.close()
    assert not (tmp_path / ".lock").exists()


def test_a_dead_runs_lock_is_taken_over(clips, tmp_path):
    """Of a process that was killed, and of one whose number another process has now."""
    words = "import sys, time; from pathlib import Path; from clipwise.engine.run_folder import RunFolder; RunFolder(Path(sys.argv[1])); print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", words, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    with pytest.raises(CheckpointError, match=f"process {process.pid} on"):
        RunFolder(tmp_path)
    process.kill()
    process.wait()
    RunFolder(tmp_path).close()
    other = {**RunFolder(tmp_path / "other").me, "started": "1"}
    (tmp_path / ".lock").write_text(json.dumps(other))
    RunFolder(tmp_path).close()


def test_a_kill_while_a_dead_lock_is_removed_leaves_nothing(clips, whole, tmp_path):
    """The lock of the run before has been moved aside; the next run removes it with all that is unfinished."""
    make(clips, tmp_path, max_steps=2)
    other = {**RunFolder(tmp_path / "other").me, "started": "1"}
    shutil.rmtree(tmp_path / "other")
    (tmp_path / ".lock").write_text(json.dumps(other))
    child = os.fork()
    if not child:
        os.unlink = lambda path, *a, **k: os._exit(9)
        with contextlib.suppress(BaseException):
            RunFolder(tmp_path)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert any(path.name.startswith(".lock") for path in tmp_path.iterdir())
    make(clips, tmp_path, resume=True)
    assert contents(tmp_path) == whole


def test_a_lock_of_another_machine_counts_while_it_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr("clipwise.engine.earlier_run._PATIENCE_S", 0.6)
    (tmp_path / ".lock").write_text(json.dumps({"host": "elsewhere", "boot": "x", "pid": 1, "started": "1"}))
    RunFolder(tmp_path).close()
    (tmp_path / ".lock").write_text(json.dumps({"host": "elsewhere", "boot": "x", "pid": 1, "started": "1"}))
    beat = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, time\nfor _ in range(80): os.utime({str(tmp_path / '.lock')!r}); time.sleep(0.05)",
        ]
    )
    try:
        time.sleep(0.3)
        with pytest.raises(CheckpointError, match="on elsewhere"):
            RunFolder(tmp_path)
    finally:
        beat.kill()
        beat.wait()


def test_a_folder_removed_in_mid_run_is_made_again(clips, tmp_path, monkeypatch, capsys):
    write = RunLog.write

    def remove_and_write(self, mode, figures, step):
        while step == 5 and (tmp_path / "run").exists():  # a checkpoint may be written at the same time
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
        write(self, mode, figures, step)

    monkeypatch.setattr(RunLog, "write", remove_and_write)
    train(load_recipe("tsm_tiny", [*RECIPE, "checkpoint.every_steps=null"]), data=str(clips), work_dir=tmp_path / "run")
    assert "was removed while the run was going on" in capsys.readouterr().err
    assert load_recipe(tmp_path / "run" / "recipe.yaml").epochs == 3
    assert read_passport(tmp_path / "run" / "last.safetensors").epoch == 3
    assert load_state(tmp_path / "run" / "last.safetensors", read_passport(tmp_path / "run" / "last.safetensors"))


def test_a_folder_removed_while_a_checkpoint_is_written_is_made_again(clips, tmp_path, monkeypatch, capsys):
    save, removed = saving.save_state, []

    def remove_and_save(path, state):
        if not removed:
            removed.append(shutil.rmtree(tmp_path / "run"))
            raise FileNotFoundError(path)
        save(path, state)

    monkeypatch.setattr(saving, "save_state", remove_and_save)
    train(load_recipe("tsm_tiny", RECIPE), data=str(clips), work_dir=tmp_path / "run")
    assert "was removed while the run was going on" in capsys.readouterr().err
    assert read_passport(tmp_path / "run" / "last.safetensors").epoch == 3


def test_a_folder_that_another_run_has_taken_stops_the_run(clips, tmp_path, monkeypatch):
    write = RunLog.write

    def steal(self, mode, figures, step):
        if step == 5:
            (tmp_path / ".lock").unlink()
            with open(tmp_path / ".lock", "w") as file:
                json.dump(
                    {**self.run_folder.me, "pid": os.getppid(), "started": self.run_folder.started(os.getppid())}, file
                )
        write(self, mode, figures, step)

    monkeypatch.setattr(RunLog, "write", steal)
    with pytest.raises(WorkError, match="in use by another run"):
        make(clips, tmp_path, "checkpoint.every_steps=null")


# -- other recipes


@pytest.mark.parametrize("change", ["lr=0.5", "seed=7", "batch_size=4", "weight_decay=0.5", "augment.mixup=0.3"])
def test_resume_with_another_recipe_lists_and_refuses_what_differs(clips, tmp_path, change, capsys):
    make(clips, tmp_path, max_steps=2)
    key = change.partition("=")[0]
    with pytest.raises(CheckpointError, match=rf"differs from the checkpoint's in [^,]*{key} .* -> .*--allow-changes"):
        make(clips, tmp_path, change, resume=True)
    if key == "lr":
        recipe = load_recipe("tsm_tiny", [*RECIPE, change])
        train(recipe, data=str(clips), work_dir=tmp_path, resume=True, allow_changes=True)
        assert " -> 0.5" in capsys.readouterr().err
        assert read_json_lines(tmp_path / "log.jsonl")[-2]["lr"] == pytest.approx(0.5 * _factor(recipe, 8), rel=1e-4)


def _factor(recipe, step: int) -> float:
    from clipwise.engine.network import Schedule

    return Schedule(recipe, 3).factor(step)


def test_resume_lists_what_changes_nothing(clips, tmp_path, capsys):
    make(clips, tmp_path, "lr_schedule=constant", max_steps=2)
    recipe = load_recipe("tsm_tiny", [*RECIPE, "lr_schedule=constant", "epochs=2", "log.every=3"])
    train(recipe, data=str(clips), work_dir=tmp_path, resume=True)
    said = capsys.readouterr().err
    assert "differs from the checkpoint's: epochs 3 -> 2, log.every 2 -> 3" in said


def test_more_epochs_are_refused_where_the_schedule_depends_on_them(clips, tmp_path):
    make(clips, tmp_path, "lr_schedule=cosine", "schedule.by=iteration", max_steps=5)
    with pytest.raises(CheckpointError, match="epochs 3 -> 5"):
        make(clips, tmp_path, "lr_schedule=cosine", "schedule.by=iteration", "epochs=5", resume=True)


def test_of_equal_epochs_the_later_is_best(clips, tmp_path):
    """lr 1e-12: all epochs measure the same."""
    make(
        clips,
        tmp_path,
        "lr=1e-12",
        "checkpoint.keep=0",
        "checkpoint.every_steps=null",
        "optimizer=sgd",
        "model_args.norm_eval=true",
    )
    values = [line["top1_acc"] for line in read_json_lines(tmp_path / "log.jsonl") if line["mode"] == "val"]
    assert len(set(values)) == 1
    assert read_passport(tmp_path / "best.safetensors").epoch == 3


def test_log_means_cover_the_batches_before_a_resume_too(clips, tmp_path):
    make(clips, tmp_path / "whole", "log.every=3", "epochs=1")
    make(clips, tmp_path / "parts", "log.every=3", "epochs=1", max_steps=2)
    make(clips, tmp_path / "parts", "log.every=3", "epochs=1", resume=True)
    one, two = (read_json_lines(tmp_path / name / "log.jsonl")[0] for name in ("whole", "parts"))
    assert (one["iter"], one["loss"], one["top1_acc"], one["grad_norm"]) == (
        two["iter"],
        two["loss"],
        two["top1_acc"],
        two["grad_norm"],
    )
