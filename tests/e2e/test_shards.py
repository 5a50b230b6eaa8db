"""``--shard i/n``: the parts together are the whole, and a worker that is killed and called again loses and doubles nothing."""

import filecmp
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from clipwise.cli import main
from clipwise.cli.common import shard_of
from clipwise.errors import ClipwiseError

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def command(*words):
    return [sys.executable, "-m", "clipwise", *map(str, words)]


def test_parts_share_everything_once():
    items = list(range(23))
    parts = [shard_of(f"{i}/4") for i in (1, 2, 3, 4)]
    assert sorted(x for first, count in parts for x in items[first::count]) == items
    for wrong in ("0/4", "5/4", "1", "a/b"):
        with pytest.raises(ClipwiseError, match="--shard"):
            shard_of(wrong)


def test_predict_in_parts_one_killed(clips, trained, tmp_path):
    """Three parts; the second is killed with SIGKILL in the middle of its work and called again."""
    inputs = tmp_path / "list.txt"
    videos = sorted((clips / "train").rglob("*.mp4"))
    inputs.write_text("".join(f"{v}\n" for v in videos) + f"{tmp_path / 'broken.mp4'}\n")
    (tmp_path / "broken.mp4").write_bytes(b"")
    words = ["predict", str(trained), str(inputs), "--device", "cpu"]
    assert main([*words, "--jsonl", str(tmp_path / "whole.jsonl")]) == 1  # one video is broken, and its line says so
    for i in (1, 3):
        main([*words, "--jsonl", str(tmp_path / f"part{i}.jsonl"), "--shard", f"{i}/3"])
    part = tmp_path / "part2.jsonl"
    again = command(*words, "--jsonl", part, "--shard", "2/3")
    process = subprocess.Popen(again, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (part.is_file() and part.stat().st_size):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    before = part.read_bytes()
    assert 0 < len(before.splitlines()) < 8
    part.write_bytes(before + b'{"source": "half a li')  # the worst moment: in the middle of a write
    main([*words, "--jsonl", str(part), "--shard", "2/3"])
    assert part.read_bytes().startswith(before)  # nothing that was done was done again
    merged = {line["source"]: line for i in (1, 2, 3) for line in lines(tmp_path / f"part{i}.jsonl")}
    whole = lines(tmp_path / "whole.jsonl")
    assert sum(len(lines(tmp_path / f"part{i}.jsonl")) for i in (1, 2, 3)) == len(whole) == 25
    assert merged == {line["source"]: line for line in whole}


def test_features_in_parts_one_killed(clips, trained, tmp_path):
    words = ["features", str(trained), str(clips / "val"), "--stride", "4", "--window", "8", "--device", "cpu"]
    # the synthetic videos have the same names in every class
    videos = sorted((clips / "val").rglob("*.mp4"))
    inputs = tmp_path / "videos"
    inputs.mkdir()
    for n, video in enumerate(videos):
        (inputs / f"v{n:02d}.mp4").symlink_to(video)
    words[2] = str(inputs)
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    parts = tmp_path / "parts"
    again = command(*words, "--out", parts, "--shard", "1/2")
    process = subprocess.Popen(again, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(parts.glob("*.npy")):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for i in (1, 2):
        assert main([*words, "--out", str(parts), "--shard", f"{i}/2"]) == 0
    names = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert len(names) == 2 * len(videos) + 1
    assert sorted(p.name for p in parts.iterdir() if not p.name.startswith(".")) == names
    for name in names:
        if name.endswith(".npy"):
            np.testing.assert_array_equal(np.load(parts / name), np.load(tmp_path / "whole" / name))


def test_prepare_in_parts(clips, tmp_path):
    """Names do not depend on the part; called twice, nothing is made twice."""
    words = ["prepare", "resize", str(clips / "val"), "--short-side", "32", "--workers", "1"]
    assert main([*words[:3], str(tmp_path / "whole"), *words[3:]]) == 0
    made = {}
    for i in (1, 2, 3, 2):
        assert main([*words[:3], str(tmp_path / "parts"), *words[3:], "--shard", f"{i}/3"]) == 0
        for file in (tmp_path / "parts").rglob("*.mp4"):
            made.setdefault(file, file.stat().st_mtime_ns)
            assert made[file] == file.stat().st_mtime_ns
    whole = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.mp4"))
    assert sorted(p.relative_to(tmp_path / "parts") for p in (tmp_path / "parts").rglob("*.mp4")) == whole
    assert len(whole) == 12
    same, other, unreadable = filecmp.cmpfiles(
        tmp_path / "whole", tmp_path / "parts", list(map(str, whole)), shallow=False
    )
    assert (len(same), other, unreadable) == (12, [], [])
