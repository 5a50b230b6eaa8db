"""From long videos to named segments: features, training, localizing, measuring, through the command line."""

import csv
import functools
import http.server
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.data.clip_spec import ClipSpec
from clipwise.data.feature_dataset import FeatureStore
from clipwise.data.rescale import rescale_features
from clipwise.data.transforms import normalize_clips
from clipwise.engine.checkpoint import Passport, load_model_and_passport, read_checkpoint, read_passport, save_weights
from clipwise.engine.evaluate_localizer import evaluate_proposals
from clipwise.engine.train import train
from clipwise.errors import CheckpointError, ClipwiseError, DataError
from clipwise.infer.features import FeatureExtractor, WindowRule, model_hash, window_centers
from clipwise.infer.localize import Localizer
from clipwise.infer.segments import Localization, Segment, choose_segments
from clipwise.models import create_model
from clipwise.prepare.frame_files import PictureEncoder
from clipwise.prepare.synthetic import make_long_videos
from clipwise.recipe import load_recipe
from clipwise.report.timeline import _Block, _lanes, save_timeline
from clipwise.video.backends import open_frames
from clipwise.video.decode import open_video
from helpers import load_script

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = [
    "temporal_dim=24",
    "model_args={max_duration: 16, hidden_dim: 16, matching_dim: 8, map_dim: 8, num_samples: 8}",
    "epochs=2",
    "batch_size=3",
    "log.every=1",
    "windows.least=0",
]


def ascend_door():
    """The module of ``tools/bmn/train.py``."""
    return load_script(REPOSITORY / "tools/bmn/train.py")


@pytest.fixture(scope="module")
def world(tmp_path_factory, trained):
    """Long videos, their ground truth, features by the command line, and a BMN trained on them."""
    folder = tmp_path_factory.mktemp("long")
    database = make_long_videos(folder / "videos", 6, seconds=6.0)
    for n, entry in enumerate(database.values()):
        entry["subset"] = "training" if n < 4 else "validation"
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    words = ["features", str(trained), str(folder / "videos"), "--out", str(folder / "features"), "--stride", "8"]
    assert main(words) == 0
    run = train(load_recipe("bmn_tiny", SMALL), data=str(folder), work_dir=folder / "run", quiet=True)
    return {"folder": folder, "database": database, "recognizer": trained, "run": run, "features": words}


def clip(world, n=0):
    return world["folder"] / "videos" / f"long_{n:03d}.mp4"


# -- features


def test_feature_files_tell_how_they_were_made(world):
    folder = world["folder"] / "features"
    store = FeatureStore(folder)
    assert len(store) == 6
    values = store.read("long_000")
    assert values.shape == (19, 256)  # 150 frames: centers 4, 12, … < 150
    recipe, facts = store.recipe(), json.loads((folder / "long_000.json").read_text())
    assert (recipe["stride"], recipe["window"], recipe["kind"], recipe["feat_dim"]) == (8, 16, "features", 256)
    assert recipe["sha256"] == facts["sha256"] == model_hash(world["recognizer"])
    assert (facts["fps"], facts["num_frames"], facts["duration_s"]) == (25.0, 150, 6.0)


