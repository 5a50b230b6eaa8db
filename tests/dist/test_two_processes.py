"""Two or three gloo processes against one: the same losses, the same scores, every video once, and a killed rank."""

import itertools
import json
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from clipwise.engine.checkpoint import read_checkpoint, read_passport
from clipwise.io.parse import read_json_lines
from clipwise.engine.test import evaluate
from clipwise.engine.train import train
from clipwise.recipe import load_recipe


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_json_lines(folder / "log.jsonl") if line["mode"] == "train"]


def test_two_processes_train_as_one(clips, one_process, same, launch, tmp_path):
    launch(2, "train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path, *same, "batch_size=1")
    one = [x for x in read_json_lines(one_process / "log.jsonl") if x["mode"] == "train"]
    two = [x for x in read_json_lines(tmp_path / "log.jsonl") if x["mode"] == "train"]
    assert len(one) == len(two) == 24
    _same_weights(one_process, tmp_path)
    val = [[x["top1_acc"] for x in read_json_lines(f / "log.jsonl") if x["mode"] == "val"] for f in (one_process, tmp_path)]
    assert val[0] == val[1]
    assert [x["grad_norm"] for x in one] == pytest.approx([x["grad_norm"] for x in two], rel=1e-4)
    assert [x["loss"] for x in one] == pytest.approx([x["loss"] for x in two], rel=1e-5)


def test_joint_batch_statistics_make_two_processes_one(clips, same, launch, tmp_path):
    """Nothing frozen, batch statistics over both processes, blocks computed twice: the run of one process."""
    words = [
        *(w for w in same if "norm_eval" not in w),
        "epochs=1",
        "grad_checkpointing=true",
        "sync_bn=true",
    ]
    train(load_recipe("tsm_tiny", [*words, "batch_size=4"]), data=str(clips), work_dir=tmp_path / "one", quiet=True)
    launch(2, "train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path / "two", *words, "batch_size=2")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    one, two = (read_checkpoint(tmp_path / name / "last.safetensors")[0] for name in ("one", "two"))
    counted = [key for key in one if key.endswith("num_batches_tracked")]
    assert all(one[key] == two[key] == 6 for key in counted)
    means = [key for key in one if key.endswith(("running_mean", "running_var"))]
    for key in means:
        torch.testing.assert_close(one[key], two[key], rtol=1e-2, atol=1e-4, msg=key)


@pytest.mark.parametrize("processes", [2, 3])
def test_every_video_is_counted_once(clips, trained, launch, tmp_path, processes):
    """101 videos divide by neither 2 nor 3."""
    videos = sorted((clips / "train").rglob("*.mp4"))
    (tmp_path / "list.txt").write_text("".join(f'"{videos[i % len(videos)]}" {i % 6}\n' for i in range(101)))
    launch(
        processes, "test", trained, "--data", tmp_path / "list.txt", "--out", tmp_path / "scores.json", "num_workers=0"
    )
    answer = json.loads((tmp_path / "scores.json").read_text())
    assert len(answer["results"]) == 101
    alone = evaluate(trained, data=tmp_path / "list.txt", overrides=["num_workers=0"])
    assert answer["metrics"] == alone.metrics
    for row, score in zip(answer["results"], alone.scores):
        np.testing.assert_allclose(row["scores"], score, rtol=1e-6)


def test_a_killed_rank_is_restarted_and_the_run_ends_the_same(clips, one_process, same, start, tmp_path):
    """kill -9 of one of two processes in mid-epoch; torchrun restarts both, which go on from the last checkpoint."""
    process = start(
        2, "train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path, *same, "batch_size=1", "checkpoint.every_steps=1",
        "--resume", "auto", max_restarts=1, monitor_interval=0.2,
    )  # fmt: skip
    assert process.stderr is not None
    killed, said = False, []
    for line in process.stderr:
        said.append(line)
        if not killed and "epoch 2/2 step 2/" in line:
            _kill_a_rank(process.pid)
            killed = True
    assert process.wait() == 0, "".join(said[-60:])
    assert killed
    _same_weights(one_process, tmp_path)
    assert losses(one_process) == pytest.approx(losses(tmp_path), rel=1e-5)


def test_pre_emption_of_two_processes(clips, one_process, same, launch, start, tmp_path):
    """SIGTERM to torchrun, as a scheduler sends it: both processes stop after the same step, and the run goes on exactly."""
    words = ["train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path, *same, "batch_size=1"]
    process = start(2, *words)
    for line in process.stderr:
        if "epoch 1/2 step 3/12" in line:
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stderr.read()
    process.wait()
    assert "resume with --resume" in rest
    assert 3 <= read_passport(tmp_path / "last.safetensors").step < 12
    launch(2, *words, "--resume")
    assert losses(one_process) == pytest.approx(losses(tmp_path), rel=1e-5)
    _same_weights(one_process, tmp_path)


def test_two_nodes_of_which_one_loses_its_worker(clips, one_process, same, start, tmp_path):
    """Two torchrun agents as on two machines (here: the loopback); both start again, and the run ends the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = dict(nnodes=2, rdzv_backend="c10d", rdzv_endpoint=f"127.0.0.1:{port}", rdzv_id="nodes", local_addr="127.0.0.1",
                   max_restarts=3, monitor_interval=0.2)  # fmt: skip
    run = tmp_path / "run"
    words = [
        "train",
        "tsm_tiny",
        "--data",
        clips,
        "--work-dir",
        run,
        *same,
        "batch_size=1",
        "checkpoint.every_steps=1",
        "--resume",
        "auto",
    ]
    agents = [start(1, *words, stderr=tmp_path / f"node{i}.txt", **options) for i in (0, 1)]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not ((run / "log.jsonl").is_file() and len(losses(run)) >= 5):
        time.sleep(0.05)
    _kill_a_rank(agents[1].pid, "")
    codes = [agent.wait(timeout=120) for agent in agents]
    assert codes == [0, 0], (tmp_path / "node1.txt").read_text()[-2000:]
    assert losses(one_process) == pytest.approx(losses(run), rel=1e-5)
    _same_weights(one_process, run)


def _same_weights(one: Path, two: Path) -> None:
    a, b = (read_checkpoint(folder / "last.safetensors")[0] for folder in (one, two))
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-5, msg=key)


def _kill_a_rank(launcher: int, rank: str = "1\0") -> None:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for child in children:
        if f"\0RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes():
            os.kill(int(child), signal.SIGKILL)
            return
    raise AssertionError("there is no such rank")


def _train_until_killed(data: str, folder: str) -> None:
    torch.set_num_threads(1)
    overrides = [
        "epochs=50",
        "warmup_epochs=0",
        "batch_size=2",
        "num_workers=0",
        "amp=no",
        "checkpoint.every_steps=1",
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


def test_two_processes_train_as_one_on_changing_clips(clips, same, launch, tmp_path):
    """Multigrid's cycles, several clips of a video and accumulated batches: the run of one process."""
    words = [*same, "multigrid.shapes=long_short", "augment.repeat=2", "accumulate=2", "crop_size=32", "augment.resize=36"]
    train(load_recipe("tsm_tiny", [*words, "batch_size=4"]), data=str(clips), work_dir=tmp_path / "one", quiet=True)
    launch(2, "train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path / "two", *words, "batch_size=2")
    assert len(losses(tmp_path / "one")) > 2
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    _same_weights(tmp_path / "one", tmp_path / "two")
