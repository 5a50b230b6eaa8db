"""Offline work on a Ray cluster: many videos over many workers, each video's result exactly once.

Ray restarts what dies and gives its work to others; the driver keeps the first result of each video, so a worker that is
killed in mid-work neither loses a video nor counts one twice. Without a cluster, ``--shard I/N`` divides the same
inputs over jobs of any scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from clipwise.errors import MissingExtraError, WorkError


def run_on_ray(
    make_worker: Callable[[], Callable[[str], Any]],
    items: Sequence[str],
    *,
    address: str | None = None,
    workers: int = 2,
    chunk: int = 8,
    devices_per_worker: float = 0,
    max_restarts: int = 20,
    progress: Callable[[int, int, str], None] = lambda done, total, message: None,
) -> dict[str, Any]:
    """Apply a function to every item, wherever the cluster has room.

    Args:
        make_worker: called once in each worker process; what it returns is called with one item at a time. Both must be
            picklable (a function of a module, or functools.partial of one).
        items: what to work on; each once.
        address: of a running cluster (``auto`` finds it); None starts one on this machine.
        workers: processes.
        chunk: items a task; a killed task is done again.
        devices_per_worker: accelerators that a worker takes.
        max_restarts: how often a worker may be restarted.

    Returns:
        item -> result, for every item.

    Raises:
        MissingExtraError: Ray is not installed.
        WorkError: workers kept dying.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray", "Work on a cluster") from None

    unique = list(dict.fromkeys(items))
    chunks = [unique[i : i + chunk] for i in range(0, len(unique), chunk)]
    started_here = not ray.is_initialized()
    if started_here:
        local: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
        ray.init(address=address, log_to_driver=False, **local)
    try:
        actor = ray.remote(num_cpus=1, num_gpus=devices_per_worker, max_restarts=max_restarts, max_task_retries=-1)(
            _Worker
        )
        pool: list[Any] = [actor.remote(make_worker) for _ in range(min(workers, len(chunks)))]
        waiting = list(enumerate(chunks))
        running: dict[Any, Any] = {}
        results: dict[str, Any] = {}
        for worker in pool:
            number, part = waiting.pop(0)
            running[worker.work.remote(part)] = worker, number
        while running:
            finished, _ = ray.wait(list(running), num_returns=1)
            worker, _ = running.pop(finished[0])
            try:
                answers = ray.get(finished[0])
            except ray.exceptions.RayActorError as error:
                raise WorkError(f"a worker died more than {max_restarts} times: {error}") from None
            for item, answer in answers:
                results.setdefault(item, answer)
            progress(len(results), len(unique), "")
            if waiting:
                number, part = waiting.pop(0)
                running[worker.work.remote(part)] = worker, number
        return {item: results[item] for item in unique}
    finally:
        if started_here:
            ray.shutdown()


class _Worker:
    """Lives in a process of the cluster."""

    def __init__(self, make_worker: Callable[[], Callable[[str], Any]]):
        self.function = make_worker()

    def work(self, items: list[str]) -> list[tuple[str, Any]]:
        return [(item, self.function(item)) for item in items]


class PredictWorker:
    """Predicts one input; broken ones give their error. Made in each worker by ``functools.partial(PredictWorker, …)``."""

    def __init__(self, checkpoint: str, device: str | None, amp: str, topk: int):
        from clipwise.infer.predictor import load

        self.predictor, self.topk = load(checkpoint, device, amp=amp), topk

    def __call__(self, source: str) -> dict[str, Any]:
        from clipwise.errors import DataError

        try:
            return self.predictor(source).to_dict(self.topk)
        except (DataError, OSError) as error:
            return {"source": source, "error": str(error)}
