"""A stranger's one-stage localizer (``one_stage.py``) gets every verb without a line elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.engine.checkpoint import read_checkpoint, read_passport
from clipwise.engine.evaluate_localizer import evaluate_proposals
from clipwise.infer.localize import Localizer
from helpers import write_loud_actions

MODEL = f"{Path(__file__).parent / 'one_stage.py'}:point_net"
SHORT = ["feat_dim=auto", "windows.least=0", "num_workers=0", "amp=no", "batch_size=4", "lr=0.01", "warmup_epochs=0"]


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    return write_loud_actions(tmp_path_factory.mktemp("sequences"), longest=40)


@pytest.fixture(scope="module")
def run(sequences, tmp_path_factory):
    folder = tmp_path_factory.mktemp("points")
    words = [
        "train",
        "bmn_tiny",
        f"model={MODEL}",
        "model_args={}",
        "--data",
        str(sequences),
        "--work-dir",
        str(folder),
    ]
    assert main([*words, *SHORT, "epochs=60", "val.every=60", "--trust"]) == 0
    return folder


def test_learns_and_is_measured_by_map(run, sequences):
    """Actions that stand out this clearly are found: 1.0 would be perfect, chance is near 0."""
    passport = read_passport(run / "last.safetensors")
    assert passport.classes == ["jump", "run"]
    assert passport.model_args == {"feat_dim": 6, "num_classes": 2}
    assert passport.metrics["mAP"] > 0.5
    result = evaluate_proposals(run / "last.safetensors", data=str(sequences), device="cpu")
    assert result.figures()["mAP"] == pytest.approx(passport.metrics["mAP"])


def test_resumes_to_the_same_weights(sequences, tmp_path):
    words = [
        "train",
        "bmn_tiny",
        f"model={MODEL}",
        "model_args={}",
        "--data",
        str(sequences),
        *SHORT,
        "epochs=2",
        "--trust",
    ]
    assert main([*words, "--work-dir", str(tmp_path / "whole")]) == 0
    main([*words, "--work-dir", str(tmp_path / "parts"), "--max-steps", "7"])
    assert main([*words, "--work-dir", str(tmp_path / "parts"), "--resume"]) == 0
    one, other = (read_checkpoint(tmp_path / name / "last.safetensors")[0] for name in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_tests_benches_and_describes(run, sequences, tmp_path, capsys):
    checkpoint, out = str(run / "last.safetensors"), tmp_path / "found.json"
    assert main(["test", checkpoint, "--data", str(sequences), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["mAP"] > 0.5
    assert main(["eval-detections", str(out), str(sequences / "annotations.json")]) == 0
    assert main(["bench", checkpoint, "--runs", "2", "--seconds", "0"]) == 0
    assert main(["info", checkpoint]) == 0


def test_localizes_with_names_of_its_own(run, sequences):
    """The true segment of each validation video overlaps the first answer by more than half, under its name."""
    localizer = Localizer(run / "last.safetensors", device="cpu")
    database = json.loads((sequences / "annotations.json").read_text())["database"]
    right = 0
    for number in range(18, 24):
        known = database[f"v_{number}"]
        best = localizer(sequences / "features" / f"v_{number}.npy", duration_s=known["duration"]).segments[0]
        (start, end), label = known["annotations"][0]["segment"], known["annotations"][0]["label"]
        inter = min(end, best.end_s) - max(start, best.start_s)
        right += inter > 0.5 * (max(end, best.end_s) - min(start, best.start_s)) and best.name == label
    assert right >= 5


def test_an_exported_file_says_the_same(run, sequences, tmp_path, capsys):
    out = tmp_path / "points.onnx"
    checkpoint = str(run / "last.safetensors")
    whole, short = sequences / "features" / "v_20.npy", tmp_path / "short.npy"
    np.save(short, np.load(whole)[:20])  # half of the file's one length
    assert main(["export", checkpoint, "--out", str(out)]) == 0
    capsys.readouterr()
    for features in (whole, short):
        answers = []
        for file in (checkpoint, str(out)):
            assert main(["localize", file, str(features), "--duration", "15", "--json"]) == 0
            answers.append(json.loads(capsys.readouterr().out)["videos"][0]["segments"])
        assert len(answers[0]) == len(answers[1]) > 0
        for one, other in zip(*answers):
            assert one["class"] == other["class"]
            assert one["start_s"] == pytest.approx(other["start_s"], abs=0.01)


def test_one_class_is_enough(sequences, tmp_path):
    from clipwise.engine.checkpoint import Passport
    from clipwise.export.export_model import export_model
    from clipwise.models import create_model

    settings = {"feat_dim": 6, "num_classes": 1}
    passport = Passport(MODEL, settings, classes=["run"])
    exported = export_model(create_model(MODEL, trust=True, **settings), passport, tmp_path / "one.onnx")
    assert exported.description.outputs == ["classes", "distances"]
    assert exported.comparison.top1_agreement == 1


def test_raw_video_needs_no_recognizer_for_names(trained, clips, tmp_path):
    """Features of a recognizer go in; the classes are the localizer's own, here one that the recognizer does not know."""
    videos = sorted(next((clips / "val").iterdir()).glob("*.mp4"))
    assert (
        main(["features", str(trained), *map(str, videos), "--out", str(tmp_path / "features"), "--stride", "4"]) == 0
    )
    action = {"segment": [0.2, 0.6], "label": "somersault"}
    known = {"duration": 1.0, "subset": "training", "annotations": [action]}
    database = {video.stem: known for video in videos}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    words = ["train", "bmn_tiny", f"model={MODEL}", "model_args={}", "--data", str(tmp_path), "--trust"]
    assert main([*words, "--work-dir", str(tmp_path / "run"), *SHORT, "epochs=1"]) == 0
    found = Localizer(tmp_path / "run" / "last.safetensors", trained, device="cpu")(str(videos[0]))
    assert found.segments
    assert {segment.name for segment in found.segments} == {"somersault"}


def test_the_timeline_needs_no_curves(run, sequences, tmp_path):
    features = str(sequences / "features" / "v_20.npy")
    words = ["localize", str(run / "last.safetensors"), features, "--duration", "15"]
    assert main([*words, "--timeline", str(tmp_path / "found.svg")]) == 0
    assert (tmp_path / "found.svg").stat().st_size