def test_extraction_goes_on_where_it_stopped(world, capsys):
    folder = world["folder"] / "features"
    kept, lost = folder / "long_001.npy", folder / "long_002.npy"
    before, wanted = kept.stat().st_mtime_ns, np.load(lost)
    lost.unlink()
    assert main([*world["features"], "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["written"] == ["long_002"]
    assert len(report["skipped"]) == 5
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(np.load(lost), wanted)


def test_a_folder_has_one_recipe(world, capsys):
    words = [*world["features"][:-1], "4"]
    assert main(words) == 2
    assert "made otherwise (stride 8 there, 4 now" in capsys.readouterr().err


def test_shards_csv_and_failures(world, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    words = ["features", str(world["recognizer"]), str(clip(world)), str(clip(world, 1)), str(broken)]
    words += [
        "--out",
        str(tmp_path / "out"),
        "--stride",
        "50",
        "--positions",
        "7",
        "--format",
        "csv",
        "--kind",
        "probs",
    ]
    assert main([*words, "--shard", "2/2"]) == 0
    assert main([*words, "--shard", "1/2"]) == 1
    assert "broken.mp4" in capsys.readouterr().err
    values = FeatureStore(tmp_path / "out").read("long_001")
    assert values.shape == (7, 6)
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-4)
    assert (tmp_path / "out/long_000.csv").read_text().startswith("f0,f1,")
    assert not list((tmp_path / "out").glob(".*"))


def test_a_window_is_what_the_recognizer_sees_of_a_clip(world):
    """One window over the whole video gives the very scores of the validation's view of that video."""
    extractor = FeatureExtractor(world["recognizer"], WindowRule(stride=150, window=150, kind="scores"), device="cpu")
    model, passport = load_model_and_passport(world["recognizer"])
    spec = ClipSpec.from_recipe(passport.recipe, "val")
    with open_video(clip(world)) as reader:
        frames, _ = spec.read(reader, np.random.default_rng(0))
    with torch.inference_mode():
        wanted = model(normalize_clips(torch.from_numpy(frames), spec.mean, spec.std))
    np.testing.assert_allclose(extractor(clip(world)).values, wanted.numpy(), atol=1e-5)


def test_windows_stream_in_bounded_memory_and_any_order_of_batches(world):
    """Streaming, reading by number, and another batch size give the same features; few frames are held."""
    video = open_video(clip(world)).frames(range(150))
    dense = FeatureExtractor(world["recognizer"], WindowRule(stride=8, window=16), device="cpu", batch_size=1)
    from_file, from_array = dense(clip(world)).values, dense(video).values
    np.testing.assert_allclose(from_file, from_array, atol=1e-5)
    np.testing.assert_allclose(from_file, FeatureStore(world["folder"] / "features").read("long_000"), atol=1e-4)
    sparse = FeatureExtractor(world["recognizer"], WindowRule(stride=75, window=16, grid="fixed"), device="cpu")
    every = FeatureExtractor(world["recognizer"], WindowRule(stride=5, window=16, grid="fixed"), device="cpu")
    np.testing.assert_allclose(sparse(clip(world)).values, every(clip(world)).values[[7, 22]], atol=1e-4)


def test_no_part_of_the_features_is_kept_beside_them(world, monkeypatch):
    """Small arrays that outlive a network's buffers fragment the memory: 90 MB an hour."""
    extractor = FeatureExtractor(world["recognizer"], WindowRule(stride=8, window=16), device="cpu", batch_size=1)
    forward, given, alive = extractor._forward, [], []

    def watched(windows):
        alive.append(sum(part() is not None for part in given))
        rows = forward(windows)
        given.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(extractor, "_forward", watched)
    assert len(extractor(clip(world)).values) == len(given) == 19
    assert max(alive) <= 1


def test_window_centers_are_the_published_ones():
    assert window_centers(100, 16, "fixed").tolist() == [8, 24, 40, 56, 72, 88]
    assert window_centers(104, 16, "fixed").tolist() == [8, 24, 40, 56, 72, 88]
    assert window_centers(105, 16, "fixed").tolist() == [8, 24, 40, 56, 72, 88, 104]
    assert window_centers(3, 16, "fit").tolist() == [1.5]
    fit = window_centers(100, 16, "fit")
    assert len(fit) == 6
    assert fit[0] + fit[-1] == pytest.approx(100)


def test_two_streams_and_a_rate_of_their_own(world, tmp_path):
    rule = WindowRule(stride=10, window=20, fps=12.5)
    slow = FeatureExtractor(world["recognizer"], rule, device="cpu")(clip(world))
    assert len(slow.values) == 7  # 75 frames at 12.5 a second: centers 5, 15, … < 75
    with pytest.raises(ClipwiseError, match=r"takes exactly 8 frames\. Only TSN"):
        FeatureExtractor(world["recognizer"], WindowRule(segments=3))
    with pytest.raises(CheckpointError, match="is a bmn, not a recognizer"):
        FeatureExtractor(world["run"].last)


def untrained(path, recipe, **model_args):
    """A checkpoint of a recipe's model with its first weights."""
    model = create_model(recipe.model, num_classes=5, **model_args)
    args, keys = {"num_classes": 5, **model_args}, {**recipe.model_dump(mode="json"), "num_classes": 5}
    save_weights(path, model.state_dict(), Passport(recipe.model, args, list("abcde"), keys))
    return path


@pytest.mark.parametrize("name", ["slowonly_tiny", "tsn_tiny", "tpn_slowonly_tiny", "tpn_tsm_tiny"])
def test_every_kind_of_recognizer_gives_features(tmp_path, name):
    frames = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    base = "slowonly_tiny" if "slowonly" in name else "tsn_tiny"
    recipe = load_recipe(base, [f"model={name}"])
    path = untrained(tmp_path / "r.safetensors", recipe)
    torch.manual_seed(0)
    features = FeatureExtractor(path, WindowRule(stride=20), device="cpu")
    values = features(frames).values
    assert values.shape == (2, features.feat_dim)
    assert np.isfinite(values).all()
    assert np.abs(values).max() > 0
    scores = FeatureExtractor(path, WindowRule(stride=20, kind="scores"), device="cpu")
    assert scores(frames).values.shape == (2, 5)


def test_two_streams_of_tsn(tmp_path):
    """RGB and flow class scores side by side at frames 8, 24, 40 …: each what the network says of those frames alone."""
    rng = np.random.default_rng(0)
    pictures = PictureEncoder(".jpg", 2)
    for kind, names in (("rgb", ["img_{:05}.jpg"]), ("flow", ["flow_x_{:05}.jpg", "flow_y_{:05}.jpg"])):
        folder = tmp_path / kind / "v1"
        folder.mkdir(parents=True)
        for n in range(1, 51):
            for name in names:
                (folder / name.format(n)).write_bytes(pictures.encode(rng.integers(0, 255, (72, 96, 3), np.uint8)))
    rgb = untrained(tmp_path / "rgb.safetensors", load_recipe("tsn_tiny", ["num_segments=3"]))
    keys = ["modality=flow", "clip_len=5", "num_segments=3", "input.mean=[128,128]", "input.std=[128,128]"]
    flow = untrained(tmp_path / "flow.safetensors", load_recipe("tsn_tiny", keys), in_channels=10)
    words = [
        "features",
        str(rgb),
        str(tmp_path / "rgb/v1"),
        "--flow-model",
        str(flow),
        "--flow-frames",
        str(tmp_path / "flow"),
    ]
    words += [
        "--out",
        str(tmp_path / "out"),
        "--kind",
        "scores",
        "--segments",
        "1",
        "--window",
        "16",
        "--frame-rate",
        "25",
    ]
    assert main([*words, "--grid", "fixed"]) == 0
    values = FeatureStore(tmp_path / "out").read("v1")
    assert values.shape == (3, 10)  # centers 8, 24, 40 of 50 frames
    model, passport = load_model_and_passport(flow)
    spec = ClipSpec.from_recipe({**passport.recipe, "num_segments": 1}, "val")
    with open_frames(tmp_path / "flow/v1", modality="flow") as reader, torch.inference_mode():
        plan = spec.transform.draw(72, 96, rng)
        stack = reader.frames([22, 23, 24, 25, 26], transform=plan.apply)  # five flow pictures about frame 24
        stack = stack.transpose(1, 2, 3, 0, 4).reshape(1, 1, *stack.shape[2:4], 10)
        wanted = model(normalize_clips(torch.from_numpy(stack), spec.mean, spec.std))
    np.testing.assert_allclose(values[1, 5:], wanted[0].numpy(), atol=1e-4)
    pooled = [
        *words[:-6],
        "--window",
        "16",
        "--frame-rate",
        "25",
        "--segments",
        "1",
        "--positions",
        "10",
        "--rescale",
        "pool",
    ]
    pooled[pooled.index("--out") + 1] = str(tmp_path / "pooled")
    assert main(pooled) == 0
    separate = [rescale_features(values[:, :5], 10, "pool"), rescale_features(values[:, 5:], 10, "pool")]
    np.testing.assert_allclose(FeatureStore(tmp_path / "pooled").read("v1"), np.concatenate(separate, 1), atol=1e-5)
    words[words.index("--flow-frames") + 1] = str(tmp_path / "nowhere")
    words[words.index("--out") + 1] = str(tmp_path / "none")
    assert main(words) == 2


def test_a_folder_has_one_format_and_no_video_takes_its_name(world, tmp_path, capsys):
    assert main([*world["features"], "--format", "csv"]) == 2
    assert "long_000.npy is there already; a folder holds files of one format" in capsys.readouterr().err
    (tmp_path / "features.mp4").write_bytes(clip(world).read_bytes())
    assert main(["features", str(world["recognizer"]), str(tmp_path / "features.mp4"), "--out", str(tmp_path)]) == 2
    assert "would overwrite features.json" in capsys.readouterr().err
    assert main([*world["features"][:3], "--out", str(clip(world))]) == 2
    assert f"{clip(world)} is a file, not a folder" in capsys.readouterr().err


# -- training


def test_the_checkpoint_knows_its_features(world):
    passport = read_passport(world["run"].last)
    assert passport.model == "bmn"
    assert set(passport.classes) == {a["label"] for e in world["database"].values() for a in e["annotations"]}
    assert passport.data["features"]["sha256"] == model_hash(world["recognizer"])
    assert {"auc", "AR@1", "AR@100", "loss"} <= set(world["run"].metrics)
    seed_fps = ascend_door().seed_fps
    assert seed_fps(world["run"].folder / "log.jsonl", 3, 4) > 0


def test_the_features_tell_the_network_their_dimension(world, tmp_path):
    run = train(
        load_recipe("bmn_tiny", [*SMALL, "feat_dim=auto", "epochs=1"]),
        data=str(world["folder"]),
        work_dir=tmp_path,
        quiet=True,
    )
    passport = read_passport(run.last)
    assert passport.model_args["feat_dim"] == passport.recipe["feat_dim"] == 256
    assert "feat_dim: 256" in (tmp_path / "recipe.yaml").read_text()


def test_resume_equals_an_undisturbed_run(world, tmp_path):
    recipe = load_recipe("bmn_tiny", SMALL)
    first = train(recipe, data=str(world["folder"]), work_dir=tmp_path, quiet=True, max_steps=3)
    assert first.interrupted
    second = train(recipe, data=str(world["folder"]), work_dir=tmp_path, resume=True, quiet=True)
    whole, _ = read_checkpoint(world["run"].last)
    parts, _ = read_checkpoint(second.last)
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_evaluation_of_a_checkpoint_is_its_validation(world, tmp_path):
    result = evaluate_proposals(world["run"].last, data=str(world["folder"]), device="cpu")
    assert result.figures()["auc"] == pytest.approx(world["run"].metrics["auc"], abs=1e-6)
    assert len(result.proposals) == 2
    result.save(tmp_path / "r.json")
    assert main(["eval-proposals", str(tmp_path / "r.json"), str(world["folder"] / "gt.json")]) == 0
    assert (
        main(["test", str(world["run"].last), "--data", str(world["folder"]), "--num-workers", "0", "--allow-missing"])
        == 0
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["feat_dim=64"], "feat_dim 256, but the model has feat_dim 64"),
        (["annotations=nothing.json"], "nothing.json does not exist"),
        (["features=nothing"], "features nothing do not exist"),
        (["input.train_subset=test"], "no video of subset 'test': it has training, validation"),
        (["input.rescale=none"], "19 positions, but temporal_dim is 24"),
        (["feet_dim=3"], "did you mean 'feat_dim'"),
        (["model_args={hiden_dim: 3}"], "no setting 'hiden_dim'. Did you mean 'hidden_dim'"),
    ],
)
def test_what_is_wrong_is_said_before_training(world, tmp_path, change, words, capsys):
    line = ["train", "bmn_tiny", "--data", str(world["folder"]), "--work-dir", str(tmp_path), *SMALL, *change]
    assert main(line) == 2
    assert words in capsys.readouterr().err


