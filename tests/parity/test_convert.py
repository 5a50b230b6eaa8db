"""Other projects' checkpoints: recognized, translated, refused; every foreign layout is written from the spec, key by key."""

import json
import pickle
import re
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from clipwise.convert.weights import (
    FORMATS,
    convert_state_dict,
    guess_model,
    load_converted,
    read_foreign_checkpoint,
    save_mmaction2,
    to_mmaction2,
)
from clipwise.errors import CheckpointError
from clipwise.models import create_model

TINY = {
    "tsn_tiny": {},
    "tsm_tiny": {},
    "slowonly_tiny": {},
    "tpn_slowonly_tiny": {},
    "tpn_tsm_tiny": {},
}
SMALL = {
    **{(name, ""): args for name, args in TINY.items()},
    ("tsm_tiny", "non-local"): {"non_local": "embedded_gaussian"},
    ("tsm_tiny", "non-local on whole maps"): {"non_local": "gaussian", "non_local_sub_sample": False},
    ("tsm_tiny", "block and non-local"): {"shift_place": "block", "non_local": "embedded_gaussian"},
    ("tsm_tiny", "temporal pool"): {"temporal_pool": True},
    ("slowonly_tiny", "3x3x3"): {"inflate_style": "3x3x3"},
    ("slowonly_tiny", "non-local, flow"): {"non_local": "embedded_gaussian", "in_channels": 2},
}


def randomized(name, seed=0, **args):
    """A model whose norms are not trivial either."""
    torch.manual_seed(seed)
    model = create_model(name, num_classes=4, **args)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.dim() == 1:
                value.copy_(
                    torch.rand_like(value) + 0.5 if "var" in key or "weight" in key else torch.randn_like(value) * 0.1
                )
    return model.eval()


def clips_for(model, batch=2):
    return torch.randn(batch, model.clip_shape[0], 8, 40, 36)


def assert_same_network(a, b):
    """Equal answers; also where the classes differ only by a setting that no key shows."""
    clips = clips_for(a)
    with torch.no_grad():
        torch.testing.assert_close(a(clips), b(clips), rtol=1e-5, atol=1e-6)


