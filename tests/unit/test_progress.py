"""Lines of progress say how long it will take."""

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


def test_the_time_to_the_end_of_a_run(monkeypatch):
    from clipwise.engine.log import RunLog

    log = RunLog(None, quiet=True)
    log.began = 100.0, 0.25  # resumed when a quarter was done
    monkeypatch.setattr("clipwise.engine.log.time.perf_counter", lambda: 100.0 + 3600.0)
    log.pace(0.5, 1.25, {"top1_acc": 0.75})  # a quarter took an hour, a half is left
    assert log.eta == "2:00:00"
    assert log.note == "loss 1.25, best top1_acc 0.75, whole run 2:00:00"
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
    assert first == f"tsm_tiny: 24 training videos, 12 validation videos, 6 classes: {counts}"
    assert second == f"2 epochs of 3 batches of 8, 6 steps; results go to {tmp_path / 'run'}"
