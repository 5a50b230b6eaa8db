"""Fine-tuning and probes of ``hf:MODEL``, segments from raw pixels with two encoders, and classes that are only named."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.engine.checkpoint import load_model_and_passport
from clipwise.engine.network import parameter_groups
from clipwise.engine.train import train
from clipwise.errors import CheckpointError, DataError
from clipwise.infer.features import FeatureExtractor
from clipwise.infer.localize import Localizer
from clipwise.models import contract, create_model
from clipwise.models.recipe_model import build_model
from clipwise.recipe import load_recipe

SHORT = ["epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=0", "log.every=1"]


def trained_on(source, clips, folder, *overrides):
    return train(load_recipe(source, [*SHORT, *overrides]), data=str(clips), work_dir=folder, quiet=True).last


def test_fine_tuning_starts_from_the_release(clips, release, tmp_path):
    """Layer decay, drop path and recomputed activations in one run; the new checkpoint knows the new classes."""
    folder = release("videomae")
    more = ["model_args.drop_path=0.2", "grad_checkpointing=true"]
    last = trained_on(f"hf:{folder}", clips, tmp_path / "run", *more)
    model, passport = load_model_and_passport(last)
    assert passport.classes is not None
    assert len(passport.classes) == 6 == contract.num_classes(model)
    start = load_model_and_passport(f"hf:{folder}")[0]
    before = start.net.videomae.embeddings.patch_embeddings.projection.weight
    after = model.net.videomae.embeddings.patch_embeddings.projection.weight
    assert 0 < (after - before).abs().max() < 0.01
    recipe = load_recipe(f"hf:{folder}", more)
    groups = parameter_groups(build_model(recipe, 6), "no_norm_bias", 1.0, 0.05, 0.75)
    # by hand: head 1, second layer 0.75, first 0.75², stem 0.75³
    assert sorted({round(g["lr"], 6) for g in groups}) == [0.421875, 0.5625, 0.75, 1.0]


def test_recomputed_activations_give_the_same_gradients(release):
    recipe = load_recipe(f"hf:{release('timesformer')}")
    plain = build_model(recipe, 3).train()
    again = build_model(load_recipe(f"hf:{release('timesformer')}", ["grad_checkpointing=true"]), 3).train()
    again.load_state_dict(plain.state_dict())
    clips = contract.example_input(plain, 2)
    for model in (plain, again):
        model(clips).square().sum().backward()
    pairs = list(zip(plain.parameters(), again.parameters()))
    assert sum(a.grad is not None for a, _ in pairs) > 20
    for a, b in pairs:
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("kind", ["videomae", "vjepa2", "dinov2"])
def test_every_weight_learns(kind, release):
    """A weight without a gradient would stop several processes."""
    model = build_model(load_recipe(f"hf:{release(kind)}"), 3).train()
    model(contract.example_input(model, 2)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_drop_path_skips_whole_layers(release):
    """With probability 1 - keep the layer passes its input on; else its change counts 1 / keep times. Off in evaluation."""
    config = load_recipe(f"hf:{release('videomae')}").model_args["config"]
    model = create_model("hf", config=config, num_classes=3, drop_path=0.5)
    first, last = contract.blocks(model)
    hidden = torch.randn(64, 5, 32)
    with torch.no_grad():
        change = model.eval() and last(hidden) - hidden
        torch.manual_seed(0)
        dropped = model.train() and last(hidden) - hidden
    kept = dropped.abs().amax((1, 2)) > 0
    assert 16 < int(kept.sum()) < 48
    torch.testing.assert_close(dropped[kept], 2 * change[kept])
    assert not hasattr(first, "drop_probability")  # the first layer is never skipped


@pytest.mark.parametrize(("kind", "head"), [("dinov2", "linear"), ("vjepa2", "attentive")])
def test_a_probe_leaves_the_encoder_alone(kind, head, clips, release, tmp_path):
    folder = release(kind)
    probe = ["model=hf_probe", f"model_args.head={head}"]
    last = trained_on(
        f"hf:{folder}", clips, tmp_path / "run", *probe, "num_segments=2" if kind == "dinov2" else "seed=0"
    )
    model, passport = load_model_and_passport(last)
    fresh = build_model(load_recipe(f"hf:{folder}", probe), 6)
    fresh.load_from(f"hf:{folder}")
    assert all(torch.equal(a, b) for a, b in zip(model.net.state_dict().values(), fresh.net.state_dict().values()))
    assert not torch.equal(model.classifier.weight, fresh.classifier.weight)
    assert not model.train().net.training
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"head"}
    assert passport.model == "hf_probe"
    video = str(next((clips / "val").rglob("*.mp4")))
    assert main(["predict", str(last), video]) == 0


@pytest.mark.parametrize("kind", ["dinov3", "videomae"])
def test_from_raw_pixels_to_segments(kind, release, long_videos, features_of, tmp_path):
    """features --encoder, train, localize: the localizer finds its encoder, with its pixels, and refuses another one."""
    encoder = f"hf:{release(kind)}"
    data = features_of(encoder, tmp_path / "data")
    told = json.loads((data / "features" / "features.json").read_text())
    assert told["recognizer"] == encoder
    assert told["input"]["interpolation"] == {"dinov3": "float", "videomae": "antialias"}[kind]
    assert told["input"]["mean"][0] == pytest.approx({"dinov3": 0.485 * 255, "videomae": 127.5}[kind])
    more = ["feat_dim=auto", "windows.least=0", *SHORT[:4]]
    last = train(load_recipe("bmn_tiny", more), data=str(data), work_dir=tmp_path / "bmn", quiet=True).last
    video = long_videos / "videos" / "v3.mp4"
    found = Localizer(last, labeler=False)(video)
    assert found.segments
    features = FeatureExtractor(encoder, Localizer(last).extractor.rule)(video)
    written = np.load(data / "features" / "v3.npy")
    np.testing.assert_array_equal(features.values, written)
    with pytest.raises(CheckpointError, match="is not the recognizer that made the features"):
        Localizer(last, f"hf:{release('dinov2')}")(video)
    if kind == "dinov3":
        with pytest.raises(CheckpointError, match="--labeler"):
            Localizer(last)(video)
    named = Localizer(last, labeler=f"hf:{release('timesformer')}")(video)
    assert named.segments[0].name.startswith("LABEL_")


@pytest.mark.parametrize("kind", ["dinov2", "vjepa2"])
def test_a_server_localizes_with_an_encoder(kind, release, long_videos, features_of, tmp_path):
    """Upload of a video: the answer, which the page draws as a timeline, has the one-stage localizer's own segments and names."""
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
    sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))
    from serving import start_server

    from clipwise.serve.analysis import ServedLocalizer

    data = features_of(f"hf:{release(kind)}", tmp_path / "data")
    keys = ["epochs=3", "warmup_epochs=0", "batch_size=3", "feat_dim=auto"]
    last = train(load_recipe("actionformer_tiny", keys), data=str(data), work_dir=tmp_path / "run", quiet=True).last
    video = long_videos / "videos" / "v3.mp4"
    expected = Localizer(last, device="cpu")(video).in_time
    assert {s.name for s in expected} <= {"ring", "cross"}
    assert expected
    running, stop = start_server(localizer=ServedLocalizer(str(last), None, ["cross", "other"], "cpu"))
    try:
        status, _, answer = running.send(video.read_bytes(), name="v3.mp4")
    finally:
        stop()
    assert status == 200, answer
    (answer,) = answer["results"]
    assert answer["segments_from"] == "localizer"
    found = [(s["start_s"], s["end_s"], s["class"], s["score"]) for s in answer["segments"]]
    assert found == [(round(s.start_s, 3), round(s.end_s, 3), s.name, round(min(1, s.score), 5)) for s in expected]
    assert {s["class"]: s["index"] for s in answer["segments"]} == {s.name: {"cross": 0}.get(s.name) for s in expected}


