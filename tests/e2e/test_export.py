"""Exported files compute what their checkpoints compute, describe themselves, and never appear broken."""

import json
import os
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.engine.checkpoint import Passport, load_model_and_passport, save_weights
from clipwise.engine.test import evaluate
from clipwise.errors import CheckpointError, ClipwiseError, DataError, WorkError
from clipwise.export.checksum import check_exported, seal_openvino
from clipwise.export.compare import Sample, compare
from clipwise.export.export_model import export, export_model
from clipwise.export.graphs import Description, make_graph, random_input
from clipwise.export.runtimes import load_exported, load_exported_model
from clipwise.infer.predictor import load
from clipwise.models import create_model
from clipwise.models.recipe_model import build_model, model_args
from clipwise.prepare import synthetic
from clipwise.recipe import RecognitionRecipe, make_recipe
from clipwise.recipe.moved import in_groups
from helpers import lively

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

CLASSES = sorted(synthetic.CLASSES)
SEGMENTS = {"num_segments": 4}
CLIPS = {"clip_len": 4, "frame_interval": 2, "test.num_clips": 2}


def make_checkpoint(path: Path, name: str, **keys) -> Path:
    test = {"test.crop": "three", "test.resize": 32, "test.crop_size": 32}
    recipe = make_recipe(in_groups(RecognitionRecipe, {"model": name, "num_classes": 6, **test, **keys}))
    torch.manual_seed(0)
    model = lively(build_model(recipe, 6))
    save_weights(
        path, model.state_dict(), Passport(name, model_args(recipe, 6), CLASSES, recipe.model_dump(mode="json"))
    )
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("export") / "tsm.safetensors", "tsm_tiny", **SEGMENTS)


@pytest.fixture(scope="module")
def onnx_file(checkpoint) -> Path:
    return export(checkpoint, "onnx").path


@pytest.fixture(scope="module")
def video(clips) -> str:
    return str(sorted((clips / "val").rglob("*.mp4"))[0])


def same_scores(checkpoint: Path, file: Path, video: str) -> None:
    expected, found = load(checkpoint, "cpu")(video), load_exported(file, "cpu", trust=True)(video)
    assert found.classes == expected.classes == CLASSES
    assert np.ptp(expected.scores) > 1e-3  # else equality would say nothing
    np.testing.assert_allclose(found.scores, expected.scores, atol=2e-5)
    assert found.top(4) == [(name, pytest.approx(score, abs=2e-5)) for name, score in expected.top(4)]


def test_onnx_predicts_as_the_checkpoint(checkpoint, onnx_file, video):
    same_scores(checkpoint, onnx_file, video)


def test_onnx_takes_any_batch(checkpoint, onnx_file):
    exported, passport = load_exported_model(onnx_file, "cpu")
    graph, about = make_graph(load_model_and_passport(checkpoint)[0], passport)
    for batch in (1, 2, 5):
        frames = random_input(about, batch, seed=batch)
        assert frames.shape == (batch, 4, 32, 32, 3)
        with torch.inference_mode():
            torch.testing.assert_close(exported(frames), graph(frames), atol=1e-4, rtol=1e-4)


def test_onnx_describes_itself_and_not_this_machine(onnx_file):
    import onnx

    model = onnx.load(str(onnx_file))
    properties = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert properties["classes"] == CLASSES
    about = properties["preprocessing"]
    assert about["normalize"] == {"inside_the_graph": True, "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}  # fmt: skip
    assert about["crop"] == {"kind": "three", "size": 32}
    assert about["sampling"]["num_segments"] == 4
    assert properties["clipwise"]["passport"]["recipe"]["model"] == "tsm_tiny"
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 4, 32, 32, 3]
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    source = str(Path(export.__code__.co_filename).parents[2])
    assert source.encode() not in onnx_file.read_bytes()


