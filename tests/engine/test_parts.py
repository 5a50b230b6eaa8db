"""Small parts of a run, by hand: schedules, linear scaling, the order of samples, batch statistics, the watchdog."""

import math
import time
from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn

from clipwise.data.loader import EpochSampler
from clipwise.engine.batch_norm import precise_bn
from clipwise.engine.log import Watchdog
from clipwise.engine.network import Schedule
from clipwise.engine.train import train
from clipwise.errors import RecipeError
from clipwise.io.parse import read_json_lines
from clipwise.recipe import load_recipe, scaled_lr

QUICK = ["warmup_epochs=0", "num_workers=0", "amp=no", "batch_size=8", "crop_size=32", "val.crop_size=32"]


def factors(words, steps, per_epoch=10):
    schedule = Schedule(load_recipe("tsm_tiny", words), per_epoch)
    return [schedule.factor(step) for step in steps]


def test_step_schedule_with_the_warm_up_over_it():
    """MMAction2 0.x: the warm-up multiplies what the schedule gives, from warmup_start linearly to 1."""
    words = [
        "epochs=8",
        "lr_schedule=step",
        "schedule.milestones=[1, 4]",
        "schedule.gamma=0.1",
        "warmup_epochs=2",
        "schedule.warmup_start=0.2",
        "schedule.by=epoch",
    ]
    assert factors(words, [0, 5, 9]) == pytest.approx([0.2, 0.2 + 0.8 * 5 / 20, 0.2 + 0.8 * 9 / 20])
    assert factors(words, [10, 19]) == pytest.approx([0.1 * 0.6, 0.1 * (0.2 + 0.8 * 19 / 20)])
    assert factors(words, [20, 39, 40, 79]) == pytest.approx([0.1, 0.1, 0.01, 0.01])


def test_cosine_by_epoch_and_by_iteration():
    words = ["epochs=4", "lr_schedule=cosine", "warmup_epochs=0", "lr=0.1", "schedule.min_lr=0.01"]
    half = 0.1 + 0.9 * 0.5
    assert factors([*words, "schedule.by=iteration"], [0, 20, 40]) == pytest.approx([1, half, 0.1])
    quarter = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))
    assert factors([*words, "schedule.by=epoch"], [9, 10, 19]) == pytest.approx([1, quarter, quarter])


def test_the_schedule_can_begin_after_the_warm_up():
    """MMAction2 1.x."""
    words = [
        "epochs=6",
        "lr_schedule=cosine",
        "warmup_epochs=2",
        "schedule.warmup_start=0.1",
        "schedule.by=iteration",
        "schedule.after_warmup=true",
    ]
    assert factors(words, [0, 20, 40, 60]) == pytest.approx([0.1, 1, 0.5, 0], abs=1e-12)


def test_linear_scaling_of_the_notes(clips, tmp_path, capsys):
    """0.01 for 4 devices x 2 videos, 0.08 for 16 x 4; a run says it."""
    words = ["lr=0.01", "base_batch_size=8", "auto_scale_lr=true"]
    assert scaled_lr(load_recipe("tsm_tiny", [*words, "batch_size=2"]), 4) == pytest.approx(0.01)
    assert scaled_lr(load_recipe("tsm_tiny", [*words, "batch_size=4"]), 16) == pytest.approx(0.08)
    assert scaled_lr(load_recipe("tsm_tiny", [*words, "batch_size=4", "accumulate=2"]), 8) == pytest.approx(0.08)
    with pytest.raises(RecipeError, match="base_batch_size"):
        scaled_lr(load_recipe("tsm_tiny", ["auto_scale_lr=true"]), 1)
    recipe = load_recipe("tsm_tiny", [*QUICK, *words, "base_batch_size=32", "epochs=1"])
    train(recipe, data=str(clips), work_dir=tmp_path, validate=False, max_steps=1)
    assert "learning rate 0.01 -> 0.0025" in capsys.readouterr().err