# --- MMAction2 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "variant"), SMALL)
def test_mmaction2_round_trip_after_a_training_step(tmp_path, name, variant):
    """convert, one step, save, to MMAction2, convert again: the same weights, bit for bit."""
    args = SMALL[name, variant]
    save_mmaction2(tmp_path / "before.pth", (start := randomized(name, **args)).state_dict(), start, {"epoch": 3})

    checkpoint = read_foreign_checkpoint(tmp_path / "before.pth")
    assert checkpoint.meta["meta"] == {"epoch": 3}
    model = create_model(name, num_classes=4, **args)
    report = convert_state_dict(checkpoint, model)
    assert report.complete, report.summary()
    load_converted(model, report)
    assert_same_network(model.eval(), start)

    outputs = model.train()(clips_for(model))
    sum(o.square().mean() for o in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    save_mmaction2(tmp_path / "after.pth", model.state_dict(), model)

    guessed, guessed_args = guess_model(read_foreign_checkpoint(tmp_path / "after.pth"))
    assert guessed == name
    again = create_model(guessed, **guessed_args)
    load_converted(again, convert_state_dict(read_foreign_checkpoint(tmp_path / "after.pth"), again))
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
        assert not value.is_floating_point() or "running" in key or value.isfinite().all()


def test_data_parallel_prefix_stale_classifier_and_missing_counters():
    model = randomized("tpn_tsm_tiny")
    there = to_mmaction2(model.state_dict(), model)
    file = {f"module.{k}": v for k, v in there.items() if not k.endswith("num_batches_tracked")}
    file["module.cls_head.new_cls.weight"] = torch.zeros(4, 256, 1, 1, 1)
    file["module.cls_head.new_cls.bias"] = torch.zeros(4)
    other = create_model("tpn_tsm_tiny", num_classes=4).eval()
    report = convert_state_dict({"state_dict": file, "optimizer": {"state": {}}}, other)
    assert report.complete
    assert set(report.ignored) == {"cls_head.new_cls.weight", "cls_head.new_cls.bias"}
    assert any("num_batches_tracked" in note for note in report.notes)
    load_converted(other, report)
    assert_same_network(model, other)


@pytest.mark.parametrize("file", ["mmcv1_checkpoint_stub", "mmengine_runner_checkpoint_stub"])
def test_real_file_layouts_are_read_without_mmaction2(shared, file):
    """Stubs cut from real checkpoints: numpy scalars in 0.x, mmengine's HistoryBuffer in 1.x."""
    checkpoint = read_foreign_checkpoint(shared / "golden/misc" / f"{file}.pth")
    assert "backbone.conv1.conv.weight" in checkpoint.tensors
    assert "cls_head.fc_cls.weight" in checkpoint.tensors
    assert "meta" in checkpoint.meta
    # the globals that were allowed while reading are not allowed afterwards
    allowed = [g for g in torch.serialization.get_safe_globals() if isinstance(g, tuple)]
    assert not allowed


CONFIG = """
model = dict(
    type='Recognizer2D',
    backbone=dict(type='ResNetTSM', depth=50, {backbone}),
    cls_head=dict(type='TSMHead', num_classes=400, in_channels=2048))
"""


def test_number_of_segments_is_read_from_the_config():
    model = randomized("tsm_tiny", num_segments=16)
    file = {
        "state_dict": to_mmaction2(model.state_dict(), model),
        "meta": {"config": CONFIG.format(backbone="num_segments=16")},
    }
    assert guess_model(file)[1]["num_segments"] == 16


def test_what_mmaction2_can_not_run_is_not_written():
    for setting in ("reverse_shift", "shift_downsample", "online_shift"):
        model = create_model("tsm_tiny", **{setting: True})
        with pytest.raises(CheckpointError, match=f"{setting}=True"):
            to_mmaction2(model.state_dict(), model)


# --- TSN, TSM -----------------------------------------------------------------------------------------------------------------


def as_tsm_original(model, *, fc="new_fc"):
    """mit-han-lab's names for one of our TSM or TSN models."""
    out = OrderedDict()
    state = model.state_dict()
    for key, value in state.items():
        if key.startswith("fc."):
            out[f"module.{fc}.{key[3:]}"] = value
            continue
        key = key.removeprefix("backbone.")
        found = re.match(r"layer(\d)\.(\d+)\.", key)
        block = model.backbone.get_submodule(f"layer{found[1]}.{found[2]}") if found else None
        prefix, rest = (found[0], key[found.end() :]) if found else ("", key)
        if ".non_local." in key:
            part, leaf = rest.removeprefix("non_local.").split(".")
            name = {"theta": "theta", "phi": "phi.0", "g": "g.0", "out": "W.0", "bn": "W.1"}[part]
            out[f"module.base_model.{prefix}nl.{name}.{leaf}"] = value.unsqueeze(2) if value.dim() == 4 else value
            if part == "out":
                out[f"module.base_model.{prefix}nl.W.0.bias"] = torch.randn(
                    value.shape[0], generator=torch.manual_seed(5)
                )
            continue
        if block is not None and block.non_local is not None:
            prefix += "block."
        if block is not None and block.shift is not None and rest == "conv1.weight":
            rest = "conv1.net.weight"
        out[f"module.base_model.{prefix}{rest}"] = value
    for key in [k for k in out if k.endswith("W.0.bias")]:
        # the file's bias moves what the norm sees: its mean is larger by the bias
        mean = key.replace("W.0.bias", "W.1.running_mean")
        out[mean] = out[mean] + out[key]
    return {"epoch": 50, "arch": "resnet50", "state_dict": out, "best_prec1": torch.tensor(70.0)}


@pytest.mark.parametrize("fc", ["new_fc", "base_model.fc"])
@pytest.mark.parametrize(
    ("name", "args"), [("tsm_tiny", {}), ("tsn_tiny", {}), ("tsm_tiny", {"non_local": "embedded_gaussian"})]
)
def test_tsm_original(tmp_path, name, args, fc):
    model = randomized(name, **args)
    torch.save(as_tsm_original(model, fc=fc), tmp_path / "TSM.pth.tar")
    checkpoint = read_foreign_checkpoint(tmp_path / "TSM.pth.tar")
    guessed, guessed_args = guess_model(checkpoint)
    assert guessed == name
    other = create_model(guessed, **guessed_args).eval()
    report = convert_state_dict(checkpoint, other)
    assert report.source_format == "TSN/TSM original"
    assert report.complete, report.summary()
    if args:
        assert sum("folded" in why for why in report.ignored.values()) == 2
    load_converted(other, report)
    assert_same_network(model, other)


def test_tsm_of_another_body_is_refused():
    file = {
        "module.base_model.inception_3a_1x1.weight": torch.zeros(2, 2, 1, 1),
        "module.new_fc.weight": torch.zeros(2, 2),
    }
    with pytest.raises(CheckpointError, match="not a ResNet"):
        guess_model(file)


# --- TPN ----------------------------------------------------------------------------------------------------------------------


def as_tpn_original(model):
    """decisionforce's names. Mind that op2 is the top-down path."""
    out = OrderedDict()
    rules = (
        (r"^fc\.", "cls_head.fc_cls."),
        (r"^aux_head\.conv\.", "necks.aux_head.convs."),
        (r"^aux_head\.fc\.", "necks.aux_head.fc."),
        (r"^neck\.top_down\.levels\.(\d)\.conv\.", r"necks.level_fusion_op2.ops.\1.conv."),
        (r"^neck\.top_down\.levels\.(\d)\.bn\.", r"necks.level_fusion_op2.ops.\1.norm."),
        (r"^neck\.top_down\.fusion\.conv\.", "necks.level_fusion_op2.fusion_conv.0."),
        (r"^neck\.top_down\.fusion\.bn\.", "necks.level_fusion_op2.fusion_conv.1."),
        (r"^neck\.bottom_up\.levels\.(\d)\.conv\.", r"necks.level_fusion_op.ops.\1.conv."),
        (r"^neck\.bottom_up\.levels\.(\d)\.bn\.", r"necks.level_fusion_op.ops.\1.norm."),
        (r"^neck\.bottom_up\.fusion\.conv\.", "necks.level_fusion_op.fusion_conv.0."),
        (r"^neck\.bottom_up\.fusion\.bn\.", "necks.level_fusion_op.fusion_conv.1."),
        (r"^neck\.fusion\.conv\.", "necks.pyramid_fusion_op.0."),
        (r"^neck\.fusion\.bn\.", "necks.pyramid_fusion_op.1."),
        (r"^neck\.spatial\.", "necks.spatial_modulation.spatial_modulation.0.0."),
        (r"^neck\.temporal\.(\d)\.conv\.", r"necks.temporal_modulation_ops.\1.conv."),
        (r"^neck\.down\.conv\.", "necks.downsampling_ops.0.conv."),
    )
    for key, value in model.state_dict().items():
        name = key
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        volume = key.startswith(("neck", "aux_head.conv")) or model.backbone.is_3d
        if volume and value.dim() == 4:
            value = value.unsqueeze(4 if value.shape[2] > 1 and value.shape[3] == 1 else 2)
        out[name] = value
    return {"state_dict": out, "meta": {"epoch": 150}}


@pytest.mark.parametrize(("name", "args"), [("tpn_slowonly_tiny", {}), ("tpn_tsm_tiny", {"shift_downsample": True})])
def test_tpn_original(name, args):
    model = randomized(name, **args)
    file = as_tpn_original(model)
    assert guess_model(file) == (name, {"num_classes": 4, **args})
    other = create_model(name, num_classes=4, **args).eval()
    report = convert_state_dict(file, other)
    assert report.source_format == "TPN original"
    assert report.complete, report.summary()
    load_converted(other, report)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    assert_same_network(model, other)


def test_tpn_original_needs_the_shifted_projection():
    """Same names and shapes in a TSM that does not show the projection the shifted frames: refused, not scored wrongly."""
    file = as_tpn_original(randomized("tpn_tsm_tiny", shift_downsample=True))
    model = create_model("tpn_tsm_tiny", num_classes=4)
    report = convert_state_dict(file, model)
    assert not report.missing
    assert not report.unused
    with pytest.raises(CheckpointError, match="shift_downsample=True, the model False"):
        load_converted(model, report)


# --- Paddle -------------------------------------------------------------------------------------------------------------------


def paddle_letter(stage, index, blocks):
    """ResNet-101 numbers the blocks of its third stage: a, b1, b2, …"""
    if blocks > 20 and stage == 3:
        return "a" if index == 0 else f"b{index}"
    return "abcdefgh"[index]


def as_paddle1(model):
    out = {}
    norm = {"weight": "scale", "bias": "offset", "running_mean": "mean", "running_var": "variance"}
    blocks = len(model.backbone.layer3)
    for key, value in model.state_dict().items():
        array, leaf = value.numpy(), key.split(".")[-1]
        if leaf == "num_batches_tracked":
            continue
        if key.startswith("fc."):
            out["fc_0.w_0" if leaf == "weight" else "fc_0.b_0"] = array.T if leaf == "weight" else array
        elif key == "backbone.conv1.weight":
            out["conv1_weights"] = array
        elif key.startswith("backbone.bn1."):
            out[f"bn_conv1_{norm[leaf]}"] = array
        else:
            stage, index, part = re.match(r"backbone\.layer(\d)\.(\d+)\.(.+)\.\w+$", key).groups()
            name = f"{int(stage) + 1}{paddle_letter(int(stage), int(index), blocks)}_branch"
            name += "1" if part.startswith("downsample") else "2" + "abc"[int(part[-1]) - 1]
            is_norm = part.startswith("bn") or part == "downsample.1"
            out[f"bn{name}_{norm[leaf]}" if is_norm else f"res{name}_weights"] = array
    return out


def as_paddle2(model):
    out = {}
    norm = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
    blocks = len(model.backbone.layer3)
    for key, value in model.state_dict().items():
        array, leaf = value.numpy(), key.split(".")[-1]
        if leaf == "num_batches_tracked":
            continue
        if key.startswith("fc."):
            out[f"head.fc.{leaf}"] = array.T if leaf == "weight" else array
        elif key.startswith(("backbone.conv1.", "backbone.bn1.")):
            out["backbone.conv._conv.weight" if "conv1" in key else f"backbone.conv._batch_norm.{norm[leaf]}"] = array
        else:
            stage, index, part = re.match(r"backbone\.layer(\d)\.(\d+)\.(.+)\.\w+$", key).groups()
            unit = "short" if part.startswith("downsample") else f"conv{int(part[-1]) - 1}"
            is_norm = part.startswith("bn") or part == "downsample.1"
            prefix = f"backbone.res{int(stage) + 1}{paddle_letter(int(stage), int(index), blocks)}.{unit}"
            out[f"{prefix}._batch_norm.{norm[leaf]}" if is_norm else f"{prefix}._conv.weight"] = array
    return out


class NamedTensor:
    """Paddle 2 pickles a tensor as ``tuple((name, array))``."""

    def __init__(self, name, array):
        self.pair = (name, array)

    def __reduce__(self):
        return tuple, (self.pair,)


class StaticTensor:
    """Paddle 2 pickles a static tensor as a call of ``eval``."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        return eval, ("data", {"data": self.array})


def test_paddle1(tmp_path):
    model = randomized("tsn_tiny")
    arrays = as_paddle1(model)
    arrays["learning_rate_0"] = np.float32([0.1])
    (tmp_path / "TSN.pdparams").write_bytes(pickle.dumps(arrays, protocol=2))
    checkpoint = read_foreign_checkpoint(tmp_path / "TSN.pdparams")
    assert guess_model(checkpoint) == ("tsn_tiny", {"num_classes": 4})
    other = create_model("tsn_tiny", num_classes=4).eval()
    report = convert_state_dict(checkpoint, other)
    assert report.source_format == "Paddle 1.x"
    assert report.complete, report.summary()
    assert set(report.ignored) == {"learning_rate_0"}
    load_converted(other, report)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize(("layout", "depth"), [(as_paddle1, "r50"), (as_paddle1, "r101"), (as_paddle2, "r101")])
def test_names_of_deep_paddle_nets(layout, depth):
    """Every name of a bottleneck net finds its place, those of ResNet-101's third stage too (a, b1, b2, …)."""
    with torch.device("meta"):
        model = create_model(f"tsn_{depth}")
    empty = {k: torch.zeros_like(v, device="cpu") for k, v in model.state_dict().items()}
    model.state_dict = lambda: empty
    arrays = layout(model)
    assert guess_model(arrays) == (f"tsn_{depth}", {"num_classes": 400})
    report = convert_state_dict(arrays, f"tsn_{depth}")
    assert report.complete, report.summary()
    eighth = "res4b7_branch2b_weights" if layout is as_paddle1 else "backbone.res4b7.conv1._conv.weight"
    if depth == "r101":
        assert (eighth, "backbone.layer3.7.conv2.weight") in report.matched


@pytest.mark.parametrize(
    "wrap", [lambda k, v: v, NamedTensor, lambda k, v: StaticTensor(v)], ids=["arrays", "named", "static"]
)
def test_paddle2(tmp_path, wrap):
    model = randomized("tsm_tiny", reverse_shift=True)
    content = {key: wrap(key, value) for key, value in as_paddle2(model).items()}
    content["StructuredToParameterName@@"] = {"backbone.conv._conv.weight": "conv2d_0.w_0"}
    (tmp_path / "TSM.pdparams").write_bytes(pickle.dumps(content, protocol=2))
    checkpoint = read_foreign_checkpoint(tmp_path / "TSM.pdparams")
    other = create_model("tsm_tiny", num_classes=4, reverse_shift=True).eval()
    report = convert_state_dict(checkpoint, other)
    assert report.source_format == "PaddleVideo 2.x"
    assert report.complete, report.summary()
    load_converted(other, report)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    forward = create_model("tsm_tiny", num_classes=4)
    with pytest.raises(CheckpointError, match="reverse_shift=True"):
        load_converted(forward, convert_state_dict(checkpoint, forward))


def test_pp_tsm_is_refused():
    with pytest.raises(CheckpointError, match="ResNet-vd"):
        guess_model(
            {
                "backbone.conv1_1._conv.weight": np.zeros((2, 2)),
                "backbone.conv1_1._batch_norm.bias": np.zeros(2),
            }
        )


# --- refusals -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file_of", "model_of", "message"),
    [
        ("tsn_tiny", "tsm_tiny", "does not mix time"),
        ("tsm_tiny", "tsn_tiny", "shifts channels over time"),
        ("slowonly_tiny", "tsn_tiny", r"convolves over time \(SlowOnly\)"),
        ("tsm_tiny", "slowonly_tiny", "works on single frames"),
        ("tpn_tsm_tiny", "tsm_tiny", "TPN's neck"),
        ("tsm_tiny", "bmn", "BMN|recognizer"),
    ],
)
def test_another_family_is_refused(file_of, model_of, message):
    """TSN and TSM have the same names and shapes here: they would load into one another."""
    source = randomized(file_of)
    target = (
        create_model("bmn", feat_dim=8, temporal_dim=8) if model_of == "bmn" else create_model(model_of, num_classes=4)
    )
    report = convert_state_dict(to_mmaction2(source.state_dict(), source), target)
    assert not report.complete
    with pytest.raises(CheckpointError, match=message):
        load_converted(target, report)


