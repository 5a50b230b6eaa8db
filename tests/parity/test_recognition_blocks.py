"""Building blocks, inflation and initialization against frozen numbers of MMAction2 1.2.0 and mmcv."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clipwise.convert.weights import convert_state_dict, load_converted, to_mmaction2
from clipwise.errors import CheckpointError, RecipeError
from clipwise.models import create_model
from clipwise.models.init import load_imagenet
from clipwise.models.non_local import NonLocal
from clipwise.models.tpn import AuxiliaryHead, Pyramid, initialize_neck
from clipwise.models.tsm import TemporalShift


@pytest.fixture(scope="module")
def misc(shared):
    return json.loads((shared / "golden/misc/golden.json").read_text())


@pytest.fixture(scope="module")
def numbers(shared):
    return np.load(shared / "golden/misc/golden.npz")


def fill(module, foreign, shapes, weights_recipe):
    """Load recipe weights; ``foreign`` gives each of our names its name there, ``shapes`` that name's shape."""
    state = module.state_dict()
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            state[key] = torch.from_numpy(weights_recipe.make_tensor(foreign[key], shapes[foreign[key]])).reshape(
                value.shape
            )
    module.load_state_dict(state)
    return module.double().eval()


MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("use_scale", [False, True])
def test_non_local(weights_recipe, misc, numbers, dims, mode, sub_sample, use_scale):
    tag = f"NonLocal{dims}d/{mode}/sub{int(sub_sample)}/scale{int(use_scale)}"
    entry = next(e for e in misc["non_local"] if e["tag"] == tag)
    block = NonLocal(32, mode, sub_sample=sub_sample, use_scale=use_scale)
    pool = ".0" if sub_sample else ""
    there = {
        "g": f"g{pool}.conv",
        "theta": "theta.conv",
        "phi": f"phi{pool}.conv",
        "out": "conv_out.conv",
        "bn": "conv_out.bn",
    }
    there["project"] = "concat_project.conv"
    foreign = {key: there[key.split(".")[0]] + "." + key.split(".")[1] for key in block.state_dict()}
    shapes = dict(entry["keys"])
    assert set(foreign.values()) == set(shapes)
    fill(block, foreign, shapes, weights_recipe)

    x = torch.from_numpy(weights_recipe.make_input(f"misc/NonLocal{dims}d", entry["shape"])).double()
    with torch.no_grad():
        if dims == 3:
            frames = x.shape[2]
            y = block(x.transpose(1, 2).flatten(0, 1), frames).unflatten(0, (-1, frames)).transpose(1, 2)
        else:
            y = block(x, 1)
    assert list(y.shape) == entry["shape"]
    assert y.std().item() == pytest.approx(entry["std"], rel=1e-9)
    np.testing.assert_allclose(y.reshape(-1)[::37].numpy(), numbers[f"nl/{tag}"], rtol=1e-9, atol=1e-11)


