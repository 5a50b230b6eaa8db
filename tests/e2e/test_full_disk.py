"""A disk that is full while PyTorch writes: a sentence, never the end of the process."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

SCRIPT = """
import resource, sys
import torch
from clipwise.cli import main
from clipwise.convert.convert_back import save_mmaction2
from clipwise.engine.saver import save_state
from clipwise.errors import ClipwiseError, WorkError
from clipwise.infer.predictor import load

checkpoint, folder = sys.argv[1:]
model = load(checkpoint, "cpu").model
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
for write in (
    lambda: save_state(__import__("pathlib").Path(folder, "state.pt"), {"a": torch.zeros(100_000)}),
    lambda: save_mmaction2(folder + "/theirs.pth", model.state_dict(), model),
):
    try:
        write()
    except (ClipwiseError, WorkError) as error:
        print("said:", error)
print("rc", main(["export", checkpoint, "--format", "torch", "--out", folder + "/m.pt2"]))
"""


def test_files_that_do_not_fit(trained, tmp_path):
    """A limit of file sizes stands for the disk: PyTorch's own writer aborts in its destructor on either."""
    command = [sys.executable, "-c", SCRIPT, str(trained), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "state.pt can't be written" in done.stdout
    assert "theirs.pth can't be written: File too large" in done.stdout
    assert "rc 1" in done.stdout
    assert "clipwise export: the file is larger than is allowed" in done.stderr
    assert not list(tmp_path.iterdir())
