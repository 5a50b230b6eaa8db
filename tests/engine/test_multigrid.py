"""Clips whose shape changes during a run (``multigrid``) and several clips of a decoded video (``augment.repeat``)."""

import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from clipwise.cli.explain import explain_recipe
from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.lists import read_list
from clipwise.data.loader import EpochSampler
from clipwise.data.shaped_clips import ShapedDataset, ShapedSampler, ShapeSchedule, shaped_spec
from clipwise.engine import train as training
from clipwise.engine.checkpoint import read_checkpoint
from clipwise.engine.multigrid import check_model, split_norms
from clipwise.engine.train import train
from clipwise.errors import CheckpointError, RecipeError
from clipwise.io.parse import read_json_lines
from clipwise.models import create_model
from clipwise.recipe import load_recipe
from clipwise.recipe.clip_shapes import ClipShape, batches_per_epoch, mean_batch_factor, shape_stages
from clipwise.video.decode import PyAVReader

QUICK = ["epochs=4", "warmup_epochs=0", "log.every=1", "num_workers=0", "amp=no", "batch_size=4", "crop_size=32", "augment.resize=36",
         "val.resize=36", "val.crop_size=32", "model_args.dropout=0.5"]  # fmt: skip


def recipe_of(*words, name="slowonly_r50_8x8x1_256e_kinetics400_rgb"):
    return load_recipe(name, list(words))


# -- which shape when


def test_the_papers_cycles():
    """Table 1 and figure 2 of the paper: 8B x T/4 x (H/sqrt2)^2, 4B x T/2 x (H/sqrt2)^2, 2B x T/2 x H^2, B x T x H^2, equally many steps each."""
    long = shape_stages(recipe_of("multigrid.shapes=long"))
    assert [s.shapes for s in long] == [
        (ClipShape(2, (158, 158), 8),), (ClipShape(4, (158, 158), 4),), (ClipShape(4, (224, 224), 2),), (ClipShape(8, (224, 224), 1),),
    ]  # fmt: skip
    assert [s.lr for s in long] == [8, 4, 2, 1]
    assert [(s.start, s.end) for s in long] == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    (short,) = shape_stages(recipe_of("multigrid.shapes=short"))
    assert short.shapes == (ClipShape(8, (112, 112), 4), ClipShape(8, (158, 158), 2), ClipShape(8, (224, 224), 1))
    assert short.lr == 1  # "harmful if applied to mini-batch size changes due to the short cycle"
    both = shape_stages(recipe_of("multigrid.shapes=long_short"))
    assert [x.batch for x in both[0].shapes] == [16, 8, 8]
    assert [s.lr for s in both] == [8, 4, 2, 1]
    assert mean_batch_factor(recipe_of("multigrid.shapes=long")) == (8 + 4 + 2 + 1) / 4
    assert mean_batch_factor(recipe_of("multigrid.shapes=short")) == pytest.approx((4 + 2 + 1) / 3)


def test_cycles_follow_a_stepwise_learning_rate():
    """Three stages with a cycle each, then whole clips to the end."""
    words = ["multigrid.shapes=long", "lr_schedule=step", "schedule.milestones=[40,60,80]", "epochs=100"]
    stages = shape_stages(recipe_of(*words))
    assert len(stages) == 13
    assert [s.start for s in stages[::4]] == pytest.approx([0, 0.4, 0.6, 0.8])
    assert stages[-1].shapes == (ClipShape(8, (224, 224), 1),)
    assert all(a.end == pytest.approx(b.start) for a, b in pairwise(stages))


def test_progressive_shapes_and_constant_batches():
    words = [
        "multigrid.shapes=progressive",
        "multigrid.frames={0: 4, 128: 8}",
        "multigrid.sizes={0: 112, 64: 160, 192: [224, 192]}",
    ]
    stages = shape_stages(recipe_of(*words, "multigrid.lr_scaling=sqrt"))
    assert [(s.start, s.shapes[0].frames, s.shapes[0].size) for s in stages] == [
        (0, 4, (112, 112)), (0.25, 4, (160, 160)), (0.5, 8, (160, 160)), (0.75, 8, (224, 192)),
    ]  # fmt: skip
    assert [s.shapes[0].batch for s in stages] == [8, 4, 2, 1]
    assert [s.lr for s in stages] == pytest.approx([8**0.5, 2, 2**0.5, 1])
    fixed = recipe_of(*words, "multigrid.grow_batch=false")
    assert mean_batch_factor(fixed) == 1


