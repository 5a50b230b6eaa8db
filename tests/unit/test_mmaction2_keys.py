"""Every key of an MMAction2 config changes the recipe, or is refused or noted by its name.

``golden/mmaction2_configs.json`` holds the values of MMAction2's own configs; the oracles below are MMAction2's meaning of a key.
"""

import copy
import json
from pathlib import Path

import pytest

from clipwise.convert.mmaction2 import translate_config
from clipwise.recipe import flatten, make_recipe
from helpers import load_script

ROOT = Path(__file__).resolve().parents[2]


def with_numbers(values):
    """JSON has no whole numbers as keys; label maps have nothing else."""
    return {int(key) if key.isdigit() else key: value for key, value in values.items()}


CONFIGS = json.loads((ROOT / "tests/golden/mmaction2_configs.json").read_text(), object_hook=with_numbers)["configs"]
NEW = "1.2.0 slowonly_imagenet-pretrained-r50_8xb16-4x16x1-steplr-150e_kinetics400-rgb"
FLOW = "1.2.0 slowonly_r50_8xb16-16x4x1-256e_kinetics400-flow"
TPN = "1.2.0 tpn-slowonly_r50_8xb8-8x8x1-150e_kinetics400-rgb"
TSM = "1.2.0 tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb"
POOL = "0.24.1 tsm_temporal_pool_r50_1x1x8_50e_kinetics400_rgb"
OLD = "0.24.1 slowonly_r50_4x16x1_256e_kinetics400_rgb"
DENSE = "0.24.1 tsn_r50_dense_1x1x5_100e_kinetics400_rgb"


@pytest.fixture(scope="module")
def benchmark():
    return load_script(ROOT / "benchmarks/mmaction2_configs.py")


@pytest.mark.parametrize("name", CONFIGS)
def test_no_key_can_change_unnoticed(benchmark, name):
    assert not translate_config(CONFIGS[name], name)[1]
    outcomes = list(benchmark.perturbed_outcomes(CONFIGS[name]))
    assert len(outcomes) > 200
    assert [path for path, outcome in outcomes if outcome not in ("changed recipe", "refused by name")] == []


def changed(name, path, value):
    """A copy of the config with ``value`` at ``a.b.0.c``; a step of a pipeline is named by its type."""
    config = copy.deepcopy(CONFIGS[name])
    owner = config = {key: value for key, value in config.items() if not key.endswith("_pipeline")}
    *way, last = path.split(".")
    for key in way:
        if isinstance(owner, list):
            owner = owner[int(key)] if key.isdigit() else next(step for step in owner if step["type"] == key)
        else:
            owner = owner.setdefault(key, {})
    if isinstance(owner, list) and last == "insert":
        owner.insert(0, value)
    elif isinstance(owner, list) and last == "append":
        owner.append(value)
    else:
        owner[last] = value
    return config


@pytest.mark.parametrize(
    ("name", "path", "value", "named"),
    [
        (FLOW, "param_scheduler.0.by_epoch", False, "by_epoch = False"),  # 34 iterations of warm-up, not 34 epochs
        (FLOW, "param_scheduler.0.end_factor", 0.5, "end_factor = 0.5"),
        (FLOW, "param_scheduler.append", {"type": "MultiStepLR", "milestones": [9], "by_epoch": True}, "MultiStepLR"),
        (NEW, "param_scheduler.1.end", 100, "end = 100"),  # the milestones 90 and 130
        (NEW, "test_cfg.fp16", True, "test_cfg.fp16 = True"),
        (NEW, "train_dataloader.sampler.shuffle", False, "shuffle"),
        (NEW, "train_dataloader.drop_last", True, "drop_last = True"),
        (NEW, "train_dataloader.batch_sampler", {"type": "MultiSourceSampler"}, "batch_sampler"),
        (NEW, "model.backbone.out_indices", [2, 3], "out_indices = [2, 3]"),
        (NEW, "model.backbone.norm_cfg", {"type": "BN3d", "requires_grad": False}, "norm_cfg.requires_grad = False"),
        (NEW, "model.backbone.norm_cfg", {"type": "BN3d", "eps": 1e-3}, "norm_cfg.eps = 0.001"),
        (NEW, "model.backbone.norm_cfg", None, "norm_cfg = None"),
        (NEW, "model.backbone.pretrained", "torchvision://resnet101", "pretrained = 'torchvision://resnet101'"),
        (NEW, "model.backbone.pretrained", "mmcls://resnet50", "pretrained = 'mmcls://resnet50'"),
        (NEW, "model.cls_head.loss_cls", {"type": "FocalLoss"}, "loss_cls.type = 'FocalLoss'"),
        (NEW, "train_dataloader.dataset.pipeline.RandomResizedCrop.lazy", True, "lazy = True"),
        (NEW, "optim_wrapper.optimizer.dampening", 0.5, "optimizer.dampening = 0.5"),
        (NEW, "optim_wraper", {"type": "OptimWrapper"}, "did you mean optim_wrapper?"),
        (NEW, "custom_imports", {"imports": ["x"]}, "custom_imports.imports = ['x']"),
        (NEW, "val_dataloader.dataset.pipeline.CenterCrop.type", "RandomCrop", "val pipeline: RandomCrop"),
        (NEW, "resume", True, "resume = True"),
        (TSM, "model.backbone.num_segments", 16, "backbone.num_segments = 16"),
        (TSM, "model.cls_head.num_segments", 16, "cls_head.num_segments = 16"),
        (POOL, "model.cls_head.temporal_pool", False, "cls_head.temporal_pool = False"),
        (POOL, "model.cls_head.in_channels", 512, "cls_head.in_channels = 512"),
        (TPN, "model.neck.out_channels", 512, "neck.out_channels = 512"),
        (TPN, "model.neck.level_fusion_cfg.mid_channels", [512, 512], "mid_channels"),
        (TPN, "model.neck.spatial_modulation_cfg.out_channels", 1024, "spatial_modulation_cfg"),
        (TPN, "model.neck.aux_head_cfg.out_channels", 174, "aux_head_cfg.out_channels = 174"),
        (TPN, "model.neck.upsample_cfg", None, "upsample_cfg = None"),
        (OLD, "data.train.pipeline.RandomResizedCrop.type", "ThreeCrop", "train pipeline: ThreeCrop"),
        (OLD, "data.train.pipeline.insert", {"type": "RandomResizedCrop"}, "SampleFrames"),
        (OLD, "data.val.pipeline.Normalize.mean", [0, 0, 0], "val pipeline: mean = [0, 0, 0]"),
        (OLD, "data.train.pipeline.RawFrameDecode.decoding_backend", "turbojpeg", "decoding_backend = 'turbojpeg'"),
        (OLD, "optimizer.lr", None, "optimizer.lr = None"),
        (OLD, "lr_config.warmup", "linear", "warmup_by_epoch"),  # mmcv's default counts iterations
        (OLD, "omnisource", True, "omnisource = True"),
        (DENSE, "data.train.pipeline.DenseSampleFrames.sample_range", 128, "sample_range = 128"),
        (DENSE, "lr_config.by_epoch", False, "by_epoch = False"),  # the milestones would be iterations
    ],
)  # fmt: skip
def test_what_would_train_something_else_is_refused(name, path, value, named):
    left = translate_config(changed(name, path, value), name)[1]
    assert named in "\n".join(left)


