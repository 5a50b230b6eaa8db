"""One contract for every model name: shapes, gradients, names, precision, export, settings."""

import inspect
import subprocess
import sys

import pytest
import torch

from clipwise.errors import ClipwiseError, DataError, RecipeError
from clipwise.models import create_model, list_models, model_arguments
from clipwise.models.registry import MODELS
from clipwise.models.resnet import Block

RECOGNISERS = list_models(task="recognition")
TINY = [name for name in RECOGNISERS if name.endswith("tiny")]
# Every structure, small; gradients of the large models are compared one by one in tests/parity.
LIGHT = [
    *((name, {}) for name in TINY),
    ("tsm_tiny", {"non_local": "embedded_gaussian"}),
    ("tsm_tiny", {"temporal_pool": True, "non_local": "concatenation"}),
    ("slowonly_tiny", {"inflate_style": "3x3x3", "with_pool2": True}),
    ("slowonly_tiny", {"non_local": "gaussian", "with_pool1": False}),
    ("tpn_slowonly_tiny", {"flow": "parallel", "temporal_scales": [4, 8]}),
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def clips_for(model, batch=2, side=(32, 40)):
    channels, frames = model.clip_shape[:2]
    return torch.randn(batch, channels, frames, *side)


def build(name, **args):
    # eight frames everywhere: TPN pools eight
    return create_model(name, num_classes=5, **args)


@pytest.mark.parametrize("name", RECOGNISERS)
def test_shapes_and_names(name):
    """On the meta device: no weights, no arithmetic."""
    with torch.device("meta"):
        model = build(name).eval()
        clips = clips_for(model)
        assert model(clips).shape == (2, 5)
        assert model.forward_features(clips).shape == (2, model.num_features)
        assert model.classifier.out_features == model.num_classes == 5
        assert model.first_conv.in_channels == model.clip_shape[0] == 3
        model.reset_classifier(9)
        assert model(clips).shape == (2, 9)
    keys = list(model.state_dict())
    assert keys[0] == "backbone.conv1.weight"
    assert {"backbone.bn1.weight", "backbone.layer1.0.conv1.weight", "fc.weight", "fc.bias"} <= set(keys)
    assert all(key.split(".")[0] in ("backbone", "fc", "neck", "aux_head") for key in keys)
    assert model.views_before_softmax == name.startswith("tsn")


@pytest.mark.parametrize(("name", "args"), LIGHT)
def test_forward_and_backward(name, args):
    model = build(name, **args).train()
    outputs = model(clips_for(model))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert len(outputs) == 1 + hasattr(model, "aux_weight")
    sum(output.square().sum() for output in outputs).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    assert isinstance(model.eval()(clips_for(model)), torch.Tensor)


@pytest.mark.parametrize("name", TINY)
def test_bfloat16(name):
    model = build(name).eval()
    clips = clips_for(model)
    with torch.no_grad():
        reference = model(clips)
        half = model.bfloat16()(clips.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), reference, rtol=0.1, atol=0.05 * reference.abs().max().item())


@pytest.mark.parametrize("name", TINY)
def test_one_small_clip(name):
    """The smallest picture a ResNet of stride 32 can see, and a batch of one."""
    model = build(name).eval()
    with torch.no_grad():
        assert model(clips_for(model, batch=1, side=(7, 9))).isfinite().all()


@pytest.mark.parametrize("name", TINY)
def test_batch_order_and_memory_format_do_not_matter(name):
    model = build(name).eval().double()
    clips = clips_for(model, batch=3).double()
    with torch.no_grad():
        reference = model(clips)
        torch.testing.assert_close(model(clips.flip(0)), reference.flip(0))
        torch.testing.assert_close(model(clips.to(memory_format=torch.channels_last_3d)), reference)
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(model(clips), reference)


@pytest.mark.parametrize("name", ["tsn_tiny", "tsm_tiny", "slowonly_tiny", "tpn_tsm_tiny"])
def test_export(name):
    """torch.export with a free batch size gives the same numbers, without in-place writes."""
    model = build(name).eval()
    clips = clips_for(model, batch=2)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (clips,), dynamic_shapes=({0: batch},))
    other = clips_for(model, batch=5)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(other), model(other))
    written = [
        str(node.target)
        for node in program.graph.nodes
        if "index_put" in str(node.target) or "copy_" in str(node.target)
    ]
    assert not written


