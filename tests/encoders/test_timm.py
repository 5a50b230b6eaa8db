"""``timm:MODEL``, where timm can be imported."""

import json

import numpy as np
import pytest
import torch

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.transforms import normalize_clips
from clipwise.engine.checkpoint import load_model_and_passport
from clipwise.engine.train import train
from clipwise.errors import CheckpointError
from clipwise.infer.localize import Localizer
from clipwise.models import contract
from clipwise.models.recipe_model import build_model
from clipwise.recipe import load_recipe
from clipwise.recipe.timm_config import timm_keys

DATA = dict(
    input_size=[3, 32, 32], interpolation="bicubic", crop_pct=0.9, crop_mode="center", mean=[0.5] * 3, std=[0.5] * 3
)
VIT = dict(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=2)
NETWORKS = {"vit_tiny_patch16_224": VIT, "resnet10t": {}}


@pytest.fixture
def library():
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported here ({str(error).splitlines()[0]})")
    return timm


def saved(library, folder, name, num_classes):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = library.create_model(name, num_classes=num_classes, **NETWORKS[name]).eval()
    folder.mkdir()
    save_file(net.state_dict(), folder / "model.safetensors")
    data = DATA | {"classifier": net.pretrained_cfg["classifier"]}
    config = {"architecture": name, "num_classes": num_classes, "model_args": NETWORKS[name], "pretrained_cfg": data}
    (folder / "config.json").write_text(json.dumps(config))
    return net


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_equal_inputs_give_equal_outputs(name, library, tmp_path):
    net = saved(library, tmp_path / "m", name, 5)
    model, passport = load_model_and_passport(f"timm:{tmp_path / 'm'}")
    clips = contract.example_input(model, 2)[:, :, :3]
    frames = clips.transpose(1, 2).contiguous().flatten(0, 1)
    torch.testing.assert_close(model(clips), net(frames).unflatten(0, (2, 3)).mean(1), rtol=1e-6, atol=1e-7)
    pooled = net.forward_head(net.forward_features(frames), pre_logits=True).unflatten(0, (2, 3)).mean(1)
    torch.testing.assert_close(contract.forward_features(model, clips), pooled, rtol=1e-6, atol=1e-7)
    assert passport.classes == [f"LABEL_{i}" for i in range(5)]
    assert not contract.missing_from(contract.stages(model), model)
    probe = build_model(load_recipe(f"timm:{tmp_path / 'm'}", ["model=timm_probe", "model_args.head=attentive"]), 3)
    assert "weights from" in probe.load_from(f"timm:{tmp_path / 'm'}")
    assert probe(clips).shape == (2, 3)


def test_from_raw_pixels_to_segments(library, long_videos, features_of, tmp_path):
    """features --encoder timm:MODEL, train, localize: the localizer finds its encoder and sees the pixels that it was trained on."""
    saved(library, tmp_path / "m", "vit_tiny_patch16_224", 0)
    data = features_of(f"timm:{tmp_path / 'm'}", tmp_path / "data")
    keys = ["epochs=3", "warmup_epochs=0", "batch_size=3", "feat_dim=auto"]
    last = train(load_recipe("actionformer_tiny", keys), data=str(data), work_dir=tmp_path / "run", quiet=True).last
    localizer = Localizer(last, device="cpu")
    found = localizer(long_videos / "videos" / "v3.mp4")
    assert found.segments
    assert {s.name for s in found.segments} <= {"ring", "cross"}
    features = localizer.extractor(long_videos / "videos" / "v3.mp4")
    np.testing.assert_array_equal(features.values, np.load(data / "features" / "v3.npy"))
    assert localizer(data / "features" / "v3.npy").segments == found.segments


def test_a_missing_weight_is_refused(library, tmp_path):
    from safetensors.torch import load_file, save_file

    saved(library, tmp_path / "m", "resnet10t", 5)
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k != "fc.bias"}, tmp_path / "m" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"fc\.bias"):
        load_model_and_passport(f"timm:{tmp_path / 'm'}")


def test_timms_own_transform(library, tmp_path):
    """Within two levels of 255 (most pixels are equal), since timm resizes Pillow images; the crop lies where theirs lies."""
    from PIL import Image
    from timm.data import create_transform

    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet10t", "pretrained_cfg": DATA}))
    keys = timm_keys(tmp_path)
    assert keys["resize"] == 35  # floor(32 / 0.9)
    theirs = create_transform(**{k: v for k, v in DATA.items() if k != "crop_mode"}, is_training=False)
    recipe = load_recipe("tsn_tiny").model_dump() | {
        "input": load_recipe("tsn_tiny").model_dump()["input"] | keys["input"]
    }
    recipe["val"] |= {"resize": keys["resize"], "crop_size": keys["crop_size"]}
    spec = ClipSpec.from_recipe(recipe, "val")
    for size in ((48, 64), (91, 37), (70, 70)):
        rows = np.linspace(0, 255, size[0])[:, None, None]
        frame = (rows + np.linspace(0, 200, size[1])[None, :, None] * [1, 0.5, 0.2]).clip(0, 255).astype(np.uint8)
        ours = normalize_clips(torch.from_numpy(spec.transform.draw(*size).apply(frame)), spec.mean, spec.std)[:, 0]
        real = theirs(Image.fromarray(frame))
        levels = (ours.reshape(real.shape) - real).abs() * 255 / 2
        assert levels.max() <= 2.01
        assert levels.mean() < 0.1


def test_what_is_not_carried_out(tmp_path):
    for change, named in (({"interpolation": "lanczos"}, "lanczos"), ({"crop_mode": "border"}, "border")):
        (tmp_path / "config.json").write_text(json.dumps({"architecture": "x", "pretrained_cfg": DATA | change}))
        with pytest.raises(CheckpointError, match=named):
            load_recipe(f"timm:{tmp_path}")
