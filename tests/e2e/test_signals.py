"""Ctrl-C, ``kill`` and a closed terminal at the worst moments of every command that takes long.

One process imports what is slow and forks one child a case; the child signals its whole group, as a terminal does, at the first
call of a function: before a finished file gets its name, in the network, while a video is read.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

ZYGOTE = """
import importlib, json, os, signal, sys, time
import av, numpy, torch, torch.utils.data, safetensors.torch
import clipwise.engine.train, clipwise.infer.features, clipwise.infer.localize, clipwise.report.run_report
from clipwise.cli import main

def spring(name, count, number):
    owner, _, function = name.rpartition(".")
    module, _, kind = owner.partition(":")
    place = importlib.import_module(module)
    place = getattr(place, kind) if kind else place
    real, calls = getattr(place, function), [0]
    def spoilt(*args, **kwargs):
        calls[0] += 1
        if calls[0] == count:
            os.killpg(0, number)
            time.sleep(0.05)
        return real(*args, **kwargs)
    setattr(place, function, spoilt)

for line in sys.stdin:
    words, moment, count, number, out = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        for stream, name in ((1, out + ".out"), (2, out + ".err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL if each != signal.SIGINT else signal.default_int_handler)
        spring(moment, count, number)
        code = main(words)
        sys.exit(code)
    deadline = time.time() + 40
    while (state := os.waitpid(child, os.WNOHANG))[0] == 0 and time.time() < deadline:
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(state[1]) if state[0] else "still there after 40 s"
    alive = True
    for _ in range(100):
        try:
            os.killpg(child, 0)
        except ProcessLookupError:
            alive = False
            break
        time.sleep(0.01)
    if alive:
        os.killpg(child, signal.SIGKILL)
    print(json.dumps([code, alive]), flush=True)
"""
REPLACE, MODEL, VIDEO = ("os.replace", 1), ("torch.nn:Module.__call__", 2), ("av.open", 3)
TRAIN = "train tsm_tiny --data CLIPS --work-dir OUT/run --no-check epochs=2 warmup_epochs=0 batch_size=8 amp=no crop_size=32 val.crop_size=32"
BMN = "train bmn_tiny --data SEQ --work-dir OUT/run --no-check feat_dim=auto temporal_dim=16 windows.least=0 epochs=2 warmup_epochs=0"
CASES = {
    "resize": ("prepare resize CLIPS/val OUT/r --short-side 48", REPLACE), "frames": ("prepare frames CLIPS/val OUT/f", REPLACE),
    "frames at work": ("prepare frames CLIPS/val OUT/f", ("av.open", 2)),
    "index": ("prepare index CLIPS/val --out OUT/i.npz", REPLACE), "lists": ("prepare lists CLIPS/train OUT/l", REPLACE),
    "shards": ("prepare shards CLIPS/train OUT/s", REPLACE), "check": ("check CLIPS --depth full", VIDEO),
    "test": ("test CKPT --data CLIPS --num-workers 2 --out OUT/t.json", MODEL),
    "test's file": ("test CKPT --data CLIPS --num-workers 0 --out OUT/t.json", REPLACE),
    "predict": ("predict CKPT CLIPS/val --json", MODEL), "localize": ("localize CKPT CLIPS/val/ring --out-dir OUT/l", MODEL),
    "localize's file": ("localize CKPT CLIPS/val/ring --out-dir OUT/l", REPLACE),
    "features": ("features CKPT CLIPS/val/ring --out OUT/f", MODEL), "features' file": ("features CKPT CLIPS/val/ring --out OUT/f", REPLACE),
    "analyze": ("analyze CKPT --data CLIPS --json", MODEL), "bench": ("bench CKPT --seconds 5", MODEL),
    "export": ("export CKPT --format torch --out OUT/m.pt2", MODEL), "report": ("report RUN --json", REPLACE),
    "convert": ("convert THEIRS --recipe tsm_tiny --set num_classes=6 --out OUT/c.safetensors", REPLACE),
    "convert back": ("convert CKPT --to mmaction2 --out OUT/c.pth", REPLACE),
    
}  # fmt: skip
SIGNALS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
ENDS = {
    "SIGINT": r"interrupted( before the first of 12 videos)?\.$",
    "SIGTERM": r"terminated\.$",
    "SIGHUP": r"the terminal was closed\.$",
}


@pytest.fixture(scope="module")
def send(clips, trained, make_sequences, tmp_path_factory):
    """A function that runs a command line until its moment: exit code, lines of stderr, the folder OUT."""
    from clipwise.cli import main

    folder = tmp_path_factory.mktemp("signals")
    names = {"CLIPS": clips, "CKPT": trained, "SEQ": make_sequences(folder / "seq"), "THEIRS": folder / "theirs.pth"}
    names |= {"RUN": folder / "earlier"}
    assert main(["convert", str(trained), "--to", "mmaction2", "--out", str(folder / "theirs.pth")]) == 0
    names["RUN"].mkdir()
    for name in ("log.jsonl", "recipe.yaml"):
        shutil.copy(trained.parent / name, names["RUN"] / name)
    zygote = subprocess.Popen([sys.executable, "-c", ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(command: str, moment: tuple[str, int], number: int, out: Path):
        words = []
        for word in command.split():
            head, slash, tail = word.partition("/")
            place = out if head == "OUT" else names.get(head)
            words.append(word if place is None else f"{place}{slash}{tail}")
        zygote.stdin.write(json.dumps([words, *moment, int(number), str(out) + "-said"]) + "\n")
        zygote.stdin.flush()
        code, alive = json.loads(zygote.stdout.readline())
        assert not alive, "a process of the command goes on"
        return code, Path(str(out) + "-said.err").read_text(encoding="utf-8").splitlines()

    yield run
    zygote.stdin.close()
    zygote.wait(10)


def unfinished(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if ".tmp" in path.name or ".part" in path.name]


@pytest.mark.parametrize("case", CASES)
def test_a_signal_ends_a_command_cleanly(case, send, tmp_path):
    number = SIGNALS[list(CASES).index(case) % 3]
    (tmp_path / "out").mkdir()
    code, lines = send(*CASES[case], number, tmp_path / "out")
    assert code == 130, lines
    assert re.search(ENDS[signal.Signals(number).name], lines[-1]), lines
    assert not [line for line in lines if "Traceback" in line or "Error" in line]
    assert unfinished(tmp_path / "out") == []
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir() if path.is_file()) == []


def test_a_demo_whose_training_is_interrupted_ends(monkeypatch, tmp_path, capsys):
    """It tested the unfinished model and went on with the next one."""
    import clipwise.engine.train as module
    from clipwise.cli import main
    from clipwise.engine.run_result import RunResult

    asked = []
    result = RunResult(tmp_path, tmp_path / "last.safetensors", None, interrupted=True)
    monkeypatch.setattr(module, "train", lambda *args, **options: asked.append(args) or result)
    assert main(["demo", "--out", str(tmp_path), "--train-per-class", "1"]) == 130
    assert len(asked) == 1
    assert capsys.readouterr().err.endswith("clipwise demo: interrupted.\n")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", [TRAIN + " num_workers=2", BMN + " num_workers=0"])
def test_training_saves_and_ends(command, number, send, tmp_path):
    (tmp_path / "out").mkdir()
    code, lines = send(command, MODEL, number, tmp_path / "out")
    assert code == 130, lines
    assert not [line for line in lines if "Traceback" in line or "Error" in line]
    assert unfinished(tmp_path / "out") == []
    assert (tmp_path / "out/run/last.safetensors").exists()


IMPORTING = """
import os, signal, sys, time
from pathlib import Path
from clipwise.cli import guarded
Path("slow_module.py").write_text("import os, signal, time\\nos.kill(os.getpid(), signal.SIGINT)\\ntime.sleep(0.2)\\nprint('whole')")
sys.path.insert(0, ".")
def work():
    import slow_module
    time.sleep(5)
    print("went on")
sys.exit(guarded("clipwise train", work))
"""


def test_a_module_that_is_being_imported_is_finished_first(tmp_path):
    """An exception that passes through a C++ module's import ended the process, or became an ImportError."""
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "whole\n", "clipwise train: interrupted.\n")


CLOSED = """
import os, pty, sys
from clipwise.io.interrupts import leave_terminal
master, slave = pty.openpty()
said = os.dup(2)
os.dup2(slave, 1), os.dup2(slave, 2)
os.close(slave), os.close(master)
try:
    os.write(2, b"x")
except OSError:
    os.write(said, b"closed ")
leave_terminal()
print("nowhere", flush=True)
os.write(said, b"written")
"""


def test_a_closed_terminal_is_no_error_of_the_log():
    done = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "closed written")


def test_nohup_stays(tmp_path):
    script = (
        "import signal, os; from clipwise.cli import guarded; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "print(guarded('clipwise', lambda: os.kill(os.getpid(), signal.SIGHUP)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0\n", "")
