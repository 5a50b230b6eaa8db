"""Nineteen models against numbers that MMAction2 0.24.1 gave, in double precision; needs no shared data.

``tests/golden/mmaction2_0.24.json`` is an extract of what the reference printed. With CLIPWISE_REGENERATE_GOLDEN=1 it is
extracted anew from ``../shared/golden``.
"""

import functools
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipwise.convert.weights import convert_state_dict, guess_model, load_converted, to_mmaction2
from clipwise.models import create_model

GOLDEN = Path(__file__).parents[1] / "golden" / "mmaction2_0.24.json"
MODELS = {
    "tsn_r50_3seg": ("tsn_r50", {}),
    "tsn_r50_flow": ("tsn_r50", {"in_channels": 10}),
    "tsm_r50": ("tsm_r50", {"num_classes": 174}),
    "tsm_r101": ("tsm_r101", {"num_classes": 174}),
    "tsm_nl_eg": ("tsm_r50_nl", {}),
    "tsm_nl_gaussian": ("tsm_r50", {"non_local": "gaussian"}),
    "tsm_nl_dot": ("tsm_r50", {"non_local": "dot_product"}),
    "tsm_tpool": ("tsm_r50", {"temporal_pool": True}),
    "slowonly_r50_4": ("slowonly_r50", {}),
    "slowonly_r50_8": ("slowonly_r50", {}),
    "slowonly_r101_8": ("slowonly_r101", {}),
    "slowonly_r50_flow": ("slowonly_r50", {"in_channels": 2}),
    "slowonly_nl": ("slowonly_r50_nl", {}),
    "slowonly_r50_8_with_pool2": ("slowonly_r50", {"with_pool2": True}),
    "slowonly_r50_8_inflate333": ("slowonly_r50", {"inflate_style": "3x3x3"}),
    "slowonly_r50_8_no_pool1": ("slowonly_r50", {"with_pool1": False}),
    "tpn_slowonly_cascade": ("tpn_slowonly_r50", {}),
    "tpn_slowonly_parallel": ("tpn_slowonly_r50", {"flow": "parallel"}),
    "tpn_tsm": ("tpn_tsm_r50", {}),
}
# What can't be read off the keys.
INVISIBLE = {"flow", "with_pool1", "with_pool2", "non_local"}


def draw(key, shape):
    """The reference's weight of that name; a kernel with a further extent of one has the same numbers."""
    return draw_once(key, int(np.prod(shape)), int(np.prod(shape[1:]))).reshape(shape)