VARIANTS = {
    "cascade_T8": {},
    "parallel_T8": {"flow": "parallel"},
    "cascade_T4": {},
    "cascade_T12": {},
    "scales_32_32_T8": {"scales": (32, 32)},
    "scales_4_8_T8": {"scales": (4, 8)},
    "no_aux": {},
    "upsample_align": {},  # MMAction2's other interpolation changes nothing at a factor of one
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_tpn_neck(weights_recipe, misc, numbers, variant):
    entry, base = misc["tpn_variants"][variant], misc["tpn_variants"]["cascade_T8"]
    frames = entry["T"]
    neck = Pyramid((64, 128), mid_channels=64, fusion_channels=128, out_channels=2048, **VARIANTS[variant])
    auxiliary = AuxiliaryHead(64, 10, 0.5)
    shapes = dict(base["keys"])
    model = create_model("tpn_slowonly_tiny")  # any TPN: it lends its names
    names = {
        own: next(iter(to_mmaction2({own: v}, model))).removeprefix("neck.") for own, v in model.state_dict().items()
    }
    fill(neck, {k: names[f"neck.{k}"] for k in neck.state_dict()}, shapes, weights_recipe)
    fill(auxiliary, {k: names[f"aux_head.{k}"] for k in auxiliary.state_dict()}, shapes, weights_recipe)

    low, high = (
        torch.from_numpy(
            weights_recipe.make_input(f"misc/tpn/{frames}/{i}", (2, channels, frames, side, side))
        ).double()
        for i, channels, side in ((0, 64, 14), (1, 128, 7))
    )
    low, high = (x.transpose(1, 2).flatten(0, 1) for x in (low, high))
    with torch.no_grad():
        maps, t = neck(low, high, frames)
        aux_logits = auxiliary(low, frames)
    maps = maps.unflatten(0, (-1, t)).transpose(1, 2)
    assert list(maps.shape) == entry["out_shape"]
    assert maps.mean().item() == pytest.approx(entry["mean"], rel=1e-9)
    np.testing.assert_allclose(maps.reshape(-1)[::53].numpy(), numbers[f"tpn/{variant}"], rtol=1e-9, atol=1e-11)
    if entry["loss_aux"] is not None:
        loss = 0.5 * F.cross_entropy(aux_logits, torch.tensor([1, 7]))
        assert loss.item() == pytest.approx(entry["loss_aux"], rel=1e-9)


def test_tpn_classifies_with_its_current_classifier():
    """MMAction2 keeps a copy of the classifier that is made at the first test and goes stale."""
    model = create_model("tpn_tsm_tiny", num_classes=3).eval()
    clips = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        before = model(clips)
        model.fc.bias += 1.0
        torch.testing.assert_close(model(clips), before + 1.0)
        # and takes any picture size, one after the other
        assert model(torch.randn(1, 3, 8, 64, 96)).shape == (1, 3)


def test_shift(misc):
    x = torch.arange(72.0).reshape(8, 9, 1, 1)
    shifted = TemporalShift(4)(x, 4)
    assert shifted.flatten(1).tolist() == misc["temporal_shift"]["out"]
    mirrored = TemporalShift(4, reverse=True)(x, 4)
    # the reversed shift of a clip is the shift of the reversed clip
    backwards = x.unflatten(0, (2, 4)).flip(1).flatten(0, 1)
    again = TemporalShift(4)(backwards, 4).unflatten(0, (2, 4)).flip(1).flatten(0, 1)
    assert torch.equal(mirrored, again)
    assert not torch.equal(mirrored, shifted)


def test_shift_downsample_shows_the_projection_the_shifted_frames():
    """The switch for checkpoints of TPN's own code: same weights, other numbers; blocks without projection agree."""
    torch.manual_seed(0)
    plain, shifted = (create_model("tsm_tiny", shift_downsample=s).double().eval() for s in (False, True))
    shifted.load_state_dict(plain.state_dict())
    first = plain.backbone.layer2[0], shifted.backbone.layer2[0]
    x = torch.randn(8, 32, 10, 10, dtype=torch.float64)
    with torch.no_grad():
        a, b = (block(x, 8) for block in first)
        assert not torch.allclose(a, b)
        moved = first[0].shift(x, 8)
        torch.testing.assert_close(b, F.relu(first[0].downsample(moved) + first[0].residual(moved, 8)))
        x = torch.randn(8, 64, 5, 5, dtype=torch.float64)
        torch.testing.assert_close(plain.backbone.layer2[1](x, 8), shifted.backbone.layer2[1](x, 8))


def test_folded_convolutions_equal_true_3d_ones():
    """(k, 1) over (T, H·W) is a (k, 1, 1) convolution."""
    model = create_model("slowonly_r50").double()
    conv = model.backbone.layer3[1].conv1
    x = torch.randn(2, 1024, 5, 3, 4, dtype=torch.float64)
    ours = conv(x.transpose(1, 2).flatten(0, 1), 5).unflatten(0, (2, 5)).transpose(1, 2)
    torch.testing.assert_close(ours, F.conv3d(x, conv.weight.unsqueeze(4), padding=(1, 0, 0)))


# --- ImageNet weights ---------------------------------------------------------------------------------------------------

BODIES = {
    "tsn_r50": ("tsn_r50", {}),
    "tsm_r50_blockres": ("tsm_r50", {}),
    "tsm_r50_block": ("tsm_r50", {"shift_place": "block"}),
    "tsm_r50_nl_embedded_gaussian": ("tsm_r50_nl", {}),
    "slowonly_r50_4x16": ("slowonly_r50", {}),
    "slowonly_r50_flow": ("slowonly_r50", {"in_channels": 2}),
    "slowonly_r50_nl_embedded_gaussian": ("slowonly_r50_nl", {}),
    "tpn_slowonly_r50_8x8": ("tpn_slowonly_r50", {}),
    "tpn_tsm_r50_1x1x8": ("tpn_tsm_r50", {}),
}


@pytest.fixture(scope="module")
def image_weights(shared, weights_recipe):
    """As the digest's were drawn: kernels not centered and the closing norms at 0.4, unlike the recipe of today."""
    weights = {}
    for key, shape in weights_recipe.load_keys(shared / "golden/pretrained/tv_resnet50_keys.json"):
        value = weights_recipe.make_tensor(key, shape)
        if len(shape) == 4:
            value = weights_recipe.fp16(
                (2 / np.prod(shape[1:])) ** 0.5 * weights_recipe.rng(key).standard_normal(shape)
            )
        elif key.endswith(".bn3.weight"):
            value = weights_recipe.fp16(0.4 * (0.5 + weights_recipe.rng(key).random_sample(shape)))
        weights[key] = torch.from_numpy(value)
    return weights


@pytest.mark.parametrize("family", BODIES)
def test_imagenet_weights_land_where_mmaction2_puts_them(misc, image_weights, family):
    name, args = BODIES[family]
    model = create_model(name, **args)
    report = load_imagenet(model, image_weights, first_conv="random")
    digest = misc["pretrained"][family]["digest"]
    ours = {
        k.removeprefix("backbone."): v for k, v in to_mmaction2(model.state_dict(), model).items() if "backbone." in k
    }
    for key, (total, norm) in digest.items():
        if "non_local" in key or (family == "slowonly_r50_flow" and key == "conv1.conv.weight"):
            continue  # random there and here
        value = ours.pop(key).double()
        assert value.norm().item() == pytest.approx(norm, rel=1e-6), key
        assert value.sum().item() == pytest.approx(total, rel=1e-5, abs=1e-4 * norm), key
    left = {k for k in ours if "non_local" not in k and "num_batches" not in k}
    assert left == ({"conv1.conv.weight"} if "flow" in family else set())
    assert len(report.inflated) == (9 if "slowonly" in family else 0)
    assert report.unused == ["fc.bias", "fc.weight"]
    if "_nl_" in family:
        assert len(report.kept) >= 5 * 10
        assert model.backbone.layer2[0].non_local.bn.weight.abs().max() == 0  # starts as the identity


def test_first_convolution_of_flow(image_weights, caplog):
    rgb = image_weights["conv1.weight"]
    model = create_model("tsn_r50", in_channels=10)
    start = model.first_conv.weight.detach().clone()
    assert "left random" in str(load_imagenet(model, image_weights, first_conv="random"))
    assert torch.equal(model.first_conv.weight, start)
    assert torch.equal(model.backbone.bn1.bias, image_weights["bn1.bias"])  # the norm is copied all the same

    with caplog.at_level("INFO", logger="clipwise"):
        report = load_imagenet(model, image_weights)
    assert report.first_conv == "averaged over 3 channels and repeated 10 times"
    assert report.first_conv in caplog.text
    torch.testing.assert_close(model.first_conv.weight.detach(), rgb.mean(1, keepdim=True).expand(-1, 10, -1, -1))

    with pytest.raises(RecipeError, match="'average' or 'random'"):
        load_imagenet(model, image_weights, first_conv="repeat")


def test_a_still_video_gives_the_image_networks_response(image_weights):
    """Inflation's point: away from the ends of time, repeated frames are answered as one image is."""
    image, video = create_model("tsn_r50").double().eval(), create_model("slowonly_r50").double().eval()
    load_imagenet(image, image_weights)
    load_imagenet(video, image_weights)
    with torch.no_grad():
        y = torch.randn(1, 512, 1, 4, 4, dtype=torch.float64)
        still = y.expand(-1, -1, 5, -1, -1).transpose(1, 2).flatten(0, 1)
        middle = video.backbone.layer3[0].conv1(still, 5).unflatten(0, (1, 5))[:, 2]
        expected = image.backbone.layer3[0].conv1(y[:, :, 0], 1)
        # a third is not exact in the checkpoint's single precision
        torch.testing.assert_close(middle, expected, rtol=1e-5, atol=1e-6)


def test_image_weights_of_another_depth_are_refused(image_weights):
    with pytest.raises(CheckpointError, match="ResNet-101"):
        load_imagenet(create_model("tsn_r101"), image_weights)
    with pytest.raises(CheckpointError, match="ResNet-18"):
        load_imagenet(create_model("tsn_r18"), image_weights)


def test_torchvision_file_through_convert(image_weights):
    """The same weights by ``clipwise convert``: everything but the classifier, and only if a partial match is allowed."""
    model = create_model("slowonly_r50")
    report = convert_state_dict(image_weights, model)
    assert report.source_format == "torchvision/timm ResNet"
    assert report.missing == ["fc.weight", "fc.bias"]
    assert set(report.ignored) == {"fc.weight", "fc.bias"}
    with pytest.raises(CheckpointError, match=r"2 missing in the file: fc\.weight, fc\.bias"):
        load_converted(model, report)
    load_converted(model, report, partial=True)
    other = create_model("slowonly_r50")
    load_imagenet(other, image_weights)
    for key, value in other.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], value), key