def test_partial_match_is_listed_and_refused_unless_told():
    source = randomized("tsn_tiny")
    file = to_mmaction2(source.state_dict(), source)
    file["backbone.layer9.weight"] = file.pop("backbone.layer4.1.conv1.conv.weight")
    target = create_model("tsn_tiny", num_classes=7)
    report = convert_state_dict(file, target)
    assert report.missing == ["backbone.layer4.1.conv1.weight"]
    assert report.unused == ["backbone.layer9.weight"]
    assert [text.split(" ")[0] for text in report.mismatched] == [
        "cls_head.fc_cls.weight",
        "cls_head.fc_cls.bias",
    ]
    before = target.fc.weight.detach().clone()
    with pytest.raises(CheckpointError) as error:
        load_converted(target, report)
    for part in (
        "1 missing in the file: backbone.layer4.1.conv1.weight",
        "2 of another shape",
        "(4, 256) -> fc.weight (7, 256)",
    ):
        assert part in str(error.value)
    for line in ("missing: backbone.layer4.1.conv1.weight", "unused: backbone.layer9.weight"):
        assert line in report.summary()
    load_converted(target, report, partial=True)
    assert torch.equal(target.fc.weight, before)
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight)


def test_nothing_that_fits_is_refused_even_if_partial():
    source = randomized("tsn_tiny")
    target = create_model("bmn", feat_dim=8, temporal_dim=8)
    with pytest.raises(CheckpointError, match="nothing of this MMAction2 checkpoint fits"):
        load_converted(target, convert_state_dict(to_mmaction2(source.state_dict(), source), target), partial=True)