@pytest.fixture(scope="module")
def with_tokenizer(release):
    """A function that puts a tokenizer of a few words into the folder of an image–text model."""

    def make(kind):
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = [
            "<pad>",
            "<s>",
            "<end>",
            "<unk>",
            *["This", "is", "a", "photo", "of", "ring", "cross", "moving", "fast", "."],
        ]
        raw = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
        fast = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="<end>")
        folder = release(kind)
        fast.save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_classes_that_are_only_named(kind, with_tokenizer, long_videos, tmp_path):
    """One frame's scores are transformers' ``logits_per_image`` of the same texts."""
    import transformers

    folder = with_tokenizer(kind)
    (tmp_path / "classes.txt").write_text("ring\ncross\tThis is a cross moving fast .\n")
    model, passport = load_model_and_passport(f"hf:{folder}?classes={tmp_path / 'classes.txt'}")
    assert passport.classes == ["ring", "cross"]
    whole = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["This is a photo of ring.", "This is a cross moving fast ."]
    padding = {"siglip": dict(padding="max_length", max_length=16), "clip": dict(padding=True)}[kind]
    tokens = tokenizer(texts, return_tensors="pt", **padding)
    given = {"input_ids": tokens["input_ids"]} | (
        {"attention_mask": tokens["attention_mask"]} if kind == "clip" else {}
    )
    frame = contract.example_input(model, 1)[:, :, :1]
    with torch.inference_mode():
        wanted = whole(pixel_values=frame[:, :, 0], **given).logits_per_image
        torch.testing.assert_close(model(frame), wanted, rtol=1e-5, atol=1e-5)
    video = str(long_videos / "videos" / "v3.mp4")
    assert main(["predict", f"hf:{folder}?classes={tmp_path / 'classes.txt'}", video]) == 0
    with pytest.raises(CheckpointError, match="only option"):
        load_model_and_passport(f"hf:{folder}?texts=x")
    (tmp_path / "one.txt").write_text("ring\n")
    with pytest.raises(DataError, match="two or more"):
        load_model_and_passport(f"hf:{folder}?classes={tmp_path / 'one.txt'}")


def test_a_video_network_has_no_texts(release, tmp_path):
    (tmp_path / "classes.txt").write_text("ring\ncross\n")
    with pytest.raises(CheckpointError, match="not an image–text model"):
        load_model_and_passport(f"hf:{release('vivit')}?classes={tmp_path / 'classes.txt'}")
