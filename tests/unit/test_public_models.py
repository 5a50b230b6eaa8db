"""``clipwise.create_model`` with weights, heads and channels; what describes a model; the transforms of a model."""

import hashlib

import numpy as np
import pytest
import torch

import clipwise
from clipwise.cli import main
from clipwise.convert.weights import save_mmaction2
from clipwise.convert.zoo import CATALOGUE, Weights
from clipwise.data.transforms import normalize_clips
from clipwise.engine.model_factory import best_weights
from clipwise.errors import CheckpointError, ClipwiseError, DataError, RecipeError
from clipwise.models.init import adapt_first_conv


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A tiny network in MMAction2's format that the catalog knows, and a second one that is better."""
    model = clipwise.create_model("slowonly_tiny", num_classes=400)
    recipe = tmp_path / "tiny_kinetics.yaml"
    recipe.write_text("model: slowonly_tiny\nclip_len: 8\nframe_interval: 2\nmodel_args:\n  dropout: 0.25\n")
    for name, top1 in (("tiny_worse", 10.0), ("tiny_best", 60.0)):
        raw = tmp_path / "raw.pth"
        save_mmaction2(raw, model.state_dict(), model)
        digest = hashlib.sha256(raw.read_bytes()).hexdigest()[:8]
        file = raw.rename(tmp_path / f"{name}-{digest}.pth")
        monkeypatch.setitem(CATALOGUE, name, Weights(name, file.as_uri(), str(recipe), 400, {"top1": top1}))
    monkeypatch.setenv("CLIPWISE_CACHE", str(tmp_path / "cache"))
    return model


def same(one, other, but=()):
    a, b = one.state_dict(), other.state_dict()
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a if not k.startswith(tuple(but)))


def test_published_weights_by_their_name_and_by_the_models(published):
    by_name = clipwise.create_model("tiny_best", pretrained=True)
    assert best_weights("slowonly_tiny").name == "tiny_best"
    by_model = clipwise.create_model("slowonly_tiny", pretrained=True)
    by_source = clipwise.create_model("slowonly_tiny", pretrained="tiny_worse")
    for model in (by_name, by_model, by_source):
        assert same(model, published)
        assert not model.training
        assert model.dropout.p == 0.25  # as its recipe has it
    assert clipwise.create_model("slowonly_tiny", pretrained=True, dropout=0.5).dropout.p == 0.5
    assert "tiny_best" in clipwise.list_models("tiny*", pretrained=True)
    assert "imagenet_resnet50" not in clipwise.list_models(pretrained=True)
    assert all(name.startswith("tsm") for name in clipwise.list_models("tsm*"))
    assert clipwise.list_models("TSM*") == clipwise.list_models("tsm*")
    assert clipwise.list_models(task="localization", pretrained=True) == []
    with pytest.raises(RecipeError, match=r"write list_models\('tsm\*', pretrained=True\)"):
        clipwise.list_models(True)
    with pytest.raises(RecipeError, match="task is 'detection'; allowed: 'recognition' and 'localization'"):
        clipwise.list_models(task="detection")
    assert clipwise.list_recipes("TSM_t*") == ["tsm_tiny"]
    untrained = clipwise.create_model("tiny_best")
    assert untrained.training
    assert not same(untrained, published)


def test_another_number_of_classes(published):
    model = clipwise.create_model("slowonly_tiny", pretrained=True, num_classes=7)
    assert same(model, published, but=("fc.",))
    assert model.fc.out_features == model.num_classes == 7
    assert 0.005 < model.fc.weight.std() < 0.02  # freshly drawn, N(0, 0.01)
    assert model.passport.classes is None
    kept = clipwise.create_model("slowonly_tiny", pretrained=True, num_classes=400)
    assert same(kept, published)


def test_no_classifier_gives_features(published):
    from clipwise.models import contract

    model = clipwise.create_model("slowonly_tiny", pretrained=True, num_classes=0)
    clips = torch.randn(2, 3, 4, 32, 32)
    expected = contract.forward_features(published.eval(), clips)
    assert torch.equal(model(clips), expected)
    assert model.num_classes == expected.shape[1]


def test_first_convolution_by_hand():
    """O 1, I 3, a kernel of one: weights 1, 2, 4."""
    weight = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
    assert adapt_first_conv(weight, 1).flatten().tolist() == [7.0]
    assert adapt_first_conv(weight, 2).flatten().tolist() == [1.5, 3.0]
    assert adapt_first_conv(weight, 4).flatten().tolist() == [0.75, 1.5, 3.0, 0.75]
    assert torch.equal(adapt_first_conv(weight, 3), weight)
    # of two channels (flow) three: times 2 / 3
    assert adapt_first_conv(weight[:, :2], 3).flatten().tolist() == pytest.approx([2 / 3, 4 / 3, 2 / 3])


