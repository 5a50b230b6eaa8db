"""The modern recipe's parts: learning rates by layer, stochastic depth, distillation, soft labels; and that all of them resume."""

import json
import math

import numpy as np
import pytest
import torch

from clipwise.engine.checkpoint import read_checkpoint, read_passport, save_weights
from clipwise.engine.distillation import distillation_loss
from clipwise.engine.network import Schedule, make_optimizer
from clipwise.engine.train import train
from clipwise.errors import CheckpointError, DataError, RecipeError
from clipwise.io.parse import read_json_lines
from clipwise.models import create_model
from clipwise.models.resnet import Block
from clipwise.recipe import load_recipe
from clipwise.tasks.logits import recognition_loss

QUICK = [
    "epochs=1",
    "warmup_epochs=0",
    "log.every=1",
    "num_workers=0",
    "amp=no",
    "batch_size=4",
    "crop_size=32",
    "val.crop_size=32",
]


def train_losses(folder, key="loss"):
    return [line[key] for line in read_json_lines(folder / "log.jsonl") if line["mode"] == "train"]


# -- learning rate by layer


@pytest.mark.parametrize("kind", ["all", "no_norm_bias"])
def test_learning_rate_falls_by_stage_from_the_head_down(kind):
    """Head and what lies beside the body x1, layer4 x0.5, layer3 x0.25, layer2 x0.125, layer1 x0.0625, stem x0.03125."""
    model = create_model("tpn_tsm_tiny", num_classes=5)
    recipe = load_recipe(
        "tsm_tiny", ["optim.layer_decay=0.5", f"optim.param_groups={kind}", "lr=0.64", "warmup_epochs=0"]
    )
    optimizer = make_optimizer(model, recipe, 0.64)
    group_of = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    stages = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1}
    seen = set()
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        power = stages[parts[1]] if parts[0] == "backbone" else 0
        seen.add(power)
        group = group_of.pop(id(parameter))
        assert group["lr"] == pytest.approx(0.64 * 0.5**power), name
        decays = kind == "all" or parameter.ndim > 1
        assert group["weight_decay"] == (recipe.weight_decay if decays else 0), name
    assert seen == {0, 1, 2, 3, 4, 5}
    assert not group_of  # every parameter once
    schedule = Schedule(recipe, 10)
    schedule.set(optimizer, 200)  # half of 40 epochs: the cosine's middle
    assert sorted({g["lr"] for g in optimizer.param_groups}) == pytest.approx([0.32 * 0.5**p for p in range(5, -1, -1)])


def test_learning_rate_by_layer_is_refused_where_it_has_no_effect():
    with pytest.raises(RecipeError, match="layer_decay"):
        load_recipe("tsm_tiny", ["optim.layer_decay=0.5", "optim.param_groups=tsm"])


