"""A training run against numbers worked out by hand: what each optimizer step, average, choice and window must be.

The runs are real (``train`` on real files); the spies sit in torch, so the tests do not depend on how the engine is built.
"""

import contextlib
import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.hold_out import hold_out
from clipwise.data.lists import find_splits, read_list
from clipwise.engine.checkpoint import read_passport
from clipwise.engine.train import train
from clipwise.io.parse import read_json_lines
from clipwise.models import create_model
from clipwise.prepare.synthetic import write_video
from clipwise.recipe import load_recipe

BMN = [
    "model_args={max_duration: 8, hidden_dim: 8, matching_dim: 4, map_dim: 4, num_samples: 4}",
    "temporal_dim=16",
    "windows.least=0",
    "num_workers=0",
    "warmup_epochs=0",
    "schedule.by=epoch",
    "weight_decay=0",
    "log.every=1",
]
PLAIN_SGD = ["optimizer=sgd", "optim.momentum=0", "grad_clip=null", "lr_schedule=constant"]
CLIPS = ["epochs=1", "warmup_epochs=0", "log.every=1", "num_workers=0", "amp=no", "crop_size=32", "val.crop_size=32"]


@pytest.fixture
def steps(monkeypatch):
    """For each optimizer step of a run: learning rate, gradients, and weights before and after it (flat vectors)."""
    seen = []

    def spy(kind):
        original = kind.step

        def step(self, *args, **kwargs):
            parameters = [p for group in self.param_groups for p in group["params"]]
            flat = lambda tensors: torch.cat([t.detach().flatten().clone() for t in tensors])  # noqa: E731
            entry = {
                "lr": self.param_groups[0]["lr"],
                "gradient": flat([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]),
                "before": flat(parameters),
            }
            result = original(self, *args, **kwargs)
            seen.append({**entry, "after": flat(parameters)})
            return result

        monkeypatch.setattr(kind, "step", step)

    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        spy(kind)
    return seen


