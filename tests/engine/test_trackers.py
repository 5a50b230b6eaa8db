"""Experiment trackers by name: what a run sends to each is read back from what it wrote. Each needs its package."""

import json

import pytest

from clipwise.engine.log import read_log
from clipwise.engine.train import train
from clipwise.errors import MissingExtraError, RecipeError
from clipwise.recipe import load_recipe

QUICK = ["epochs=1", "warmup_epochs=0", "log_every=1", "num_workers=0", "amp=no", "batch_size=8", "crop_size=32"]


def run_with(tracker: str, clips, folder) -> list[dict]:
    """A run of three steps; its log lines."""
    recipe = load_recipe("tsm_tiny", [*QUICK, f"trackers=[{tracker}]"])
    train(recipe, data=str(clips), work_dir=folder, quiet=True)
    return read_log(folder / "log.jsonl")


def test_tensorboard(clips, tmp_path):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = run_with("tensorboard", clips, tmp_path)
    (place,) = {p.parent for p in tmp_path.rglob("events.out.tfevents*") if p.parent.name == "tsm_tiny"}
    events = EventAccumulator(str(place)).Reload()
    sent = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert sent == [(x["step"], pytest.approx(x["loss"], rel=1e-6)) for x in lines if x["mode"] == "train"]
    assert events.Scalars("val/top1_acc")[0].value == pytest.approx(lines[-1]["top1_acc"])


def test_wandb(clips, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the package wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    lines = run_with("wandb", clips, tmp_path)
    (written,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    losses = [float(r["train/loss"]) for r in wandb_history(written) if "train/loss" in r]
    assert losses == pytest.approx([x["loss"] for x in lines if x["mode"] == "train"], rel=1e-5)


def wandb_history(path) -> list[dict]:
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store, rows = DataStore(), []
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
    return rows


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
    files = [p for p in (tmp_path / "swanlog").rglob("*") if p.is_file()]
    assert files
    print([(str(p.relative_to(tmp_path)), p.stat().st_size) for p in files], lines)


def test_an_unknown_tracker_is_refused_with_the_known_ones():
    with pytest.raises(RecipeError, match="'tensorboard', 'wandb', 'mlflow' or 'swanlab'"):
        load_recipe("tsm_tiny", ["trackers=[comet]"])


def test_a_tracker_that_is_not_installed_is_refused(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"the tracker swanlab needs swanlab.*pip install"):
        run_with("swanlab", clips, tmp_path)
