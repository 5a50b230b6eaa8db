"""How much of our code a reader must follow for one command.

Every file of ours in which a function is executed counts with all its lines (what only runs while a module loads does not
count). Measured the same way, MMAction2 1.2 trains through 95 files with 37,273 lines, 0.24.1 through 76 with 21,983.
``AIMS`` is what the house wants; ``BOUNDS`` is what is reached and must only fall.
"""

import subprocess
import sys

import pytest

#          what            files  lines
AIMS = {
    "train": (30, 6300),  # command line, audit, log, validation, checkpoint, report
    "engine": (18, 4500),  # clipwise.train alone
    "predict": (16, 3300),
    "localizer": (20, 4600),  # training BMN from the command line
}
# Version 0.1 had 47 / 9,411, 30 / 6,371, 23 / 4,623 and 36 / 7,299; what came since (marks of containers that are checked, the model
# contract, groups of recipe keys, checksums, a lock) is on the path of every run. Headers of slices (a file of
# 187 lines) and proposals as long as the segments came last,
# with the videos that a localizer would be trained and validated on, and signals that end every command cleanly.
BOUNDS = {
    "train": (37, 7913),
    "engine": (32, 6651),
    "predict": (21, 4070),
    "localizer": (32, 6685),  # whole videos, as published
    "windows": (35, 7077),  # and with the windows that bmn_tiny cuts from long videos
}

TRACER = '''
import sys, threading
from pathlib import Path
import clipwise
root = str(Path(clipwise.__file__).parent)
seen = set()
def loading(frame):
    """Whether this call is part of loading a module of ours (class bodies, decorators, tables)."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(root):
            return True
        frame = frame.f_back
    return False
def profile(frame, event, arg):
    name = frame.f_code.co_filename
    if event == "call" and name.startswith(root) and name.endswith(".py") and name not in seen and not loading(frame):
        seen.add(name)
def run(words):
    if words[0] != "engine":
        from clipwise.cli import main
        return main(words)
    from clipwise.engine.train import train
    from clipwise.recipe import load_recipe
    train(load_recipe(words[1], words[4:]), data=words[2], work_dir=words[3], quiet=True)
threading.setprofile(profile); sys.setprofile(profile)
code = run(sys.argv[1:])
sys.setprofile(None); threading.setprofile(None)
print("TRACED", code, len(seen), sum(len(Path(f).read_text(encoding="utf-8").splitlines()) for f in seen))
print("\\n".join(f"{len(Path(f).read_text(encoding='utf-8').splitlines()):5d} {Path(f).relative_to(root)}" for f in sorted(seen)))
'''

SHORT = ["epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=0", "amp=no"]
WHOLE = ["window_s=null", "temporal_dim=64"]


def trace(words: list[str]) -> tuple[int, int, str]:
    done = subprocess.run([sys.executable, "-c", TRACER, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = done.stdout[done.stdout.index("TRACED") :]
    code, files, lines = report.splitlines()[0].split()[1:]
    assert code in ("0", "None"), done.stdout + done.stderr
    return int(files), int(lines), report


@pytest.mark.parametrize("path", BOUNDS)
def test_a_reader_follows_few_files(path, clips, trained, make_sequences, tmp_path):
    localizes = path in ("localizer", "windows")
    sequences = make_sequences(tmp_path / "data") if localizes else tmp_path
    localizer = ["train", "bmn_tiny", "--data", str(sequences), "--work-dir", str(tmp_path / "run"), *SHORT]
    localizer += ["windows.least=0"]
    words = {
        "train": ["train", "slowonly_tiny", "--data", str(clips), "--work-dir", str(tmp_path / "run"), *SHORT],
        "engine": ["engine", "slowonly_tiny", str(clips), str(tmp_path), *SHORT],
        "predict": ["predict", str(trained), str(next((clips / "val").rglob("*.mp4")))],
        "localizer": [*localizer, *WHOLE],
        "windows": localizer,
    }[path]
    files, lines, report = trace(words)
    print(path, report)
    assert files <= BOUNDS[path][0], report
    assert lines <= BOUNDS[path][1], report