LOCALIZERS = {
    # base, then the heads
    "bmn_tiny": ("bmn", {"feat_dim": 16, "temporal_dim": 16}, {"base": 1, "start": 0, "end": 0, "proposal": 0}),
    # embedding, stem block, two blocks of the branch, then the heads and the levels' norms
    "actionformer_tiny": (
        "actionformer",
        {"feat_dim": 8, "num_classes": 2, "temporal_dim": 40, "width": 16, "num_levels": 3, "num_stem": 1, "window": 5},
        {"backbone.embed": 4, "backbone.stem.0": 3, "backbone.branch.0": 2, "backbone.branch.1": 1,
         "backbone.norms": 0, "classes": 0, "distances": 0},
    ),
    "tridet_tiny": (
        "tridet",
        {"feat_dim": 8, "num_classes": 2, "temporal_dim": 40, "width": 16, "num_levels": 3, "num_stem": 1},
        {"backbone.embed": 4, "backbone.stem.0": 3, "backbone.branch.0": 2, "backbone.branch.1": 1,
         "backbone.norms": 0, "classes": 0, "starts": 0, "ends": 0, "bins": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LOCALIZERS))
def test_a_localizer_s_learning_rate_falls_by_its_stages(name):
    model_name, settings, powers = LOCALIZERS[name]
    model = create_model(model_name, **settings)
    recipe = load_recipe(name, ["optim.layer_decay=0.5", "optim.param_groups=all"])
    rate_of = {id(p): g["lr"] for g in make_optimizer(model, recipe, 0.64).param_groups for p in g["params"]}
    for parameter_name, parameter in model.named_parameters():
        power = next(power for prefix, power in powers.items() if parameter_name.startswith(f"{prefix}."))
        assert rate_of.pop(id(parameter)) == pytest.approx(0.64 * 0.5**power), parameter_name
    assert not rate_of


# -- stochastic depth


def test_a_skipped_block_is_its_shortcut_and_a_kept_one_is_scaled():
    torch.manual_seed(0)
    model = create_model("slowonly_tiny", num_classes=3, drop_path=0.5).train()
    block = [m for m in model.modules() if isinstance(m, Block)][-1]
    assert block.drop_path == 0.5
    for norm in (m for m in block.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.eval()
        torch.nn.init.ones_(norm.weight)  # the last one begins at zero, so the branch would be nothing
    frames, channels = 4, block.conv1.in_channels
    x = torch.randn(64 * frames, channels, 4, 4).relu()
    with torch.no_grad():
        branch = block.residual(x, frames)
        shortcut = block.downsample(x) if block.downsample is not None else x
        out = block(x, frames).unflatten(0, (64, frames))
        skipped, kept = (torch.relu(shortcut + f * branch).unflatten(0, (64, frames)) for f in (0, 2))
    is_skipped = torch.tensor([torch.allclose(a, b, atol=1e-5) for a, b in zip(out, skipped)])
    is_kept = torch.tensor([torch.allclose(a, b, atol=1e-5) for a, b in zip(out, kept)])
    assert (is_skipped ^ is_kept).all()  # whole clips, one or the other
    assert 16 < is_kept.sum() < 48


def test_in_evaluation_every_block_counts():
    torch.manual_seed(0)
    plain, dropped = (create_model("slowonly_tiny", num_classes=3, drop_path=rate).eval() for rate in (0.0, 0.9))
    dropped.load_state_dict(plain.state_dict())
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(dropped(clips), plain(clips), rtol=0, atol=0)


# -- distillation


def test_distillation_by_hand():
    """Two classes, temperature 2: the student's shares are softmax(0, ln 3 / 2), the teacher's softmax(ln 3 / 2, 0)."""
    root = math.sqrt(3)
    low, high = 1 / (1 + root), root / (1 + root)
    divergence = high * math.log(high / low) + low * math.log(low / high)
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[math.log(3), 0.0]])
    assert distillation_loss(student, teacher, 2.0).item() == pytest.approx(4 * divergence, rel=1e-6)
    assert distillation_loss(teacher, teacher, 2.0).item() == pytest.approx(0, abs=1e-7)
    both = distillation_loss(torch.cat([student, teacher]), torch.cat([teacher, teacher]), 2.0)
    assert both.item() == pytest.approx(2 * divergence, rel=1e-6)  # the mean over the batch


def distilled(clips, trained, *words):
    return load_recipe("tsm_tiny", [*QUICK, f"distill.from={trained}", *words])


def test_a_run_with_a_teacher(clips, trained, tmp_path, monkeypatch):
    """The loss is (1 - w) x label + w x teacher; the teacher stays as it was, in evaluation mode, and out of the checkpoint."""
    from clipwise.engine import recognition

    tasks = []
    original = recognition.RecognitionTask.__init__

    def remember(self, *args, **kwargs):
        original(self, *args, **kwargs)
        tasks.append(self)

    monkeypatch.setattr(recognition.RecognitionTask, "__init__", remember)
    result = train(distilled(clips, trained, "distill.weight=0.3"), data=str(clips), work_dir=tmp_path, quiet=True)
    for line in (x for x in read_json_lines(tmp_path / "log.jsonl") if x["mode"] == "train"):
        assert line["loss"] == pytest.approx(0.7 * line["loss_cls"] + 0.3 * line["loss_distill"], rel=1e-5)
        assert line["loss_distill"] > 0
    teacher = tasks[0].teacher.model
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    before = read_checkpoint(trained)[0]
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert read_checkpoint(result.last)[0].keys() == before.keys()  # one network


