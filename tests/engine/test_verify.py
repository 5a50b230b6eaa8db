"""``train --verify-resume``: says yes when a killed run goes on exactly, and finds a difference when there is one."""

import itertools
import subprocess
import sys

import pytest
import torch

from clipwise.engine import verify
from clipwise.engine.checkpoint import read_checkpoint, read_passport, save_weights
from clipwise.engine.train import train
from clipwise.errors import WorkError
from clipwise.recipe import load_recipe

QUICK = [
    "epochs=40",
    "warmup_epochs=0",
    "num_workers=0",
    "amp=no",
    "batch_size=4",
    "crop_size=32",
    "deterministic=true",
]


def test_a_killed_run_is_verified(clips):
    """Three real processes, one of which is killed."""
    command = [sys.executable, "-m", "clipwise", "train", "tsm_tiny", "--data", str(clips), "--verify-resume", *QUICK]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "verified: killed at step" in done.stdout
    assert "losses and weights are identical" in done.stdout


@pytest.fixture
def here(clips, monkeypatch):
    """Let the runs be made in this process, with something done to the killed one's checkpoint in between."""

    def run(command, max_steps=None):
        words = dict(itertools.pairwise(command))
        steps = max_steps or int(words["--max-steps"])
        recipe = load_recipe(command[4])
        train(recipe, data=words["--data"], work_dir=words["--work-dir"], resume="--resume" in command, max_steps=steps,
              validate=False, quiet=True)  # fmt: skip

    def prepare(disturb):
        def run_and_kill(command, folder):
            run(command, max_steps=2)
            disturb(folder)

        monkeypatch.setattr(verify, "_run", run)
        monkeypatch.setattr(verify, "_run_and_kill", run_and_kill)
        return load_recipe("tsm_tiny", QUICK), str(clips)

    return prepare


def edit_state(folder, change):
    path = folder / read_passport(folder / "last.safetensors").state.format(rank=0)
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def test_nothing_disturbed_is_verified(here, capsys):
    recipe, data = here(lambda folder: None)
    assert verify.verify_resume(recipe, data=data) == 0
    assert "killed at step 2 of 4" in capsys.readouterr().out


def test_a_changed_moment_is_found(here):
    """The first loss after the resume is still the same; the next one, or the weights, are not."""

    def change(state):
        state["optimizer"]["state"][0]["exp_avg"].mul_(0.5)

    recipe, data = here(lambda folder: edit_state(folder, change))
    with pytest.raises(WorkError, match=r"differs: epoch 1, batch 4: loss .* undisturbed, .* resumed|tensors differ"):
        verify.verify_resume(recipe, data=data)


def test_changed_weights_are_found(here):
    def change(folder):
        tensors, passport = read_checkpoint(folder / "last.safetensors")
        tensors["fc.bias"][0] += 1.0  # of one class: the same for all would change no loss
        save_weights(folder / "last.safetensors", tensors, passport)

    recipe, data = here(change)
    with pytest.raises(WorkError, match="the resumed run differs: epoch 1, batch 3"):
        verify.verify_resume(recipe, data=data)


def test_a_skipped_batch_is_found(here):
    recipe, data = here(lambda folder: edit_state(folder, lambda state: state.update(batch=state["batch"] + 1)))
    with pytest.raises(WorkError, match="the resumed run"):
        verify.verify_resume(recipe, data=data)
