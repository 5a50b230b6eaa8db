"""``clipwise train … --verify-resume``: prove on this machine, with this data, that a killed run goes on as if nothing had been.

A run of a few steps is made twice in processes of its own: once undisturbed, once killed with SIGKILL in the middle and
resumed. Losses and weights at the end must be the same bits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from clipwise.engine.checkpoint import read_checkpoint
from clipwise.engine.log import read_log
from clipwise.errors import WorkError
from clipwise.recipe import Recipe, dump_recipe


def verify_resume(
    recipe: Recipe, *, data: str | None = None, val_data: str | None = None, device: str | None = None, steps: int = 4
) -> int:
    """Compare an undisturbed run with a killed and resumed one.

    Args:
        steps: length of the runs; the kill comes after half of them.

    Returns:
        0 if all losses and weights are identical.

    Raises:
        WorkError: they differ; the message says where first.
    """
    with tempfile.TemporaryDirectory(prefix="clipwise-verify-") as name:
        folder = Path(name)
        quick = recipe.model_copy(update={"log_every": 1, "checkpoint_every_steps": max(1, steps // 2), "trackers": []})
        (folder / "recipe.yaml").write_text(dump_recipe(quick), encoding="utf-8")
        options = ["--no-validate", "--max-steps", str(steps)]
        for flag, value in (("--data", data), ("--val-data", val_data), ("--device", device)):
            options += [flag, value] if value else []
        command = [sys.executable, "-m", "clipwise", "train", str(folder / "recipe.yaml"), *options, "--work-dir"]
        print(f"1. an undisturbed run of {steps} steps", file=sys.stderr)
        _run([*command, str(folder / "whole")])
        print(f"2. the same run, killed after step {max(1, steps // 2)}", file=sys.stderr)
        _run_and_kill([*command, str(folder / "killed")], folder / "killed")
        print("3. resumed", file=sys.stderr)
        _run([*command, str(folder / "killed"), "--resume"])
        _compare(folder / "whole", folder / "killed")
    print(f"verified: {steps} steps, losses and weights are identical after a kill and a resume")
    return 0


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 130):  # 130: stopped by --max-steps
        raise WorkError(f"the run failed:\n{done.stderr.strip()[-2000:]}")


def _run_and_kill(command: Sequence[str], folder: Path) -> None:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "last.safetensors").is_file():
        time.sleep(0.01)
    if process.poll() is not None:
        raise WorkError("the run ended before it could be killed.")
    os.kill(process.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait()


def _compare(whole: Path, killed: Path) -> None:
    a, b = (
        [(x["epoch"], x["iter"], x["loss"]) for x in read_log(f / "log.jsonl") if x["mode"] == "train"]
        for f in (whole, killed)
    )
    for one, two in zip(a, b):
        if one != two:
            raise WorkError(
                f"the resumed run differs: epoch {one[0]}, batch {one[1]}: loss {one[2]} undisturbed, {two[2]} resumed. Try --deterministic."
            )
    if len(a) != len(b):
        raise WorkError(f"the resumed run took {len(b)} steps, the undisturbed one {len(a)}.")
    left, right = read_checkpoint(whole / "last.safetensors")[0], read_checkpoint(killed / "last.safetensors")[0]
    different = [key for key in left if not torch.equal(left[key], right[key])]
    if different:
        raise WorkError(
            f"the losses agree, but {len(different)} of {len(left)} tensors differ, for example {different[0]}. Try --deterministic."
        )
