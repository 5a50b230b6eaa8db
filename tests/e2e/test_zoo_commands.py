"""convert, info, recipes and zoo names, as commands."""

import json

import pytest
import torch

from clipwise.cli import main
from clipwise.convert.weights import save_mmaction2
from clipwise.engine.checkpoint import load_model_and_passport, read_checkpoint
from clipwise.engine.train import train
from clipwise.models import create_model
from clipwise.recipe import list_recipes, load_recipe


def told(capsys, *words):
    code = main(list(map(str, words)))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def theirs(tmp_path):
    """An MMAction2 file of a small TSM with 27 classes."""
    torch.manual_seed(0)
    model = create_model("tsm_tiny", num_classes=27, num_segments=8)
    path = tmp_path / "theirs.pth"
    save_mmaction2(path, model.state_dict(), model, {"epoch": 7})
    return path


def test_convert_and_back(theirs, tmp_path, capsys):
    ours, again, back = tmp_path / "ours.safetensors", tmp_path / "again.safetensors", tmp_path / "back.pth"
    code, out, _ = told(capsys, "convert", theirs, "--recipe", "tsm_tiny", "--out", ours, "--source", "a test")
    assert code == 0
    assert "format: MMAction2" in out
    assert "0 missing, 0 unused" in out
    _, passport = load_model_and_passport(ours)
    assert (passport.source, passport.model_args["num_classes"], passport.classes) == ("a test", 27, None)
    assert passport.recipe["num_classes"] == 27
    assert told(capsys, "convert", ours, "--to", "mmaction2", "--out", back)[0] == 0
    written = torch.load(back, weights_only=True)["state_dict"]
    original = torch.load(theirs, weights_only=True)["state_dict"]
    assert list(written) == list(original)
    assert all(torch.equal(written[k], original[k]) for k in original)
    code, out, _ = told(capsys, "convert", back, "--recipe", "tsm_tiny", "--out", again, "--json")
    assert code == 0
    assert json.loads(out)["missing"] == []
    assert all(torch.equal(a, b) for a, b in zip(read_checkpoint(ours)[0].values(), read_checkpoint(again)[0].values()))


def test_convert_train_write_back_convert_again(theirs, clips, tmp_path, capsys):
    """Issue: convert, train a step, save, --to mmaction2, convert again: the same weights."""
    recipe = load_recipe("tsm_tiny", ["epochs=1", "warmup_epochs=0", "batch_size=24", "num_workers=0", "amp=no"])
    run = train(recipe, data=str(clips), work_dir=tmp_path / "run", init=str(theirs), quiet=True, device="cpu")
    back, again = tmp_path / "b.pth", tmp_path / "a.safetensors"
    assert told(capsys, "convert", run.last, "--to", "mmaction2", "--out", back)[0] == 0
    words = ["convert", back, "--recipe", tmp_path / "run" / "recipe.yaml", "--out", again]
    assert told(capsys, *words)[0] == 0
    first, second = read_checkpoint(run.last)[0], read_checkpoint(again)[0]
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    start = torch.load(theirs, weights_only=True)["state_dict"]["backbone.conv1.conv.weight"]
    assert not torch.equal(first["backbone.conv1.weight"], start)


def test_convert_classes_and_partial(theirs, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"gesture {i}\n" for i in range(27)))
    out = tmp_path / "o.safetensors"
    assert told(capsys, "convert", theirs, "--recipe", "tsm_tiny", "--out", out, "--classes", names)[0] == 0
    assert load_model_and_passport(out)[1].classes[26] == "gesture 26"
    names.write_text("one\ntwo\n")
    code, _, err = told(capsys, "convert", theirs, "--recipe", "tsm_tiny", "--out", out, "--classes", names)
    assert (code, "2 class names were given, but the network has 27 outputs" in err) == (2, True)
    pruned = torch.load(theirs, weights_only=True)
    del pruned["state_dict"]["backbone.layer1.0.conv1.bn.weight"]
    torch.save(pruned, tmp_path / "pruned.pth")
    code, _, err = told(capsys, "convert", tmp_path / "pruned.pth", "--recipe", "tsm_tiny", "--out", out)
    assert code == 2
    assert "1 missing in the file: backbone.layer1.0.bn1.weight" in err
    assert "--partial" in err
    code, said, _ = told(capsys, "convert", tmp_path / "pruned.pth", "--recipe", "tsm_tiny", "--out", out, "--partial")
    assert code == 0
    assert "missing: backbone.layer1.0.bn1.weight" in said


class Bomb:
    def __reduce__(self):
        return (print, ("code ran",))


