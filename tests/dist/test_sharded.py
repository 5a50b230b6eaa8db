"""Weights cut over two processes (FSDP2 on gloo): the run of whole ones, its checkpoints, and going on in either way."""

from pathlib import Path

import pytest
import torch

from clipwise.engine.checkpoint import read_checkpoint, read_passport
from clipwise.io.parse import read_json_lines
from clipwise.engine.train import train
from clipwise.errors import RecipeError
from clipwise.recipe import load_recipe


def lines(folder, mode, key):
    return [line[key] for line in read_json_lines(folder / "log.jsonl") if line["mode"] == mode]


def test_a_sharded_run_is_the_run_and_goes_on_either_way(clips, same, launch, tmp_path):
    """Four steps on two processes with cut weights, four on one with whole ones, the rest cut again.

    Against an undisturbed run of one process. Sums are made in another order, hence the tolerances.
    """
    words = [*same, "ema_decay=0.9", "weight_decay=0.01"]
    alone, mixed = tmp_path / "alone", tmp_path / "mixed"
    whole = load_recipe("tsm_tiny", [*words, "batch_size=4"])
    train(whole, data=str(clips), work_dir=alone, quiet=True)
    cut = ["train", "tsm_tiny", "--data", clips, "--work-dir", mixed, *words, "batch_size=2", "parallel.mode=fsdp"]
    launch(2, *cut, "--max-steps", 4)
    assert read_passport(mixed / "last.safetensors").step == 4
    train(whole, data=str(clips), work_dir=mixed, resume=True, max_steps=8, quiet=True)
    assert read_passport(mixed / "last.safetensors").step == 8
    launch(2, *cut, "--resume")

    assert lines(mixed, "train", "loss") == pytest.approx(lines(alone, "train", "loss"), rel=1e-5)
    assert lines(mixed, "train", "grad_norm") == pytest.approx(lines(alone, "train", "grad_norm"), rel=1e-4)
    assert lines(mixed, "val", "top1_acc") == lines(alone, "val", "top1_acc")
    a, b = read_checkpoint(alone / "last.safetensors")[0], read_checkpoint(mixed / "last.safetensors")[0]
    assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-5, msg=key)
    states = [
        torch.load(f / read_passport(f / "last.safetensors").state.format(rank=0), weights_only=True)
        for f in (alone, mixed)
    ]
    first, second = (s["optimizer"]["state"] for s in states)
    assert first.keys() == second.keys()
    for number in first:
        moment = first[number]["momentum_buffer"]
        largest = moment.abs().max().item()
        torch.testing.assert_close(moment, second[number]["momentum_buffer"], rtol=0, atol=1e-2 * largest + 1e-6)


@pytest.mark.parametrize("compiled", ["compile=false", pytest.param("compile=true", marks=pytest.mark.slow)])
@pytest.mark.parametrize("parallel", [["parallel.mode=fsdp", "accumulate=2"], ["parallel.static_graph=true"]])
def test_options_together(clips, launch, tmp_path, parallel, compiled):
    """Everything that hooks into the network at once: recomputed blocks, joint statistics, a fused optimizer, bf16."""
    words = ["epochs=1", "warmup_epochs=0", "log.every=1", "num_workers=0", "amp=bf16", "batch_size=2", "sync_bn=true",
             "grad_checkpointing=true", "optimizer=adamw", "optim.fused=true", "lr=1e-4", "model_args.drop_path=0.1"]  # fmt: skip
    launch(2, "train", "slowonly_tiny", "--data", clips, "--work-dir", tmp_path, *words, *parallel, compiled)
    assert len(lines(tmp_path, "train", "loss")) == 6
    assert all(0 < loss < 10 for loss in lines(tmp_path, "train", "loss"))
    tensors, passport = read_checkpoint(tmp_path / "last.safetensors")
    assert passport.step == (3 if "accumulate=2" in parallel else 6)
    # blocks are computed twice, but every batch counts once
    assert all(value == 6 for key, value in tensors.items() if key.endswith("num_batches_tracked"))


@pytest.mark.parametrize("words", [["amp=fp16"], ["parallel.static_graph=true"]])
def test_what_does_not_go_together_is_refused(words):
    with pytest.raises(RecipeError, match=r"fsdp|ddp"):
        load_recipe("tsm_tiny", ["parallel.mode=fsdp", *words])


def test_a_strangers_network_is_cut_by_its_blocks(clips, tmp_path, launch):
    """A transformer of another package (tests/external_package), found by its place: the run of one process."""
    package = str(Path(__file__).resolve().parents[1] / "external_package" / "src")
    words = ["epochs=1", "warmup_epochs=0", "log.every=1", "num_workers=0", "amp=no", "optimizer=sgd", "lr=0.001"]
    words += ["--trust", f"model={package}/other_nets/__init__.py:other_vit", "--data", clips]
    launch(2, "train", "tsm_tiny", "--work-dir", tmp_path / "cut", *words, "batch_size=2", "parallel.mode=fsdp")
    launch(1, "train", "tsm_tiny", "--work-dir", tmp_path / "whole", *words, "batch_size=4")
    assert lines(tmp_path / "cut", "train", "loss") == pytest.approx(lines(tmp_path / "whole", "train", "loss"), rel=1e-4)
    a, b = (read_checkpoint(tmp_path / name / "last.safetensors")[0] for name in ("cut", "whole"))
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=1e-5, msg=key)