@contextlib.contextmanager
def watched(model_class, *, before=None, after=None):
    """Call ``before(module, inputs)`` and ``after(module, inputs, output)`` around each forward of a class of module."""
    handles = []
    if before is not None:
        handles.append(
            register_module_forward_pre_hook(lambda m, x: before(m, x) if type(m).__name__ == model_class else None)
        )
    if after is not None:
        handles.append(
            register_module_forward_hook(lambda m, x, y: after(m, x, y) if type(m).__name__ == model_class else None)
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def bmn_run(sequences, folder, *words, recipe="bmn_tiny"):
    return train(load_recipe(recipe, [*BMN, *words]), data=str(sequences), work_dir=folder, quiet=True)


# ------------------------------------------------------------------------------------------------ optimizer steps


def test_accumulated_gradients_are_the_mean_over_the_parts(tmp_path, steps):
    """Four copies of one video without augmentation: two batches of two give the gradient of one batch of two, not twice
    as much. (Batch norm sees the same statistics in both.)"""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    for i in range(4):
        write_video(tmp_path / f"{i}.mp4", frames)
    (tmp_path / "list.txt").write_text("".join(f"{i}.mp4 1\n" for i in range(4)))
    words = [*CLIPS, *PLAIN_SGD, "lr=0.1", "num_classes=2", "augment.resize=[32, 32]", "model_args={dropout: 0.0}"]
    gradients = {}
    for name, more in {"two": ["batch_size=2", "accumulate=2"], "one": ["batch_size=4"]}.items():
        recipe = load_recipe("tsm_tiny", [*words, *more])
        train(recipe, data=str(tmp_path / "list.txt"), work_dir=tmp_path / name, validate=False, quiet=True)
        assert len(steps) == 1
        gradients[name] = steps.pop()["gradient"]
    assert gradients["one"].norm() > 1e-2
    torch.testing.assert_close(gradients["two"], gradients["one"], rtol=1e-3, atol=1e-5)


def test_each_step_has_the_learning_rate_of_its_number(make_sequences, tmp_path, steps):
    """Three steps an epoch; warm-up from a quarter over one epoch, a tenth from epoch 2 on."""
    data = make_sequences(tmp_path / "data", train=6, val=1)
    words = [
        "epochs=4",
        "lr=0.9",
        "warmup_epochs=1",
        "schedule.warmup_start=0.25",
        "lr_schedule=step",
        "schedule.milestones=[2]",
    ]
    bmn_run(data, tmp_path / "run", *PLAIN_SGD[:3], *words, "batch_size=2")
    by_hand = [0.225, 0.45, 0.675] + [0.9] * 3 + [0.09] * 6
    assert [s["lr"] for s in steps] == pytest.approx(by_hand)
    for step in steps:
        torch.testing.assert_close(step["before"] - step["lr"] * step["gradient"], step["after"], rtol=1e-5, atol=1e-7)


def test_clipped_gradients_move_the_weights_by_lr_times_the_limit(make_sequences, tmp_path, steps):
    data = make_sequences(tmp_path / "data", train=2, val=1)
    words = ["optimizer=sgd", "optim.momentum=0", "lr_schedule=constant", "lr=2", "epochs=1", "batch_size=2"]
    bmn_run(data, tmp_path / "run", *words, "grad_clip=0.01")
    assert (steps[0]["after"] - steps[0]["before"]).norm().item() == pytest.approx(2 * 0.01, rel=1e-3)


# ------------------------------------------------------------------------------------------------ moving average


def averaged(steps, decay):
    """The first step's weights, then decay min(d, (1 + n) / (10 + n)) with n averages before."""
    average = steps[0]["after"].double()
    for n, step in enumerate(steps[1:], 1):
        keep = min(decay, (1 + n) / (10 + n))
        average = keep * average + (1 - keep) * step["after"].double()
    return average


def flat_file(path, names):
    tensors = load_file(path)
    return torch.cat([torch.from_numpy(tensors[name]).flatten() for name in names])


def test_the_average_by_hand_and_it_is_what_is_validated_and_saved(make_sequences, tmp_path, steps):
    data = make_sequences(tmp_path / "data", train=6, val=2)
    validated = []

    def look(module, inputs):
        if not module.training:
            validated.append(torch.cat([p.detach().flatten().clone() for p in module.parameters()]))

    words = [*PLAIN_SGD, "lr=0.5", "epochs=2", "batch_size=2", "ema_decay=0.3", "optim.param_groups=all"]
    with watched("BMN", before=look):
        result = bmn_run(data, tmp_path / "run", *words)
    assert len(steps) == 6
    network = create_model("bmn", feat_dim=16, temporal_dim=16, max_duration=8, hidden_dim=8, matching_dim=4, map_dim=4)
    saved = flat_file(result.last, [name for name, _ in network.named_parameters()])
    by_hand = averaged(steps, 0.3).float()
    assert (by_hand - steps[-1]["after"]).abs().max() > 1e-4, "the average must differ from the weights"
    torch.testing.assert_close(saved, by_hand, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(validated[-1], by_hand, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ the best checkpoint


def test_best_is_the_epoch_with_the_largest_figure(make_sequences, tmp_path):
    """Read off the log: the largest AUC of all epochs, the last of those that tie."""
    data = make_sequences(tmp_path / "data", train=4, val=4)
    result = bmn_run(data, tmp_path / "run", "lr=0.03", "epochs=6", "batch_size=2")
    values = [line for line in read_json_lines(tmp_path / "run" / "log.jsonl") if line["mode"] == "val"]
    assert len(values) == 6
    figures = [line["auc"] for line in values]
    assert max(figures) > min(figures)
    best = max(range(6), key=lambda i: (figures[i], i))
    assert result.best_metrics["auc"] == max(figures)
    assert read_passport(result.best).epoch == values[best]["epoch"]


# ------------------------------------------------------------------------------------------------ data


def test_a_fifth_of_each_class_is_held_out(tmp_path):
    for name in ("run", "walk"):
        (tmp_path / name).mkdir()
        for i in range(10):
            (tmp_path / name / f"{name}_{i:02d}_{i}.mp4").write_bytes(b"x")
    assert find_splits(str(tmp_path)).held_out
    train_part, held_out = hold_out(read_list(str(tmp_path)))
    assert (len(train_part), len(held_out)) == (16, 4)
    assert sorted(held_out.labels.tolist()) == [0, 0, 1, 1]


def test_every_epoch_augments_anew(clips, tmp_path):
    """One batch an epoch holds all clips: their pixels must differ from those of the epoch before, in most clips."""
    batches = []
    words = ["epochs=2", "batch_size=24", "crop_size=[60, 48]", "val.crop_size=[80, 64]"]

    def look(module, inputs):
        if module.training:
            batches.append({row.numpy().tobytes() for row in (inputs[0] * 100).round().to(torch.int16)})

    with watched("TSM", before=look):
        train(load_recipe("tsm_tiny", [*CLIPS, *words]), data=str(clips), work_dir=tmp_path, validate=False, quiet=True)
    assert [len(b) for b in batches] == [24, 24]
    assert len(batches[0] & batches[1]) < 4


def flow_folder(folder, count):
    """Field i: x is everywhere 10·i, y is everywhere 10·i + 5."""
    import av

    folder.mkdir(parents=True)
    for i in range(count):
        for axis, value in (("x", 10 * i), ("y", 10 * i + 5)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), value, np.uint8), format="gray")
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuvj420p"
            encoder.time_base = 1
            encoder.qmin = encoder.qmax = 1
            packets = [*encoder.encode(frame.reformat(format="yuvj420p", dst_color_range=2)), *encoder.encode(None)]
            (folder / f"flow_{axis}_{i + 1:05d}.jpg").write_bytes(b"".join(map(bytes, packets)))


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        ("tsn_r50_320p_1x1x8_110e_kinetics400_flow", (8, 10)),
        ("slowonly_r50_4x16x1_256e_kinetics400_flow", (4, 2)),
    ],
)
def test_flow_is_stacked_x_before_y_field_after_field(tmp_path, recipe, shape):
    """TSN: five fields in the channels, x0 y0 x1 y1 …; SlowOnly: x and y are the two channels."""
    flow_folder(tmp_path / "v", 25)
    (tmp_path / "list.txt").write_text("v 25 0\n")
    loaded = load_recipe(recipe)
    videos = read_list(str(tmp_path / "list.txt"), format="rawframes")
    spec = ClipSpec.from_recipe(loaded.model_dump(), "val")
    frames = ClipDataset(videos, spec)[0]["frames"]
    values = frames[0].float().mean((1, 2))  # (T, C)
    assert tuple(values.shape) == shape
    first = (values[:, 0] / 10).round()
    fields = torch.stack([first + k for k in range(shape[1] // 2)], 1)  # consecutive fields
    by_hand = torch.stack([10 * fields, 10 * fields + 5], 2).flatten(1)
    torch.testing.assert_close(values, by_hand, rtol=0, atol=2.0)


# ------------------------------------------------------------------------------------------------ losses


def test_label_smoothing_by_hand(clips, tmp_path):
    """loss = (1 - e) · nll + e · mean over classes of -log p, with the logits of the same first step."""
    outputs = {}

    def first_loss(smoothing):
        logits = []
        words = [*CLIPS, "batch_size=24", "model_args={fc_std: 0.5}", f"augment.label_smoothing={smoothing}"]
        folder = tmp_path / str(smoothing)
        with watched("TSM", after=lambda m, x, y: logits.append(y.detach()) if m.training else None):
            train(load_recipe("tsm_tiny", words), data=str(clips), work_dir=folder, validate=False, quiet=True)
        outputs[smoothing] = logits[0]
        return next(line for line in read_json_lines(folder / "log.jsonl") if line["mode"] == "train")["loss"]

    plain, smooth = first_loss(0.0), first_loss(0.3)
    torch.testing.assert_close(outputs[0.0], outputs[0.3], rtol=0, atol=0)
    uniform = -outputs[0.0].log_softmax(-1).mean().item()
    assert smooth == pytest.approx(0.7 * plain + 0.3 * uniform, rel=1e-4)
    assert not math.isclose(plain, smooth, rel_tol=1e-3)


# ------------------------------------------------------------------------------------------------ feature windows


def test_feature_windows_lie_on_their_centers(trained):
    """Frame i is gray 3·i. Stride and window 16, fixed grid: window k holds frames 16k … 16k + 15, of which eight segments
    take the second of each pair (1, 3, … 15), whose mean is 16k + 8."""
    from clipwise.infer.features import FeatureExtractor, WindowRule

    class MeanGray(torch.nn.Module):
        def forward_features(self, clips):
            return clips.mean((1, 2, 3, 4))[:, None]

    extractor = FeatureExtractor(trained, WindowRule(stride=16, window=16, grid="fixed"), device="cpu")
    mean, std = torch.tensor(extractor.spec.mean), torch.tensor(extractor.spec.std)
    extractor.model = MeanGray()
    video = np.repeat(np.arange(64, dtype=np.uint8) * 3, 72 * 96 * 3).reshape(64, 72, 96, 3)
    values = torch.from_numpy(extractor(video).values[:, 0])
    gray = (values + (mean / std).mean()) / (1 / std).mean()
    assert gray.tolist() == pytest.approx([3 * (16 * k + 8) for k in range(4)], abs=0.6)
