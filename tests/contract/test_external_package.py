"""A package of somebody else, installed beside clipwise: its model gets every verb, and nothing of it is imported unasked."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import clipwise
from clipwise.cli import main
from clipwise.engine.checkpoint import (
    load_model_and_passport,
    load_tensors,
    read_checkpoint,
    read_passport,
    save_weights,
)
from clipwise.errors import RecipeError
from clipwise.models.registry import MODELS
from clipwise.recipe import load_recipe

PACKAGE = Path(__file__).resolve().parents[1] / "external_package"
SHORT = ["epochs=2", "warmup_epochs=0", "batch_size=8", "num_workers=0", "amp=no", "lr=0.001"]


def install(target: Path) -> Path:
    """What ``pip install --no-deps --target`` leaves; done by hand, since a build backend would come over the network."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(PACKAGE / "src", target)
    about = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return target


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(install(tmp_path_factory.mktemp("site") / "packages"))
        yield
    MODELS.entries.pop(MODELS.by_name.pop("other_vit"))
    sys.modules.pop("other_nets")


@pytest.fixture(scope="module")
def run(installed, clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    assert main(["train", "tsm_tiny", "model=other_vit", "--data", str(clips), "--work-dir", str(folder), *SHORT]) == 0
    return folder


def test_the_package_is_small():
    assert sum(len(p.read_text().splitlines()) for p in PACKAGE.rglob("*") if p.suffix in (".py", ".toml")) < 60


def test_listed_and_made_by_name_and_by_place(installed):
    assert "other_vit" in clipwise.list_models()
    for name in ("other_vit", "other_nets:other_vit"):
        assert clipwise.create_model(name, num_classes=3).head.out_features == 3


def test_trained_and_its_passport_says_where_it_is_from(run):
    passport = read_passport(run / "last.safetensors")
    assert passport.model == "other_nets:other_vit"
    assert passport.model_args == {"num_classes": 6, "num_frames": 8}


def test_resumes_to_the_same_weights(run, clips, tmp_path):
    words = ["train", "tsm_tiny", "model=other_vit", "--data", str(clips), "--work-dir", str(tmp_path), *SHORT]
    main([*words, "--max-steps", "2"])
    assert main([*words, "--resume"]) == 0
    one, other = (read_checkpoint(folder / "last.safetensors")[0] for folder in (run, tmp_path))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_tests_predicts_and_streams(run, clips, capsys):
    checkpoint, video = str(run / "last.safetensors"), str(next((clips / "val").rglob("*.mp4")))
    assert main(["test", checkpoint, "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["metrics"]["top1_acc"] <= 1
    assert main(["predict", checkpoint, video, "--json"]) == 0
    # the oracle is the network itself on the frames that the recipe cuts
    top = clipwise.load(checkpoint)(video).top(1)[0]
    assert main(["stream", checkpoint, video, "--threshold", "0.01", "--smooth", "1"]) == 0
    assert top[0] in capsys.readouterr().out


def test_exports_to_onnx(run, tmp_path):
    out = tmp_path / "other.onnx"
    assert main(["export", str(run / "last.safetensors"), "--out", str(out)]) == 0
    assert out.is_file()


def test_serves(run, clips):
    from starlette.testclient import TestClient

    from clipwise.serve.app import create_app

    video = next((clips / "val").rglob("*.mp4"))
    predictor = clipwise.load(run / "last.safetensors")
    with TestClient(create_app(predictor), base_url="http://localhost") as client:
        answer = client.post("/v1/predict", files={"file": (video.name, video.read_bytes(), "video/mp4")})
    assert answer.status_code == 200, answer.text
    expected = predictor(str(video)).top(1)[0]
    assert answer.json()["results"][0]["predictions"][0]["class"] == expected[0]


def test_bench_info_and_features(run, clips, tmp_path, capsys):
    checkpoint = str(run / "last.safetensors")
    assert main(["bench", checkpoint, "--runs", "3", "--seconds", "0.1", "--json"]) == 0
    assert main(["bench", "other_vit", "--runs", "3", "--seconds", "0.1", "--json"]) == 0
    assert main(["info", "other_vit", "--json"]) == 0
    assert main(["info", checkpoint, "--json"]) == 0
    assert main(["features", checkpoint, str(next((clips / "val").rglob("*.mp4"))), "--out", str(tmp_path)]) == 0
    capsys.readouterr()


def test_converting_to_another_projects_network_is_refused(run, tmp_path, capsys):
    assert main(["convert", str(run / "last.safetensors"), "--to", "mmaction2", "--out", str(tmp_path / "x.pth")]) == 2
    assert "MMAction2 has no OtherViT" in capsys.readouterr().err
    assert not (tmp_path / "x.pth").exists()


def test_image_weights_are_refused(run, clips, tmp_path, capsys):
    words = ["train", "tsm_tiny", "model=other_vit", "--data", str(clips), "--work-dir", str(tmp_path), *SHORT]
    assert main([*words, "init=imagenet"]) == 2
    assert "Add `imagenet_body(self)" in capsys.readouterr().err


def test_a_key_without_effect_for_this_model_is_named(clips, tmp_path, capsys, installed):
    words = ["train", "tsm_tiny", "model=other_vit", "--data", str(clips), "--work-dir", str(tmp_path), *SHORT]
    assert main([*words, "--max-steps", "1", "sync_bn=true"]) == 0
    assert "sync_bn has no effect: OtherViT has no batch norm" in capsys.readouterr().err


def test_layer_decay_gives_each_block_its_rate(installed):
    """By hand: patch and positions, two blocks, norm, head are five stages, so the stem has 0.5 ** 4 of the rate."""
    from clipwise.engine.network import parameter_groups

    model = clipwise.create_model("other_vit", num_classes=3)
    groups = parameter_groups(model, "all", 1.0, 0.0, 0.5)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rate[id(model.patch.weight)] == rate[id(model.position)] == 0.5**4
    assert [rate[id(block.linear1.weight)] for block in model.blocks] == [0.5**3, 0.5**2]
    assert (rate[id(model.norm.weight)], rate[id(model.head.weight)]) == (0.5, 1.0)


def test_grad_cam(run, clips, tmp_path):
    out = tmp_path / "seen.mp4"
    video = str(next((clips / "val").rglob("*.mp4")))
    assert main(["analyze", str(run / "last.safetensors"), "--gradcam", video, "--out", str(out)]) == 0
    assert out.stat().st_size


def test_grad_checkpointing_changes_no_gradient(installed):
    from clipwise.models import contract

    torch.manual_seed(0)
    plain, saving = (clipwise.create_model("other_vit", num_classes=3) for _ in range(2))
    load_tensors(saving, plain.state_dict(), "itself")
    contract.recompute_blocks(saving)
    clips = contract.example_input(plain, 2)
    for model in (plain, saving):
        model(clips).square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(one.grad, other.grad)
    assert list(plain.state_dict()) == list(saving.state_dict())


def test_a_checkpoint_of_an_unknown_model_imports_nothing(run, tmp_path):
    """Another process, without the package's announcement: refused in a sentence; imported where it is trusted."""
    tensors, passport = read_checkpoint(run / "last.safetensors")
    passport.state = None
    (tmp_path / "stray.py").write_text(
        "print('IMPORTED')\n" + (PACKAGE / "src/other_nets/__init__.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    passport.model = "stray:other_vit"
    save_weights(tmp_path / "stray.safetensors", tensors, passport)
    command = [
        sys.executable,
        "-m",
        "clipwise",
        "bench",
        "stray.safetensors",
        "--runs",
        "1",
        "--seconds",
        "0",
        "--json",
    ]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert refused.returncode == 2
    assert "IMPORTED" not in refused.stdout
    assert "'stray:other_vit'" in refused.stderr
    assert "--trust" in refused.stderr
    allowed = subprocess.run([*command, "--trust"], capture_output=True, text=True, cwd=tmp_path)
    assert allowed.returncode == 0, allowed.stderr
    assert "IMPORTED" in allowed.stdout


def test_a_file_in_a_recipe_needs_trust(clips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(PACKAGE / "src/other_nets/__init__.py", tmp_path / "my_net.py")
    recipe = load_recipe("tsm_tiny", [*SHORT, "model=./my_net.py:other_vit"])
    with pytest.raises(RecipeError, match=r"'\./my_net\.py:other_vit' is code .* --trust"):
        clipwise.train(recipe, data=str(clips), work_dir=tmp_path / "run", quiet=True)
    result = clipwise.train(recipe, data=str(clips), work_dir=tmp_path / "run", quiet=True, max_steps=1, trust=True)
    # registered by that run, so this process has it now; a name without its file has no chance
    assert load_model_and_passport(result.last)[1].model == "./my_net.py:other_vit"
    with pytest.raises(RecipeError, match=r"no file \./other\.py"):
        clipwise.create_model("./other.py:other_vit", trust=True)
    # another process has neither the function nor leave to import it, and describes the file all the same
    told = subprocess.run(
        [sys.executable, "-m", "clipwise", "info", str(result.last), "--json"], capture_output=True, text=True
    )
    facts = json.loads(told.stdout)
    assert facts["checkpoint"]["model"] == "./my_net.py:other_vit"
    assert facts["classes"]["count"] == 6
    assert "--trust" in facts["cost"]["unknown"]


def test_a_function_is_a_model_too(installed, clips, tmp_path):
    import other_nets

    recipe = load_recipe("tsm_tiny", SHORT)
    result = clipwise.train(
        recipe, model=other_nets.other_vit, data=str(clips), work_dir=tmp_path, quiet=True, max_steps=1
    )
    assert read_passport(result.last).model == "other_nets:other_vit"
    with pytest.raises(RecipeError, match="is for localization"):
        clipwise.train(recipe, model="bmn", data=str(clips), work_dir=tmp_path / "other", quiet=True)