def test_explain_tells_the_stages_and_their_steps():
    facts = explain_recipe(recipe_of("multigrid.shapes=long", "epochs=4", "batch_size=8"), 1, 3000)
    # 3000 videos in batches of 64, 32, 16 and 8, equally many of each: 100 batches an epoch
    assert facts["steps"] == "100 an epoch, 400 in all (3000 samples)"
    assert facts["  25% to 50% of the run"] == "4 frames at 158x158 px, batch x4, learning rate x4"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["multigrid.shapes=progressive"], "needs multigrid.frames or multigrid.sizes"),
        (["multigrid.shapes=progressive", "multigrid.frames={0: 16}"], "16 at epoch 0 is more than the recipe's 8"),
        (["multigrid.shapes=progressive", "multigrid.sizes={400: 112}"], "ends after epoch 256"),
        (["multigrid.shapes=progressive", "multigrid.sizes={0: 256}"], "larger than crop_size 224"),
        (["multigrid.shapes=long", "augment.resize=null", "augment.crop=random"], "needs augment.resize"),
        (
            ["multigrid.shapes=short", "multigrid.cycles=2"],
            "multigrid.cycles has no effect with multigrid.shapes: short",
        ),
        (["multigrid.lr_scaling=none", "multigrid.grow_batch=false"], "multigrid.grow_batch has no effect"),
        (["augment.repeat=3"], "must be a multiple of augment.repeat"),
    ],
)
def test_keys_that_contradict_each_other_or_do_nothing(words, message):
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        recipe_of(*words)


def test_localizers_have_no_such_keys():
    with pytest.raises(RecipeError, match="multigrid"):
        load_recipe("bmn_tiny", ["multigrid.shapes=long"])


# -- order


