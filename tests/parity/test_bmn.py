"""BMN against frozen tensors of MMAction2 1.2 and of JJBOY's code."""

import hashlib
import json

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.convert.bmn_layouts import (
    CONVENTIONS,
    bmn_to_mmaction2,
    convert_bmn,
    detect_bmn_source,
    export_bmn,
    sample_mask,
)
from clipwise.engine.checkpoint import load_model
from clipwise.errors import CheckpointError, ClipwiseError
from clipwise.models import create_model
from clipwise.models.bmn import BMNRules, bmn
from clipwise.recipe import make_recipe

SOURCES = {"mmaction2": "bmn_400x100", "jjboy": "bmn_jjboy"}


@pytest.fixture(scope="module")
def source_weights(shared, weights_recipe):
    """The recipe's weights under the references' names, without the mask."""
    keys = json.loads((shared / "golden/bmn_400x100/keys.json").read_text())["keys"]
    return {
        k["key"]: torch.from_numpy(weights_recipe.make_tensor(k["key"], k["shape"]))
        for k in keys
        if not k["key"].endswith("mask")
    }


@pytest.fixture(scope="module")
def features(weights_recipe):
    return torch.from_numpy(weights_recipe.make_features("bmn_400x100/x", (2, 400, 100)))


def golden(shared, source):
    with np.load(shared / "golden" / SOURCES[source] / "golden.npz") as data:
        arrays = {k: data[k] for k in data.files}
    return arrays, json.loads((shared / "golden" / SOURCES[source] / "golden.json").read_text())


@pytest.fixture(scope="module", params=["mmaction2", "jjboy"])
def loaded(request, source_weights):
    state, args, unused = convert_bmn(source_weights, request.param, temporal_dim=100)
    assert not unused
    model = bmn(**args)
    model.load_state_dict(state)
    return request.param, model.eval()


def test_outputs_in_float32(loaded, features, shared):
    source, model = loaded
    arrays, _ = golden(shared, source)
    with torch.no_grad():
        conf, start, end = model(features)
    for got, name in ((conf, "conf_fp32"), (start, "start_fp32"), (end, "end_fp32")):
        np.testing.assert_allclose(got.numpy(), arrays[name], atol=3e-6, rtol=0, err_msg=name)


def test_outputs_in_float64(loaded, features, shared):
    source, model = loaded
    arrays, _ = golden(shared, source)
    double = bmn(sampling=source, layout=model.layout).double()
    double.load_state_dict(model.state_dict())
    with torch.no_grad():
        conf, start, end = double(features.double())
    flat = conf.flatten()
    sampled = flat[np.unique(np.linspace(0, flat.numel() - 1, 4000).astype(np.int64))]
    # JJBOY's samples are of its float32 run
    tolerance = 1e-11 if source == "mmaction2" else 1e-6
    np.testing.assert_allclose(sampled.numpy(), arrays["conf_sampled"], rtol=tolerance)
    if source == "mmaction2":
        np.testing.assert_allclose(start.numpy(), arrays["start"], rtol=1e-11)
        np.testing.assert_allclose(end.numpy(), arrays["end"], rtol=1e-11)


@pytest.mark.parametrize("source", ["mmaction2", "jjboy"])
def test_sampling_is_bit_equal_to_the_references_mask(shared, source):
    expected = golden(shared, source)[1]["sample_mask"]
    mask = sample_mask(100, 100, 32, source)
    assert int((mask != 0).sum()) == expected["nonzero"]
    assert hashlib.sha1(mask.numpy().tobytes()).hexdigest() == expected["sha1_f32"]