def test_wrong_input_is_refused(onnx_file):
    exported, _ = load_exported_model(onnx_file, "cpu")
    with pytest.raises(DataError, match=r"uint8 of \(batch, 4, 32, 32, 3\)"):
        exported(torch.zeros(1, 8, 32, 32, 3, dtype=torch.uint8))
    with pytest.raises(DataError, match="the input is float32"):
        exported(torch.zeros(1, 4, 32, 32, 3))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("slowonly_tiny", CLIPS),
        ("tpn_tsm_tiny", SEGMENTS),
        pytest.param("tsn_tiny", {**SEGMENTS, "average_clips": "score"}, marks=pytest.mark.slow),
        pytest.param("tpn_slowonly_tiny", CLIPS, marks=pytest.mark.slow),
    ],
)
def test_every_family_in_onnx(tmp_path, name, keys, video):
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", name, **keys)
    same_scores(checkpoint, export(checkpoint, "onnx").path, video)


def test_torch_export(tmp_path, checkpoint, video):
    made = export(checkpoint, "torch", tmp_path / "m.pt2")
    assert made.comparison.top1_agreement == 1
    same_scores(checkpoint, made.path, video)


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_flipped_bytes_are_refused(tmp_path, checkpoint, onnx_file, format):
    """100 bytes anywhere, and one byte at 40 places: refused, or of no consequence for the scores."""
    file = onnx_file if format == "onnx" else export(checkpoint, "torch", tmp_path / "m.pt2").path
    data, rng = file.read_bytes(), np.random.default_rng(0)
    copy = tmp_path / f"copy{file.suffix}"
    frames = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8)
    expected = load_exported_model(file, "cpu", trust=True)[0](frames)
    for count in [100] * 5 + [1] * 40:
        changed = bytearray(data)
        for place in rng.choice(len(data), count, replace=False):
            changed[place] ^= int(rng.integers(1, 256))
        copy.write_bytes(changed)
        try:
            found = load_exported_model(copy, "cpu", trust=True)[0](frames)
        except CheckpointError:
            continue
        assert format == "torch"  # padding of the archive, or a date in it
        assert count == 1
        assert torch.equal(found, expected)


def test_flipped_bytes_of_openvino_files_are_refused(tmp_path, checkpoint):
    """Of the graph and of the weights; a file whose weights are gone, too."""
    pytest.importorskip("openvino")
    made = export(checkpoint, "openvino", tmp_path / "m.xml").path
    rng = np.random.default_rng(0)
    for part in (made, made.with_suffix(".bin")):
        data = part.read_bytes()
        for count in [100] * 3 + [1] * 20:
            changed = bytearray(data)
            for place in rng.choice(len(data), count, replace=False):
                changed[place] ^= int(rng.integers(1, 256))
            part.write_bytes(changed)
            with pytest.raises(CheckpointError, match="is damaged, or was changed since it was exported"):
                load_exported_model(made, "cpu")
        part.write_bytes(data)
    load_exported_model(made, "cpu")
    made.with_suffix(".bin").unlink()
    with pytest.raises(CheckpointError, match=r"its weights, m\.bin, are not beside it"):
        load_exported_model(made, "cpu")


def test_the_seal_of_openvino_files_needs_no_openvino(tmp_path):
    """A comment after the graph: XML readers skip it. Files of 0.1 and of other programs have none, and are taken."""
    graph, weights = tmp_path / "m.xml", tmp_path / "m.bin"
    graph.write_text('<net><rt_info><clipwise_sealed value="1"/></rt_info></net>\n')
    weights.write_bytes(bytes(range(256)))
    with pytest.raises(CheckpointError, match="its checksum is not at its end"):
        check_exported(graph)
    seal_openvino(graph)
    check_exported(graph)
    ElementTree.parse(graph)
    weights.write_bytes(bytes(range(255)) + b"a")
    with pytest.raises(CheckpointError, match=r"it or its \.bin does not match"):
        check_exported(graph)
    graph.write_text("<net></net>\n")
    check_exported(graph)


def test_openvino(tmp_path, checkpoint, video):
    pytest.importorskip("openvino")
    made = export(checkpoint, "openvino", tmp_path / "m.xml", normalize=False)
    assert made.description.dtype == "float32"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.bin", "m.xml"]
    same_scores(checkpoint, made.path, video)