def sampler(
    samples=23, batch=2, rank=0, world=1, accumulate=1, repeat=1, epochs=5, words=("multigrid.shapes=long_short",)
):
    recipe = recipe_of(f"epochs={epochs}", f"batch_size={batch}", f"accumulate={accumulate}", *words)
    batches = batches_per_epoch(recipe, samples, world)
    schedule = ShapeSchedule(shape_stages(recipe), batches // accumulate * epochs)
    base = EpochSampler(samples, batch, seed=4, rank=rank, world=world)
    return ShapedSampler(base, schedule, batches=batches, accumulate=accumulate, repeat=repeat)


def keys_of(order, epochs=5):
    found = []
    for epoch in range(epochs):
        order.set_position(epoch)
        found += list(order)
    return found


def test_a_run_sees_every_video_once_a_pass_and_once_an_epoch():
    order = sampler()
    batches = keys_of(order)
    stream = [(turn, index) for batch in batches for turn, index, *_ in batch]
    passes = max(turn for turn, _ in stream)
    assert passes >= 5
    for turn in range(passes):
        assert sorted(index for t, index in stream if t == turn) == list(range(23))
    for batch in batches:
        (place,) = {key[2:] for key in batch}
        assert len(batch) == 2 * order.schedule.stages[place[0]].shapes[place[1]].batch


def test_processes_share_the_batches_of_one():
    whole = keys_of(sampler(batch=4))
    parts = [keys_of(sampler(batch=2, rank=r, world=2)) for r in (0, 1)]
    assert len(whole) == len(parts[0])
    assert all(sorted(w) == sorted(a + b) for w, a, b in zip(whole, *parts))


def test_batches_of_a_step_have_one_shape_and_repeats_share_the_batch():
    order = sampler(samples=200, batch=4, accumulate=3, repeat=2)
    batches = keys_of(order)
    assert len(order) % 3 == 0
    for i in range(0, len(batches), 3):
        assert len({key[2:] for batch in batches[i : i + 3] for key in batch}) == 1
    shape = order.schedule.stages[0].shapes[0]
    assert len(batches[0]) * 2 == 4 * shape.batch


# -- samples


def spec_of(*words, name="tsm_tiny"):
    return ClipSpec.from_recipe(load_recipe(name, ["augment.flip=0.5", *words]))


def test_a_smaller_clip_shows_the_same_part_of_the_frame():
    """Of 92 x 72 pixels 80 x 64 are cut; of half the size half as many: the same share."""
    small = shaped_spec(spec_of(), ClipShape(4, (40, 32), 4))
    assert small.num_segments == 4
    assert (small.transform.resize, small.transform.crop_size) == ((46, 36), (40, 32))
    area = shaped_spec(spec_of("augment.crop=random_resized"), ClipShape(4, (40, 32), 4)).transform
    assert area.resize == (92, 72)  # boxes are shares of the frame anyway


def test_fewer_frames_lie_up_to_the_whole_clips_span_apart(clips):
    videos = read_list(clips / "train")
    whole = ClipSpec.from_recipe(load_recipe("slowonly_tiny", ["clip_len=8", "frame_interval=2"]))
    stages = shape_stages(load_recipe("slowonly_tiny", ["multigrid.shapes=long"]))
    data = ShapedDataset(ClipDataset(videos, whole), stages, 1)
    shape = stages[0].shapes[0]
    intervals = {data._spec(shape, turn, 3).frame_interval for turn in range(60)}
    assert intervals == set(range(2, 9))  # 2 frames, 2 to 8 apart: 8 frames 2 apart span 16
    (sample,) = data[0, 3, 0, 0]
    assert sample["frames"].shape == (1, 2, 45, 57, 3)


def test_views_of_one_decoded_video(clips, monkeypatch):
    """Three clips of a video, each as if drawn alone, from one pass over it."""
    videos = read_list(clips / "train")
    spec = spec_of()
    stages = shape_stages(load_recipe("tsm_tiny"))
    opened = []
    read = PyAVReader._read
    monkeypatch.setattr(
        PyAVReader, "_read", lambda self, indices, sink: (opened.append(indices), read(self, indices, sink))
    )
    samples = ShapedDataset(ClipDataset(videos, spec, seed=5), stages, 3)[2, 7, 0, 0]
    assert len(samples) == 3
    assert len(opened) == 1
    monkeypatch.undo()
    rng = np.random.default_rng((5, 2, 7, 0))
    with spec.open_video(videos.path(7)) as reader:
        indices = [spec.indices(reader.num_frames, rng) for _ in range(3)]
        plans = [spec.transform.draw(reader.height, reader.width, rng) for _ in range(3)]
        for sample, clip, plan in zip(samples, indices, plans):
            alone = spec.to_views(reader.frames(clip.ravel(), transform=plan.apply), clip.shape)
            assert torch.equal(sample["frames"], torch.from_numpy(alone))
            assert int(sample["label"]) == videos.label(7)
    assert not torch.equal(samples[0]["frames"], samples[1]["frames"])


# -- batch norm


@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.BatchNorm2d, (12, 3, 4, 5)), (nn.BatchNorm3d, (6, 3, 2, 4, 5)), (nn.BatchNorm1d, (6, 3))]
)
def test_split_statistics_are_those_of_each_part(kind, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 2 + 1
    model = nn.Sequential(kind(3))
    split_norms(model, 2)
    clips = torch.zeros(6, 1)
    model._forward_pre_hooks[next(iter(model._forward_pre_hooks))](model, (clips,))  # six clips, two a part
    out = model[0](x)
    parts = x.chunk(3)
    expected = torch.cat([kind(3)(part) for part in parts])
    torch.testing.assert_close(out, expected)
    axes = (0, *range(2, x.ndim))
    mean = torch.stack([part.mean(axes) for part in parts]).mean(0)
    variance = torch.stack([part.var(axes, unbiased=True) for part in parts]).mean(0)
    torch.testing.assert_close(model[0].running_mean, 0.1 * mean)
    torch.testing.assert_close(model[0].running_var, 0.9 + 0.1 * variance)
    assert model[0].state_dict().keys() == kind(3).state_dict().keys()


def test_a_model_that_cannot_take_a_shape_is_refused_by_name():
    class Fixed(nn.Module):
        clip_shape = (3, 8, 32, 32)

        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3 * 8 * 32 * 32, 2)

        def forward(self, clips):
            return self.fc(clips.flatten(1))

    stages = shape_stages(load_recipe("tsm_tiny", ["multigrid.shapes=short", "crop_size=32"]))
    with pytest.raises(RecipeError, match="Fixed can't take clips of 8 frames at 16x16 px"):
        check_model(Fixed(), stages)
    check_model(create_model("tsm_tiny", num_classes=3), stages)