@functools.cache
def draw_once(key, shape, fan_in):
    """Recipe in the golden file; ``shape`` is the number of values."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("running_var"):
        value = 0.5 + rng.uniform(size=shape)
    elif key.endswith("running_mean"):
        value = 0.1 * rng.standard_normal(shape)
    elif key.endswith(".bn.weight"):
        value = (0.2 if ".conv3." in key or ".conv_out." in key else 1.0) * (0.5 + rng.uniform(size=shape))
    elif key.endswith("bias"):
        value = 0.1 * rng.standard_normal(shape)
    else:
        attention = 0.1 if ".theta." in key or ".phi." in key else 1.0
        value = rng.standard_normal(shape) * (np.sqrt(1 / fan_in) * attention)
    return torch.from_numpy(np.asarray(value)).float()


@pytest.fixture(scope="module")
def golden(request):
    if os.environ.get("CLIPWISE_REGENERATE_GOLDEN"):
        shared = request.getfixturevalue("shared")
        GOLDEN.write_text(json.dumps(extract(shared / "golden" / "mmaction2_0.24_recognition.json"), indent=0) + "\n")
    yield json.loads(GOLDEN.read_text())
    draw_once.cache_clear()


def extract(path):
    """The figures that the tests below read."""
    full = json.loads(path.read_text())
    small = {"_source": full["_source"], "_recipe": full["_recipe"]}
    for name in MODELS:
        entry = full[name]
        small[name] = {
            "input_shape": entry["input_shape"],
            "params": entry["params"],
            "features": {k: [*v["shape"][:2], v["mean"], v["std"]] for k, v in entry["features"].items()},
            **{k: v for k, v in entry.items() if k.startswith(("test_", "forward_train"))},
        }
    return small


def make(name):
    model_name, args = MODELS[name]
    model = create_model(model_name, dropout=0.0, **args)
    keys = to_mmaction2(model.state_dict(), model)
    weights = {key: draw(key, tuple(value.shape)) for key, value in keys.items()}
    report = convert_state_dict(weights, model)
    load_converted(model, report)
    guessed, guessed_args = guess_model(weights)
    assert guessed == model_name.removesuffix("_nl")
    for key, value in args.items():
        if key not in INVISIBLE:
            assert guessed_args[key] == value
    return model.double().eval()


def views(model, seed, shape):
    x = torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32)).double()
    if len(shape) == 6:
        return x.flatten(0, 1)
    if model.num_segments:
        x = x.unflatten(1, (-1, model.num_segments)).flatten(0, 1)
    return x.transpose(1, 2)


@pytest.mark.parametrize("name", MODELS)
def test_model(golden, name):
    entry, model = golden[name], make(name)
    shape = entry["input_shape"]
    assert sum(p.numel() for p in model.parameters()) == entry["params"]

    stages = {}
    hooks = [model.backbone.bn1.register_forward_hook(lambda m, i, out: stages.update(conv1=F.relu(out)))]
    for i, stage in enumerate(model.backbone.stages(), 1):
        hooks.append(stage[-1].register_forward_hook(lambda m, i, out, key=f"layer{i}": stages.update({key: out})))
    with torch.no_grad():
        logits = model(views(model, 0, shape))
    for hook in hooks:
        hook.remove()
    for key, (_, channels, mean, std) in entry["features"].items():
        assert stages[key].shape[1] == channels
        assert stages[key].mean().item() == pytest.approx(mean, rel=1e-9)
        assert stages[key].std().item() == pytest.approx(std, rel=1e-9)

    by_video = logits.unflatten(0, (shape[0], -1))  # (N, V, K)
    results = {
        "test_None": logits,
        "test_score": by_video.mean(1),
        "test_prob": by_video.mean(1).softmax(1) if model.views_before_softmax else by_video.softmax(2).mean(1),
    }
    for key, ours in results.items():
        reference = entry[key]
        assert list(ours.shape) == reference["shape"][:2]
        assert ours[0, :6].tolist() == pytest.approx(reference["row0"], rel=1e-9)
        assert ours[0].sum().item() == pytest.approx(reference["sum_row0"], rel=1e-9)

    if name.startswith("tpn"):
        check_tpn_losses(model, entry)


def check_tpn_losses(model, entry):
    """The reference computed them in eval mode; its seed-1 input has one view each."""
    labels = torch.tensor([3, 7])
    losses = entry.get("forward_train_in_eval_mode") or entry["forward_train_in_eval_mode_seed1"]
    if model.num_segments:
        clips = views(model, 1, (2, 8, 3, 64, 64))
    else:
        clips = views(model, 1, (2, 1, 3, 8, 64, 64))
    model.training = True  # only the outermost module: norms stay in eval mode
    with torch.no_grad():
        logits, aux_logits = model(clips)
    model.training = False
    assert F.cross_entropy(logits, labels).item() == pytest.approx(losses["loss_cls"], rel=1e-9)
    auxiliary = model.aux_weight * F.cross_entropy(aux_logits, labels)
    assert auxiliary.item() == pytest.approx(losses["loss_aux"], rel=1e-9)


CONFIGS = {
    "tsn/tsn_r50_1x1x3_100e_kinetics400_rgb": ("tsn_r50", {}),
    "tsn/tsn_r50_320p_1x1x3_110e_kinetics400_flow": ("tsn_r50", {"in_channels": 10}),
    "tsm/tsm_r50_1x1x8_50e_sthv1_rgb": ("tsm_r50", {"num_classes": 174}),
    "tsm/tsm_r101_1x1x8_50e_sthv1_rgb": ("tsm_r101", {"num_classes": 174}),
    "tsm/tsm_nl_embedded_gaussian_r50_1x1x8_50e_kinetics400_rgb": ("tsm_r50_nl", {}),
    "tsm/tsm_nl_gaussian_r50_1x1x8_50e_kinetics400_rgb": ("tsm_r50_nl", {"non_local": "gaussian"}),
    "tsm/tsm_nl_dot_product_r50_1x1x8_50e_kinetics400_rgb": ("tsm_r50_nl", {"non_local": "dot_product"}),
    "tsm/tsm_temporal_pool_r50_1x1x8_50e_kinetics400_rgb": ("tsm_r50", {"temporal_pool": True}),
    "slowonly/slowonly_r50_4x16x1_256e_kinetics400_rgb": ("slowonly_r50", {}),
    "slowonly/slowonly_r50_8x8x1_256e_kinetics400_rgb": ("slowonly_r50", {}),
    "slowonly/slowonly_r101_8x8x1_196e_kinetics400_rgb": ("slowonly_r101", {}),
    "slowonly/slowonly_r50_4x16x1_256e_kinetics400_flow": ("slowonly_r50", {"in_channels": 2}),
    "slowonly/slowonly_nl_embedded_gaussian_r50_4x16x1_150e_kinetics400_rgb": ("slowonly_r50_nl", {}),
    "slowonly/slowonly_r50_video_8x8x1_256e_kinetics600_rgb": ("slowonly_r50", {"num_classes": 600}),
    "slowonly/slowonly_r50_video_8x8x1_256e_kinetics700_rgb": ("slowonly_r50", {"num_classes": 700}),
    "slowonly/slowonly_imagenet_pretrained_r50_4x16x1_120e_gym99_rgb": ("slowonly_r50", {}),
    "slowonly/slowonly_imagenet_pretrained_r50_8x8x1_64e_jester_rgb": ("slowonly_r50", {"num_classes": 27}),
    "tpn/tpn_slowonly_r50_8x8x1_150e_kinetics_rgb": ("tpn_slowonly_r50", {}),
    "tpn/tpn_tsm_r50_1x1x8_150e_sthv1_rgb": ("tpn_tsm_r50", {"num_classes": 174}),
}


def test_keys_and_shapes_of_every_config(shared):
    """Names and shapes under MMAction2's conventions are exactly those of its own state dicts."""
    reference = json.loads((shared / "spec/recognition_statedict_keys.json").read_text())
    assert set(reference) == set(CONFIGS)
    for config, (name, args) in CONFIGS.items():
        with torch.device("meta"):
            model = create_model(name, **args)
        ours = {}
        for key, value in model.state_dict().items():
            ours.update(to_mmaction2({key: torch.empty(value.shape, dtype=value.dtype)}, model))
        assert {k: list(v.shape) for k, v in ours.items()} == reference[config], config
