"""What the command line does with errors that nobody foresaw, signals and versions."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch as pytorch

from clipwise.cli import guarded, main
from clipwise.cli.doctor import check_versions


def fail(error):
    def work():
        raise error

    return work


def test_an_unexpected_error_is_one_line_and_a_file(capsys):
    assert guarded("clipwise train", fail(TypeError("cannot add\nx and y"))) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    found = re.search(r"unexpected TypeError: cannot add\. Traceback: (\S+\.log) ", said)
    assert found
    text = Path(found[1]).read_text()
    Path(found[1]).unlink()
    assert "Traceback (most recent call last)" in text
    assert "in work" in text


def test_debug_shows_the_traceback(capsys, monkeypatch):
    from clipwise.cli import doctor

    monkeypatch.setattr(doctor, "run", lambda args: fail(KeyError("x"))())
    assert main(["doctor", "--debug"]) == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    Path(re.search(r"Traceback: (\S+\.log)", said)[1]).unlink()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 99 bytes"
        ),
    ],
)
def test_no_memory_is_a_sentence(error, capsys):
    assert guarded("clipwise train", fail(error)) == 1
    said = capsys.readouterr().err
    assert said.startswith("clipwise train: out of memory (")
    assert "Smaller batch_size" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("torch", "python", "says"),
    [
        ("2.11.0", "3.11.2", []),
        ("2.13.0+cpu", "3.13.1", []),
        ("2.15.0+cpu", "3.14.1", ["torch 2.15.0+cpu is supported", "Python 3.14.1 is supported"]),
        ("2.16.0", "3.13.0", ["torch 2.16.0 is newer"]),
        ("3.0.0", "3.15.0", ["torch 3.0.0 is newer", "Python 3.15.0 is newer"]),
        ("2.10.1", "3.12.0", ["torch 2.10.1 is older"]),
    ],
)
def test_doctor_warns_beyond_what_is_supported(torch, python, says):
    advice = check_versions(torch, python)
    assert len(advice) == len(says)
    assert all(text.startswith(start) for text, start in zip(advice, says))
    assert all("2.11 to 2.15" in text or "3.11 to 3.14" in text for text in advice)


TRAIN = ["epochs=60", "warmup_epochs=0", "batch_size=4", "log.every=1", "num_workers=2", "amp=no", "crop_size=32"]


def begin(clips, folder):
    command = [
        sys.executable,
        "-m",
        "clipwise",
        "train",
        "tsm_tiny",
        "--data",
        clips,
        "--work-dir",
        folder,
        "--no-check",
        *TRAIN,
    ]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in process.stderr:
        if "epoch 1/60 step 3" in line:
            break
    return process


def test_sigterm_to_the_process_group_stops_with_a_checkpoint(clips, tmp_path):
    """As `timeout`, systemd and Slurm send it: to the loader's workers, too."""
    import os

    process = begin(clips, tmp_path)
    os.killpg(process.pid, signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(60) == 130, rest
    assert "resume with --resume" in rest
    assert "Traceback" not in rest
    assert (tmp_path / "last.safetensors").is_file()
    assert not (tmp_path / ".lock").exists()


def test_a_killed_loader_worker_is_a_sentence(clips, tmp_path):
    import os

    process = begin(clips, tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [c for c in children if b"resource_tracker" not in Path(f"/proc/{c}/cmdline").read_bytes()]
    os.kill(int(workers[0]), signal.SIGKILL)
    rest = process.stderr.read()
    assert process.wait(60) == 1
    assert "clipwise train: a data loading worker died (" in rest
    # torch raises the error in whatever code runs when the signal comes; Python reports it where that was a destructor
    assert "Traceback" not in rest.partition("Exception ignored in")[0]


def loaded(code, num_workers):
    """What reading of a data set says whose samples run ``code``."""
    words = (
        "import os, signal, time\n"
        "from clipwise.data.loader import make_loader, prefetch\n"
        "import torch\n"
        "class Set:\n"
        "    def __len__(self): return 3\n"
        f"    def __getitem__(self, i): {code}\n"
        f"loader = make_loader(Set(), num_workers={num_workers})\n"
        "try:\n"
        "    list(prefetch(loader, torch.device('cpu')))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, str(error).splitlines()[-1])\n"
        "time.sleep(0.1)\n"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("error", ["RuntimeError", "ConnectionResetError", "EOFError"])
def test_an_error_of_a_data_set_is_no_death_of_a_worker(num_workers, error):
    said = loaded(f"raise {error}('a server has gone')", num_workers)
    assert said.startswith(error)
    assert said.strip().endswith("a server has gone")


def test_a_connection_that_breaks_before_the_signal_comes_is_the_death_of_a_worker():
    """The pipe of a killed worker may break before its parent is told that it died."""
    from clipwise.data.loader import prefetch
    from clipwise.errors import WorkError

    class Loader:
        num_workers = 1

        def __iter__(self):
            raised.append(threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGCHLD)))
            raised[0].start()
            raise ConnectionResetError("reset by peer")
            yield

    def handler(*_):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    raised: list = []
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        with pytest.raises(WorkError, match="a data loading worker died"):
            list(prefetch(Loader(), pytorch.device("cpu")))
        raised[0].join()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_death_of_a_worker_does_not_break_the_report_of_an_error(monkeypatch, capsys):
    from clipwise.cli import failures, guarded

    def handler(*_):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    def printable(text):
        os.kill(os.getpid(), signal.SIGCHLD)
        time.sleep(0.01)
        return text

    def work():
        raise failures.WorkError("something else")

    monkeypatch.setattr(failures, "printable", printable)
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        assert guarded("clipwise", work) == 1
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert capsys.readouterr().err == "clipwise: something else\n"


def test_max_steps_is_success(clips, tmp_path, capsys):
    words = [
        "train",
        "tsm_tiny",
        "--data",
        str(clips),
        "--work-dir",
        str(tmp_path),
        "--no-validate",
        "--max-steps",
        "2",
    ]
    assert main([*words, *TRAIN, "num_workers=0"]) == 0
    assert "stopped at step 2, as --max-steps asks" in capsys.readouterr().err


def test_a_worker_that_hangs_ends_with_its_loader():
    """It obeys SIGTERM of the main process alone, which else would wait for it for ever."""
    words = (
        "import time, os, signal, sys\n"
        "from clipwise.data.loader import make_loader\n"
        "class Hangs:\n"
        "    def __len__(self): return 9\n"
        "    def __getitem__(self, i):\n"
        "        if i: time.sleep(1000)\n"
        "        return {'pid': os.getpid()}\n"
        "batches = iter(make_loader(Hangs(), num_workers=1))\n"
        "pid = next(batches)['pid'][0]\n"
        "os.kill(pid, signal.SIGINT); time.sleep(0.5); os.kill(pid, 0)\n"
        "print('alive', flush=True)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60)
    assert done.stdout == "alive\n", done.stderr
    assert time.monotonic() - started < 45
