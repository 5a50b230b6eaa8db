"""What the tests of several processes share: torchrun, and the run of one process that they compare with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# torch else keeps one store for all restarts, in which a restarted process may find the address of one before it.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def torchrun(processes: int, *words: object, **options) -> list[str]:
    """The command that starts ``clipwise words…`` in so many processes."""
    extra = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    start = [sys.executable, "-m", "torch.distributed.run", *([] if "nnodes" in options else ["--standalone"])]
    return [*start, f"--nproc-per-node={processes}", *extra, "-m", "clipwise", *map(str, words)]


@pytest.fixture(scope="session")
def launch():
    """Run ``clipwise words…`` in so many processes to the end."""

    def run(processes: int, *words: object, returncode: int = 0, **options) -> str:
        done = subprocess.run(torchrun(processes, *words, **options), capture_output=True, text=True, env=ENVIRONMENT)
        assert done.returncode == returncode, done.stderr[-3000:]
        return done.stderr

    return run


@pytest.fixture(scope="session")
def start():
    """Begin ``clipwise words…`` in so many processes; its stderr goes to a file, or is readable line by line."""

    def begin(processes: int, *words: object, stderr: Path | None = None, **options) -> subprocess.Popen:
        target = open(stderr, "wb") if stderr else subprocess.PIPE  # noqa: SIM115 - the process keeps it
        return subprocess.Popen(torchrun(processes, *words, **options), env=ENVIRONMENT, stderr=target, text=True)

    return begin


@pytest.fixture(scope="session")
def same() -> list[str]:
    """A run that is the same on any number of processes: batch statistics, each process's own, are frozen."""
    return ["epochs=2", "warmup_epochs=0", "log.every=1", "num_workers=0", "amp=no", "model_args.norm_eval=true",
            "model_args.dropout=0", "optimizer=sgd", "lr=0.001"]  # fmt: skip


@pytest.fixture(scope="session")
def one_process(clips, same, tmp_path_factory) -> Path:
    """The run's folder after it was made by one process."""
    folder = tmp_path_factory.mktemp("one")
    command = [sys.executable, "-m", "clipwise", "train", "tsm_tiny", "--data", clips, "--work-dir", folder, *same, "batch_size=2"]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env=ENVIRONMENT)
    return folder
