"""``clipwise test hf:MODEL``: on a network whose result is known by construction, faults show.

A VideoMAE whose layers add nothing sees the mean brightness of a clip: its patches' weights and bias make it positive above 90 and
negative below, and the classifier reads the sign. Videos begin with 12 frames of brightness 100; then they are 110 (class 0) or 40
(class 1). Five clips a video: the first sees the beginning alone, the other four what tells the classes apart.
"""

import json

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.data import clip_spec
from clipwise.engine.test import evaluate
from clipwise.prepare.synthetic import write_video
from clipwise.recipe import load_recipe
from clipwise.recipe.foreign_recipe import published_protocol

THRESHOLD, GAIN = 90.0, 1000.0


def brightness_network(bias: bool = True):
    """See the head of this file."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    sizes = dict(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    net = VideoMAEForVideoClassification(
        VideoMAEConfig(image_size=32, patch_size=16, num_frames=4, num_labels=2, **sizes)
    )
    with torch.no_grad():
        layer = net.videomae.encoder.layer[0]
        for linear in (layer.attention.output.dense, layer.output.dense):
            linear.weight.zero_(), linear.bias.zero_()
        projection = net.videomae.embeddings.patch_embeddings.projection
        sign = torch.tensor([1.0, -1.0, 0.0, 0.0])
        projection.weight.copy_(
            (sign * GAIN / projection.weight[0].numel()).view(4, 1, 1, 1, 1).expand_as(projection.weight)
        )
        projection.bias.copy_(-sign * GAIN * (THRESHOLD / 127.5 - 1) * bias)  # pixels are (value / 255 - 0.5) / 0.5
        net.classifier.weight.copy_(torch.tensor([[1.0, -1, 0, 0], [-1, 1, 0, 0]])), net.classifier.bias.zero_()
    return net


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A list of 16 videos of 40 frames."""
    folder = tmp_path_factory.mktemp("brightness")
    lines = []
    for number in range(16):
        frames = np.full((40, 32, 48, 3), 100, np.uint8)
        frames[12:] = 110 if number % 2 == 0 else 40
        write_video(folder / f"{number}.mp4", frames)
        lines.append(f"{number}.mp4 {number % 2}")
    (folder / "val.txt").write_text("\n".join(lines))
    return folder / "val.txt"


def test_a_sound_network_is_right(videos, release, tmp_path):
    folder = release("videomae", tmp_path / "m", brightness_network())
    assert evaluate(f"hf:{folder}", data=videos, overrides=["num_workers=0"]).metrics["top1_acc"] == 1.0


def test_a_zeroed_bias_shows(videos, release, tmp_path):
    """Without the bias every clip is below the threshold, which is 127.5 now."""
    folder = release("videomae", tmp_path / "m", brightness_network(bias=False))
    assert evaluate(f"hf:{folder}", data=videos, overrides=["num_workers=0"]).metrics["top1_acc"] == 0.5


def test_a_sampler_of_first_frames_shows(videos, release, tmp_path, monkeypatch):
    honest = clip_spec.sample_frames
    monkeypatch.setattr(clip_spec, "sample_frames", lambda n, **k: honest(n, **k) * 0 + np.arange(k["clip_len"]))
    folder = release("videomae", tmp_path / "m", brightness_network())
    assert evaluate(f"hf:{folder}", data=videos, overrides=["num_workers=0"]).metrics["top1_acc"] == 0.5


def test_the_published_figure_is_held_against_the_measured_one(videos, release, tmp_path, monkeypatch, capsys):
    """A faulty copy of a released network, on the command line; its protocol and source are told."""
    honest = clip_spec.sample_frames
    monkeypatch.setattr(clip_spec, "sample_frames", lambda n, **k: honest(n, **k) * 0 + np.arange(k["clip_len"]))
    folder = release("videomae", tmp_path / "videomae-base-finetuned-kinetics", brightness_network())
    words = ["test", f"hf:{folder}", "--data", str(videos), "--num-workers", "0"]
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "15 = 5 clips x 3 crops of 4 frames at 32 px" in told
    assert "VideoMAE (Tong et al. 2022)" in told
    # by hand: (0.5 - 0.809) / sqrt(0.809 * 0.191 / 16) = -3.14
    assert "published top1_acc 0.8090; the measured one lies 3.14 standard errors below: not by chance" in told
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["standard_errors"] == -3.14


@pytest.mark.parametrize(
    ("config", "classes", "views"),
    [  # frames apart, clips, average; from the authors' test configs and scripts
        ({"model_type": "videomae"}, 400, (4, 5, "prob")),  # scripts/kinetics: --test_num_segment 5 --sampling_rate 4
        ({"model_type": "videomae"}, 174, (0, 2, "prob")),  # scripts/ssv2: --test_num_segment 2
        ({"model_type": "timesformer"}, 174, (0, 1, "prob")),  # NUM_ENSEMBLE_VIEWS: 1
        ({"model_type": "vivit"}, 400, (2, 4, "score")),  # num_test_clips = 4, stride = 2
        ({"model_type": "vjepa2", "frames_per_clip": 16}, 174, (4, 2, "prob")),  # vitl/ssv2.yaml
        ({"model_type": "vjepa2", "frames_per_clip": 64}, 174, (2, 2, "prob")),  # vitg-384/ssv2.yaml: frame_step: 2
        ({"model_type": "vjepa2", "frames_per_clip": 32}, 48, (2, 4, "prob")),  # vitl/diving48.yaml
    ],
)
def test_views_are_those_of_the_authors(config, classes, views):
    protocol = published_protocol(config, classes)
    assert (protocol.frame_interval, protocol.num_clips, protocol.average) == views
    assert protocol.three_crops
    assert "memory" not in protocol.source


def test_frames_over_the_video_lie_at_middles_and_starts(release, tmp_path):
    """VideoMAE on Something-Something V2, 40 frames: its indices int(tick / 2 + tick * x) and int(tick * x), tick = 40 / 4."""
    folder = release("videomae", tmp_path / "m", num_labels=174)
    recipe = load_recipe(f"hf:{folder}")
    spec = clip_spec.ClipSpec.from_recipe(recipe.model_dump(), "test")
    clips = spec.indices(40, np.random.default_rng(0)).reshape(2, 4)
    assert sorted(map(tuple, clips.tolist())) == [(0, 10, 20, 30), (5, 15, 25, 35)]


def test_an_encoder_is_no_classifier(videos, release):
    from clipwise.errors import CheckpointError

    with pytest.raises(CheckpointError, match="model=hf_probe"):
        evaluate(f"hf:{release('dinov2')}", data=videos)