# -- runs


ALL = [
    *QUICK, "batch_size=2", "multigrid.shapes=long_short", "accumulate=2", "augment.repeat=2", "ema_decay=0.9", "checkpoint.every_steps=1", "augment.mixup=0.2",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole_run(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(load_recipe("tsm_tiny", ALL), data=str(clips), work_dir=folder, quiet=True, validate=False)
    return folder


def curve(folder):
    return [
        (x["epoch"], x["iter"], x["lr"], x["loss"])
        for x in read_json_lines(folder / "log.jsonl")
        if x["mode"] == "train"
    ]


def test_a_run_of_every_shape(whole_run, clips):
    """24 videos, 4 epochs of two steps each: the stages' learning rates, on the cosine."""
    steps = curve(whole_run)
    assert len(steps) == 2 * 8  # two batches a step
    rates = [lr for *_, lr, _ in steps][::2]
    regular = [0.004 * 0.5 * (1 + np.cos(np.pi * i / 8)) for i in range(8)]
    assert rates == pytest.approx([r * f for r, f in zip(regular, (8, 8, 4, 4, 2, 2, 1, 1))], rel=1e-3)


@pytest.mark.parametrize("fatal", [1, 2])
def test_killed_in_a_cycle_and_at_a_change_of_shape(whole_run, clips, tmp_path, fatal):
    """Killed hard within a step after which the shape changes, and resumed: the same losses and weights, bit for bit."""
    child = os.fork()
    if not child:
        learn = training.Run.learn

        def die(self, batch, key, accumulate, step):
            if self.step == fatal and step:
                self.saver.wait()  # the checkpoint of the step before
                os._exit(9)
            return learn(self, batch, key, accumulate, step)

        training.Run.learn = die
        try:
            train(load_recipe("tsm_tiny", ALL), data=str(clips), work_dir=tmp_path, quiet=True, validate=False)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    train(load_recipe("tsm_tiny", ALL), data=str(clips), work_dir=tmp_path, quiet=True, validate=False, resume=True)
    assert curve(tmp_path) == curve(whole_run)
    one, two = (read_checkpoint(folder / "last.safetensors")[0] for folder in (whole_run, tmp_path))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_resuming_with_other_shapes_or_epochs_is_refused(whole_run, clips):
    for change in ("multigrid.shapes=short", "epochs=8", "augment.repeat=1"):
        with pytest.raises(CheckpointError, match=change.partition("=")[0]):
            train(load_recipe("tsm_tiny", [*ALL, change]), data=str(clips), work_dir=whole_run, quiet=True, resume=True)


def test_precise_statistics_and_validation_see_whole_clips(clips, tmp_path, monkeypatch):
    seen = []
    from clipwise.engine import batch_norm

    normalize = batch_norm.normalize_clips
    monkeypatch.setattr(batch_norm, "normalize_clips", lambda f, *a: (seen.append(f.shape), normalize(f, *a))[1])
    words = [*QUICK, "multigrid.shapes=long", "val.precise_bn_samples=8", "epochs=1"]
    result = train(load_recipe("tsm_tiny", words), data=str(clips), work_dir=tmp_path, quiet=True)
    assert {tuple(shape[1:4]) for shape in seen} == {(8, 32, 32)}
    assert 0 <= result.metrics["top1_acc"] <= 1