def test_the_teachers_term_alone_teaches_its_answers(clips, trained, tmp_path):
    """With weight 1 the labels do not matter: the divergence falls though they are all wrong."""
    videos = sorted((clips / "train").rglob("*.mp4"))
    (tmp_path / "list.txt").write_text("".join(f'"{p}" {i % 6}\n' for i, p in enumerate(videos)))
    words = [
        "distill.weight=1",
        "epochs=8",
        "num_classes=6",
        f"train_data={tmp_path / 'list.txt'}",
        "model_args.dropout=0",
    ]
    train(distilled(clips, trained, *words), work_dir=tmp_path / "run", quiet=True)
    divergence = train_losses(tmp_path / "run", "loss_distill")
    assert np.mean(divergence[-6:]) < 0.6 * np.mean(divergence[:6])
    assert train_losses(tmp_path / "run") == divergence


@pytest.mark.parametrize("what", ["classes", "mean"])
def test_a_teacher_that_does_not_fit_is_refused(clips, trained, tmp_path, what):
    tensors, passport = read_checkpoint(trained)
    if what == "classes":
        passport.classes = [f"other {i}" for i in range(6)]
    else:
        passport.recipe["input"]["mean"] = [0.0, 0.0, 0.0]
    save_weights(tmp_path / "teacher.safetensors", tensors, passport)
    with pytest.raises(
        CheckpointError, match="knows other classes" if what == "classes" else "was trained with input.mean"
    ):
        train(
            distilled(clips, tmp_path / "teacher.safetensors"), data=str(clips), work_dir=tmp_path / "run", quiet=True
        )


# -- soft labels


def soft_file(path, names, rows):
    if path.suffix == ".npz":
        np.savez(path, names=np.array(names), probs=np.asarray(rows, np.float16))
    elif path.name == "results.json":  # what `clipwise test --out` writes
        path.write_text(json.dumps({"results": [{"path": n, "scores": list(r)} for n, r in zip(names, rows)]}))
    elif path.suffix == ".jsonl":  # what `clipwise predict --topk 6 --jsonl` writes: the likeliest class first
        ranked = [[{"index": int(i), "score": r[i]} for i in np.argsort(-r)] for r in rows]
        path.write_text("".join(json.dumps({"source": n, "predictions": r}) + "\n" for n, r in zip(names, ranked)))
    else:
        path.write_text(json.dumps({n: list(r) for n, r in zip(names, rows)}))
    return path


@pytest.fixture(scope="module")
def web(clips, tmp_path_factory):
    """Twelve videos without labels in a list, and their probabilities."""
    folder = tmp_path_factory.mktemp("web")
    videos = [str(p) for p in sorted((clips / "train").rglob("*.mp4"))[:12]]
    (folder / "web.txt").write_text("".join(f'"{p}"\n' for p in videos))
    rows = np.random.default_rng(0).dirichlet(np.ones(6), 12).astype(np.float16).astype(float)
    return folder, videos, rows / rows.sum(1, keepdims=True)


@pytest.mark.parametrize("name", ["results.json", "soft.npz", "predicted.jsonl"])
def test_a_source_without_labels_learns_from_probabilities(clips, web, tmp_path, name, monkeypatch):
    """The source's loss is the soft cross-entropy with the file's rows."""
    from clipwise.engine import recognition

    folder, videos, rows = web
    file = soft_file(tmp_path / name, videos, rows)
    seen = []

    def remember(logits, labels, *args):
        loss = recognition_loss(logits, labels, *args)
        seen.append((logits.detach(), labels, loss.item()))
        return loss

    monkeypatch.setattr(recognition, "recognition_loss", remember)
    source = f"{{name: web, data: {folder / 'web.txt'}, soft_labels: {file}, batch_size: 4}}"
    train(
        load_recipe("tsm_tiny", [*QUICK, f"sources=[{source}]"]),
        data=str(clips),
        work_dir=tmp_path / "run",
        quiet=True,
    )
    main, extra = [s for s in seen if s[1].ndim == 1], [s for s in seen if s[1].ndim == 2]
    assert len(main) == len(extra) == 6
    for logits, labels, loss in extra:
        assert all(np.abs(rows - row.numpy()).max(1).min() < 1e-3 for row in labels)  # the npz has half precision
        by_hand = -(labels * torch.log_softmax(logits, 1)).sum(1).mean()
        assert loss == pytest.approx(by_hand.item(), rel=1e-5)
    assert train_losses(tmp_path / "run", "loss/web") == pytest.approx([e[2] for e in extra], rel=1e-5)


