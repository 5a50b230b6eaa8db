"""The command line as a person meets it: exit codes, one clear message, nothing half-written, quick help."""

import json
import os
import subprocess
import sys
import time

import pytest

from clipwise.cli import VERBS, main

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def call(*words: object, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "clipwise", *map(str, words)], capture_output=True, text=True, env=ENVIRONMENT, **options
    )


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_that_does_not_import_torch(verb):
    code = f"import sys; from clipwise.cli import main; code = main([{verb!r}, '--help']); assert 'torch' not in sys.modules; sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: clipwise {verb}" in done.stdout


@pytest.mark.parametrize(
    ("verb", "missing"), [("train", "recipe"), ("explain", "recipe"), ("bench", "what"), ("export", "checkpoint")]
)
def test_what_is_missing_is_named_and_nothing_else(capsys, verb, missing):
    assert f"are required: {missing}. {missing} is: " in refused(capsys, verb)


def test_overview_is_quick():
    best = min(_seconds("--help") for _ in range(5))
    assert best < 0.3


def _seconds(*words: str) -> float:
    started = time.perf_counter()
    assert call(*words).returncode == 0
    return time.perf_counter() - started


def refused(capsys, *words: object) -> str:
    """Run a command that must be refused; returns its one message."""
    code = main([str(w) for w in words])
    said = capsys.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
    return said


def test_public_names_are_there(trained, clips):
    import clipwise

    assert all(getattr(clipwise, name) is not None for name in clipwise.__all__)
    assert clipwise.evaluate(trained, data=clips, device="cpu").metrics.keys() >= {"top1_acc"}


@pytest.mark.skipif(os.name == "nt", reason="shell redirections")
@pytest.mark.parametrize(
    "ending", ["| head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", "<&- > /dev/null", "2>&-", ">&- 2>&- <&-"]
)
@pytest.mark.parametrize("words", ["recipes", "recipes --help", "--help", "info --zoo --json"])
def test_closed_and_broken_pipes(words, ending):
    """A reader that goes early, or streams that are not there, is no reason for a traceback or a bad exit code."""
    line = f'"{sys.executable}" -m clipwise {words} {ending}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=ENVIRONMENT)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == 0


def test_unknown_verb_recipe_key_and_model(capsys, clips, tmp_path):
    assert "did you mean 'train'?" in refused(capsys, "trian")
    assert "did you mean 'tsm_tiny'" in refused(capsys, "train", "tsm_tny")
    assert "'tsm_tiny'? Give a YAML file" in refused(capsys, "explain", "tsm_tny")
    assert "not a whole number" in refused(capsys, "explain", "tsm_tiny", "--devices", 0)
    assert "no recipe's name contains 'csn'" in refused(capsys, "recipes", "csn")
    assert "unknown key 'epoch'; did you mean 'epochs'?" in refused(capsys, "train", "tsm_tiny", "epoch=3")
    assert "no/such/recipe.yaml does not exist" in refused(capsys, "explain", "no/such/recipe.yaml")
    run = ["train", "tsm_tiny", "--data", clips, "--work-dir", tmp_path / "run", "--no-check"]
    assert "tsm_tiny" in refused(capsys, *run, "model=tsm_tin")
    assert "shift_div" in refused(capsys, *run, "model_args.shift_dib=4")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_missing_and_empty_data(capsys, tmp_path, clips):
    assert "does not exist" in refused(
        capsys, "train", "tsm_tiny", "--data", tmp_path / "nowhere", "--work-dir", tmp_path / "run"
    )
    (tmp_path / "empty.txt").write_text("")
    refused(capsys, "train", "tsm_tiny", "--data", tmp_path / "empty.txt", "--work-dir", tmp_path / "run")
    (tmp_path / "hollow").mkdir()
    refused(capsys, "train", "tsm_tiny", "--data", tmp_path / "hollow", "--work-dir", tmp_path / "run")
    (tmp_path / "one" / "ring").mkdir(parents=True)
    for n, video in enumerate(sorted((clips / "train" / "ring").iterdir())):
        (tmp_path / "one" / "ring" / f"{n}.mp4").symlink_to(video)
    run = ["train", "tsm_tiny", "--data", tmp_path / "one", "--work-dir", tmp_path / "run"]
    assert "has only one class ('ring')" in refused(capsys, *run)
    (tmp_path / "empty.yaml").write_text("")
    assert "this file holds nothing" in refused(capsys, "train", tmp_path / "empty.yaml", "--data", clips)
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_bad_videos_are_named(capsys, tmp_path, trained):
    for name, content in (("zero.mp4", b""), ("text.mp4", b"hello, I am not a video\n" * 50)):
        (tmp_path / name).write_bytes(content)
        assert name in refused(capsys, "predict", trained, tmp_path / name)
    assert "does not exist" in refused(capsys, "predict", trained, tmp_path / "missing.mp4")


