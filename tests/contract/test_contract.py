"""What every model answers (``clipwise.models.contract``): each of our names, and networks that know nothing of clipwise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from clipwise.analyze.gradcam import grad_cam
from clipwise.errors import ClipwiseError, RecipeError
from clipwise.models import contract, create_model, list_models, model_arguments
from clipwise.models.cost import measure_cost
from clipwise.models.localizer_rules import LabeledVideo, localizer_rules
from clipwise.models.recipe_model import build_model, frames_setting
from clipwise.models.registry import model_place, model_task
from clipwise.recipe import load_recipe, make_recipe
from helpers import load_script


class Folded(nn.Module):
    """A stranger's: an image network on each frame, (B·T, D, H, W) inside."""

    clip_shape = (3, 4, 32, 32)

    def __init__(self, num_classes=5):
        super().__init__()
        sizes = ((3, 8), (8, 16), (16, 16))
        self.body = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(c, d, 3, 2, 1), nn.BatchNorm2d(d), nn.ReLU()) for c, d in sizes)
        )
        self.fc = nn.Linear(16, num_classes)

    def forward(self, clips):
        x = self.body(clips.transpose(1, 2).flatten(0, 1)).mean((2, 3))
        return self.fc(x.unflatten(0, (len(clips), -1)).mean(1))


class ClassToken(nn.Module):
    """A stranger's: a transformer whose classifier reads a class token; it wraps all in ``net``."""

    clip_shape = (3, 4, 32, 32)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv3d(3, 16, (2, 8, 8), (2, 8, 8))
            self.token = nn.Parameter(torch.zeros(1, 1, 16))
            self.position = nn.Parameter(torch.randn(1, 33, 16))
            self.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True) for _ in range(3))

        def forward(self, clips):
            x = self.patch(clips).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
            for layer in self.layers:
                x = layer(x)
            return x[:, 0]

    def __init__(self, num_classes=5):
        super().__init__()
        self.net = self.Net()
        self.head = nn.Linear(16, num_classes)

    def forward(self, clips):
        return self.head(self.net(clips))


def stranger(file):
    return load_script(Path(__file__).parent / file)


OTHER = stranger("../external_package/src/other_nets/__init__.py")
STRANGERS = [Folded, ClassToken, OTHER.OtherViT]
RECOGNIZERS = list_models(task="recognition")
LOCALIZERS = list_models(task="localization")
SMALL = [name for name in RECOGNIZERS if name.endswith("tiny")]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def check_parts(model):
    """Stages cover each parameter once, from the one of the first parameter to the one of the classifier; blocks are apart."""
    parts = contract.stages(model)
    assert len(parts) > 1
    assert not contract.missing_from(parts, model)
    assert all(list(part.parameters()) for part in parts)
    assert len({part.name for part in parts}) == len(parts)
    seen = set()
    for block in contract.blocks(model):
        own = {id(module) for module in block.modules()}
        assert not seen & own
        seen |= own
    assert seen
    return parts


def check_recognizer(model, spec):
    clips = contract.example_input(model, 2)
    assert clips.shape == (2, *spec.shape)
    count = contract.num_classes(model)
    model.eval()
    assert model(clips).shape == (2, count)
    assert contract.forward_features(model, clips).shape == (2, contract.num_features(model))
    assert contract.classifier(model).out_features == count
    parts = check_parts(model)
    assert any(p is contract.classifier(model).weight for p in parts[-1].parameters())
    assert any(p is next(contract.first_conv(model).parameters()) for p in parts[0].parameters())
    names = list(model.state_dict())
    contract.reset_classifier(model, 7)
    assert contract.num_classes(model) == 7
    assert model(clips).shape == (2, 7)
    assert list(model.state_dict()) == names
    logits, aux, weight = contract.split_auxiliary(model, model.train()(clips))
    assert logits.shape == (2, 7)
    assert (aux is None) == (weight == 0)


