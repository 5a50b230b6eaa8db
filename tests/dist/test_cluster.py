"""Ray over two local workers, one of which is killed: every item exactly once."""

import functools
import os
import signal
import time

import pytest

from clipwise.infer.cluster import PredictWorker, run_on_ray

pytest.importorskip("ray", reason="the extra 'ray' is not installed")


class Slow:
    """Leaves a file for each item it begins, with its process's number."""

    def __init__(self, folder: str):
        self.folder = folder

    def __call__(self, item: str) -> str:
        with open(os.path.join(self.folder, f"{item}.{os.getpid()}.{time.monotonic_ns()}"), "w"):
            pass
        time.sleep(0.02)
        return item.upper()


def test_two_hundred_items_over_two_workers_one_killed(tmp_path):
    items = [f"video{i:03d}" for i in range(200)]
    killed: list[int] = []

    def kill_one(done: int, total: int, message: str) -> None:
        if done >= 60 and not killed:
            time.sleep(
                0.05
            )  # the worker that has just answered is idle now; the other one is in the middle of its chunk
            newest = max(tmp_path.iterdir(), key=lambda p: p.stat().st_mtime_ns)
            killed.append(int(newest.name.split(".")[1]))
            os.kill(killed[0], signal.SIGKILL)

    results = run_on_ray(functools.partial(Slow, str(tmp_path)), items, workers=2, chunk=5, progress=kill_one)
    assert list(results) == items
    assert all(results[i] == i.upper() for i in items)
    assert killed
    begun = [p.name for p in tmp_path.iterdir()]
    assert len(begun) > 200  # the killed worker's chunk was begun twice, and still counts once
    assert len({name.split(".")[1] for name in begun}) == 3  # two workers and the restarted one


def test_prediction_on_a_cluster_equals_prediction_here(clips, trained, tmp_path):
    import clipwise

    videos = [str(p) for p in sorted((clips / "val").rglob("*.mp4"))[:4]]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"")
    worker = functools.partial(PredictWorker, str(trained), "cpu", "no", 3)
    results = run_on_ray(worker, [*videos, str(broken)], workers=2, chunk=2)
    predictor = clipwise.load(trained, device="cpu")
    for video in videos:
        assert results[video]["predictions"][0]["class"] == predictor(video).name
    assert "empty" in results[str(broken)]["error"]
