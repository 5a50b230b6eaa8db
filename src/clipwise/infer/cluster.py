"""Offline work on a Ray cluster: many videos over many workers, each video's result exactly once.

Scheduling, retries and restarts are those of ``ray.data``: a killed worker's items are done by another, and a result that was
delivered is not computed again. Without a cluster, ``--shard I/N`` divides the same inputs over jobs of any scheduler.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from clipwise.errors import MissingExtraError, WorkError
from clipwise.io.progress import Progress, silent


def run_on_ray(
    make_worker: Callable[[], Callable[[str], Any]],
    items: Sequence[str],
    *,
    address: str | None = None,
    workers: int = 2,
    chunk: int = 8,
    devices_per_worker: float = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Apply a function to every item, wherever the cluster has room.

    Args:
        make_worker: called once in each worker process; what it returns is called with one item at a time and gives
            something that JSON can hold. It must be picklable (a function of a module, or functools.partial of one).
        items: what to work on; each once.
        address: of a running cluster (``auto`` finds it); None starts one on this machine.
        workers: processes.
        chunk: items a task; a killed task is done again.
        devices_per_worker: accelerators that a worker takes.

    Returns:
        item -> result, for every item.

    Raises:
        MissingExtraError: Ray is not installed.
        WorkError: the cluster gave the work up.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(error.name or "ray", "ray", "Work on a cluster") from None

    unique = list(dict.fromkeys(items))
    started_here = not ray.is_initialized()
    if started_here:
        local: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        blocks = ray.data.from_items([{"item": x} for x in unique], override_num_blocks=-(-len(unique) // chunk))
        worker: Any = _Worker  # a class: one object in each process
        answers = blocks.map(
            worker,
            fn_constructor_args=(make_worker,),
            compute=ray.data.ActorPoolStrategy(size=min(workers, -(-len(unique) // chunk))),
            num_cpus=1,
            num_gpus=devices_per_worker or None,
        )
        results: dict[str, Any] = {}
        for row in answers.iter_rows():
            results[row["item"]] = json.loads(row["answer"])
            progress(len(results), len(unique), "")
        return {item: results[item] for item in unique}
    except ray.exceptions.RayError as error:
        raise WorkError(f"the work on the cluster failed: {error}") from error
    finally:
        if started_here:
            ray.shutdown()


class _Worker:
    """Lives in a process of the cluster."""

    def __init__(self, make_worker: Callable[[], Callable[[str], Any]]):
        self.function = make_worker()

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        return {"item": row["item"], "answer": json.dumps(self.function(row["item"]))}


class PredictWorker:
    """Predicts one input; broken ones give their error. Made in each worker by ``functools.partial(PredictWorker, …)``."""

    def __init__(self, checkpoint: str, device: str | None, amp: str, topk: int, trust: bool = False):
        from clipwise.infer.predictor import load

        self.predictor, self.topk = load(checkpoint, device, amp=amp, trust=trust), topk

    def __call__(self, source: str) -> dict[str, Any]:
        from clipwise.errors import DataError

        try:
            return self.predictor(source).to_dict(self.topk)
        except (DataError, OSError) as error:
            return {"source": source, "error": str(error)}