def test_several_candidates_are_listed(world, tmp_path):
    (tmp_path / "features").symlink_to(world["folder"] / "features")
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text((world["folder"] / "gt.json").read_text())
    with pytest.raises(DataError, match=r"several candidates for annotations: a\.json, b\.json"):
        train(load_recipe("bmn_tiny", SMALL), data=str(tmp_path), work_dir=tmp_path / "run", quiet=True)
    (tmp_path / "b.json").unlink()
    np.save(
        tmp_path / "example.npy", np.zeros((3, 4))
    )  # a file of features that happens to lie beside the folder of all
    with pytest.raises(
        DataError, match=r"several candidates for features: features, \.\. Choose one: features=features"
    ):
        train(load_recipe("bmn_tiny", SMALL), data=str(tmp_path), work_dir=tmp_path / "run", quiet=True)


# -- localizing


def test_localize_writes_everything(world, tmp_path, capsys):
    words = ["localize", str(world["run"].last), str(clip(world, 4)), "--gt", str(world["folder"] / "gt.json")]
    assert (
        main([*words, "--out-dir", str(tmp_path), "--preview", "--results", str(tmp_path / "results.json"), "--json"])
        == 0
    )
    answer = json.loads(capsys.readouterr().out)["videos"][0]
    assert answer["duration_s"] == 6.0
    assert answer["segments"]
    for segment in answer["segments"]:
        assert 0 <= segment["start_s"] < segment["end_s"] <= 6.0
        assert segment["class"] in read_passport(world["recognizer"]).classes
        assert segment["score"] == pytest.approx(segment["proposal_score"] * segment["class_score"], abs=1e-4)
    full = json.loads((tmp_path / "long_004.json").read_text())
    assert len(full["curves"]["start"]) == 24
    assert len(full["proposals"]) > 20
    assert (tmp_path / "long_004.csv").read_text().splitlines()[0] == "video,start_s,end_s,class,score"
    srt = (tmp_path / "long_004.srt").read_text().split("\n")
    assert srt[0] == "1"
    assert " --> 00:00:0" in srt[1]
    svg = (tmp_path / "long_004.svg").read_text()
    assert svg.count("<polyline") == 2
    assert "data:image/jpeg" in svg
    assert ">truth<" in svg
    assert (tmp_path / "long_004.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with open_video(tmp_path / "long_004_found.mp4") as reader:
        assert reader.num_frames == 150
    results, gt = str(tmp_path / "results.json"), str(world["folder"] / "gt.json")
    assert main(["eval-detections", results, gt, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)[results]
    assert len(measured["per_tiou"]) == 10


def test_an_address_and_a_list_give_what_the_files_give(world, tmp_path, monkeypatch, capsys):
    """With a labeler, as JSON and CSV in one call; subtitles of one video; the same in Python; `stream` names the verb."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(world["folder"] / "videos"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    checkpoint, labeler = str(world["run"].last), str(world["recognizer"])
    named = ["localize", checkpoint, "--labeler", labeler, "--json"]
    try:
        (tmp_path / "list.txt").write_text(f"{clip(world, 5)}\n")
        both = [f"http://127.0.0.1:{server.server_port}/long_004.mp4", str(tmp_path / "list.txt")]
        assert main([*named, *both, "--csv", str(tmp_path / "all.csv")]) == 0
    finally:
        server.shutdown()
        server.server_close()
    answer = json.loads(capsys.readouterr().out)["videos"]
    localizer = Localizer(checkpoint, labeler=labeler, device="cpu")
    for n, one in zip((4, 5), answer):
        assert one["segments"] == localizer(clip(world, n)).to_dict(curves=False)["segments"]
    with open(tmp_path / "all.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [r["class"] for r in rows] == [
        s["class"] for one in answer for s in sorted(one["segments"], key=lambda s: s["start_s"])
    ]
    srt = tmp_path / "one.srt"
    assert main([*named, str(tmp_path / "list.txt"), "--srt", str(srt)]) == 0
    assert srt.read_text(encoding="utf-8").count(" --> ") == len(answer[1]["segments"])
    assert json.loads(capsys.readouterr().out)["videos"][0]["segments"] == answer[1]["segments"]
    assert main([*named, *both, "--srt", str(srt)]) == 2
    assert "--srt is for one video, but 2 were given" in capsys.readouterr().err
    assert main(["stream", checkpoint, str(clip(world, 4))]) == 2
    assert "clipwise localize" in capsys.readouterr().err


def test_a_folder_of_frames_has_the_rate_that_it_is_given(world, tmp_path, capsys):
    pictures, folder = PictureEncoder(".jpg", 2), tmp_path / "frames"
    folder.mkdir()
    with open_video(clip(world, 4)) as reader:
        for n, frame in enumerate(reader.frames(range(40)), 1):
            (folder / f"img_{n:05}.jpg").write_bytes(pictures.encode(frame))
    preview = tmp_path / "p.mp4"
    words = ["localize", str(world["run"].last), str(folder), "--preview", str(preview), "--json"]
    assert main([*words, "--frame-rate", "10"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"][0]["duration_s"] == 4.0
    with open_video(preview) as reader:
        assert (reader.fps, reader.num_frames) == (10.0, 40)
    assert main(words) == 2
    assert "Set --frame-rate" in capsys.readouterr().err


def test_localize_from_features_equals_localize_from_the_video(world, capsys):
    localizer = Localizer(world["run"].last, device="cpu")
    video = localizer(clip(world, 4))
    features = localizer(world["folder"] / "features/long_004.npy")
    np.testing.assert_allclose(video.proposals[:20], features.proposals[:20], atol=1e-3)
    assert {s.name for s in features.segments} == {"action"}
    assert main(["localize", str(world["run"].last), str(world["folder"] / "features"), "--json", "--no-names"]) == 0
    assert len(json.loads(capsys.readouterr().out)["videos"]) == 6


def test_an_exported_bmn_is_used_like_its_checkpoint(world, tmp_path, capsys):
    exported = tmp_path / "bmn.pt2"
    assert main(["export", str(world["run"].last), "--format", "torch", "--out", str(exported)]) == 0
    capsys.readouterr()
    answers, figures = [], []
    for file in (str(world["run"].last), str(exported)):
        assert main(["localize", file, str(clip(world, 4)), "--json", "--device", "cpu", "--trust"]) == 0
        answers.append(json.loads(capsys.readouterr().out)["videos"])
        assert main(["test", file, "--data", str(world["folder"]), "--json", "--device", "cpu", "--trust"]) == 0
        figures.append(json.loads(capsys.readouterr().out)["metrics"])
    assert answers[0] == answers[1]
    assert answers[0][0]["segments"]
    assert figures[0] == pytest.approx(figures[1])
    assert main(["test", str(exported), "--data", str(world["folder"]), "--average-clips", "prob", "--trust"]) == 2
    assert "--average-clips is for recognizers" in capsys.readouterr().err
    assert main(["localize", str(exported), str(clip(world, 4)), "--labeler", str(exported), "--trust"]) == 2
    assert "needs the checkpoint (.safetensors) that it was made from" in capsys.readouterr().err


def test_one_file_with_the_features_of_many_videos(world, tmp_path, capsys):
    """As in training: names from the file, durations from the annotations; thousands of videos need not fit into memory."""
    store = FeatureStore(world["folder"] / "features")
    names = [f"v_{name}" for name in store.names]
    np.savez(tmp_path / "all.npz", names=names, feat=np.stack([store.read(n) for n in names]))
    words = ["localize", str(world["run"].last), str(tmp_path / "all.npz")]
    gt, results = str(world["folder"] / "gt.json"), str(tmp_path / "r.json")
    assert main([*words, "--gt", gt, "--results", results]) == 0
    assert "long_000" not in capsys.readouterr().out
    assert main(["eval-proposals", results, gt, "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["results"][results]["AUC"] > 0
    assert out.err == ""
    assert main(words) == 2  # without durations
    assert "all.npz, video long_000" in capsys.readouterr().err
    # a file that tells them needs no annotations
    told = {n: {"feats": store.read(n), "duration": store.facts(n)["duration_s"]} for n in names}
    (tmp_path / "told.pkl").write_bytes(pickle.dumps(told))
    again = str(tmp_path / "again.json")
    assert main(["localize", str(world["run"].last), str(tmp_path / "told.pkl"), "--results", again]) == 0
    capsys.readouterr()
    assert Path(again).read_text() == Path(results).read_text()


def test_localize_refuses_before_the_work(world, tmp_path, capsys):
    checkpoint, video, features = str(world["run"].last), clip(world), world["folder"] / "features/long_000.npy"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/v_long_000.mp4").write_bytes(video.read_bytes())
    for words, message in [
        (
            [str(video), str(tmp_path / "other/v_long_000.mp4"), "--results", "r.json"],
            "would both be written as long_000",
        ),
        ([str(video), str(tmp_path / "other"), "--out-dir", "found"], "names must differ"),
        ([str(features), "--preview", "x.mp4"], "long_000.npy holds features, which have no frames"),
        ([str(video), "--preview", "x.txt"], "x.txt"),
        ([str(video), "--csv", f"{features}/x.csv"], f"{features} is not a folder"),
        ([str(video), "--out-dir", str(features)], f"--out-dir {features}/NAME.json: {features} is not a folder"),
        ([str(video), "--results", str(tmp_path)], f"--results {tmp_path} is a folder; give a file name"),
        ([str(features), "--duration", "-2"], "argument --duration: '-2' is not a number above 0"),
        ([str(video), "--max-segments", "0"], "max_segments was 0; it must be at least 1"),
        ([str(video), "--max-overlap", "1.5"], "max_overlap was 1.5; it must be from 0 to 1"),
    ]:
        assert main(["localize", checkpoint, *words]) == 2
        assert message in capsys.readouterr().err
    assert main(["test", checkpoint, "--out", f"{features}/x.json"]) == 2
    said = capsys.readouterr()
    assert f"{features} is not a folder" in said.err
    assert "auc" not in said.out
    assert not Path("found").exists()
    (tmp_path / "other/labels.csv").write_text("path,label\n")  # a list among videos makes no folder of features of it
    assert (
        main(["localize", checkpoint, str(tmp_path / "other"), "--gt", str(world["folder"] / "gt.json"), "--json"]) == 0
    )
    answer = capsys.readouterr()
    assert len(json.loads(answer.out)["videos"]) == 1
    assert answer.err == ""


def test_another_recognizer_is_refused(world, tmp_path, capsys):
    tensors, passport = read_checkpoint(world["recognizer"])
    other = tmp_path / "other.safetensors"
    save_weights(other, {k: v + 0.01 if k == "fc.bias" else v for k, v in tensors.items()}, passport)
    assert main(["localize", str(world["run"].last), str(clip(world)), "--features-from", str(other)]) == 2
    message = capsys.readouterr().err
    assert f"{other} is not the recognizer that made the features" in message
    assert model_hash(world["recognizer"]) in message
    passport.metrics = {"top1_acc": 1.0}  # a passport is no weights
    save_weights(other, tensors, passport)
    assert Localizer(world["run"].last, other).extractor.feat_dim == 256


def test_a_lost_recognizer_is_asked_for(world, tmp_path):
    tensors, passport = read_checkpoint(world["run"].last)
    passport.data["features"] = {**passport.data["features"], "recognizer": "/nowhere/tsm.safetensors"}
    save_weights(tmp_path / "bmn.safetensors", tensors, passport)
    with pytest.raises(CheckpointError, match=r"is missing or has changed.*--features-from"):
        Localizer(tmp_path / "bmn.safetensors")(clip(world))
    (tmp_path / "tsm.safetensors").write_bytes(world["recognizer"].read_bytes())  # beside it, it is found
    assert Localizer(tmp_path / "bmn.safetensors").extractor.feat_dim == 256
    passport.data["features"] = {"source": "csv_mean_100"}
    save_weights(tmp_path / "bmn.safetensors", tensors, passport)
    with pytest.raises(CheckpointError, match=r"features of unknown origin .csv_mean_100.*Give feature files"):
        Localizer(tmp_path / "bmn.safetensors")(clip(world))
    with pytest.raises(CheckpointError, match="is a tsm_tiny, not a localization network"):
        Localizer(world["recognizer"])
    with pytest.raises(CheckpointError, match="Give one, and the checkpoint that it was exported from as"):
        Localizer("r.onnx", loaded=(None, read_passport(world["recognizer"])), device="cpu")


def test_names_come_from_the_labeler(world):
    named = Localizer(world["run"].last, labeler=world["recognizer"], naming="video", device="cpu")(clip(world, 5))
    assert len({s.name for s in named.detections}) == 1
    rescaled = rescale_features(np.ones((3, 256)), 24)
    alone = Localizer(world["run"].last, labeler=False, device="cpu")(rescaled, duration_s=10.0)
    assert {s.name for s in alone.segments} == {"action"}
    assert alone.proposals[:, 1].max() <= 10.0
    with pytest.raises(DataError, match="duration is not known"):
        Localizer(world["run"].last)(rescaled)


def test_the_timelines_labels_do_not_lie_over_each_other(tmp_path):
    """A label beside its block takes room, on the left of it at the picture's edge; the truth is cut at the video's end."""
    spans = [(0.0, 5.0), (9.9, 10.0), (1.0, 1.1), (1.3, 1.4), (9.7, 9.8), (5.0, 5.1)]
    segments = [Segment(a, b, "a long name", 0.5, proposal_score=0.5) for a, b in spans]
    found = Localization("v.mp4", 10.0, segments, [], np.zeros((0, 3)), np.ones(4, np.float32), np.ones(4, np.float32))
    truth = [{"segment": [8, 30], "label": "late"}, {"segment": [20, 30], "label": "behind"}]
    svg = save_timeline(tmp_path / "t.svg", found, truth=truth).read_text()
    assert "behind" not in svg
    blocks = [_Block.of(lambda t: np.asarray(t) * 100, a, b, "a long name", 1000) for a, b in sorted(spans)]
    placed = [(lane, *block.extent) for lane, block in zip(_lanes(blocks), blocks)]
    assert all(right <= 1000 for _, _, right in placed)
    for n, (lane, left, right) in enumerate(placed):
        for other, a, b in placed[:n]:
            assert other != lane or right <= a or left >= b
    assert max(lane for lane, _, _ in placed) == 2


def test_chosen_segments_do_not_say_the_same_twice():
    def segment(start, end, score):
        return Segment(start, end, "a", score, proposal_score=score)

    found = [segment(0, 4, 0.9), segment(0.2, 4, 0.8), segment(5, 9, 0.5), segment(20, 21, 0.05)]
    assert [s.score for s in choose_segments(found, 10, 0.2, 0.4)] == [0.9, 0.5]
    assert [s.score for s in choose_segments(found, 10, 0.0, 1.0)] == [0.9, 0.8, 0.5, 0.05]
    assert len(choose_segments(found, 1, 0.0, 1.0)) == 1


# -- measuring


def test_published_figures_through_the_command_line(shared, tmp_path, capsys):
    """ActivityNet's sample file: AR and AUC of the specification, and a plot."""
    folder = shared / "data/activitynet"
    sample, gt, plot = (
        str(p)
        for p in (folder / "sample_detection_prediction.json", folder / "anet_anno_action.json", tmp_path / "ar.svg")
    )
    assert main(["eval-proposals", sample, gt, "--json", "--plot", plot]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["ground_truth"]["actions"] == 7293
    result = figures["results"][sample]
    assert result["AR@1"] == pytest.approx(0.25540929658576716, abs=1e-12)
    assert result["AR@100"] == pytest.approx(0.99958864664747, abs=1e-12)
    assert result["AUC"] == pytest.approx(98.5871863430687, abs=1e-9)
    assert "<svg" in Path(plot).read_text()[:100]


def test_measuring_refuses_what_it_cannot_measure(world, tmp_path, capsys):
    gt = str(world["folder"] / "gt.json")
    unnamed = tmp_path / "r.json"
    unnamed.write_text(json.dumps({"results": {"long_004": [{"segment": [0, 1], "score": 0.5}]}}))
    assert main(["eval-detections", str(unnamed), gt]) == 2
    assert "without a label" in capsys.readouterr().err
    assert main(["eval-proposals", str(unnamed)]) == 2
    assert main(["eval-proposals", str(unnamed), gt, "--plot", "x.gif"]) == 2
    assert main(["eval-proposals", str(unnamed), gt, "--tiou", "0.5", "1.5"]) == 2
    assert "--tiou 1.5: overlaps are" in capsys.readouterr().err
    capsys.readouterr()
    scores = tmp_path / "scores.json"
    label = world["database"]["long_004"]["annotations"][0]["label"]
    scores.write_text(json.dumps({"results": {"long_004": [{"label": label, "score": 0.9}]}}))
    assert main(["eval-detections", str(unnamed), gt, "--class-scores", str(scores), "--top-classes", "1"]) == 0
    assert "r.json has nothing for 1 of the 2 videos" in capsys.readouterr().err
    own = tmp_path / "own.json"  # `clipwise test --out` of a recognizer: a row of scores a file
    own.write_text(
        json.dumps({"results": [{"path": "a/v_long_004.mp4", "scores": [0.1, 0.9]}], "classes": ["other", label]})
    )
    for file in (scores, own):
        assert (
            main(["eval-detections", str(unnamed), gt, "--class-scores", str(file), "--top-classes", "1", "--json"])
            == 0
        )
        assert json.loads(capsys.readouterr().out)[str(unnamed)]["ignored"] == 0
        words = [
            "localize",
            str(world["run"].last),
            str(world["folder"] / "features/long_004.npy"),
            "--class-scores",
            str(file),
        ]
        assert main([*words, "--max-segments", "1", "--json"]) == 0
        segment = json.loads(capsys.readouterr().out)["videos"][0]["segments"][0]
        assert (segment["class"], segment["class_score"]) == (label, 0.9)
    twice = [{"path": f"{folder}/long_004.mp4", "scores": [0.1, 0.9]} for folder in "ab"]
    own.write_text(json.dumps({"results": twice, "classes": ["other", label]}))
    assert main(["eval-detections", str(unnamed), gt, "--class-scores", str(own)]) == 2
    assert "own.json has scores of a/long_004.mp4 and of b/long_004.mp4" in capsys.readouterr().err
    good = {"segment": [0, 1], "score": 0.5, "label": label}
    for change in ({"score": None}, {"segment": [0]}, {"segment": [0, 1e999]}):
        unnamed.write_text(json.dumps({"results": {"long_004": [good], "long_005": [{**good, **change}]}}))
        for command in ("eval-proposals", "eval-detections"):
            assert main([command, str(unnamed), gt]) == 2
            assert f"{unnamed} against {gt}: video 'long_005'" in capsys.readouterr().err
    unnamed.write_text(json.dumps({"results": {"long_004": [good], "long_005": [7]}}))
    for extra in ([], ["--class-scores", str(scores)]):
        assert main(["eval-detections", str(unnamed), gt, *extra]) == 2
        assert "video 'long_005': every entry needs 'segment'" in capsys.readouterr().err


# -- the seed's scripts


def test_the_seeds_script_trains_on_two_processes_and_prints_its_speed(world, tmp_path):
    """The 8p script with two: each video counted once in validation, half the batches each."""
    words = [
        "bash",
        str(REPOSITORY / "test/train_full_8p.sh"),
        f"--data_path={world['folder']}",
        "--devices",
        "2",
        "--batch_size",
        "1",
    ]
    words += ["--opt-level", "O1", "--training_lr", "0.002", "--weight_decay", "0", "--train_epochs", "1"]
    words += [
        "--recipe",
        "bmn_tiny",
        "--work-dir",
        str(tmp_path / "run"),
        *SMALL[:2],
        "features=features",
        "windows.least=0",
    ]
    env = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    recipe = (tmp_path / "run/recipe.yaml").read_text()
    for line in ("lr: 0.002", "weight_decay: 0.0", "batch_size: 1", "epochs: 1", "amp: bf16"):
        assert line in recipe
    assert "a CPU has no fp16 training; bf16 is used" in done.stderr
    assert "Final Performance videos/sec :" in done.stdout
    log = [json.loads(text) for text in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["mode"] for line in log] == ["train", "val"]
    assert log[0]["iters"] == 2
    result = evaluate_proposals(
        tmp_path / "run/last.safetensors",
        data=str(world["folder"]),
        overrides=["input.in_memory=false", "num_workers=0"],
        amp="bf16",
        device="cpu",
    )
    assert result.figures()["auc"] == pytest.approx(log[-1]["auc"], abs=1e-4)


def test_the_seeds_options_become_keys(capsys):
    door = ascend_door()
    args = door.parse(
        ["--data_path=d", "--opt-level", "O2", "--loss-scale", "64", "--finetune", "x.pth", "--mode", "performance"]
    )
    words = door.command(args, on_cpu=False)
    assert words[:2] == ["train", "bmn_ascend_activitynet"]
    for word in (
        "--no-validate",
        "fp16",
        "optim.loss_scale=64.0",
        "epochs=1",
        "schedule.milestones=[]",
        "x.pth",
        "log.every=5",
    ):
        assert word in words
    dynamic = door.command(door.parse(["--data", "d", "--loss_scale", "-1"]), on_cpu=False)
    assert not any("loss_scale" in word for word in dynamic)
    assert "no" in door.command(door.parse(["--data", "d", "--opt-level", "O0"]), on_cpu=True)
    # an option that was given is never dropped without a word
    plain = door.command(door.parse(["--data", "d", "--opt-level", "O1"]), on_cpu=False)
    assert "optim.loss_scale=128.0" in plain
    for words, message in (
        (["--loss_scale=64", "--opt-level=O0"], "--loss_scale 64 has no effect with --opt-level O0"),
        (["--loss_scale=-2"], "give a positive number, or -1"),
        (["--resume", "--finetune", "x.pth"], "--finetune has no effect with --resume"),
        (["--learning-rate", "1"], "unrecognized arguments"),
    ):
        with pytest.raises(SystemExit) as stop:
            door.parse(["--data", "d", *words])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    on_cpu = door.command(door.parse(["--data", "d", "--loss_scale", "64"]), on_cpu=True)
    assert not any("loss_scale" in word for word in on_cpu)
    assert "--loss_scale 64 has no effect" in capsys.readouterr().err
    assert "epochs=0" in door.command(
        door.parse(["--data", "d", "--train_epochs", "0"]), on_cpu=True
    )  # which the recipe refuses
    for words, wanted in ((["--resume"], "auto"), (["--resume", "runs/x/last.safetensors"], "runs/x/last.safetensors")):
        found = door.command(door.parse(["--data", "d", *words]), on_cpu=True)
        assert found[found.index("--resume") + 1] == wanted
