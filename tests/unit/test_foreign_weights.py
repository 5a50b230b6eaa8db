"""Weights of others that fit by name and shape and yet mean something else, or nothing."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.convert.weights import convert_state_dict, guess_model, load_converted, save_mmaction2, to_mmaction2
from clipwise.engine import pretrained
from clipwise.engine.checkpoint import read_passport
from clipwise.errors import CheckpointError, ClipwiseWarning
from clipwise.io.foreign import read_foreign_checkpoint
from clipwise.models import create_model
from clipwise.models.init import load_imagenet
from clipwise.recipe import load_recipe

SLOWONLY = """
model = dict(
    type='Recognizer3D',
    backbone=dict(type='ResNet3dSlowOnly', depth=50, pretrained=None, lateral=False, conv1_kernel=(1, 7, 7), conv1_stride_t=1,
                  pool1_stride_t=1, inflate=(0, 0, 1, 1), norm_eval=False,
                  non_local=((0, 0, 0), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 0, 0)),
                  non_local_cfg=dict(sub_sample=True, use_scale={scale}, norm_cfg=dict(type='BN3d', requires_grad=True), mode='{mode}')),
    cls_head=dict(type='I3DHead', in_channels=2048, num_classes=400, spatial_type='avg', dropout_ratio=0.5))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPWISE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tsm():
    torch.manual_seed(0)
    return create_model("tsm_tiny", num_classes=10)


def write(path, model, meta=None, change=None):
    tensors = dict(to_mmaction2(model.state_dict(), model))
    torch.save({"meta": meta or {}, "state_dict": change(tensors) if change else tensors}, path)
    return path


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("partial", [False, True])
def test_nan_is_refused(tsm, tmp_path, value, partial):
    def spoil(tensors):
        tensors["backbone.layer1.0.conv2.conv.weight"][0, 0, 0, 0] = value
        return tensors

    file = write(tmp_path / "x.pth", tsm, change=spoil)
    report = convert_state_dict(read_foreign_checkpoint(file), tsm)
    assert report.not_finite == ["backbone.layer1.0.conv2.conv.weight"]
    assert not report.complete
    with pytest.raises(CheckpointError, match=r"hold NaN or infinity \(backbone.layer1.0.conv2.conv.weight\)"):
        load_converted(tsm, report, partial=partial)
    assert (
        main(
            [
                "convert",
                str(file),
                "--recipe",
                "tsm_tiny",
                "--out",
                str(tmp_path / "o.safetensors"),
                *["--partial"] * partial,
            ]
        )
        == 2
    )
    assert not (tmp_path / "o.safetensors").exists()


def test_nan_in_image_weights_is_refused():
    body = {k: v.clone() for k, v in create_model("tsn_r18").backbone.state_dict().items()}
    body["layer2.0.conv1.weight"][0] = float("nan")
    with pytest.raises(CheckpointError, match=r"layer2.0.conv1.weight .* NaN"):
        load_imagenet(create_model("tsn_r18"), body)


@pytest.mark.parametrize(
    "rename",
    [
        lambda k: f"module.{k}",
        lambda k: f"module.module.{k}",
        lambda k: f"_orig_mod.{k}",
        lambda k: f"module._orig_mod.{k}",
        lambda k: f"model.{k}",
        lambda k: k.replace("layer1.", "layer1._orig_mod."),
        lambda k: f"_fsdp_wrapped_module.{k.replace('layer2.', 'layer2._checkpoint_wrapped_module.')}",
    ],
    ids=range(7),
)
def test_names_in_wrappers(tsm, tmp_path, rename):
    file = write(tmp_path / "x.pth", tsm, change=lambda tensors: {rename(k): v for k, v in tensors.items()})
    report = convert_state_dict(read_foreign_checkpoint(file), tsm)
    assert report.complete, report.summary()
    assert guess_model(read_foreign_checkpoint(file)) == ("tsm_tiny", {"num_classes": 10})


def test_a_file_of_two_networks_keeps_its_names(tsm, tmp_path):
    file = write(tmp_path / "x.pth", tsm, change=lambda t: {**t, **{f"_orig_mod.{k}": v for k, v in t.items()}})
    assert not convert_state_dict(read_foreign_checkpoint(file), tsm).complete


def test_attention_that_the_config_tells_otherwise_is_refused():
    """An embedded Gaussian's tensors load into the dot product's network, and score something else."""
    model = create_model("slowonly_r50_nl", non_local="dot_product")
    source = {"state_dict": to_mmaction2(model.state_dict(), model)}
    told = {**source, "meta": {"config": SLOWONLY.format(mode="embedded_gaussian", scale=True)}}
    report = convert_state_dict(told, model)
    assert report.conflicts == ["the file's config has non_local='embedded_gaussian', the model 'dot_product'"]
    gaussian = create_model("slowonly_r50_nl")
    assert convert_state_dict(told, gaussian).complete
    unscaled = create_model("slowonly_r50_nl", non_local_use_scale=False)
    assert convert_state_dict(told, unscaled).conflicts == [
        "the file's config has non_local_use_scale=True, the model False"
    ]
    note = next(text for text in convert_state_dict(source, model).notes if "do not show" in text)
    assert "non_local='dot_product'" in note
    assert "with_pool1=True" in note


def test_segments_are_noted(tsm):
    source = {"state_dict": to_mmaction2(tsm.state_dict(), tsm)}
    assert any(
        "num_segments=8, " in note or "num_segments=8:" in note for note in convert_state_dict(source, tsm).notes
    )