def test_bad_checkpoints(capsys, tmp_path, trained, clips):
    assert "does not exist" in refused(capsys, "predict", tmp_path / "none.safetensors", clips)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(trained.read_bytes()[:5000])
    assert "damaged" in refused(capsys, "predict", cut, clips)
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    assert "without a clipwise passport" in refused(capsys, "predict", tmp_path / "foreign.safetensors", clips)


def test_results_that_can_not_be_written_are_refused_before_the_work(capsys, tmp_path, trained, clips):
    (tmp_path / "file").write_text("")
    for words in (
        ["test", trained, "--data", clips, "--out", tmp_path / "file" / "scores.json"],
        ["test", trained, "--data", clips, "--report", tmp_path / "file" / "report"],
        ["predict", trained, clips / "val", "--csv", tmp_path / "file" / "scores.csv"],
        ["predict", trained, clips / "val", "--jsonl", tmp_path / "file" / "scores.jsonl"],
    ):
        said = refused(capsys, *words)
        assert f"{tmp_path / 'file'} is not a folder that can be written to" in said
        assert "test: " not in said.replace("clipwise test: ", "")  # no progress: nothing was scored
    for option in ("--csv", "--jsonl"):
        said = refused(capsys, "predict", trained, clips / "val", option, tmp_path)
        assert f"{option} {tmp_path} is a folder; give a file name" in said


def test_what_a_test_can_not_measure_is_refused_before_it_scores(capsys, tmp_path, trained, clips):
    """Hours on a large list must not end in a message that could have come first."""
    (tmp_path / "bare.txt").write_text("".join(f"{p}\n" for p in sorted(clips.rglob("*.mp4"))[:3]))
    test = ["test", trained, "--data", clips]
    for words, message in (
        ([*test, "--topk", 0], "'0' is not a whole number of at least 1"),
        ([*test, "--max-views", -2], "--max-views"),
        ([*test, "--eval", "top_k_acuracy"], "did you mean 'top_k_accuracy'?"),
        ([*test, "--eval", "mean_average_precision"], "one label a video"),
        (["test", trained, "--data", tmp_path / "bare.txt"], "3 of the 3 entries of"),
        (["test", "tsn_tiny", trained, "--data", clips], "holds a tsm_tiny, but the recipe tsn_tiny is for tsn_tiny"),
        (["test", trained, "tsm_tiny", "--data", clips], f"clipwise test tsm_tiny {trained}"),
        (
            ["test", clips, "--data", clips],
            f"{clips} is a folder without a .safetensors file. Give a checkpoint, or the folder of a run.",
        ),
        (["test", "test.average_clips=prob"], "give a checkpoint"),
        (["predict", trained, ""], "an empty name was given"),
        (["predict", trained, "0"], "use `clipwise stream CKPT 0`"),
        (
            ["train", "tsm_tiny", "--data", tmp_path / "bare.txt", "--work-dir", tmp_path / "run"],
            "3 of the 3 entries of",
        ),
    ):
        said = refused(capsys, *words)
        assert message in said
        assert "/12" not in said  # no progress: nothing was scored


def test_predict_prints_a_table_json_and_csv(capsys, tmp_path, trained, clips):
    video = next((clips / "val" / "ring").iterdir())
    assert main(["predict", str(trained), str(video), "--topk", "99", "--csv", str(tmp_path / "p.csv")]) == 0
    table = capsys.readouterr().out
    assert "moves right" in table
    assert table.count("\n") == 2 + 6  # never more rows than classes
    assert (tmp_path / "p.csv").read_text().startswith("video,class1,score1")
    assert main(["predict", str(trained), str(clips / "val"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["predictions"]) == 12
    assert sum(p["score"] for p in answer["predictions"][0]["predictions"]) <= 1.0001


def test_one_bad_file_among_good_ones_is_reported_and_the_others_predicted(tmp_path, trained, clips):
    (tmp_path / "bad.mp4").write_bytes(b"")
    good = next((clips / "val" / "ring").iterdir())
    done = call("predict", trained, tmp_path / "bad.mp4", good, "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert len(answer["predictions"]) == 1
    assert list(answer["failures"]) == [str(tmp_path / "bad.mp4")]


@pytest.mark.skipif(
    not hasattr(os, "statvfs") or os.geteuid() != 0, reason="needs the right to mount a small file system"
)
def test_a_full_disk_leaves_what_was_complete(tmp_path, trained, clips):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=15m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        done = call(
            "train", "tsm_tiny", "--data", clips, "--work-dir", disk / "run", "epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=0",
        )  # fmt: skip
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "can't be written" in done.stderr or "disk is full" in done.stderr
        assert not list((disk / "run").glob(".*.tmp"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
