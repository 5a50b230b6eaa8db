"""Localizers on videos longer than those of the training: what is found in a joined file is what is found in its parts."""

import json

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.engine.checkpoint import read_checkpoint, read_passport
from clipwise.engine.evaluate_localizer import evaluate_proposals
from clipwise.engine.train import train
from clipwise.infer.growing_rows import GrowingRows
from clipwise.infer.localize import Localizer
from clipwise.infer.streaming_localizer import StreamingLocalizer
from clipwise.recipe import load_recipe
from clipwise.tasks.detection_metrics import detection_map

SMALL = [
    "model_args={max_duration: 0.5, hidden_dim: 16, matching_dim: 8, map_dim: 8, num_samples: 8}",
    "temporal_dim=40",
    "batch_size=4",
    "lr=0.01",
    "num_workers=0",
    "windows.least=0",
]


def sentence(number):
    """4 s of 40 positions, two actions of 0.6 to 1.2 s each, and when they are."""
    rng = np.random.default_rng(number)
    rows = rng.normal(size=(40, 6)).astype(np.float32) * 0.2
    actions = []
    for low in (2, 21):
        start, length = low + int(rng.integers(0, 6)), int(rng.integers(6, 13))
        rows[start : start + length, :3] += 2
        actions.append([start / 10, (start + length) / 10])
    return rows, actions


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentences")
    (folder / "features").mkdir()
    database = {}
    for number in range(34):
        rows, actions = sentence(number)
        np.save(folder / "features" / f"s{number}.npy", rows)
        subset = "training" if number < 24 else "validation"
        entries = [{"segment": a, "label": "word"} for a in actions]
        database[f"s{number}"] = {"duration": 4.0, "subset": subset, "annotations": entries}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return folder


@pytest.fixture(scope="module")
def run(sentences, tmp_path_factory):
    recipe = load_recipe("bmn_tiny", [*SMALL, "epochs=12", "val.every=12"])
    return train(recipe, data=str(sentences), work_dir=tmp_path_factory.mktemp("run"), quiet=True)


def mean_ap(localizer, files):
    """mAP at 0.3 and 0.5 over files, each of the given sentences joined."""
    truth, found = {}, {}
    for name, numbers in files.items():
        parts = [sentence(n) for n in numbers]
        one = localizer.find(np.concatenate([rows for rows, _ in parts]), 4.0 * len(parts))
        found[name] = [{"segment": [a, b], "score": s, "label": "word"} for a, b, s in one.proposals.tolist()]
        spans = [(a + 4 * k, b + 4 * k) for k, (_, actions) in enumerate(parts) for a, b in actions]
        truth[name] = [{"segment": list(span), "label": "word"} for span in spans]
    return detection_map(truth, found, [0.3, 0.5]).per_tiou


def test_a_joined_file_scores_as_its_parts(run, tmp_path):
    localizer = Localizer(run.last, device="cpu")
    held_out = range(24, 34)
    parts = mean_ap(localizer, {str(n): [n] for n in held_out})
    assert parts.min() > 0.8
    assert mean_ap(localizer, {"joined": held_out}).min() > parts.min() - 0.03
    rows = np.concatenate([sentence(n)[0] for n in held_out])
    found = localizer(rows, duration_s=40.0)
    assert found.note is None
    assert len(found.start) == 400  # a curve over the whole file
    # a file that begins in the middle of a sentence: no window lies as those of the training did
    late = localizer.find(rows[17:], 40.0 - 1.7).proposals
    shifted = [[a - 1.7, b - 1.7] for k, n in enumerate(held_out) for a, b in np.array(sentence(n)[1]) + 4 * k][2:]
    truth = {"late": [{"segment": s, "label": "word"} for s in shifted]}
    found = {"late": [{"segment": [a, b], "score": s, "label": "word"} for a, b, s in late.tolist()]}
    assert detection_map(truth, found, [0.3, 0.5]).per_tiou.min() > parts.min() - 0.1


def test_the_passport_tells_the_windows_and_the_times(run, sentences):
    passport = read_passport(run.last)
    assert passport.recipe["window_s"] == 4.0  # two actions fit twice; the videos are no longer
    assert passport.data["times"] == {"video_s": [4.0, 4.0, 4.0], "feature_step_s": 0.1}
    assert passport.model_args["max_duration"] == 20
    result = evaluate_proposals(run.last, data=str(sentences), device="cpu")
    assert result.figures()["auc"] == pytest.approx(run.metrics["auc"])
    assert max(len(rows) for rows in result.proposals.values()) <= 100


def test_one_longer_video_takes_no_proposals_from_the_others(run, tmp_path):
    """ActivityNet's count gives a video with fewer proposals than the mean none at AR@1; so all videos of a set get as many."""
    (tmp_path / "features").mkdir()
    database = {}
    for number in range(25, 34):
        rows, actions = sentence(number)
        if number >= 32:
            more, others = sentence(24)
            more, others = (more, others) if number == 33 else (more[:20], others[:1])
            rows, actions = np.concatenate([rows, more]), actions + [[a + 4, b + 4] for a, b in others]
        np.save(tmp_path / "features" / f"s{number}.npy", rows)
        entries = [{"segment": a, "label": "word"} for a in actions]
        database[f"s{number}"] = {"duration": len(rows) / 10, "subset": "validation", "annotations": entries}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    result = evaluate_proposals(run.last, data=str(tmp_path), device="cpu")
    assert {len(rows) for rows in result.proposals.values()} == {100}  # also of 6 and 8 s in windows of 4 s
    assert result.recall.at(1) > 0.25  # 9 of 20 actions at most