# --- from scratch -------------------------------------------------------------------------------------------------------

SCRATCH = [f for f in BODIES if f in ("tsn_r50", "slowonly_r50_4x16", "slowonly_r50_flow", "tpn_slowonly_r50_8x8")]


@pytest.mark.parametrize("family", [*SCRATCH, "slowonly_r50_nl_embedded_gaussian"])
def test_initialization_from_scratch(misc, family):
    torch.manual_seed(0)
    name, args = BODIES[family]
    model = create_model(name, **args)
    ours = to_mmaction2(dict(model.named_parameters()), model)
    reference = misc["pretrained"][family]["from_scratch_init_mean_std"]
    assert ours.keys() == reference.keys()
    for key, (mean, std) in reference.items():
        if "non_local" in key:
            continue  # differs: see initialize_non_local and the next test
        value = ours[key].double()
        if std == 0.0:
            assert (value == mean).all(), key
        else:
            # both sides are random: five standard errors of a difference
            error = 5 * 2**0.5 * std / value.numel() ** 0.5
            assert abs(value.mean().item() - mean) < error, key
            assert abs(value.std().item() - std) < error, key


def test_non_local_starts_as_the_identity():
    """As in the paper; MMAction2 loses this without ImageNet weights (its norm then starts at one)."""
    model = create_model("slowonly_r50_nl")
    block = model.backbone.layer3[2].non_local
    assert block.g.weight.std().item() == pytest.approx(0.01, rel=0.02)
    x = torch.randn(4, 1024, 4, 4)
    assert torch.equal(block(x, 4), x)


