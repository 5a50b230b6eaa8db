"""k nearest neighbors on features."""

import json
import math

import numpy as np
import pytest

from clipwise.cli import main
from clipwise.errors import ClipwiseError
from clipwise.infer.neighbors import neighbor_scores

TRAIN = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 3.0]])


def test_votes_by_hand():
    """Query (1, 0): cosines 1, 0, 1/√2 with classes 0, 1, 1."""
    got = neighbor_scores(TRAIN, [0, 1, 1], [[1.0, 0.0]], 3, k=2, temperature=0.5)
    near, far = math.exp(1 / 0.5), math.exp(math.sqrt(0.5) / 0.5)
    np.testing.assert_allclose(got, [[near / (near + far), far / (near + far), 0]], rtol=1e-6)
    all_three = neighbor_scores(TRAIN, [0, 1, 1], [[1.0, 0.0]], 2, k=9, temperature=0.5)
    np.testing.assert_allclose(all_three, [[near / (near + far + 1), (far + 1) / (near + far + 1)]], rtol=1e-6)


def test_wrong_settings():
    with pytest.raises(ClipwiseError, match="k was 0"):
        neighbor_scores(TRAIN, [0, 1, 1], TRAIN, 2, k=0)


def test_on_the_command_line(tmp_path, capsys):
    """Means of positions decide: class 0 points right, class 1 up. One video of class 1 lies among those of class 0."""
    folder = tmp_path / "feats"
    folder.mkdir()
    rows = {"a": (1, 0), "b": (0, 1), "c": (1, 0.1), "d": (0.1, 1), "e": (1, 0.05)}
    for name, row in rows.items():
        np.save(
            folder / f"{name}.npy", np.array([row, row], np.float32) + np.array([[0.2, -0.2], [-0.2, 0.2]], np.float32)
        )
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 1\n")
    (tmp_path / "val.txt").write_text("c.mp4 0\nd.mp4 1\ne.mp4 1\n")
    words = ["knn", str(folder), "--train", str(tmp_path / "train.txt"), "--val", str(tmp_path / "val.txt"), "--k", "1"]
    assert main([*words, "--json", "--out", str(tmp_path / "s.json")]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["top1_acc"] == pytest.approx(2 / 3)
    assert len(json.loads((tmp_path / "s.json").read_text())["results"]) == 3
    (folder / "e.npy").unlink()
    assert main(words) == 2
    assert "no feature file of the name e" in capsys.readouterr().err