def test_convert_refuses(theirs, tmp_path, capsys):
    torch.save({"state_dict": {"backbone.conv1.conv.weight": Bomb()}}, tmp_path / "bomb.pth")
    (tmp_path / "cut.pth").write_bytes(theirs.read_bytes()[:20000])
    out = tmp_path / "o.safetensors"
    for words, message in (
        ([theirs, "--recipe", "slowonly_tiny", "--out", out], "does not fit SlowOnly"),
        ([theirs, "--recipe", "tsn_tiny", "--out", out], "does not fit TSN"),
        ([tmp_path / "bomb.pth", "--recipe", "tsm_tiny", "--out", out], "was not opened: its pickle asks for"),
        ([tmp_path / "cut.pth", "--recipe", "tsm_tiny", "--out", out], "truncated or damaged"),
        ([theirs, "--out", out], "--recipe is missing"),
        ([theirs, "--recipe", "tsm_tiny", "--out", "o.pth"], "our checkpoints are .safetensors files"),
        ([theirs, "--to", "mmaction2", "--recipe", "tsm_tiny", "--out", "o.pth"], "has no effect with --to mmaction2"),
        (
            [theirs, "--recipe", "tsm_tiny", "--out", "o.safetensors", "--weights-of", "jjboy"],
            "--weights-of has no effect with tsm_tiny, which is not a localizer",
        ),
        ([theirs, "--to", "mmaction2", "--out", "o.pth"], "is not a clipwise checkpoint"),
    ):
        code, printed, err = told(capsys, "convert", *words)
        assert code == 2
        assert message in err
        assert "code ran" not in printed
    assert not out.exists()


def test_info(theirs, trained, capsys):
    code, out, _ = told(capsys, "info", "slowonly_r50_4x16x1_256e_kinetics400_rgb", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["cost"]["gmac_per_view"] == pytest.approx(27.26, abs=0.005)
    assert facts["cost"]["views"] == 30
    assert facts["cost"]["training_batch"] == 8
    assert facts["published weights"]["sha256_begins"] == "a69556c6"
    facts = json.loads(told(capsys, "info", "slowonly_r50", "--size", "256", "--frames", "4", "--json")[1])
    assert facts["cost"]["gmac_per_view"] == pytest.approx(27.26, abs=0.005)
    assert facts["settings and their defaults"]["inflate"] == [0, 0, 1, 1]
    facts = json.loads(told(capsys, "info", trained, "--json")[1])
    assert facts["checkpoint"]["model"] == "tsm_tiny"
    assert facts["checkpoint"]["resumable"]
    assert len(facts["classes"]["names"]) == 6
    assert "top1_acc" in facts["checkpoint"]["metrics"]
    facts = json.loads(told(capsys, "info", theirs, "--json")[1])["another project's checkpoint"]
    assert (facts["format"], facts["looks_like"], facts["with"]["num_classes"]) == ("MMAction2", "tsm_tiny", 27)
    facts = json.loads(told(capsys, "info", "imagenet_resnet50", "--json")[1])
    assert facts["published weights"]["address"].endswith("resnet50-0676ba61.pth")
    code, out, _ = told(capsys, "info", "--zoo", "tpn")
    assert code == 0
    assert "c28ed83f" in out
    code, _, err = told(capsys, "info", "slowonly_r5O")
    assert code == 2
    assert "did you mean 'slowonly_r50" in err
    assert told(capsys, "info")[0] == 2


@pytest.mark.parametrize(
    "what", [n for n in list_recipes() if n.startswith(("tpn", "tsn_r50_paddle", "tsn_r50_dense"))]
)
def test_info_of_recipes(what, capsys):
    code, out, _ = told(capsys, "info", what)
    assert code == 0
    assert "gmac_per_video" in out


def test_recipes_lists_every_row(capsys):
    code, out, _ = told(capsys, "recipes", "--json")
    assert code == 0
    rows = {row["recipe"]: row["published"] for row in json.loads(out)}
    assert rows["slowonly_r50_256p_4x16x1_256e_kinetics400_rgb"] == 72.76
    assert sum(name.startswith("slowonly") and value is not None for name, value in rows.items()) == 22
    assert sum(name.startswith("tpn") for name in rows) == 3


def test_predict_without_a_network_says_what_to_do(tmp_path, monkeypatch, capsys):
    from clipwise.convert.zoo import CATALOGUE, Weights

    monkeypatch.setenv("CLIPWISE_CACHE", str(tmp_path))
    weights = Weights("some_zoo_name", "http://127.0.0.1:1/some_zoo_name-01234567.pth", "tsm_tiny", 6)
    monkeypatch.setitem(CATALOGUE, "some_zoo_name", weights)
    code, _, err = told(capsys, "predict", "some_zoo_name", tmp_path)
    assert code == 2
    (tmp_path / "v.mp4").write_bytes(b"x")
    code, _, err = told(capsys, "predict", "some_zoo_name", tmp_path / "v.mp4")
    assert code == 2
    assert f"put it at {tmp_path}/downloads/some_zoo_name-01234567.pth" in err
