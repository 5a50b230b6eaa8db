"""Lines of progress say how long it will take."""

import io
import re

from clipwise.io.progress import ProgressBar


def test_the_time_left_is_counted_from_what_was_done_here():
    bar = ProgressBar("features", quiet=True)
    bar.first = 100  # a run that was taken up again at item 100
    assert bar.line(110, 150, "a.mp4", 20.0) == "features: 110/150 a.mp4, 80 s left"
    assert bar.line(110, 1110, "", 20.0) == "features: 110/1110, 33 min left"
    assert bar.line(150, 150, "b.mp4", 100.0) == "features: 150/150 b.mp4"
    assert bar.line(100, 150, "", 5.0) == "features: 100/150"
    megabytes = ProgressBar("w.pth", unit=("MB", 1e6))
    assert megabytes.line(2_500_000, None, "", 5.0) == "w.pth: 2.5/? MB"


def test_without_a_terminal_the_last_item_is_always_shown(capsys):
    bar = ProgressBar("check")
    for n in range(3):
        bar(n + 1, 3, f"{n}.mp4")
    assert capsys.readouterr().err == "check: 1/3 0.mp4\ncheck: 3/3 2.mp4\n"


def test_a_command_in_a_notebook_prints_lines(monkeypatch, capsys):
    """``!clipwise …`` runs in a terminal that shows each state of a bar as a line of its own."""
    from clipwise.engine.log import RunLog

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    bar = ProgressBar("check")
    for n in range(3):
        bar(n + 1, 3, f"{n}.mp4")
    with RunLog(None).progress(3, "epoch 1/2") as advance:
        advance()
    assert capsys.readouterr().err == "check: 1/3 0.mp4\ncheck: 3/3 2.mp4\n"


def test_the_time_to_the_end_of_a_run(monkeypatch):
    from clipwise.engine.log import RunLog

    log = RunLog(None, quiet=True)
    log.began = 100.0, 0.25  # resumed when a quarter was done
    monkeypatch.setattr("clipwise.engine.log.time.perf_counter", lambda: 100.0 + 3600.0)
    log.pace(0.5, 1.25, {"top1_acc": 0.75})  # a quarter took an hour, a half is left
    assert log.eta == "2:00:00"
    assert log.note == "loss 1.25, best top1_acc 0.75, run 2:00:00 left"
    line = log._words("train", {"epoch": 2, "epochs": 4, "iter": 5, "iters": 5, "loss": 1.25})
    assert line == "epoch 2/4 step 5/5 train: loss 1.25, eta 2:00:00"
    assert "eta" not in log._words("val", {"epoch": 2, "epochs": 4, "top1_acc": 0.75})


def test_a_run_opens_with_what_it_is_going_to_do(clips, tmp_path, capsys):
    from clipwise.engine.train import train
    from clipwise.recipe import load_recipe

    recipe = load_recipe("tsm_tiny", ["epochs=2", "warmup_epochs=0", "batch_size=8", "num_workers=0", "crop_size=32"])
    train(recipe, data=str(clips), work_dir=tmp_path / "run", max_steps=1)
    first, second = capsys.readouterr().err.splitlines()[:2]
    counts = ", ".join(f"{name} (4)" for name in ("cross", "grows", "moves left", "moves right", "ring", "shrinks"))
    held = "12 validation videos (none of them in training)"
    assert first == f"tsm_tiny: 24 training videos, {held}, 6 classes: {counts}"
    assert second == f"2 epochs of 3 batches of 8, 6 steps; results go to {tmp_path / 'run'}"


def test_how_long_it_will_take_is_said_once_after_twenty_steps(monkeypatch, capsys):
    """A second a step, 100 steps: after the 20th, 1 min 20 s are left."""
    from clipwise.engine.log import RunLog

    log = RunLog(None)
    log.began, log.steps = (1000.0, 0.0), 100
    for step in range(1, 41):
        monkeypatch.setattr("clipwise.engine.log.time.perf_counter", lambda: 1000.0 + step)  # noqa: B023
        log.pace(step / 100, 1.0, {})
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"about 0:01:20 to the end of the run, \w+ \w+ +\d+ \d\d:\d\d", line)


def test_a_terminal_of_80_columns_shows_figures_and_times_whole(monkeypatch):
    """A day's run with its epoch, count, loss, best figure and time."""
    from rich.console import Console

    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    note = "loss 1.498, best top1_acc 0.2222, run 13:20:07 left"
    with ProgressBar("epoch 10/40") as bar:
        bar(0, 600, note)
        bar(40, 600, note)
        console = Console(file=io.StringIO(), width=80)
        console.print(bar.bar.get_renderable())
    (line,) = console.file.getvalue().splitlines()
    for part in ("epoch 10/40", " 40/600", note):
        assert part in line
    assert "…" not in line


def test_validation_on_training_videos_is_named_for_localizers(make_sequences, tmp_path, capsys):
    import json

    from clipwise.engine.train import train
    from clipwise.recipe import load_recipe

    data = make_sequences(tmp_path / "data")
    (tmp_path / "held").mkdir()
    both = json.loads((data / "annotations.json").read_text())
    both["database"]["v_0"]["subset"] = "validation"
    (tmp_path / "held" / "val.json").write_text(json.dumps(both))
    words = [
        "feat_dim=auto",
        "windows.least=0",
        "epochs=1",
        "warmup_epochs=0",
        "num_workers=0",
        "amp=no",
        "batch_size=4",
    ]
    words.append(f"val.annotations={tmp_path / 'held' / 'val.json'}")
    train(load_recipe("bmn_tiny", words), data=str(data), work_dir=tmp_path / "run", max_steps=1)
    told = capsys.readouterr().err
    assert "WARNING: training and validation have videos in common (1 of 3), the first: 0." in told
    assert "3 validation videos (1 of them in training)" in told