def test_gray_clips_give_what_three_equal_channels_gave(published):
    gray = clipwise.create_model("slowonly_tiny", pretrained=True, in_chans=1)
    clips = torch.randn(1, 1, 8, 32, 32)
    expected = published.eval()(clips.expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close(gray(clips), expected, rtol=1e-4, atol=1e-5)
    assert same(gray, published, but=("backbone.conv1.",))
    assert gray.passport.model_args["in_channels"] == 1
    assert clipwise.create_model("tsm_tiny", in_chans=5).backbone.conv1.weight.shape[1] == 5


def test_a_checkpoint_of_ones_own(trained):
    model = clipwise.create_model("tsm_tiny", pretrained=trained)
    assert same(model, clipwise.load_model(trained))
    assert model.passport.classes == clipwise.load(trained).classes
    assert clipwise.describe_model(trained) == clipwise.describe_model(str(trained)) == clipwise.describe_model(model)
    with pytest.raises(CheckpointError, match=r"holds a tsm_tiny, not a tsn_tiny\. Use create_model\('tsm_tiny'"):
        clipwise.create_model("tsn_tiny", pretrained=trained)


def test_a_folder_stands_for_its_checkpoint(trained, clips, tmp_path, capsys):
    """A run's folder: its best, else its last. A copy from the hub: its model."""
    video = str(next((clips / "val").rglob("*.mp4")))
    for name, folder in (("model", "pulled"), ("last", "run"), ("best", "run"), ("mine", "single")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.safetensors").write_bytes(trained.read_bytes())
    (tmp_path / "run/last.safetensors").write_bytes(b"not this one")
    for folder in ("pulled", "run", "single"):
        place = tmp_path / folder
        assert clipwise.create_model("tsm_tiny", pretrained=place, num_classes=3).classifier.out_features == 3
        assert clipwise.load_model(place).classifier.out_features == 6
        assert clipwise.load(str(place), device="cpu").classes == clipwise.load(trained, device="cpu").classes
        assert main(["info", str(place), "--json"]) == 0
        assert main(["predict", str(place), video, "--json"]) == 0
        capsys.readouterr()
    (tmp_path / "two").mkdir()
    for name in ("a", "b"):
        (tmp_path / "two" / f"{name}.safetensors").write_bytes(trained.read_bytes())
    message = (
        "two is a folder with several checkpoints and none named best, last or model: a.safetensors, b.safetensors"
    )
    for take in (clipwise.load_model, clipwise.load, lambda p: clipwise.create_model("tsm_tiny", pretrained=p)):
        with pytest.raises(CheckpointError, match=message):
            take(tmp_path / "two")
        with pytest.raises(CheckpointError, match=r"is a folder without a \.safetensors file"):
            take(clips)


def test_what_is_not_there(published):
    with pytest.raises(
        CheckpointError, match=r"no published Kinetics-400 weights of 'tpn_tsm_r50'; tpn_tsm_r50_1x1x8_150e_sthv1"
    ):
        clipwise.create_model("tpn_tsm_r50", pretrained=True)
    with pytest.raises(CheckpointError, match="neither a file nor a name in the zoo"):
        clipwise.create_model("tsm_tiny", pretrained="no_such_weights")
    with pytest.raises(RecipeError, match=r"there is no model 'tsm_r5'; did you mean 'tsm_r50'"):
        clipwise.describe_model("tsm_r5")
    with pytest.raises(RecipeError, match="there is no model 'tsm_r5'"):
        clipwise.create_model("tsm_r5", pretrained=True)
    with pytest.raises(
        RecipeError, match=r"best\.safetensors is a checkpoint, not a model's name\. clipwise\.load_model\("
    ):
        clipwise.create_model("runs/mine/best.safetensors")


def test_a_description_of_what_is_published():
    """Numbers of MMAction2's table and of its pipeline."""
    card = clipwise.describe_model("slowonly_r50_8x8x1_256e_kinetics400_rgb")
    assert card["model"] == "slowonly_r50"
    assert card["input_size"] == [3, 8, 256, 256]
    assert card["num_views"] == 30  # ten clips, three crops
    assert card["num_classes"] == len(card["classes"]) == 400
    assert card["mean"] == [123.675, 116.28, 103.53]
    assert card["metrics"] == {"top1_acc": pytest.approx(0.7493), "top5_acc": pytest.approx(0.9192)}
    assert (card["first_conv"], card["classifier"]) == ("backbone.conv1", "fc")
    assert card["url"].endswith("a79c555a.pth")
    assert card["license"].startswith("Apache-2.0")
    assert clipwise.describe_model("bmn")["input_size"] == [400, 100]


def test_transforms_give_the_predictors_pixels(trained, clips):
    predictor = clipwise.load(trained, device="cpu")
    video = sorted((clips / "val").rglob("*.mp4"))[0]
    with clipwise.open_video(video) as reader:
        frames = reader[:]
    seen = []
    handle = predictor.model.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    expected = predictor(video).scores
    handle.remove()
    model = clipwise.load_model(trained)
    for given in (frames, torch.from_numpy(frames)):
        views = clipwise.transforms_for(model)(given)
        assert torch.equal(views, torch.cat(seen))
    with torch.inference_mode():
        assert np.array_equal(model(views).softmax(1).mean(0).numpy(), expected)
    assert torch.equal(clipwise.transforms_for(predictor)(frames), views)
    assert "center crop" in repr(clipwise.transforms_for(model))


def test_transforms_of_chosen_frames_and_of_training(trained, clips):
    model = clipwise.load_model(trained)
    frames = np.random.default_rng(0).integers(0, 256, (8, 80, 100, 3), np.uint8)
    fixed = clipwise.transforms_for(model, sample=False)
    plan = fixed.spec.transform.draw(80, 100)
    expected = normalize_clips(torch.from_numpy(plan.apply(frames)), fixed.spec.mean, fixed.spec.std)
    assert torch.equal(fixed(frames), expected)
    train = clipwise.transforms_for(model, train=True)
    longer = np.random.default_rng(1).integers(0, 256, (40, 80, 100, 3), np.uint8)
    one, again, other = (train(longer, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.shape == (1, 3, 8, 64, 80)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    jitter = clipwise.transforms_for(
        model, train=True, recipe=clipwise.load_recipe("tsm_tiny", ["augment.color_jitter=mmaction2_0.24"])
    )
    assert jitter(frames).shape == one.shape
    with pytest.raises(DataError, match=r"frames are float32 \(8, 80, 100, 3\); a transform takes uint8"):
        train(frames.astype(np.float32))
    with pytest.raises(ClipwiseError, match="has no recipe of a recognizer"):
        clipwise.transforms_for(torch.nn.Linear(1, 1))
