"""push, pull and hf:// against a server that speaks the hub's protocol (fake_hub.py)."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

import clipwise
from clipwise.cli import main
from clipwise.engine.checkpoint import read_passport
from clipwise.errors import CheckpointError, WorkError
from clipwise.io.hub import fetch, hub_place, local_copy
from helpers import load_script

fake_hub = load_script(Path(__file__).with_name("fake_hub.py"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = fake_hub.FakeHub()
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its servers are another protocol
    yield server
    server.shutdown()


@pytest.mark.parametrize("lfs_from", [1, 10**9])  # weights by git-lfs, and inside the commit
def test_what_is_pushed_comes_back_byte_for_byte(hub, trained, tmp_path, capsys, lfs_from):
    hub.lfs_from = lfs_from
    assert (
        main(["push", str(trained), "hf://org/shapes", "--license", "apache-2.0", "--dataset", "Shapes", "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said["repo"] == "org/shapes"
    assert said["commit"] in said["url"]
    assert main(["pull", "hf://org/shapes", "--out", str(tmp_path / "back.safetensors")]) == 0
    assert (tmp_path / "back.safetensors").read_bytes() == trained.read_bytes()
    assert any("/info/lfs/objects/batch" in line for line in hub.requests) == (lfs_from == 1)


def test_config_and_card_say_what_the_passport_says(hub, trained):
    assert main(["push", str(trained), "hf://org/shapes", "--license", "apache-2.0", "--dataset", "Shapes"]) == 0
    passport = read_passport(trained)
    files = hub.repos["org/shapes"]["main"]
    config = json.loads(files["config.json"])
    assert config["library_name"] == "clipwise"
    assert list(config["id2label"].values()) == passport.classes
    assert config["recipe"]["model"] == passport.recipe["model"]
    _, head, text = files["README.md"].decode().split("---\n", 2)
    head = yaml.safe_load(head)
    assert (head["library_name"], head["pipeline_tag"], head["license"]) == (
        "clipwise",
        "video-classification",
        "apache-2.0",
    )
    result = head["model-index"][0]["results"][0]
    assert result["dataset"]["revision"] == passport.data["fingerprint"]
    assert {m["type"]: m["value"] for m in result["metrics"]}["accuracy"] == pytest.approx(
        passport.metrics["top1_acc"], abs=1e-6
    )
    assert "clipwise predict hf://org/shapes video.mp4" in text
    assert "one view a video in the validation part, 8 segments, 80 × 64 pixels." in text

    from huggingface_hub import ModelCard

    assert ModelCard(files["README.md"].decode()).data.library_name == "clipwise"  # the hub's own reader


def test_a_name_on_the_hub_is_a_checkpoint_everywhere(hub, trained, clips, tmp_path, capsys):
    assert main(["push", str(trained), "hf://org/shapes"]) == 0
    video = str(sorted((clips / "val").rglob("*.mp4"))[0])
    capsys.readouterr()
    assert main(["predict", str(trained), video, "--json"]) == 0
    local = json.loads(capsys.readouterr().out)
    assert main(["predict", "hf://org/shapes", video, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == local
    assert main(["info", "hf://org/shapes@main", "--json"]) == 0
    assert main(["test", "hf://org/shapes/model.safetensors", "--data", str(clips / "val"), "--json"]) == 0
    assert clipwise.load("hf://org/shapes")(video).top(1) == clipwise.load(trained)(video).top(1)
    assert next(clipwise.load_model("hf://org/shapes").parameters()).shape
    out = tmp_path / "run"
    words = ["epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=0", "amp=no"]
    assert (
        main(["train", "tsm_tiny", "--data", str(clips), "--work-dir", str(out), "--init=hf://org/shapes", *words]) == 0
    )


@pytest.mark.parametrize("kind", [str, Path])
def test_every_function_that_takes_a_checkpoint_takes_one_of_the_hub(kind, hub, trained, clips):
    """A path object loses one slash of hf://; it means the same."""
    assert main(["push", str(trained), "hf://org/shapes"]) == 0
    place = kind("hf://org/shapes")
    video = sorted((clips / "val").rglob("*.mp4"))[0]
    assert clipwise.load(place, device="cpu")(video).classes == clipwise.load(trained).classes
    assert next(clipwise.load_model(place).parameters()).shape
    assert clipwise.create_model("tsm_tiny", pretrained=place, num_classes=3)(torch.zeros(1, 3, 8, 64, 80)).shape == (
        1,
        3,
    )
    assert clipwise.evaluate(place, data=clips / "val", device="cpu", overrides=["num_workers=0"]).metrics
    with pytest.raises(CheckpointError, match="is a tsm_tiny, not a localization network"):
        clipwise.localize(place, video)
    with pytest.raises(CheckpointError, match="has no org/nothing"):
        clipwise.localize(kind("hf://org/nothing"), video)


def test_what_is_no_place_on_the_hub_stays_what_it_is(tmp_path):
    for source in (
        "video.mp4",
        tmp_path,
        "hf:org/model",
        Path("hf:org/model"),
        "timm:x",
        3,
        None,
        "https://hf.co/a/b",
        "a hf://b/c",
    ):
        assert local_copy(source) is source


