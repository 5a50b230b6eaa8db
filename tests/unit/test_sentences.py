"""What clipwise says when something is given in the wrong place or form; each was met by a user."""

import numpy as np
import pytest

from clipwise.cli import main
from clipwise.data.lists import read_list


@pytest.fixture
def files(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def said(capsys, *words) -> str:
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_in_the_encodings_of_editors(files, encoding):
    (files / "list.txt").write_text("a.mp4 0\nb.mp4 1\n", encoding=encoding)
    videos = read_list(files / "list.txt")
    assert [videos.entry(i) for i in range(2)] == ["a.mp4", "b.mp4"]
    assert videos.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "head", ["# made by hand", "#comment", "# path label", "path label", "video label", "#path,label"]
)
def test_comments_and_headers_are_no_entries(files, head):
    (files / "list.txt").write_text(f"{head}\na.mp4 0\nb.mp4 1\n")
    videos = read_list(files / "list.txt")
    assert [videos.entry(i) for i in range(len(videos))] == ["a.mp4", "b.mp4"]


def test_a_path_may_begin_with_a_number_sign(files):
    (files / "#1.mp4").write_bytes(b"x")
    (files / "list.txt").write_text("#1.mp4 0\nb.mp4 1\n")
    assert len(read_list(files / "list.txt")) == 2


def test_one_video_is_no_training_data(files, capsys):
    assert "a.mp4 is one video. Training data is a folder" in said(
        capsys, "train", "tsm_tiny", "--data", files / "a.mp4"
    )


def test_what_is_no_checkpoint_says_what_it_is(files, capsys, clips):
    video = next(clips.rglob("*.mp4"))
    assert "tsm_tiny is a recipe where a checkpoint is expected" in said(capsys, "predict", "tsm_tiny", video)
    sentence = "is a video, not a checkpoint. On a command line the checkpoint comes before"
    assert sentence in said(capsys, "predict", video, video)
    (files / "last.safetensors").write_bytes(b"x")
    text = said(capsys, "predict", files / "latest.pth", video)
    assert "does not exist. In its folder: last.safetensors." in text


def test_a_refused_connection_is_no_broken_video(trained, capsys):
    assert main(["predict", str(trained), "http://127.0.0.1:9/video.mp4"]) == 2
    text = capsys.readouterr().err
    assert "cannot be downloaded" in text
    assert "Connection refused" in text
    assert "not a video" not in text


def test_check_names_classes_and_counts_in_the_right_number(tmp_path, clips, capsys):
    (tmp_path / "list.txt").write_text(f"{next(clips.rglob('*.mp4'))} 0\nnowhere.mp4 1\n")
    assert main(["check", str(tmp_path / "list.txt")]) == 1
    text = capsys.readouterr().out
    assert "list: 2 entries, 2 classes: 0 (1), 1 (1)" in text
    assert "\n1 fault: 1 missing" in text


def test_a_score_that_is_null_is_named(tmp_path, capsys):
    (tmp_path / "r.json").write_text('{"results": {"a": [{"segment": [0, 1], "score": null, "label": "x"}]}}')
    (tmp_path / "g.json").write_text(
        '{"database": {"a": {"duration": 5, "subset": "validation", "annotations": [{"segment": [0, 1], "label": "x"}]}}}'
    )
    for verb in ("eval-proposals", "eval-detections"):
        text = said(capsys, verb, tmp_path / "r.json", tmp_path / "g.json")
        assert "'a'" in text
        assert "score" in text
        assert "TypeError" not in text
        assert "must be real number" not in text


def test_eval_proposals_prints_figures_not_matrices(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [{"segment": [float(x), float(x) + 1], "score": float(x)} for x in rng.random(50)]
    (tmp_path / "r.json").write_text(__import__("json").dumps({"results": {"a": rows}}))
    (tmp_path / "g.json").write_text(
        '{"database": {"a": {"duration": 5, "subset": "validation", "annotations": [{"segment": [0, 1], "label": "x"}]}}}'
    )
    words = ["eval-proposals", str(tmp_path / "r.json"), str(tmp_path / "g.json"), "--json"]
    assert main(words) == 0
    short = capsys.readouterr().out
    assert main([*words, "--curves"]) == 0
    assert "recall" in capsys.readouterr().out
    assert "recall" not in short
    assert len(short.splitlines()) < 60


def test_analyze_finds_what_its_run_held_out(clips, tmp_path, capsys):
    from clipwise.engine.train import train
    from clipwise.recipe import load_recipe

    words = [
        "epochs=1",
        "warmup_epochs=0",
        "num_workers=0",
        "amp=no",
        "crop_size=32",
        "val.crop_size=32",
        "test.crop_size=32",
    ]
    result = train(load_recipe("tsm_tiny", words), data=str(clips / "train"), work_dir=tmp_path, quiet=True)
    assert main(["analyze", str(result.last), "--no-masks", "--json", "--device", "cpu"]) == 0
    assert '"videos": 6' in capsys.readouterr().out


def test_report_of_a_run_and_of_a_result(trained, clips, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for name in ("log.jsonl", "recipe.yaml"):
        (tmp_path / "run" / name).write_bytes((trained.parent / name).read_bytes())
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "<svg" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert (
        main(["test", str(trained), "--data", str(clips), "--out", str(tmp_path / "scores.json"), "--device", "cpu"])
        == 0
    )
    assert main(["report", str(tmp_path / "scores.json"), "--language", "zh"]) == 0
    assert capsys.readouterr().out.strip().endswith("scores/index.html")
    assert "can't be read: No such file" in said(capsys, "report", tmp_path / "nothing.json")


@pytest.mark.parametrize(
    "verb", ["report", "check", "train", "predict", "eval-proposals", "compare", "fuse", "prepare resize"]
)
def test_what_is_missing_is_described(verb, capsys):
    """It was "required: source", and no more."""
    text = said(capsys, *verb.split())
    assert " is: " in text
    assert f"Examples: clipwise {verb} --help" in text
    assert "None" not in text.splitlines()[-1]


def test_a_number_of_frames_that_the_model_does_not_take_moves_no_earlier_run(trained, clips, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.safetensors").write_bytes(trained.read_bytes())
    words = ["train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path / "run", "num_workers=0", "--no-check"]
    assert "takes num_segments=8; clips have 1. Set it." in said(capsys, *words, "num_segments=null")
    assert not list((tmp_path / "run").glob("earlier*"))
    assert (tmp_path / "run" / "last.safetensors").is_file()
