"""Experiment trackers by name: what a run sends to each is read back from what it wrote. Each needs its package."""

import json
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from clipwise.engine.train import train
from clipwise.errors import MissingExtraError, RecipeError
from clipwise.io.parse import read_json_lines
from clipwise.recipe import load_recipe

QUICK = ["epochs=1", "warmup_epochs=0", "log.every=1", "num_workers=0", "amp=no", "batch_size=8", "crop_size=32"]


def run_with(tracker: str, clips, folder) -> list[dict]:
    """A run of three steps; its log lines."""
    recipe = load_recipe("tsm_tiny", [*QUICK, f"log.trackers=[{tracker}]"])
    train(recipe, data=str(clips), work_dir=folder, quiet=True)
    return read_json_lines(folder / "log.jsonl")


def test_tensorboard(clips, tmp_path):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = run_with("tensorboard", clips, tmp_path)
    (place,) = {p.parent for p in tmp_path.rglob("events.out.tfevents*") if p.parent.name == "tsm_tiny"}
    events = EventAccumulator(str(place)).Reload()
    sent = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert sent == [(x["step"], pytest.approx(x["loss"], rel=1e-6)) for x in lines if x["mode"] == "train"]
    assert events.Scalars("val/top1_acc")[0].value == pytest.approx(lines[-1]["top1_acc"])


def records(path) -> list[bytes]:
    """The records of W&B's and SwanLab's files: seven bytes, then LevelDB's log format."""
    data, at, part, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            found.append(part)
            part = b""
    return found


def test_wandb(clips, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the package wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    lines = run_with("wandb", clips, tmp_path)
    (written,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    rows = []
    for data in records(written):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses == pytest.approx([x["loss"] for x in lines if x["mode"] == "train"], rel=1e-5)


def test_mlflow(clips, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the package mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    lines = run_with("mlflow", clips, tmp_path / "run")
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    (experiment,) = [e for e in client.search_experiments() if e.name == "tsm_tiny"]
    (run,) = client.search_runs([experiment.experiment_id])
    sent = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sent == [(x["step"], pytest.approx(x["loss"], rel=1e-6)) for x in lines if x["mode"] == "train"]
    assert run.data.params["model"] == "tsm_tiny"


def test_swanlab(clips, tmp_path, monkeypatch):
    pytest.importorskip("swanlab", reason="the package swanlab is not installed")
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    lines = run_with("swanlab", clips, tmp_path)
    (written,) = (tmp_path / "swanlog").glob("run-*/run-*.swanlab")
    sent = [
        struct.unpack("<d", r[-8:])[0] for r in records(written) if b"\n\ntrain/loss\x10" in r
    ]  # a double at the end
    assert sent == pytest.approx([x["loss"] for x in lines if x["mode"] == "train"], rel=1e-6)


def test_trackio(clips, tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="the package trackio is not installed")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    script = "import sys; sys.path.insert(0, sys.argv[1]); from test_trackers import *; run_with('trackio', sys.argv[2], Path(sys.argv[3]))"
    words = [
        sys.executable,
        "-c",
        script,
        str(Path(__file__).parent),
        str(clips),
        str(tmp_path / "run"),
    ]  # it keeps its folder from its import on
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = read_json_lines(tmp_path / "run" / "log.jsonl")
    (written,) = (tmp_path / "trackio").rglob("tsm_tiny*.db")
    with sqlite3.connect(written) as database:
        rows = [
            (step, json.loads(row)) for step, row in database.execute("select step, metrics from metrics order by id")
        ]
    sent = [(step, row["train/loss"]) for step, row in rows if "train/loss" in row]
    assert sent == [(x["step"], pytest.approx(x["loss"], rel=1e-6)) for x in lines if x["mode"] == "train"]


def test_an_unknown_tracker_is_refused_with_the_known_ones():
    with pytest.raises(RecipeError, match="'tensorboard', 'wandb', 'mlflow', 'swanlab' or 'trackio'"):
        load_recipe("tsm_tiny", ["log.trackers=[comet]"])


def test_a_tracker_that_is_not_installed_is_refused(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"the tracker swanlab needs swanlab.*pip install"):
        run_with("swanlab", clips, tmp_path)