def test_classifiers_of_the_families():
    torch.manual_seed(0)
    for name, std in (("tsn_r50", 0.01), ("tsm_r50", 0.001), ("slowonly_r50", 0.01), ("tpn_tsm_r50", 0.01)):
        fc = create_model(name).fc
        assert fc.weight.std().item() == pytest.approx(std, rel=0.02)
        assert fc.bias.abs().max() == 0
    paddle = create_model("tsn_r50_paddle")
    bound = 2048**-0.5
    assert 0.99 * bound < paddle.fc.weight.abs().max().item() <= bound
    assert paddle.dropout.p == 0.0
    neck = nn.Conv2d(2048, 1024, 1, groups=32)
    initialize_neck(neck)
    assert neck.weight.abs().max().item() <= (6 / (64 + 1024)) ** 0.5


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("online", [False, True])
def test_the_exported_shift_is_the_same(monkeypatch, reverse, online):
    shift = TemporalShift(8, reverse=reverse, online=online)
    maps = torch.randn(3 * 4, 16, 5, 6)
    expected = shift(maps, 4)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(shift(maps, 4), expected)


@pytest.mark.parametrize("mode", ["embedded_gaussian", "dot_product"])
def test_a_new_non_local_block_is_the_identity(mode):
    """The paper's initialization: the norm that closes the branch starts at zero."""
    torch.manual_seed(0)
    block = NonLocal(16, mode)
    block.initialize()
    x = torch.randn(8, 16, 6, 6)
    assert torch.equal(block(x, 4), x)
    assert block.theta.weight.std().item() == pytest.approx(0.01, rel=0.2)