def test_classes_of_file_and_recipe(tsm, tmp_path):
    file = write(tmp_path / "x.pth", tsm)
    report = pretrained.convert_checkpoint(file, load_recipe("tsm_tiny"), tmp_path / "o.safetensors")
    assert not any("outputs" in note for note in report.notes)
    with pytest.raises(CheckpointError, match="has 10 outputs, but the recipe says num_classes: 400"):
        pretrained.convert_checkpoint(file, load_recipe("tsm_tiny", ["num_classes=400"]), tmp_path / "o.safetensors")
    published = load_recipe("tsm_tiny", ["published={num_classes: 400}"])
    report = pretrained.convert_checkpoint(file, published, tmp_path / "o.safetensors")
    assert "the file has 10 outputs, the recipe's published model 400: converted with 10" in report.notes


def as_paddle2(model):
    """PaddleVideo 2.x's names of a ResNet of basic or bottleneck blocks, which TSN and TSM share."""
    out = {}
    for key, tensor in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        leaf = {"running_mean": "_mean", "running_var": "_variance"}.get(key.rsplit(".", 1)[1], key.rsplit(".", 1)[1])
        parts = key.split(".")
        if parts[0] == "fc":
            out[f"head.fc.{leaf}"] = (tensor.T if leaf == "weight" else tensor).numpy()
            continue
        if parts[1] in ("conv1", "bn1"):
            out[f"backbone.conv.{'_conv' if parts[1] == 'conv1' else '_batch_norm'}.{leaf}"] = tensor.numpy()
            continue
        block = f"backbone.res{int(parts[1][-1]) + 1}{'abcdef'[int(parts[2])]}"
        if parts[3] == "downsample":
            out[f"{block}.short.{'_conv' if parts[4] == '0' else '_batch_norm'}.{leaf}"] = tensor.numpy()
        else:
            kind = "_conv" if parts[3].startswith("conv") else "_batch_norm"
            out[f"{block}.conv{int(parts[3][-1]) - 1}.{kind}.{leaf}"] = tensor.numpy()
    return out


def test_paddles_tsm_at_the_tsn_door(tmp_path):
    import pickle

    model = create_model("tsn_tiny", num_classes=4)
    for name in ("TSM_k400.pdparams", "ppTSM.pdparams", "TSN.pdparams", "best.pdparams"):
        (tmp_path / name).write_bytes(
            pickle.dumps({k: np.ascontiguousarray(v) for k, v in as_paddle2(model).items()}, 2)
        )
        report = convert_state_dict(read_foreign_checkpoint(tmp_path / name), model)
        assert report.complete is ("TSM" not in name), report.summary()
    turned = create_model("tsm_tiny", num_classes=4, reverse_shift=True)
    assert convert_state_dict(read_foreign_checkpoint(tmp_path / "TSM_k400.pdparams"), turned).complete
    assert (
        "is named TSN.pdparams"
        in convert_state_dict(read_foreign_checkpoint(tmp_path / "TSN.pdparams"), turned).conflicts[0]
    )


def test_predict_and_test_take_a_file_of_others_and_say_so(tsm, tmp_path, clips):
    file = write(tmp_path / "theirs.pth", tsm)
    video = str(next(p for p in sorted(clips.rglob("*.mp4"))))
    words = [sys.executable, "-m", "clipwise", "predict", str(file), video, "--json", "--device", "cpu"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        "theirs.pth is converted as tsm_tiny, by its tensors; the file does not tell its preprocessing, that of tsm_tiny is taken"
        in done.stderr
    )
    assert f"clipwise convert {file} --recipe RECIPE" in done.stderr
    with pytest.warns(ClipwiseWarning, match="is converted as tsm_tiny"):
        assert main(["test", str(file), "--data", str(clips / "val"), "num_workers=0"]) in (0, 2)


def test_the_config_inside_a_file_gives_its_preprocessing(tmp_path):
    """What MMAction2 trains carries its config: segments, sizes, normalization and the test's views come from there."""
    import json
    from pathlib import Path

    golden = Path(__file__).parents[1] / "golden/mmaction2_configs.json"
    config = json.loads(golden.read_text())["configs"]["0.24.1 tsm_r50_flip_1x1x8_50e_sthv1_rgb"]
    text = "\n".join(f"{key} = {value!r}" for key, value in config.items())
    torch.manual_seed(0)
    model = create_model("tsm_r50", num_classes=174)
    names = [f"class {i}" for i in range(174)]
    save_mmaction2(tmp_path / "theirs.pth", model.state_dict(), model, {"config": text, "CLASSES": names})
    with pytest.warns(
        ClipwiseWarning,
        match=r"theirs.pth is converted as tsm_r50, with the preprocessing of the config inside the file",
    ):
        path = pretrained.resolve(tmp_path / "theirs.pth")
    passport = read_passport(path)
    assert passport.classes == names
    recipe = passport.recipe
    assert (passport.model, recipe["num_segments"], recipe["test"]["twice_sample"]) == ("tsm_r50", 8, True)
    assert (recipe["test"]["crop"], recipe["test"]["crop_size"], recipe["input"]["interpolation"]) == (
        "three",
        256,
        "opencv",
    )


def test_a_network_without_a_recipe_is_refused_with_its_name(tmp_path):
    model = create_model("tsm_r18", num_classes=3)
    file = write(tmp_path / "x.pth", model)
    with pytest.raises(
        CheckpointError, match=r"looks like tsm_r18 .*no packaged recipe has this network.*--recipe RECIPE"
    ):
        pretrained.resolve(file)


def test_init_leaves_a_file_as_it_is(tsm, tmp_path):
    file = write(tmp_path / "x.pth", tsm)
    assert pretrained.resolve(file, as_it_is=True) == file