def test_default_initialization_is_that_of_the_references():
    """JJBOY's class after manual_seed(0), run on a seeded input: figures of the specification, section 1.5."""
    torch.manual_seed(0)
    model = bmn(sampling="jjboy", layout="start_end").eval()
    assert sum(p.numel() for p in model.parameters()) == 4_978_564
    torch.manual_seed(1)
    with torch.no_grad():
        conf, start, end = model(torch.randn(1, 400, 100))
    np.testing.assert_allclose(start[0, :3], [0.5121258, 0.5166612, 0.5194846], atol=2e-7)
    np.testing.assert_allclose(end[0, :3], [0.5036721, 0.4933073, 0.5108169], atol=2e-7)
    valid = torch.ones(100, 100, dtype=torch.bool).triu()
    np.testing.assert_allclose(conf[0, 0][valid].double().sum(), 2452.33453, atol=2e-4)
    np.testing.assert_allclose(conf[0, 1][valid].double().sum(), 2624.67052, atol=2e-4)
    np.testing.assert_allclose(
        [conf[0, 0, 0, 0], conf[0, 0, 10, 50], conf[0, 0, 0, 99]],
        [0.4850761, 0.4855655, 0.4862518],
        atol=2e-7,
    )


def test_conversion_returns_to_where_it_came_from(source_weights):
    state, args, _ = convert_bmn(source_weights, "mmaction2", temporal_dim=100)
    assert args == {
        "feat_dim": 400,
        "temporal_dim": 100,
        "max_duration": 100,
        "hidden_dim": 256,
        "matching_dim": 256,
        "map_dim": 128,
        "num_samples": 32,
        "sampling": "mmaction2",
        "layout": "duration_start",
    }
    back = bmn_to_mmaction2(state, args)
    assert back.keys() == source_weights.keys()
    for key, value in source_weights.items():
        assert torch.equal(back[key], value), key


@pytest.mark.parametrize("target", ["opentad", "paddle", "jjboy"])
def test_every_source_converts_both_ways(target):
    model = bmn(feat_dim=16, temporal_dim=12, matching_dim=8, hidden_dim=8, map_dim=4)
    there = export_bmn(model.state_dict(), target)
    state, args, unused = convert_bmn(
        {f"module.{k}": v for k, v in there.items()} | {"module.extra": torch.zeros(1)}, target, 12
    )
    assert unused == ["extra"]
    assert args["matching_dim"] == 8
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], value), key
    if target == "opentad":
        assert there["roi_head.proposal_roi_extractor.conv3d.0.weight"].shape == (16, 8, 32, 1)
        theirs = there["roi_head.proposal_head.head.2.weight"]
        assert torch.equal(theirs[0], model.proposal.score.weight[1])  # classification stands first there
    assert (detect_bmn_source(there) if target != "jjboy" else target) == target


def test_mask_tells_jjboy_from_mmaction2():
    model = bmn(feat_dim=16, temporal_dim=12, matching_dim=8, hidden_dim=8, map_dim=4)
    other = bmn(
        feat_dim=16,
        temporal_dim=12,
        matching_dim=8,
        hidden_dim=8,
        map_dim=4,
        sampling="jjboy",
        layout="start_end",
    )
    args = {"temporal_dim": 12, "sampling": "mmaction2", "layout": "duration_start"}
    ours = export_bmn(model.state_dict(), "mmaction2", args, include_masks=True)
    theirs = export_bmn(
        other.state_dict(), "jjboy", args | {"sampling": "jjboy", "layout": "start_end"}, include_masks=True
    )
    assert ours["sample_mask"].shape == theirs["sample_mask"].shape == (12, 32 * 144)
    assert detect_bmn_source({"state_dict": ours}) == "mmaction2"
    assert detect_bmn_source({"epoch": 8, "state_dict": {f"module.{k}": v for k, v in theirs.items()}}) == "jjboy"
    assert convert_bmn(theirs, "jjboy")[1]["temporal_dim"] == 12
    with pytest.raises(CheckpointError, match="it is jjboy's"):
        convert_bmn(theirs, "mmaction2")
    with pytest.raises(CheckpointError, match="temporal_dim=100 was given, but the mask in the file is for"):
        convert_bmn(theirs, "jjboy", temporal_dim=100)
    del ours["sample_mask"], ours["bm_mask"]
    with pytest.raises(CheckpointError, match="could be JJBOY's or MMAction2's"):
        detect_bmn_source(ours)
    assert detect_bmn_source({"meta": {"mmcv_version": "1.7"}, "state_dict": ours}) == "mmaction2"
    with pytest.raises(CheckpointError, match="do not tell how many positions"):
        convert_bmn(ours, "mmaction2")
    with pytest.raises(CheckpointError, match="cannot run in mmaction2"):
        bmn_to_mmaction2(other.state_dict(), {"sampling": "jjboy"})
    with pytest.raises(CheckpointError, match="not interchangeable"):
        convert_bmn(ours, "auto")
    with pytest.raises(CheckpointError, match="24 of 24 names are missing"):
        convert_bmn({"fc.weight": torch.zeros(1)}, "opentad")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: bmn(feat_dim=0), "feat_dim was 0; it must be at least 1"),
        (lambda: bmn(hidden_dim=30), "hidden_dim was 30; it must be a multiple of 4"),
        (lambda: bmn(sampling="mm"), "sampling was 'mm'; use one of 'mmaction2', 'jjboy'"),
        (lambda: bmn(max_duration=101), "within 1..temporal_dim (100)"),
        (lambda: bmn(layout="start_end", max_duration=50), "needs both to be equal"),
        (lambda: bmn(temporal_dim=8)(torch.zeros(1, 8, 400)), "the last two axes are swapped"),
        (lambda: bmn(temporal_dim=8)(torch.zeros(1, 400, 9)), "got features of shape (1, 400, 9)"),
    ],
)
def test_wrong_arguments_are_explained(build, words):
    with pytest.raises(ClipwiseError) as error:
        build()
    assert words in str(error.value)