def test_a_network_of_whole_videos_says_that_a_file_is_too_long(sentences, tmp_path, capsys):
    recipe = load_recipe("bmn_tiny", [*SMALL[:-1], "epochs=1", "window_s=null"])
    run = train(recipe, data=str(sentences), work_dir=tmp_path / "run", quiet=True)
    np.save(tmp_path / "joined.npy", np.concatenate([sentence(n)[0] for n in range(10)]))
    words = ["localize", str(run.last), str(tmp_path / "joined.npy"), "--duration", "40", "--device", "cpu"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "it has 40 s, the network was trained on whole videos of 4 to 4 s (each as 40 positions)" in said
    assert "window_s=auto" in said
    assert Localizer(run.last, device="cpu")(sentences / "features" / "s1.npy", duration_s=4.0).note is None


def test_windows_resume_to_the_same_weights(sentences, tmp_path):
    """Windows shift at random; a run that stopped in mid-epoch ends with the weights of one that did not. The user's window wins."""
    recipe = load_recipe("bmn_tiny", [*SMALL, "epochs=2", "window_s=2.5", "windows.background=0.2"])
    whole = train(recipe, data=str(sentences), work_dir=tmp_path / "whole", quiet=True)
    train(recipe, data=str(sentences), work_dir=tmp_path / "parts", quiet=True, max_steps=5)
    parts = train(recipe, data=str(sentences), work_dir=tmp_path / "parts", quiet=True, resume=True)
    assert read_passport(parts.last).recipe["window_s"] == 2.5
    one, other = (read_checkpoint(r.last)[0] for r in (whole, parts))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_training_says_why(sentences, tmp_path, capsys):
    words = ["train", "bmn_tiny", "--data", str(sentences), "--work-dir", str(tmp_path), *SMALL, "epochs=1"]
    assert main([*words, "--max-steps", "1"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "of its video" in said
    assert "windows of 4 s are used" in said
    assert "Set window_s and temporal_dim" in said


def test_check_names_faults_and_windows(sentences, tmp_path, capsys):
    (tmp_path / "features").symlink_to(sentences / "features")
    content = json.loads((sentences / "annotations.json").read_text())
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert main(["check", str(tmp_path), "--recipe", "bmn_tiny"]) == 0
    said = capsys.readouterr().out
    assert "training: 24 videos, 48 segments, 1 classes" in said
    assert "video_s: 4 to 4, median 4" in said
    assert "of its video" in said
    content["database"]["s1"]["annotations"][0]["segment"] = [3.0, 9.0]
    content["database"]["nowhere"] = content["database"]["s0"]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert main(["check", str(tmp_path), "--recipe", "bmn_tiny", "--json"]) == 1
    faults = {f["video"]: f["what"] for f in json.loads(capsys.readouterr().out)["faults"]}
    assert "ends after the video, which has 4 s" in faults["s1"]
    assert "no features in" in faults["nowhere"]


def test_segments_are_said_while_features_are_still_made(run, tmp_path, capsys):
    """Ten sentences as one file whose features come a second at a time: the same answer, most of it before the last second."""
    rows = np.concatenate([sentence(n)[0] for n in range(24, 34)])
    said, asked = [], []

    def parts():
        for second in range(40):
            asked.append(second)
            yield rows[10 * second : 10 * second + 10]

    localizer = StreamingLocalizer(
        run.last, device="cpu", labeler=False, say=lambda s: said.append((asked[-1], s)), max_segments=25
    )
    found = localizer._finish(localizer.find(GrowingRows(400, 6, parts()), 40.0), [])
    plain = Localizer(run.last, device="cpu", labeler=False, max_segments=25)(rows, duration_s=40.0)
    assert [s.to_dict() for s in found.segments] == [s.to_dict() for s in plain.segments]
    weakest = min(s.score for s in plain.segments)
    early = [s for _, s in said if s.score >= weakest]
    assert sorted(s.start_s for s in early) == sorted(s.start_s for s in found.segments)
    waited = [second + 1 - s.end_s for second, s in said]
    assert np.median(waited) <= 10.0
    assert asked == list(range(40))
    # the command: a line for each, and one for the end
    np.save(tmp_path / "joined.npy", rows)
    words = ["localize", str(run.last), str(tmp_path / "joined.npy"), "--duration", "40", "--no-names", "--jsonl", "-"]
    assert main([*words, "--max-segments", "25"]) == 0
    *lines, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert end["done"]
    assert end["segments"] == len(plain.segments)
    assert [s["start_s"] for s in sorted(lines, key=lambda s: s["start_s"]) if s["score"] >= end["min_score"]] == [
        round(s.start_s, 3) for s in plain.in_time
    ]