@pytest.mark.parametrize("world", [1, 2, 3])
def test_global_batches_do_not_depend_on_the_number_of_processes(world):
    def batches(world, batch_size, start=0):
        samplers = [EpochSampler(26, batch_size, seed=3, rank=rank, world=world) for rank in range(world)]
        for sampler in samplers:
            sampler.set_position(5, start)
        return [sorted(chain(*parts)) for parts in zip(*samplers)]

    one = batches(1, 6)
    assert sorted(chain(*one)) == [(5, i) for i in range(26)]
    many = batches(world, 6 // world)
    assert many[:4] == one[:4]
    assert set(many[4]) >= set(one[4])  # the last one is filled up, so that all take as many
    assert batches(world, 6 // world, start=2) == many[2:]


@pytest.mark.parametrize(("power", "expected"), [(1.0, [0.8, 0.2]), (0.0, [0.5, 0.5]), (0.5, [2 / 3, 1 / 3])])
def test_class_balanced_sampling(power, expected):
    """Shares 0.8 and 0.2 to the power p: at 0.5 they stand 2 to 1."""
    labels = np.array([0] * 8000 + [1] * 2000)
    sampler = EpochSampler(len(labels), 10, labels=labels, class_power=power)
    drawn = np.bincount(labels[sampler.order(0)]) / len(labels)
    assert drawn == pytest.approx(expected, abs=0.02)


def test_precise_statistics_are_plain_means_over_the_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=0.1), nn.Flatten())
    batches = [torch.randn(4, 3, 5, 5) * (i + 1) + i for i in range(3)]
    assert precise_bn(model, batches, model) == 3
    norm = model[0]
    means = torch.stack([b.mean((0, 2, 3)) for b in batches])
    variances = torch.stack([b.var((0, 2, 3)) for b in batches])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    torch.testing.assert_close(norm.running_var, variances.mean(0))
    assert norm.momentum == 0.1


def test_a_process_that_stands_still_names_itself(capsys):
    dog = Watchdog(0.2, rank=3)
    dog.enter("waiting for data")
    time.sleep(0.7)
    dog.close()
    said = capsys.readouterr().err
    assert said.count("rank 3 made no progress") == 1
    assert "in 'waiting for data'" in said


def test_old_checkpoints_go(clips, tmp_path):
    recipe = load_recipe("tsm_tiny", [*QUICK, "epochs=3", "checkpoint.keep=2"])
    train(recipe, data=str(clips), work_dir=tmp_path, validate=False, quiet=True)
    assert sorted(p.name for p in tmp_path.glob("epoch_*")) == ["epoch_0002.safetensors", "epoch_0003.safetensors"]
    assert len(list(tmp_path.glob("state-*.pt"))) == 2  # of last and previous


def test_another_global_batch_goes_on_at_the_same_place(clips, tmp_path):
    """As when a machine left: two of three batches of 8 were taken, so four of six batches of 4 are behind it."""
    train(
        load_recipe("tsm_tiny", [*QUICK, "epochs=2", "log.every=1"]),
        data=str(clips),
        work_dir=tmp_path,
        max_steps=2,
        quiet=True,
    )
    smaller = load_recipe("tsm_tiny", [*QUICK, "epochs=2", "log.every=1", "batch_size=4"])
    train(smaller, data=str(clips), work_dir=tmp_path, validate=False, resume=True, allow_changes=True, quiet=True)
    seen = [
        (x["epoch"], x["iter"], x["iters"], x["step"])
        for x in read_json_lines(tmp_path / "log.jsonl")
        if x["mode"] == "train"
    ]
    assert seen[:2] == [(1, 1, 3, 1), (1, 2, 3, 2)]
    assert seen[2:] == [(1, 5, 6, 5), (1, 6, 6, 6), *((2, i, 6, 6 + i) for i in range(1, 7))]
