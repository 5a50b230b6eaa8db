"""Two or three gloo processes against one: the same losses, the same scores, every video once, and a killed rank."""

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from clipwise.engine.checkpoint import read_checkpoint, read_passport
from clipwise.engine.log import read_log
from clipwise.engine.test import evaluate
from clipwise.engine.train import train
from clipwise.recipe import load_recipe

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
# Batch statistics are each process's own, so the comparison freezes them; everything else is as in any run.
SAME = ["epochs=2", "warmup_epochs=0", "log_every=1", "num_workers=0", "amp=no", "model_args.norm_eval=true", "model_args.dropout=0",
        "optimizer=sgd", "lr=0.02"]  # fmt: skip


def torchrun(processes: int, *words: object, **options) -> list[str]:
    extra = [f"--{k.replace('_', '-')}={v}" for k, v in options.items()]
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        *extra,
        "-m",
        "clipwise",
        *map(str, words),
    ]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_log(folder / "log.jsonl") if line["mode"] == "train"]


@pytest.fixture(scope="module")
def one_process(clips, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    command = [
        sys.executable,
        "-m",
        "clipwise",
        "train",
        "tsm_tiny",
        "--data",
        clips,
        "--work-dir",
        folder,
        *SAME,
        "batch_size=4",
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env=ENVIRONMENT)
    return folder


def test_two_processes_train_as_one(clips, one_process, tmp_path):
    done = subprocess.run(
        torchrun(2, "train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path, *SAME, "batch_size=2"), capture_output=True, text=True, env=ENVIRONMENT
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    one = [x for x in read_log(one_process / "log.jsonl") if x["mode"] == "train"]
    two = [x for x in read_log(tmp_path / "log.jsonl") if x["mode"] == "train"]
    assert len(one) == len(two) == 12
    a, b = read_checkpoint(one_process / "last.safetensors")[0], read_checkpoint(tmp_path / "last.safetensors")[0]
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-5, msg=key)
    val = [[x["top1_acc"] for x in read_log(f / "log.jsonl") if x["mode"] == "val"] for f in (one_process, tmp_path)]
    assert val[0] == val[1]
    assert [x["grad_norm"] for x in one] == pytest.approx([x["grad_norm"] for x in two], rel=1e-4)
    assert [x["loss"] for x in one] == pytest.approx([x["loss"] for x in two], rel=1e-5)


@pytest.mark.parametrize("processes", [2, 3])
def test_every_video_is_counted_once(clips, trained, tmp_path, processes):
    """101 videos divide by neither 2 nor 3."""
    videos = sorted((clips / "train").rglob("*.mp4"))
    (tmp_path / "list.txt").write_text("".join(f'"{videos[i % len(videos)]}" {i % 6}\n' for i in range(101)))
    done = subprocess.run(
        torchrun(processes, "test", trained, "--data", tmp_path / "list.txt", "--out", tmp_path / "scores.json", "num_workers=0"),
        capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads((tmp_path / "scores.json").read_text())
    assert len(answer["results"]) == 101
    alone = evaluate(trained, data=tmp_path / "list.txt", overrides=["num_workers=0"])
    assert answer["metrics"] == alone.metrics
    for row, score in zip(answer["results"], alone.scores):
        np.testing.assert_allclose(row["scores"], score, rtol=1e-6)


def test_a_killed_rank_is_restarted_and_the_run_ends_the_same(clips, one_process, tmp_path):
    """kill -9 of one of two processes in mid-epoch; torchrun restarts both, which go on from the last checkpoint."""
    command = torchrun(
        2, "train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path, *SAME, "batch_size=2", "checkpoint_every_steps=1", "--resume", "auto",
        max_restarts=1, monitor_interval=0.2,
    )  # fmt: skip
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    killed = False
    for line in process.stderr:
        if not killed and "epoch 2/2 step 2/6" in line:
            _kill_a_rank(process.pid)
            killed = True
    assert process.wait() == 0
    assert killed
    a, b = read_checkpoint(one_process / "last.safetensors")[0], read_checkpoint(tmp_path / "last.safetensors")[0]
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-5, msg=key)
    assert losses(one_process) == pytest.approx(losses(tmp_path), rel=1e-5)


def _kill_a_rank(launcher: int) -> None:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for child in children:
        if b"RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes():
            os.kill(int(child), signal.SIGKILL)
            return
    raise AssertionError("rank 1 was not found")


def _train_until_killed(data: str, folder: str) -> None:
    torch.set_num_threads(1)
    overrides = [
        "epochs=50",
        "warmup_epochs=0",
        "batch_size=2",
        "num_workers=0",
        "amp=no",
        "checkpoint_every_steps=1",
        "crop_size=32",
    ]
    train(load_recipe("tsm_tiny", overrides), data=data, work_dir=folder, validate=False, resume="auto", quiet=True)


def test_kill_while_a_checkpoint_is_written(clips, tmp_path):
    """At ten moments while checkpoints are being written: the newest one can always be loaded with its state."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "clipwise.engine.train"])
    rng = np.random.default_rng(0)
    last, steps = tmp_path / "last.safetensors", [0]
    for _ in range(10):
        process = context.Process(target=_train_until_killed, args=(str(clips), str(tmp_path)))
        process.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # until it has begun to write newer checkpoints
            time.sleep(0.005)
            if last.is_file() and read_passport(last).step > steps[-1]:
                break
        time.sleep(float(rng.uniform(0, 0.15)))
        process.kill()
        process.join()
        tensors, passport = read_checkpoint(last)
        assert tensors
        state = torch.load(tmp_path / (passport.state or "").format(rank=0), weights_only=True)
        assert state["step"] == passport.step
        steps.append(passport.step)
    assert all(a < b for a, b in itertools.pairwise(steps))
