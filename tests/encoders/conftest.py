"""Tiny networks of transformers with random weights, saved as a release is: config.json, model.safetensors, a processor's file."""

import json
from pathlib import Path

import pytest

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
SIDE = {"height": 32, "width": 32}
PROCESSORS = {
    "videomae": dict(image_processor_type="VideoMAEImageProcessor", size={"shortest_edge": 32}, crop_size=SIDE),
    # of an old version: one number, and the class under its old name
    "timesformer": dict(
        feature_extractor_type="VideoMAEFeatureExtractor",
        size=32,
        crop_size=32,
        image_mean=[0.45] * 3,
        image_std=[0.225] * 3,
    ),
    "vivit": dict(image_processor_type="VivitImageProcessor", size={"shortest_edge": 40}, crop_size=SIDE, offset=True),
    "vjepa2": dict(video_processor_type="VJEPA2VideoProcessor", crop_size=SIDE),
    "dinov2": dict(
        image_processor_type="BitImageProcessor",
        size={"shortest_edge": 36},
        crop_size={"height": 28, "width": 28},
        resample=3,
    ),
    "dinov3": dict(image_processor_type="DINOv3ViTImageProcessorFast", size=SIDE),
    "siglip": dict(image_processor_type="SiglipImageProcessor", size=SIDE),
    "clip": dict(image_processor_type="CLIPImageProcessor", size={"shortest_edge": 32}, crop_size=SIDE),
}
VIDEO = ("videomae", "timesformer", "vivit", "vjepa2")
IMAGE = ("dinov2", "dinov3", "siglip", "clip")


def network(kind: str, **more):
    """A tiny network of that kind."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    clip = dict(image_size=32, patch_size=16, num_frames=4, num_labels=5) | SIZES | more
    towers = dict(
        vision_config=dict(image_size=32, patch_size=16, projection_dim=24, **SIZES),
        text_config=dict(
            vocab_size=64,
            max_position_embeddings=16,
            projection_dim=24,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            **SIZES,
        ),
    )
    if kind == "videomae":
        return t.VideoMAEForVideoClassification(t.VideoMAEConfig(**clip))
    if kind == "timesformer":
        return t.TimesformerForVideoClassification(t.TimesformerConfig(**clip))
    if kind == "vivit":
        clip.pop("patch_size")
        return t.VivitForVideoClassification(t.VivitConfig(tubelet_size=[2, 16, 16], **clip))
    if kind == "vjepa2":
        sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, num_pooler_layers=1)
        predictor = dict(pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1)
        frames = dict(crop_size=32, patch_size=16, frames_per_clip=4, num_labels=5)
        return t.VJEPA2ForVideoClassification(t.VJEPA2Config(**sizes, **predictor, **frames))
    if kind == "dinov2":
        return t.Dinov2Model(t.Dinov2Config(image_size=28, patch_size=14, **{k: SIZES[k] for k in list(SIZES)[:3]}))
    if kind == "dinov3":
        return t.DINOv3ViTModel(t.DINOv3ViTConfig(image_size=32, patch_size=16, num_register_tokens=2, **SIZES))
    if kind == "siglip":
        return t.SiglipModel(t.SiglipConfig(**towers))
    return t.CLIPModel(t.CLIPConfig(projection_dim=24, **towers))


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """A function that saves a network of a kind and gives its folder; the same folder for the same kind."""
    transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    made: dict[str, Path] = {}

    def make(kind: str, folder: Path | None = None, net=None, **more) -> Path:
        if folder is None and kind in made:
            return made[kind]
        place = folder or tmp_path_factory.mktemp("releases") / f"tiny-{kind}"
        (net or network(kind, **more)).eval().save_pretrained(place)
        file = "video_preprocessor_config.json" if kind == "vjepa2" else "preprocessor_config.json"
        (place / file).write_text(json.dumps(PROCESSORS[kind]), encoding="utf-8")
        if folder is None:
            made[kind] = place
        return place

    return make


@pytest.fixture(scope="session")
def long_videos(tmp_path_factory):
    """Four videos of 4 s with an action from second 1 to 3, and their annotations."""
    import numpy as np

    from clipwise.prepare.synthetic import draw_action, write_video

    folder = tmp_path_factory.mktemp("long")
    database = {}
    for number in range(4):
        name, rng = ("ring", "cross")[number % 2], np.random.default_rng(number)
        rest = np.full((25, 72, 96, 3), 40, np.uint8)
        (folder / "videos").mkdir(exist_ok=True)
        write_video(folder / "videos" / f"v{number}.mp4", np.concatenate([rest, draw_action(name, 50, rng), rest]))
        database[f"v{number}"] = {
            "duration": 4.0,
            "subset": "training" if number < 3 else "validation",
            "annotations": [{"segment": [1.0, 3.0], "label": name}],
        }
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return folder


@pytest.fixture
def features_of(long_videos):
    """A function that extracts an encoder's features of the long videos into a folder with their annotations."""

    def make(encoder: str, data: Path) -> Path:
        from clipwise.cli import main

        data.mkdir()
        (data / "annotations.json").write_text((long_videos / "annotations.json").read_text())
        words = ["features", "--encoder", encoder, str(long_videos / "videos"), "--out", str(data / "features")]
        assert main([*words, "--stride", "4"]) == 0
        return data

    return make