def test_the_second_time_nothing_is_downloaded_again(hub, trained):
    assert main(["push", str(trained), "hf://org/shapes"]) == 0
    first = fetch("hf://org/shapes")
    hub.requests.clear()
    assert fetch("hf://org/shapes") == first
    assert not [line for line in hub.requests if line.startswith("GET") and "/resolve/" in line]


def test_offline_the_cache_is_enough(hub, trained, tmp_path):
    assert main(["push", str(trained), "hf://org/shapes"]) == 0
    fetch("hf://org/shapes")
    hub.shutdown()
    words = "from clipwise.io.hub import fetch; print(fetch('hf://org/shapes').stat().st_size)"
    env = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    done = subprocess.run([sys.executable, "-c", words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == trained.stat().st_size
    other = subprocess.run(
        [sys.executable, "-c", words.replace("shapes", "other")], env=env, capture_output=True, text=True
    )
    assert "hf://org/other is not in the hub's cache" in other.stderr


def test_what_goes_wrong_is_one_sentence(hub, trained, monkeypatch, tmp_path):
    assert main(["push", str(trained), "hf://org/shapes", "--private"]) == 0
    with pytest.raises(CheckpointError, match=r"has no org/nothing, or it is private.*hf auth login"):
        fetch("hf://org/nothing")
    with pytest.raises(CheckpointError, match="org/shapes has no file best"):
        fetch("hf://org/shapes/best.safetensors")
    with pytest.raises(CheckpointError, match="has no revision 'v9'"):
        fetch("hf://org/shapes@v9")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(CheckpointError, match="has no org/shapes, or it is private"):
        fetch("hf://org/shapes")
    assert main(["push", str(trained), "hf://org/shapes"]) == 2
    for wrong in ("hf://name", "hf://a/b/../c", "hf://"):
        with pytest.raises(CheckpointError, match="is not a place on the hub"):
            hub_place(wrong)


def test_a_dead_address_is_said_at_once_and_the_cache_serves(hub, trained, monkeypatch):
    assert main(["push", str(trained), "hf://org/shapes"]) == 0
    cached = fetch("hf://org/shapes")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the hub's library tries for half a minute
    start = time.monotonic()
    assert fetch("hf://org/shapes") == cached
    for source in ("hf://org/other", "hf://a/b/c/d"):
        with pytest.raises(
            CheckpointError, match=f"{source} is not in the hub's cache, and http://127.0.0.1:9 was not reached"
        ):
            fetch(source)
    assert main(["push", str(trained), "hf://org/shapes"]) == 1
    assert time.monotonic() - start < 5


def test_an_interrupted_download_goes_on_and_ends_whole(hub, trained):
    assert main(["push", str(trained), "hf://org/shapes"]) == 0
    hub.cut_after = trained.stat().st_size // 3  # the connection breaks there, once
    assert fetch("hf://org/shapes").read_bytes() == trained.read_bytes()
    assert hub.cut_after is None


def test_a_strange_file_on_the_hub_is_refused(hub, tmp_path, capsys):
    import torch
    from safetensors.torch import save_file

    hub.repos["org/evil"] = {"main": {}}
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    hub.repos["org/evil"]["main"]["model.safetensors"] = (tmp_path / "x.safetensors").read_bytes()
    assert main(["info", "hf://org/evil"]) == 2
    said = capsys.readouterr().err
    assert "hf://org/evil is a safetensors file without" in said
    assert str(tmp_path) not in said
    for take in (clipwise.load_model, clipwise.load):
        with pytest.raises(CheckpointError, match=r"^hf://org/evil is a safetensors file without a clipwise passport"):
            take("hf://org/evil")


def test_dry_run_uploads_nothing(hub, trained, capsys):
    assert main(["push", str(trained), "hf://org/shapes", "--dry-run"]) == 0
    assert "library_name: clipwise" in capsys.readouterr().out
    assert not hub.repos
    assert not hub.requests


def test_branches(hub, trained):
    assert main(["push", str(trained), "hf://org/shapes"]) == 0
    assert main(["push", str(trained), "hf://org/shapes@next", "--message", "later"]) == 0
    assert fetch("hf://org/shapes@next").read_bytes() == trained.read_bytes()
    assert local_copy("plain.safetensors") == "plain.safetensors"
    assert local_copy("init=hf://org/shapes@next").startswith("init=/")


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("404", "is not in the hub's cache, and .* answered 404"), ("500", "is not in the hub's cache, and .* answered 500"),
        ("401", r"not allowed by .* \(401\)"), ("page", "gave an answer that is not the hub's"),
        ("page for weights", "sent another file .it is a web page.; it was removed from the cache"),
        ("empty", "sent another file .its SHA-256 is not the one that was announced"), ("other", "its SHA-256 is not the one"),
        ("loop", "the connection to .* broke"), ("reset", "the connection to .* broke"),
    ],
)  # fmt: skip
def test_a_broken_server_is_one_sentence_and_leaves_nothing_in_the_cache(how, sentence, hub, trained, monkeypatch):
    """What another file had been saved as stayed in the cache, and every later run read it."""
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    for module in (file_download, _http):
        monkeypatch.setattr(module.time, "sleep", lambda _: None)
    assert main(["push", str(trained), "hf://org/shapes"]) == 0
    hub.spoilt = how
    with pytest.raises((CheckpointError, WorkError), match=sentence):
        fetch("hf://org/shapes")
    hub.spoilt = None
    assert fetch("hf://org/shapes").read_bytes() == trained.read_bytes()