def test_soft_labels_of_the_main_list(clips, tmp_path):
    """One-hot rows are the labels: the same run, bit for bit but for the order of a sum."""
    videos = sorted((clips / "train").rglob("*.mp4"))
    names = sorted({p.parent.name for p in videos})
    file = soft_file(tmp_path / "soft.json", map(str, videos), np.eye(6)[[names.index(p.parent.name) for p in videos]])
    for folder, words in (("hard", []), ("soft", [f"lists.soft_labels={file}"])):
        recipe = load_recipe("tsm_tiny", [*QUICK, *words])
        train(recipe, data=str(clips), work_dir=tmp_path / folder, quiet=True, validate=False)
    assert train_losses(tmp_path / "soft") == pytest.approx(train_losses(tmp_path / "hard"), rel=1e-4)
    assert train_losses(tmp_path / "soft", "top1_acc") == train_losses(tmp_path / "hard", "top1_acc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # the same file names stand in every class's folder, so they alone name nothing
        (lambda names, rows: ([n.rsplit("/", 1)[1][:-4] for n in names], rows), "no probabilities for 12 of 12"),
        (lambda names, rows: (names[1:], rows[1:]), "no probabilities for 1 of 12 entries, the first: "),
        (lambda names, rows: (names, rows[:, :5]), "5 values, but there are 6 classes"),
        (lambda names, rows: (names, rows - 1), "sum to 1"),
    ],
)
def test_probabilities_that_do_not_fit_are_refused(clips, web, tmp_path, change, message):
    folder, videos, rows = web
    file = soft_file(tmp_path / "soft.json", *change(videos, rows))
    source = f"{{name: web, data: {folder / 'web.txt'}, soft_labels: {file}}}"
    with pytest.raises(DataError, match=message):
        train(load_recipe("tsm_tiny", [*QUICK, f"sources=[{source}]"]), data=str(clips), work_dir=tmp_path, quiet=True)


# -- everything at once


def test_a_run_with_everything_resumes_bit_for_bit(clips, trained, web, tmp_path):
    folder, videos, rows = web
    file = soft_file(tmp_path / "soft.json", videos, rows)
    words = [*QUICK, "epochs=2", "batch_size=8", "augment.mixup=0.2", "augment.cutmix=0.5", "augment.label_smoothing=0.1", "augment.randaugment=[2, 7]", "augment.random_erasing=0.5", "ema_decay=0.9",
             "optim.layer_decay=0.8", "model_args.drop_path=0.3", "model_args.dropout=0.5", f"distill.from={trained}", "lists.class_power=0.5",
             "grad_checkpointing=true", "val.precise_bn_samples=8", "augment.color_jitter=mmaction2_0.24", "deterministic=true",
             f"sources=[{{name: web, data: {folder / 'web.txt'}, soft_labels: {file}, every: 2}}]"]  # fmt: skip
    recipe = load_recipe("tsm_tiny", words)
    whole = train(recipe, data=str(clips), work_dir=tmp_path / "whole", quiet=True)
    for steps in (2, 4):
        train(recipe, data=str(clips), work_dir=tmp_path / "parts", quiet=True, resume="auto", max_steps=steps)
        assert read_passport(tmp_path / "parts" / "last.safetensors").step == steps
    resumed = train(recipe, data=str(clips), work_dir=tmp_path / "parts", quiet=True, resume=True)
    losses = [train_losses(tmp_path / name) for name in ("whole", "parts")]
    assert losses[0] == losses[1]
    a, b = read_checkpoint(whole.last)[0], read_checkpoint(resumed.last)[0]
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert whole.metrics == resumed.metrics