def test_bmn(tmp_path):
    torch.manual_seed(0)
    args = dict(feat_dim=8, temporal_dim=12, max_duration=6, hidden_dim=16, matching_dim=8, map_dim=8, num_samples=4)
    model = create_model("bmn", **args).eval()
    passport = Passport("bmn", args, recipe={"task": "localization"})
    made = export_model(model, passport, tmp_path / "bmn.onnx")
    assert made.comparison.max_abs_diff < 1e-5
    exported, again = load_exported_model(made.path, "cpu")
    assert (again.model, again.model_args) == ("bmn", args)
    features = torch.randn(3, 8, 12)
    with torch.inference_mode():
        for one, other in zip(model(features), exported(features)):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    with pytest.raises(CheckpointError, match="clipwise localize"):
        load_exported(made.path)


def test_int8_needs_and_uses_calibration(tmp_path, checkpoint, onnx_file, clips, capsys):
    out = tmp_path / "m.onnx"
    command = ["export", str(checkpoint), "--out", str(out), "--int8"]
    assert main(command) == 2
    assert "--calibration LIST or FOLDER" in capsys.readouterr().err
    command += ["--calibration", str(clips / "train"), "--num-calibration", "12"]
    assert main([*command, "--check-clips", str(clips / "val"), "--json", "--min-agreement", "0"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["precision"] == "int8"
    comparison = result["comparison"]
    assert comparison["samples"] == 12
    exact = evaluate(checkpoint, data=clips / "val", device="cpu").metrics["top1_acc"]
    assert comparison["accuracy"] == pytest.approx(exact)
    predictor, right = load_exported(out), 0
    for path in (clips / "val").rglob("*.mp4"):
        right += predictor(path).name == path.parent.name
    assert comparison["exported_accuracy"] == pytest.approx(right / 12)
    assert comparison["max_abs_diff"] > 1e-4  # it is quantized, not renamed
    assert out.stat().st_size < 0.5 * onnx_file.stat().st_size


def test_a_failing_export_leaves_what_was_there(tmp_path, checkpoint, monkeypatch):
    from clipwise.export import export_model as module

    out = tmp_path / "m.pt2"
    out.write_bytes(b"yesterday's export")
    real = module.write_torch

    def other_weights(graph, description, path, **options):
        wrong = load_model_and_passport(checkpoint)[0]
        with torch.no_grad():
            wrong.fc.bias += 0.5
        real(make_graph(wrong, load_model_and_passport(checkpoint)[1])[0], description, path, **options)

    monkeypatch.setattr(module, "write_torch", other_weights)
    with pytest.raises(WorkError, match="computes something else"):
        export(checkpoint, "torch", out)
    assert out.read_bytes() == b"yesterday's export"
    assert [p.name for p in tmp_path.iterdir()] == ["m.pt2"]


def test_a_file_right_at_one_batch_size_only_is_found_out():
    def network(x):
        return x.flatten(1)[:, :3].float()

    def fixed_batch(x):
        return network(x) if len(x) == 2 else network(x) + 1

    samples = [Sample(torch.arange(24.0).view(2, 12))]
    good = compare(network, network, samples, "test", device=torch.device("cpu"))
    bad = compare(network, fixed_batch, samples, "test", device=torch.device("cpu"))
    assert (good.max_abs_diff, bad.max_abs_diff) == (0, 1)
    nan = compare(network, lambda x: network(x) * float("nan"), samples, "test", device=torch.device("cpu"))
    assert nan.max_abs_diff == float("inf")


def test_files_that_can_not_be_used(tmp_path, onnx_file):
    import onnx

    model = onnx.load(str(onnx_file))
    del model.metadata_props[:]
    stranger = tmp_path / "stranger.onnx"
    onnx.save(model, str(stranger))
    with pytest.raises(CheckpointError, match="no description by clipwise"):
        load_exported(stranger)
    for name in ("broken.onnx", "broken.pt2"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(CheckpointError, match="broken"):
            load_exported(tmp_path / name, trust=True)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_exported(tmp_path / "absent.onnx")
    with pytest.raises(ClipwiseError, match=r"precision of .* was fixed"):
        load_exported(onnx_file, amp="bf16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "onnx", "--out", "x.pt2"], "must end in .onnx"),
        (["--format", "onnx", "--aot"], "needs --format torch"),
        (["--format", "torch", "--int8", "--calibration", "x"], "--format onnx and openvino"),
        (["--calibration", "x"], "is for --int8"),
    ],
)
def test_contradictions_are_refused_before_the_work(checkpoint, options, message, capsys):
    assert main(["export", str(checkpoint), *options]) == 2
    assert message in capsys.readouterr().err


def test_command_line_from_checkpoint_to_prediction(tmp_path, checkpoint, video, capsys):
    out = tmp_path / "m.pt2"
    command = ["export", str(checkpoint), "test.crop=center", "--format", "torch", "--out", str(out)]
    assert main(command) == 0
    assert "same best class 100.0%" in capsys.readouterr().out
    assert main(["predict", str(out), video]) == 2
    assert "allow it: --trust" in capsys.readouterr().err
    assert main(["predict", str(out), video, "--json", "--topk", "9", "--trust"]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"][0]["predictions"]
    predictor = load(checkpoint, "cpu")
    recipe = predictor.passport.recipe
    test = {**recipe["test"], "crop": "center"}
    predictor.spec = type(predictor.spec).from_recipe({**recipe, "test": test}, "test")
    expected = predictor(video).top(9)
    assert [(p["class"], pytest.approx(p["score"], abs=2e-5)) for p in found] == expected


def test_an_exported_file_is_tested_like_its_checkpoint(tmp_path, checkpoint, onnx_file, clips, capsys):
    found = []
    for file in (checkpoint, onnx_file):
        assert (
            main(["test", str(file), "--data", str(clips), "--out", str(tmp_path / "scores.json"), "num_workers=0"])
            == 0
        )
        found.append(json.loads((tmp_path / "scores.json").read_text()))
    assert found[0]["metrics"] == found[1]["metrics"]
    for ours, exported in zip(found[0]["results"], found[1]["results"], strict=True):
        np.testing.assert_allclose(exported["scores"], ours["scores"], atol=1e-5)
    assert main(["test", str(onnx_file), "--data", str(clips), "--amp", "bf16"]) == 2
    assert "OpenVINO" in capsys.readouterr().err


def test_names_of_any_script_survive():
    about = Description(
        "frames", "uint8", [4, 32, 32, 3], ["logits"], passport={"model": "m", "classes": ["沉默", "às"]}
    )
    again = Description.from_properties(about.to_properties(), "file")
    assert again == about
    assert again.read_passport().classes == ["沉默", "às"]


class Toucher:
    """A pickle that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_code_in_a_strangers_pt2_is_not_run_without_trust(tmp_path, video, clips, capsys):
    """torch.export's weights may be pickles, by the archive's own word."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return x + self.w

    torch.export.save(torch.export.export(Net(), (torch.zeros(3),)), str(tmp_path / "good.pt2"))
    torch.save({"x": Toucher(tmp_path / "ran")}, tmp_path / "code")
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as evil:
        for name in good.namelist():
            data = good.read(name).replace(b'"use_pickle": false', b'"use_pickle": true')
            evil.writestr(name, (tmp_path / "code").read_bytes() if name.endswith("/weight_0") else data)
    evil = str(tmp_path / "evil.pt2")
    commands = [
        ["predict", evil, video],
        ["test", evil, "--data", str(clips)],
        ["localize", evil, video],
        ["bench", evil],
        ["serve", evil],
    ]
    for words in commands:
        assert main(words) == 2, words
        assert "allow it: --trust" in capsys.readouterr().err, words
    with pytest.raises(CheckpointError, match="trust=True"):
        load_exported(evil)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(CheckpointError):
        load_exported(evil, trust=True)
    assert (tmp_path / "ran").exists()  # else the file would show nothing