def test_any_feature_dimension_is_padded_with_zeros():
    """Channels that the groups of the first convolution do not divide: as if the features had been padded by hand."""
    options = dict(temporal_dim=12, hidden_dim=16, matching_dim=8, map_dim=8, num_samples=4)
    odd, even = bmn(feat_dim=51, **options), bmn(feat_dim=52, **options)
    even.load_state_dict(odd.state_dict())
    x = torch.randn(2, 51, 12)
    for one, other in zip(odd(x), even(torch.nn.functional.pad(x, (0, 0, 0, 1)))):
        assert torch.equal(one, other)
    with pytest.raises(ClipwiseError, match=r"feat_dim=51"):
        odd(torch.zeros(1, 52, 12))


def test_shape_of_a_network_is_told_by_its_arguments():
    def shape(**settings):
        rules = BMNRules(settings, make_recipe({"task": "localization"}))
        return rules.feat_dim, rules.length, rules.max_duration, rules.layout

    assert shape() == (400, 100, 100, "duration_start")
    assert shape(temporal_dim=200, layout="start_end", feat_dim=2048) == (2048, 200, 200, "start_end")


def test_every_bmn_file_goes_through_the_command_line(tmp_path, capsys):
    """Files without a mask do not tell their length, and JJBOY's without one not even whose they are."""
    options = dict(feat_dim=8, temporal_dim=12, hidden_dim=16, matching_dim=8, map_dim=8, num_samples=4)
    recipe = [
        "temporal_dim=12",
        "feat_dim=8",
        "model_args={hidden_dim: 16, matching_dim: 8, map_dim: 8, num_samples: 4, HOW}",
    ]
    for target in ("opentad", "paddle", "jjboy", "mmaction2"):
        sampling, layout = CONVENTIONS[target]
        model = create_model("bmn", sampling=sampling, layout=layout, **options)
        theirs = export_bmn(model.state_dict(), target)
        file, out = tmp_path / f"{target}.pth", tmp_path / f"{target}.safetensors"
        torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in theirs.items()}}, file)
        keys = [key.replace("HOW", f"sampling: {sampling}, layout: {layout}") for key in recipe]
        words = ["convert", str(file), "--recipe", "bmn_activitynet", "--set", *keys, "--out", str(out)]
        if target in ("jjboy", "mmaction2"):
            assert main(words) == 2
            assert "--weights-of jjboy" in capsys.readouterr().err
            other = "mmaction2" if target == "jjboy" else "jjboy"
            assert main([*words, "--weights-of", other]) == 2
            assert "the file's network has sampling=" in capsys.readouterr().err
            words += ["--weights-of", target]
        assert main(words) == 0
        assert "taken for 12" in capsys.readouterr().out
        again = load_model(out).state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())