def test_unknown_formats_are_refused():
    with pytest.raises(CheckpointError, match=r"format is not known: 1 tensor, the first ones encoder.weight"):
        guess_model({"encoder.weight": torch.zeros(1)})
    assert len({known.name for known in FORMATS}) == len(FORMATS)


def test_unknown_depth_is_refused():
    model = randomized("tsn_tiny")
    file = {k: v for k, v in to_mmaction2(model.state_dict(), model).items() if ".layer3.1." not in k}
    with pytest.raises(CheckpointError, match=r"\(2, 2, 1, 2\) basic blocks"):
        guess_model(file)


# --- files --------------------------------------------------------------------------------------------------------------------


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self):
        import os

        return os.system, ("exit 7",)


def test_code_in_a_pickle_is_not_run(tmp_path):
    torch.save({"state_dict": {"w": torch.zeros(2)}, "meta": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"asks for \w+\.system.*could run code"):
        read_foreign_checkpoint(tmp_path / "evil.pth")
    (tmp_path / "evil.pdparams").write_bytes(pickle.dumps({"w": Evil()}, protocol=2))
    with pytest.raises(CheckpointError, match=r"asks for \w+\.system.*could run code"):
        read_foreign_checkpoint(tmp_path / "evil.pdparams")


class Expression:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return eval, self.call


def test_only_paddles_own_use_of_eval_passes(tmp_path):
    for call in (("1 + 1",), ("data", {"data": 1, "more": 2}), ("print(data)", {"data": 1})):
        (tmp_path / "w.pdparams").write_bytes(pickle.dumps({"w": Expression(*call)}, protocol=2))
        with pytest.raises(CheckpointError):
            read_foreign_checkpoint(tmp_path / "w.pdparams")


@pytest.mark.parametrize("suffix", [".pth", ".pdparams", ".safetensors"])
def test_damaged_files_are_refused(tmp_path, suffix):
    from safetensors.torch import save_file

    whole = tmp_path / f"whole{suffix}"
    tensors = {f"w{i}": torch.randn(50, 50) for i in range(3)}
    if suffix == ".pth":
        torch.save({"state_dict": tensors}, whole)
    elif suffix == ".pdparams":
        whole.write_bytes(pickle.dumps({k: v.numpy() for k, v in tensors.items()}, protocol=2))
    else:
        save_file(tensors, whole)
    assert read_foreign_checkpoint(whole).tensors.keys() == tensors.keys()
    content = whole.read_bytes()
    damaged = tmp_path / f"damaged{suffix}"
    for cut in (0, 1, 10, len(content) // 2, len(content) - 5):
        damaged.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match="damaged"):
            read_foreign_checkpoint(damaged)
    damaged.write_bytes(b"<html>404 not found</html>" * 50)
    with pytest.raises(CheckpointError, match="damaged"):
        read_foreign_checkpoint(damaged)


def test_files_without_weights_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_foreign_checkpoint(tmp_path / "none.pth")
    torch.save({"epoch": 3}, tmp_path / "log.pth")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_foreign_checkpoint(tmp_path / "log.pth")
    (tmp_path / "list.pdparams").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(CheckpointError, match="holds a list"):
        read_foreign_checkpoint(tmp_path / "list.pdparams")


def test_old_torch_files_are_read(tmp_path):
    """Before torch 1.6 a checkpoint was no zip archive; most originals are of that age."""
    torch.save({"state_dict": {"w": torch.ones(3)}}, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "old.pth.tar")
    assert read_foreign_checkpoint(tmp_path / "old.pth.tar").tensors["w"].tolist() == [1, 1, 1]


def test_bmn_goes_through_the_same_door(shared):
    keys = json.loads((shared / "golden/bmn_400x100/keys.json").read_text())["keys"]
    tensors = {k["key"]: torch.randn(k["shape"]) for k in keys if k["key"] != "sample_mask"}
    name, args = guess_model(tensors)
    assert name == "bmn"
    model = create_model(name, **args)
    report = convert_state_dict(tensors, model)
    assert report.complete, report.summary()
    load_converted(model, report)
    back = to_mmaction2(model.state_dict(), model)
    assert all(torch.equal(back[k], tensors[k]) for k in back)
