"""A wheel in an empty environment runs the README's examples: it has its recipes, templates and pages in it, and nothing of the sources' folder.

What clipwise depends on comes from the environment that runs the tests (a path file), clipwise itself from the wheel alone.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from clipwise.prepare.synthetic import make_clips
from helpers import load_script

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # builds a wheel and starts a process for each command of the README


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """``clipwise`` of a new environment with the wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    sources = folder / "sources"
    kept = shutil.ignore_patterns(".*", "__pycache__", "runs", "demo", "site", "build", "dist")
    shutil.copytree(ROOT, sources, ignore=kept, symlinks=True)
    built = subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", str(folder), str(sources)], capture_output=True, text=True
    )
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("hatchling cannot be had here, which builds the wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("clipwise-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / Path(sys.executable).name
    answer = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    place = Path(answer.stdout.strip())
    scripts = python.parent
    words = ["install", "--no-deps", "--no-index", "--target", str(place), str(wheel)]
    subprocess.run([*pip, *words], check=True)
    (place / "outside.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    clipwise = scripts / "clipwise"
    clipwise.write_text(f"#!{python}\nimport sys\nfrom clipwise.cli import main\nsys.exit(main())\n", encoding="utf-8")
    clipwise.chmod(0o755)
    return python, clipwise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    work = tmp_path_factory.mktemp("reader")
    make_clips(work / "my_videos", train_per_class=4, val_per_class=2)
    some = sorted((work / "my_videos/val").rglob("*.mp4"))
    for name in ("video.mp4", "new_video.mp4"):
        shutil.copyfile(some[0], work / name)
    return work


def environment():
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def test_the_readmes_examples(program, folder):
    python, clipwise = program
    docs = load_script(ROOT / "tests/unit/test_docs_run.py")
    where = subprocess.run(
        [python, "-c", "import clipwise; print(clipwise.__file__)"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert str(python.parents[1]) in where.stdout, where.stdout + where.stderr  # not the sources
    ran = 0
    for block in docs.executed(ROOT / "README.md", slow=False):
        if block.language == "python":
            code = "import torch\nclips = torch.zeros(1, 3, 4, 64, 64)\n" + block.code
            done = subprocess.run([python, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            ran += 1
            continue
        for line in block.lines():
            name, *words = shlex.split(line)
            short = docs.SHORT if words[0] == "train" else []
            done = subprocess.run(
                [clipwise, *words, *short], cwd=folder, env=environment(), capture_output=True, text=True
            )
            assert name == "clipwise"
            assert done.returncode == 0 or words[0] == "check", f"{line}\n{done.stderr}"
            ran += 1
    assert ran >= 7