@pytest.mark.parametrize("name", ["tsm_tiny", "slowonly_tiny", "tpn_tsm_tiny"])
def test_compiles_as_one_graph(name):
    """Tracing only (the eager backend); a graph break would raise."""
    model = build(name, dropout=0.0).train()
    clips = clips_for(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(clips), model(clips))


def test_bmn_is_a_model_too():
    assert "bmn" in list_models()
    assert {"feat_dim", "temporal_dim"} <= set(model_arguments("bmn"))
    model = create_model("bmn", feat_dim=8, temporal_dim=10)
    conf, start, end = model(torch.randn(2, 8, 10))
    assert conf.shape == (2, 2, 10, 10)
    assert start.shape == end.shape == (2, 10)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean 'tsm_r50'"):
        create_model("tsm_r5O")
    with pytest.raises(RecipeError, match="Did you mean 'num_segments'"):
        create_model("tsm_tiny", num_segmets=8)
    with pytest.raises(RecipeError, match="'depth'"):
        create_model("tsm_tiny", depth="50")
    with pytest.raises(RecipeError, match="'num_segments'"):
        create_model("slowonly_tiny", num_segments=8)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("tsm_tiny", {"shift_place": "inside"}, "blockres, block"),
        ("tsm_tiny", {"shift_div": 1}, "2 to 32"),
        ("tsm_tiny", {"non_local": "cosine"}, "embedded_gaussian"),
        ("slowonly_tiny", {"inflate_style": "3x3x1"}, "3x1x1, 3x3x3"),
        ("slowonly_tiny", {"inflate": [1, 1]}, "each of the 4 stages"),
        ("tsn_tiny", {"frozen_stages": 5}, "-1, 0, 1, 2, 3, 4"),
        ("tsn_tiny", {"drop_path": 1.0}, "probability"),
        ("tpn_tsm_tiny", {"flow": "both"}, "cascade"),
        ("tpn_tsm_tiny", {"temporal_scales": [3, 8]}, "dividing"),
        ("tsm_tiny", {"dropout": "high"}, r"dropout must be a number, given 'high' \(its default is 0\.5\)"),
        ("slowonly_tiny", {"inflate": 3}, r"with inflate=3 \(its default is \(0, 0, 1, 1\)\)"),
        ("bmn", {"max_duration": "x"}, r"with max_duration='x' \(its default is None\)"),
    ],
)
def test_senseless_values_are_refused(name, args, message):
    with pytest.raises(RecipeError, match=message):
        create_model(name, **args)


def test_clips_that_do_not_fit_are_refused():
    model = create_model("tsm_tiny", num_classes=3)
    with pytest.raises(DataError, match=r"number of frames of a clip is 4.*num_segments=8"):
        model(torch.randn(1, 3, 4, 32, 32))
    with pytest.raises(DataError, match="in_channels=3 is what this model was made with; clips have C = 2"):
        model(torch.randn(1, 2, 8, 32, 32))
    with pytest.raises(DataError, match=r"\(batch, channels, frames, height, width\)"):
        model(torch.randn(8, 3, 32, 32))
    assert issubclass(DataError, ClipwiseError)


def test_defaults_are_visible():
    for name in RECOGNISERS:
        arguments = model_arguments(name)
        assert "depth" not in arguments
        assert inspect.Parameter.empty not in arguments.values()
    assert model_arguments("tsm_r50")["dropout"] == 0.5
    assert model_arguments("tsn_r50")["dropout"] == 0.4


def norms(model):
    return [m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_partial_bn_and_norm_eval():
    model = create_model("tsn_tiny", partial_bn=True).train()
    first, *others = norms(model)
    assert first.training
    assert first.weight.requires_grad
    assert not any(n.training or n.weight.requires_grad or n.bias.requires_grad for n in others)

    model = create_model("tsn_tiny", norm_eval=True).train()
    assert not any(n.training for n in norms(model))
    assert all(n.weight.requires_grad for n in norms(model))
    before = [b.clone() for b in model.buffers()]
    model(clips_for(model))
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers()))


