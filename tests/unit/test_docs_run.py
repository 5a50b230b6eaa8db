"""The blocks of README and docs/en are executed as they stand there, or a comment before them says why not.

``<!-- not run: REASON -->`` marks a block, ``<!-- not run (WORD, WORD): REASON -->`` its lines with one of these words, ``<!-- slow: REASON -->``
one that only ``pytest -m slow`` runs. Training gets keys that make it short. The pages share one folder of files, which a reader has or makes by
what the pages say. docs/zh shows the same blocks (comments apart).
"""

import contextlib
import io
import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from clipwise.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/en").glob("*.md"))]
ELSEWHERE = {"python.md": "tests/unit/test_python_page.py", "models.md": "tests/contract/test_models_page.py"}
SHORT = ["epochs=1", "warmup_epochs=0", "num_workers=0", "batch_size=8", "amp=no", "log.every=1"]
BLOCK = re.compile(
    r"^(?:<!-- (not run|slow)(?: \(([^)]*)\))?: ([^\n]*) -->\n)?```(bash|python)\n(.*?)^```", re.DOTALL | re.MULTILINE
)


@dataclass
class Block:
    language: str
    code: str
    mark: str = ""
    words: tuple[str, ...] = ()

    def lines(self):
        """Commands that are executed: without comments, lines that go on joined."""
        for line in self.code.replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s+)#\s.*", "", line).strip()
            if line and not (self.mark == "not run" and any(word in line for word in self.words)):
                yield line


def blocks(page):
    return [
        Block(language, code, mark, tuple(w.strip() for w in words.split(",")) if words else ())
        for mark, words, _, language, code in BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


def executed(page, slow):
    """The blocks of a page that are executed: all that are not marked, and with ``slow`` those that are marked so."""
    return [b for b in blocks(page) if b.mark == "" or (b.mark == "not run" and b.words) or (slow and b.mark == "slow")]


@pytest.fixture(scope="session")
def reader(clips, trained, tmp_path_factory):
    """What a reader of the pages has: videos, a trained checkpoint, an export of Label Studio, an ELAN file."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(clips, folder / "my_videos")
    some = sorted((clips / "val").rglob("*.mp4"))
    names = sorted(p.name for p in (clips / "val").iterdir() if p.is_dir())
    for part in ("train", "val"):
        rows = [
            f"my_videos/{part}/{p.parent.name}/{p.name} {names.index(p.parent.name)}\n"
            for p in sorted((clips / part).rglob("*.mp4"))
        ]
        (folder / f"{part}.txt").write_text("".join(rows), encoding="utf-8")
        (folder / f"my_videos/{part}.txt").write_text("".join(rows).replace("my_videos/", ""), encoding="utf-8")
    for name in ("video.mp4", "new_video.mp4", "lecture.mp4", "other.mp4"):
        shutil.copyfile(some[0], folder / name)
    for name in ("runs/mine/best", "best", "a", "b", "demo/tsm/best"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(trained, folder / f"{name}.safetensors")
    shutil.copytree(clips / "val", folder / "demo/clips/val")
    (folder / "videos").mkdir()
    tasks = []
    for number, video in enumerate(some):
        shutil.copyfile(video, folder / f"videos/{number}.mp4")
        value = {"ranges": [{"start": 1, "end": 12}], "timelinelabels": [video.parent.name]}
        region = {"type": "timelinelabels", "from_name": "l", "to_name": "v", "value": value}
        tasks.append({"id": number, "data": {"video": f"{number}.mp4"}, "annotations": [{"result": [region]}]})
    (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    for name in ("before", "after"):
        assert main(["test", str(trained), "--data", str(clips / "val"), "--out", str(folder / f"{name}.json")]) == 0
    (folder / "eaf_folder").mkdir()
    words = [
        str(folder / "export.json"),
        str(folder / "eaf_folder"),
        "--to",
        "elan",
        "--fps",
        "25",
        "--videos",
        str(folder / "videos"),
    ]
    assert main(["prepare", "annotations", *words]) == 0
    return folder


def run_block(block, page, names, done):
    if block.language == "python":
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block.code, page.name, "exec"), names)
        return
    for line in block.lines():
        if line in done:  # of another page
            continue
        program, *words = shlex.split(line)
        assert program == "clipwise", f"{page.name}: {line!r} is neither executed nor marked"
        short = SHORT if words[0] == "train" else []
        code = main([*words, *short])
        assert code == 0 or (words[0] == "check" and code == 1), f"{page.name}: {line}"
        done.add(line)


def run_page(page, slow, reader, monkeypatch, done):
    import torch

    monkeypatch.chdir(reader)
    monkeypatch.setattr(sys, "argv", ["clipwise"])
    frames = torch.zeros(1, 8, 64, 80, 3, dtype=torch.uint8).numpy()
    names = {"__name__": "page", "clips": torch.zeros(1, 3, 4, 64, 64), "frames": frames}
    for block in executed(page, slow):
        run_block(block, page, names, done)


@pytest.fixture(scope="session")
def done():
    return set()


RUN = [page for page in PAGES if page.name not in ELSEWHERE and executed(page, False)]
SLOW = [page for page in PAGES if any(block.mark == "slow" for block in blocks(page))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_blocks(page, reader, done, monkeypatch):
    run_page(page, False, reader, monkeypatch, done)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.name)
def test_slow_blocks(page, reader, monkeypatch):
    run_page(page, True, reader, monkeypatch, set())


def test_every_mark_is_one_and_gives_a_reason():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        marks = re.findall(r"<!-- (?:not run|slow)[^\n]*-->", text)
        used = [found[0] for found in BLOCK.finditer(text) if found[1]]
        assert len(marks) == len(used), f"{page.name}: a mark does not stand directly before a block"
        for block in blocks(page):
            unused = [word for word in block.words if word not in block.code]
            assert not unused, f"{page.name}: no line has {unused}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_chinese_pages_show_the_same_blocks(page):
    other = ROOT / ("README.zh-CN.md" if page.name == "README.md" else f"docs/zh/{page.name}")
    english, chinese = (
        [
            re.sub(r"(^|\s+)#\s.*", "", line)
            for b in blocks(p)
            for line in b.code.splitlines()
            if re.sub(r"(^|\s+)#\s.*", "", line)
        ]
        for p in (page, other)
    )
    if page.name == "README.md":  # shorter
        assert set(chinese) <= set(english)
    else:
        assert chinese == english