@pytest.mark.parametrize(
    ("name", "path", "value", "keys"),
    [
        (NEW, "auto_scale_lr.enable", True, {"auto_scale_lr": True, "base_batch_size": 128}),
        (NEW, "randomness", {"seed": 7, "deterministic": True}, {"seed": 7, "deterministic": True}),
        (NEW, "optim_wrapper.accumulative_counts", 4, {"accumulate": 4}),
        (NEW, "optim_wrapper.type", "AmpOptimWrapper", {"amp": "fp16", "optim.loss_scale": None}),
        (NEW, "optim_wrapper", {"type": "AmpOptimWrapper", "dtype": "bfloat16", "optimizer": {"type": "SGD", "lr": 0.1}},
         {"amp": "bf16", "lr": 0.1, "optim.momentum": 0.0, "weight_decay": 0.0}),  # torch's own defaults, not the recipe's
        (NEW, "sync_bn", "torch", {"sync_bn": True}),  # MMEngine's runner converts the batch norms
        (OLD, "fp16", {"loss_scale": 512.0}, {"amp": "fp16", "optim.loss_scale": 512.0}),
        (DENSE, "lr_config.step", 30, {"schedule.milestones": [30, 60, 90]}),  # a number is a period
        (NEW, "train_dataloader.dataset.pipeline.SampleFrames.target_fps", 15, {"input.target_fps": 15}),
        (NEW, "model.backbone.pretrained", "torchvision://resnet50", {"init": "imagenet"}),
        (NEW, "model.backbone.pretrained", "https://download.pytorch.org/models/resnet50-11ad3fa6.pth", {"init": "imagenet_resnet50_v2"}),
        (NEW, "model.backbone.pretrained", "https://download.pytorch.org/models/resnet50-0676ba61.pth", {"init": "imagenet_resnet50"}),
        (NEW, "model.backbone.pretrained", "https://example.org/models/resnet50.pth", {"init": "https://example.org/models/resnet50.pth"}),
    ],
)  # fmt: skip
def test_what_a_recipe_can_say_is_taken_over(name, path, value, keys):
    config = changed(name, path, value)
    if path.endswith("target_fps"):
        for part in ("val", "test"):
            config[f"{part}_dataloader"]["dataset"]["pipeline"][1]["target_fps"] = value
    values, left = translate_config(config, name)
    assert not left
    recipe = flatten(make_recipe(values).model_dump())
    assert {key: recipe[key] for key in keys} == keys


def test_other_image_weights_do_not_become_the_papers():
    """Fourteen of MMAction2 1.2's configs start from torchvision's second training of ResNet-50."""
    config = CONFIGS[NEW]
    assert config["model"]["backbone"]["pretrained"] == "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
    assert translate_config(config, NEW)[0]["init"] == "imagenet_resnet50_v2"


def test_what_changes_no_result_is_noted():
    values, left = translate_config(changed(OLD, "work_dir", "elsewhere") | {"log_level": "DEBUG"}, OLD)
    assert not left
    assert "log_level = 'DEBUG'" in values["notes"][-1]
    assert "work_dir = 'elsewhere'" in values["notes"][-1]


def test_a_shorthand_that_came_too_late_is_refused():
    """In MMEngine's configs a child's ``train_pipeline`` does not reach the data set that its base made with the old one."""
    config = copy.deepcopy(CONFIGS[NEW])
    config["train_pipeline"][1]["clip_len"] = 8
    left = translate_config(config, NEW)[1]
    assert len(left) == 1
    assert left[0].startswith("train_pipeline = ")