@pytest.mark.parametrize("name", RECOGNIZERS)
def test_recognizers(name):
    """On the meta device: no weights, no arithmetic."""
    assert model_task(name) == "recognition"
    assert model_place(name) == name
    with torch.device("meta"):
        model = create_model(name, num_classes=5)
        spec = contract.input_spec(model)
        assert (spec.kind, len(spec.shape)) == ("clips", 4)
        assert spec.fixed_frames == (frames_setting(name) is not None)
        body, depth = contract.imagenet_body(model)
        assert "conv1.weight" in body.state_dict()
        assert name.split("_r")[-1].startswith(depth) or depth == "tiny"
        check_recognizer(model, spec)


@pytest.mark.parametrize("kind", STRANGERS, ids=lambda k: k.__name__)
def test_strangers(kind):
    model = kind(5)
    check_recognizer(model, contract.input_spec(model))


@pytest.mark.parametrize("name", SMALL)
def test_the_smallest_example_runs(name):
    model = create_model(name, num_classes=3).eval()
    assert model(contract.example_input(model, 1, small=True)).isfinite().all()


@pytest.mark.parametrize("make", [*SMALL, *STRANGERS], ids=lambda k: k if isinstance(k, str) else k.__name__)
def test_grad_cam_finds_a_map(make):
    model = (create_model(make, num_classes=3) if isinstance(make, str) else make(3)).eval()
    clips = contract.example_input(model, 2)
    heat, logits = grad_cam(model, clips, 1)
    assert heat.dim() == 4
    assert len(heat) == 2
    assert heat.shape[2] * heat.shape[3] > 1
    assert heat.shape[1] <= clips.shape[2]
    assert (heat >= 0).all()
    torch.testing.assert_close(logits, model(clips).detach())
    assert all(p.requires_grad for p in model.parameters())


def test_grad_cam_of_a_strangers_map_is_the_definition():
    """Mean over places of the gradient times the map, computed here by hand (Selvaraju et al., equations 1 and 2)."""
    model, clips = Folded(3).eval(), torch.randn(2, 3, 4, 32, 32)
    maps = model.body(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 4))  # (B, T, D, H, W)
    weight = model.fc.weight[1] / maps[0, :, 0].numel()  # the gradient of a mean is the same everywhere
    heat, _ = grad_cam(model, clips, 1)
    torch.testing.assert_close(heat, torch.einsum("d,btdhw->bthw", weight, maps).relu().detach())


@pytest.mark.parametrize("name", LOCALIZERS)
def test_localizers(name):
    recipe = make_recipe({"task": "localization", "model": name})
    settings = {k: v for k, v in dict(feat_dim=8, temporal_dim=12, num_classes=3).items() if k in model_arguments(name)}
    model, rules = create_model(name, **settings).train(), localizer_rules(name, settings, recipe)
    check_localizer(model, rules, 12)


def test_a_strangers_localizer():
    module = stranger("one_stage.py")
    settings = {"feat_dim": 8, "num_classes": 3}
    rules = module.PointRules(settings, make_recipe({"task": "localization"}))
    check_localizer(module.PointNet(**settings), rules, 11)


