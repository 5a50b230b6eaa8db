"""``hf:MODEL``: the library's networks under our contract, their processors in our words, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.sampling import sample_frames
from clipwise.data.transforms import normalize_clips
from clipwise.engine.checkpoint import load_model, load_model_and_passport, save_weights
from clipwise.errors import CheckpointError, ClipwiseError, RecipeError
from clipwise.models import contract
from clipwise.recipe import load_recipe, make_recipe
from clipwise.recipe.processors import processor_keys

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "processors.json").read_text(encoding="utf-8"))
VIDEO = ("videomae", "timesformer", "vivit", "vjepa2")
IMAGE = ("dinov2", "dinov3", "siglip", "clip")


def library(folder):
    """The network as transformers itself loads it."""
    import transformers

    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(transformers, name).from_pretrained(folder).eval()


@pytest.mark.parametrize("kind", [*VIDEO, *IMAGE])
@torch.inference_mode()
def test_equal_inputs_give_equal_outputs(kind, release):
    folder = release(kind)
    model, passport = load_model_and_passport(f"hf:{folder}")
    net, clips = library(folder), contract.example_input(model, 2)
    pixels = clips.transpose(1, 2).contiguous()
    if kind in VIDEO:
        key = "pixel_values_videos" if kind == "vjepa2" else "pixel_values"
        assert torch.equal(model(clips), net(**{key: pixels}).logits)
        assert passport.classes == [f"LABEL_{i}" for i in range(5)]
        seen = []
        net.classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        net(**{key: pixels})
        assert torch.equal(contract.forward_features(model, clips), seen[0])
    else:
        frames = pixels.flatten(0, 1)
        output = net.get_image_features(frames) if kind in ("siglip", "clip") else net(frames)
        wanted = output.pooler_output.unflatten(0, (2, -1)).mean(1)
        assert torch.equal(contract.forward_features(model, clips), wanted)
        with pytest.raises(ClipwiseError, match="no classifier"):
            model(clips)
    assert contract.forward_features(model, clips).shape == (2, contract.num_features(model))
    parts = contract.stages(model)
    assert [part.name for part in parts] == ["stem", "layer0", "layer1", "head"]
    assert not contract.missing_from(parts, model)
    assert len(contract.blocks(model)) == 2


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=lambda c: f"{c['file'][:5]}-{list(c['settings'])[-1]}-{c['size'][0]}"
)
def test_processors_are_carried_out_exactly(case):
    """Against numbers of the processor classes on torchvision (``made_with`` in the file says which versions)."""
    settings = case["settings"]
    keys = processor_keys(settings, case["file"])
    pixels = {"resize": keys["resize"], "crop_size": keys["crop_size"]}
    recipe = make_recipe({"model": "tsn_tiny", "crop_size": keys["crop_size"], "input": keys["input"], "val": pixels})
    spec = ClipSpec.from_recipe(recipe.model_dump(), "val")
    frames = np.random.default_rng(7).integers(0, 256, (2, *case["size"], 3), dtype=np.uint8)
    plan = spec.transform.draw(*case["size"])
    clip = torch.from_numpy(np.stack([plan.apply(frame)[0] for frame in frames]))
    ours = normalize_clips(clip, spec.mean, spec.std).transpose(0, 1).double().numpy()
    assert list(ours.shape) == case["shape"]
    # ViViT's two steps are joined into one here, and DINOv3 is resized in units of pixels: the last bits of float32 differ
    np.testing.assert_allclose(ours.ravel()[case["at"]], case["values"], rtol=2e-6, atol=2e-6)
    assert ours.mean() == pytest.approx(case["mean"], abs=1e-6)


def test_the_real_processors_where_they_can_run(release):
    """With torchvision (not a dependency) the pixels are compared bit by bit."""
    pytest.importorskip("torchvision", reason="torchvision, which the processor classes need, is not installed")
    import transformers

    for kind, name in (
        ("videomae", "VideoMAEImageProcessor"),
        ("dinov2", "BitImageProcessor"),
        ("siglip", "SiglipImageProcessor"),
    ):
        folder = release(kind)
        frames = np.random.default_rng(0).integers(0, 256, (4, 37, 91, 3), dtype=np.uint8)
        real = getattr(transformers, name).from_pretrained(folder)(list(frames), return_tensors="pt")["pixel_values"]
        spec = ClipSpec.from_recipe(load_recipe(f"hf:{folder}").model_dump(), "val")
        plan = spec.transform.draw(37, 91)
        clip = torch.from_numpy(np.stack([plan.apply(frame)[0] for frame in frames]))
        ours = normalize_clips(clip, spec.mean, spec.std).transpose(0, 1)
        assert torch.equal(ours.contiguous(), real.reshape(ours.shape))


def test_frames_are_sampled_as_the_video_processors_sample(release, tmp_path):
    # by hand: i * 10 // 4
    assert sample_frames(10, clip_len=1, num_clips=4, mode="test", rule="transformers").ravel().tolist() == [0, 2, 5, 7]
    folder = release("videomae", tmp_path / "m")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_sample_frames": True, "num_frames": 4}))
    spec = ClipSpec.from_recipe(load_recipe(f"hf:{folder}").model_dump(), "test")
    assert spec.indices(10, np.random.default_rng(0)).ravel().tolist() == [0, 2, 5, 7]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"resample": 1}, "Lanczos"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "longest_edge"),
        ({"do_pad": True}, "do_pad"),
        ({"video_processor_type": "QwenVideoProcessor"}, "QwenVideoProcessor"),
        ({"do_sample_frames": True, "fps": 2}, "fps"),
    ],
)
def test_settings_that_are_not_carried_out_are_named(change, named, release, tmp_path):
    folder = release("videomae", tmp_path / "m")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=named):
        load_recipe(f"hf:{folder}")


def test_a_missing_weight_is_refused(release, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = release("videomae", tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    bias = next(
        key
        for key in tensors
        if key.endswith("layer.0.attention.attention.q_bias") or "layer.0.attention.attention.query.bias" in key
    )
    # released files name it q_bias; the library renames it
    plain = {k: v for k, v in tensors.items() if k != bias}
    save_file(
        {**plain, bias.replace("query.bias", "q_bias"): torch.ones_like(tensors[bias])},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    model = load_model(f"hf:{folder}")
    assert model.net.videomae.encoder.layer[0].attention.attention.query.bias.eq(1).all()
    save_file(plain, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="1 weight of VideoMAEForVideoClassification is missing"):
        load_model(f"hf:{folder}")


def test_pickles_and_foreign_code_need_trust(release, tmp_path):
    from safetensors.torch import load_file

    folder = release("timesformer", tmp_path / "m")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"pickle.*--trust"):
        load_model(f"hf:{folder}")
    assert load_model(f"hf:{folder}", trust=True).num_classes == 5
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "own.Net"}}))
    with pytest.raises(CheckpointError, match="code of its own"):
        load_model(f"hf:{folder}", trust=True)


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="neither a folder nor a name of the hub"):
        load_model("hf:nothing_here")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_model(f"hf:{tmp_path}")
    with pytest.raises(RecipeError, match="--modern has no effect"):
        load_recipe(f"hf:{tmp_path}", modern=True)


def test_a_checkpoint_needs_no_other_file(release, tmp_path):
    """A converted release predicts after the release is gone."""
    import shutil

    folder = release("vjepa2", tmp_path / "m")
    model, passport = load_model_and_passport(f"hf:{folder}")
    save_weights(tmp_path / "own.safetensors", model.state_dict(), passport)
    clips = contract.example_input(model, 1)
    shutil.rmtree(folder)
    again, kept = load_model_and_passport(tmp_path / "own.safetensors")
    ours, theirs = again.state_dict(), model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with torch.inference_mode():  # the kernels' last bits depend on where weights lie in memory
        torch.testing.assert_close(again(clips), model(clips), rtol=1e-5, atol=1e-7)
    assert kept.recipe["test"]["num_clips"] == 8
    assert "8 clips x 3 crops" in kept.recipe["notes"][0]