@pytest.mark.parametrize("frozen", [-1, 0, 2])
def test_frozen_stages(frozen):
    model = create_model("slowonly_tiny", frozen_stages=frozen).train()
    model.eval().train()  # settings survive a round of evaluation
    body = model.backbone
    assert body.conv1.weight.requires_grad == (frozen < 0)
    assert body.bn1.training == (frozen < 0)
    for i, stage in enumerate(body.stages(), 1):
        held = i <= frozen
        assert all(p.requires_grad != held for p in stage.parameters())
        assert all(m.training != held for m in stage.modules() if isinstance(m, torch.nn.BatchNorm2d))


@pytest.mark.parametrize("name", ["slowonly_tiny", "tsm_tiny", "tpn_tsm_tiny"])
def test_checkpointing_changes_nothing(name):
    """Recomputed blocks give the same gradients, and running statistics are updated once."""
    results = []
    for recompute in (False, True):
        torch.manual_seed(1)
        model = create_model(name, num_classes=3, dropout=0.0, grad_checkpointing=recompute).double().train()
        outputs = model(clips_for(model).double())
        sum(o.square().sum() for o in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
        results.append(([p.grad for p in model.parameters()], list(model.buffers())))
        assert all(n.momentum == 0.1 for n in norms(model))
    for plain, recomputed in zip(*results):
        torch.testing.assert_close(recomputed, plain, rtol=1e-12, atol=1e-12)


def test_drop_path_skips_whole_clips_and_keeps_the_expectation():
    model = create_model("tsn_tiny", drop_path=0.5)
    blocks = [m for m in model.modules() if isinstance(m, Block)]
    rates = [b.drop_path for b in blocks]
    assert rates[0] == 0.0
    assert rates[-1] == 0.5
    assert rates == sorted(rates)
    mask = blocks[-1]._keep_mask(torch.zeros(4000 * 3, 1, 1, 1), 3).view(4000, 3)
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    assert (mask == mask[:, :1]).all()  # one draw a clip
    assert 0.95 < mask.mean() < 1.05


def test_tpn_without_auxiliary_head_returns_logits_alone():
    model = create_model("tpn_slowonly_tiny", num_classes=3, aux_weight=0).train()
    assert not hasattr(model, "aux_weight")
    assert isinstance(model(clips_for(model)), torch.Tensor)
    assert not any(key.startswith("aux_head") for key in model.state_dict())


def test_dropout_of_tsm_differs_from_frame_to_frame():
    """TSM drops per frame, TSN and SlowOnly the video's feature."""
    features = torch.ones(1 * 8, 256, 1, 1)
    for name, fractions in (("tsm_tiny", 9), ("tsn_tiny", 2)):
        model = create_model(name, num_classes=3, dropout=0.5).train()
        seen = []
        model.fc.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0]))
        model.classify(features, 8)
        values = seen[0].unique()
        assert 2 <= len(values) <= fractions
        assert (len(values) > 2) == (name == "tsm_tiny")


def test_a_name_begins_with_the_name_of_its_file():
    """So that one model's name imports one paper's file."""
    for name in list_models():
        if ":" not in name and (found := MODELS.find(name)).place == name:
            module = found.make.__module__.rpartition(".")[2]
            assert f"{name}_".startswith(f"{module}_"), f"{name} in {module}.py"


def test_making_one_model_imports_no_other():
    code = (
        "import sys, clipwise; clipwise.create_model('tsm_tiny', num_classes=2); print([m for m in ('slowonly', 'tpn', 'bmn') if "
        "'clipwise.models.' + m in sys.modules], 'clipwise.io.code_import' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]


def test_a_name_of_ours_is_taken_before_its_file_is_imported():
    code = (
        "import clipwise\n"
        "def tsm_r50(num_classes): ...\n"
        "try: clipwise.register_model(tsm_r50)\n"
        "except clipwise.ClipwiseError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "model 'tsm_r50' comes with clipwise" in done.stdout
