"""How much of our code a stranger must read to follow one training run.

A SlowOnly run on a list of videos is profiled; every file of ours in which a function was executed counts with all its
lines. (Measured the same way, MMAction2 1.2 runs through 95 files with 37,273 lines, 0.24.1 through 76 with 21,983.)
The aim is 18 files and 4,500 lines; the bounds below are what is reached, and must only fall.
"""

import subprocess
import sys

MOST_FILES, MOST_LINES = 29, 6400

TRACER = """
import sys, threading
from pathlib import Path
import clipwise
root = str(Path(clipwise.__file__).parent)
seen = set()
def profile(frame, event, arg):
    if event == "call" and frame.f_code.co_filename.startswith(root) and frame.f_code.co_name != "<module>":
        seen.add(frame.f_code.co_filename)
from clipwise.engine.train import train
from clipwise.recipe import load_recipe
threading.setprofile(profile); sys.setprofile(profile)
overrides = ["epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=0", "amp=no"]
train(load_recipe("slowonly_tiny", overrides), data=sys.argv[1], work_dir=sys.argv[2], quiet=True)
sys.setprofile(None)
print(len(seen), sum(len(Path(f).read_text().splitlines()) for f in seen))
print("\\n".join(sorted(seen)))
"""


def test_a_training_run_reads_few_files(clips, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TRACER, str(clips), str(tmp_path)], capture_output=True, text=True, check=True
    )
    files, lines = map(int, done.stdout.splitlines()[0].split())
    print(f"{files} files, {lines} lines")
    assert files <= MOST_FILES, done.stdout
    assert lines <= MOST_LINES, done.stdout
