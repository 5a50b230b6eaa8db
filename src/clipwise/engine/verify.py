"""``clipwise train … --verify-resume``: prove on this machine, with this data, that a killed run resumes as if nothing had happened.

A run is killed with SIGKILL after its first checkpoint and resumed for a few steps, and then repeated undisturbed, each
in a process of its own. Losses and weights at the end must be the same bits.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from clipwise.engine.checkpoint import read_checkpoint, read_passport
from clipwise.errors import WorkError
from clipwise.io.parse import read_json_lines
from clipwise.io.plugins import is_trusted
from clipwise.io.text import plural
from clipwise.recipe import Recipe, dump_recipe


def verify_resume(
    recipe: Recipe, *, data: str | None = None, val_data: str | None = None, device: str | None = None, steps: int = 2
) -> int:
    """Compare a killed and resumed run with an undisturbed one.

    Args:
        steps: a checkpoint is written after so many steps, then comes the kill; so many follow after the resume.

    Returns:
        0 if all losses and weights are identical.

    Raises:
        WorkError: they differ; the message says where first.
    """
    with tempfile.TemporaryDirectory(prefix="clipwise-verify-") as name:
        folder = Path(name)
        whole, killed = folder / "whole", folder / "killed"
        quick = recipe.model_copy(deep=True)
        quick.log.every, quick.log.trackers, quick.checkpoint.every_steps = 1, [], steps
        (folder / "recipe.yaml").write_text(dump_recipe(quick), encoding="utf-8")
        command = [sys.executable, "-m", "clipwise", "train", str(folder / "recipe.yaml"), "--no-validate"]
        for flag, value in (("--data", data), ("--val-data", val_data), ("--device", device)):
            command += [flag, value] if value else []
        command += ["--trust"] if is_trusted() else []
        print("1. a run, killed after a checkpoint", file=sys.stderr)
        _run_and_kill([*command, "--work-dir", str(killed)], killed)
        reached = read_passport(killed / "last.safetensors").step
        end = ["--max-steps", str(reached + steps)]
        print(f"2. resumed from step {reached} to {reached + steps}", file=sys.stderr)
        _run([*command, "--work-dir", str(killed), *end, "--resume"])
        print(f"3. an undisturbed run of {plural(reached + steps, 'step')}", file=sys.stderr)
        _run([*command, "--work-dir", str(whole), *end])
        _compare(whole, killed)
        taken = read_passport(whole / "last.safetensors").step
    if taken <= reached:
        raise WorkError(
            f"the recipe has only {plural(taken, 'step')}, so nothing came after the kill. Give it more epochs."
        )
    print(f"verified: killed at step {reached} of {taken} and resumed, losses and weights are identical")
    return 0


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise WorkError(f"the run failed:\n{done.stderr.strip()[-2000:]}")


def _run_and_kill(command: Sequence[str], folder: Path) -> None:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
    )
    while process.poll() is None and not (folder / "last.safetensors").is_file():
        time.sleep(0.002)
    process.kill()
    errors = process.communicate()[1]
    if not (folder / "last.safetensors").is_file():
        raise WorkError(f"the run ended before its first checkpoint:\n{errors.strip()[-2000:]}")


def _compare(whole: Path, killed: Path) -> None:
    a, b = (
        [(x["epoch"], x["iter"], x["loss"]) for x in read_json_lines(f / "log.jsonl") if x["mode"] == "train"]
        for f in (whole, killed)
    )
    for one, two in zip(a, b):
        if one != two:
            raise WorkError(
                f"the resumed run differs: epoch {one[0]}, batch {one[1]}: loss {one[2]} undisturbed, {two[2]} resumed. Try --deterministic."
            )
    if len(a) != len(b):
        raise WorkError(f"the resumed run took {plural(len(b), 'step')}, the undisturbed one {len(a)}.")
    left, right = read_checkpoint(whole / "last.safetensors")[0], read_checkpoint(killed / "last.safetensors")[0]
    different = [key for key in left if not torch.equal(left[key], right[key])]
    if different:
        raise WorkError(
            f"the losses agree, but {len(different)} of {plural(len(left), 'tensor')} differ, for example {different[0]}. Try --deterministic."
        )
