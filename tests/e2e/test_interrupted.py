"""``predict --csv`` keeps what was finished: after Ctrl-C under its name, after a kill as ``FILE.part``."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest

SLOW = """
import sys, time
import clipwise.infer.predictor as module
real = module.Predictor.__call__
def slow(self, video):
    time.sleep(0.3)
    return real(self, video)
module.Predictor.__call__ = slow
from clipwise.cli import main
sys.exit(main(sys.argv[1:]))
"""


def started(clips, trained, target):
    """A prediction of 12 files that has finished at least one."""
    words = ["predict", str(trained), str(clips / "val"), "--csv", str(target), "--topk", "1"]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *words], stderr=subprocess.PIPE, text=True)
    part = target.with_name(target.name + ".part")
    for _ in range(1200):
        if part.exists() and part.read_text(encoding="utf-8").count("\n") >= 2:
            return process
        assert process.poll() is None
        time.sleep(0.05)
    raise AssertionError("no row was written within a minute")


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_rows_that_were_finished_stay(clips, trained, tmp_path, kill):
    target = tmp_path / "found.csv"
    process = started(clips, trained, target)
    process.send_signal(kill)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if kill == signal.SIGINT else -9)
    left = target if kill == signal.SIGINT else tmp_path / "found.csv.part"
    assert os.listdir(tmp_path) == [left.name]
    with open(left, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["video", "class1", "score1", "error"]
    assert 1 <= len(rows) < 12
    assert all(0 < float(row[2]) <= 1 and not row[3] for row in rows)
    if kill == signal.SIGINT:
        assert f"interrupted after {len(rows)} of 12 videos; {target} has a row for each." in err