def check_localizer(model, rules, positions):
    spec = contract.input_spec(model)
    assert (spec.kind, spec.shape[0]) == ("features", rules.channels)
    assert rules.length is not None or not spec.fixed_frames  # a recipe may rescale for a network that takes any length
    assert not contract.missing_from(contract.stages(model), model)
    rules.prepare(model)
    video = LabeledVideo(positions, 30.0, np.array([[0.2, 0.5]]), np.array([1]))
    features = torch.randn(2, 8, positions)
    x = rules.inputs(features)
    assert x.shape == (2, rules.channels, rules.padded_length(positions))
    outputs = model(x)
    assert len(outputs if isinstance(outputs, tuple) else (outputs,)) == len(rules.output_names)
    terms = rules.loss(model, outputs, [video, video], torch.Generator().manual_seed(0))
    terms["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        outputs = model.eval()(x)
    for found in rules.decode(outputs, [LabeledVideo(positions, 30.0)] * 2):
        assert len(found.segments_s) == len(found.scores)
        assert (found.labels is not None) == rules.labeled
        assert (found.segments_s >= 0).all()
        assert (found.segments_s <= 30.0 + 1e-9).all()
        assert (found.segments_s[:, 0] <= found.segments_s[:, 1]).all()
        assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("name", [*SMALL, *LOCALIZERS])
def test_cost_is_counted(name):
    cost = measure_cost(lambda: create_model(name), contract.input_spec(create_model(name)).shape)
    assert cost.parameters == sum(p.numel() for p in create_model(name).parameters())
    assert cost.macs > cost.parameters


def test_stages_of_a_resnet_are_the_papers():
    parts = contract.stages(create_model("tpn_tsm_tiny", num_classes=3))
    assert [part.name for part in parts] == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]


def test_stages_of_a_wrapped_transformer():
    """Taken apart: positions and class token with the patches, each layer a stage, then the head."""
    model = ClassToken()
    parts = contract.stages(model)
    assert [part.name for part in parts] == ["net.patch", "net.layers.0", "net.layers.1", "net.layers.2", "head"]
    assert any(p is model.net.token for p in parts[0].parameters())
    assert contract.blocks(model) == list(model.net.layers)


def test_frames_of_the_recipe_reach_those_that_need_them():
    """TSN takes any number, so a recipe's segments are no part of it; TSM and a stranger's are made for a number."""
    for name, known in (("tsn_tiny", {}), ("tsm_tiny", {"num_segments": 8})):
        recipe = load_recipe(name)
        assert {k: v for k, v in model_args_of(recipe).items() if k == "num_segments"} == known
    recipe = load_recipe("tsm_tiny", ["num_segments=6"])
    recipe = recipe.model_copy(update={"model": model_place(OTHER.other_vit)})
    assert model_args_of(recipe) == {"num_classes": 3, "num_frames": 6}


def model_args_of(recipe):
    from clipwise.models.recipe_model import model_args

    return model_args(recipe, 3)


def test_a_recipe_of_another_task_is_refused():
    with pytest.raises(RecipeError, match="is for localization, but the recipe's task is recognition"):
        build_model(load_recipe("tsm_tiny", ["model=bmn", "model_args={}"]), 3)


def test_what_cannot_be_known_is_refused_by_the_method_to_add():
    class Silent(nn.Module):
        def forward(self, clips):
            return clips.flatten(1).mean(1, keepdim=True).expand(-1, 2), clips

    model = Silent()
    for ask, method in (
        (contract.input_spec, r"`input_spec\(self\)"),
        (contract.classifier, "`classifier`"),
        (contract.first_conv, "`first_conv`"),
        (contract.imagenet_body, r"`imagenet_body\(self\)"),
        (contract.online, r"`online\(self, num_frames\)`"),
        (contract.recompute_blocks, r"`blocks\(self\)"),
        (lambda m: contract.split_auxiliary(m, m(torch.zeros(1, 3, 2, 4, 4))), "`aux_weight`"),
    ):
        with pytest.raises(ClipwiseError, match=method):
            ask(model)

    class NoMap(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, clips):
            return self.fc(clips.mean((2, 3, 4)))

    with pytest.raises(ClipwiseError, match=r"Add `spatial_map\(self\)"):
        grad_cam(NoMap(), torch.randn(1, 3, 2, 8, 8), 0)


def test_layer_decay_without_stages_is_refused():
    from clipwise.engine.network import parameter_groups

    with pytest.raises(RecipeError, match=r"layer_decay needs .* Add `stages\(self\)`"):
        parameter_groups(nn.Sequential(nn.Linear(3, 2)), "all", 0.1, 0.0, 0.5)
