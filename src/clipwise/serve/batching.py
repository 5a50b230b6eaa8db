"""One thread that owns the network, and puts the clips of all requests that wait into common batches."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Protocol

import numpy as np
import torch


class Scorer(Protocol):
    """What the server asks of a predictor: uint8 (B, V, T, H, W, C) -> (B, num_classes)."""

    def score(self, frames: torch.Tensor) -> np.ndarray: ...


class BatchQueue:
    """Micro-batching: clips of one shape that wait at the same moment go through the network together.

    Args:
        scorer: only this queue's thread calls it.
        max_batch: samples of a batch.
        max_wait_s: time that the first clip of a batch waits for company. While the network works others gather anyway,
            so it only matters on an idle server.
        observe: called with (samples, seconds) after each batch.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        max_batch: int = 16,
        max_wait_s: float = 0.004,
        observe: Callable[[int, float], None] = lambda samples, seconds: None,
    ):
        self.scorer, self.max_batch, self.max_wait_s, self.observe = scorer, max_batch, max_wait_s, observe
        self._queue: queue.Queue[tuple[np.ndarray, Future] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="clipwise-network", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, clip: np.ndarray) -> Future:
        """uint8 (V, T, H, W, C) -> a future of float (num_classes,)."""
        future: Future = Future()
        self._queue.put((clip, future))
        return future

    def score(self, clips: Sequence[np.ndarray], check: Callable[[], None] = lambda: None) -> np.ndarray:
        """Clips of a video -> (len(clips), num_classes).

        Args:
            check: called now and then while waiting; what it raises ends the waiting.
        """
        futures = [self.submit(clip) for clip in clips]
        try:
            while wait(futures, timeout=0.1).not_done:
                check()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return np.stack([future.result() for future in futures])

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            items, last = self._gather()
            groups = defaultdict(list)
            for clip, future in items:
                if future.set_running_or_notify_cancel():
                    groups[clip.shape].append((clip, future))
            for group in groups.values():
                for start in range(0, len(group), self.max_batch):
                    self._score(group[start : start + self.max_batch])

    def _gather(self) -> tuple[list[tuple[np.ndarray, Future]], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        items = [first]
        until = time.monotonic() + self.max_wait_s
        while len(items) < self.max_batch:
            try:
                item = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if item is None:
                return items, True
            items.append(item)
        return items, False

    def _score(self, group: list[tuple[np.ndarray, Future]]) -> None:
        started = time.monotonic()
        try:
            scores = self.scorer.score(torch.from_numpy(np.stack([clip for clip, _ in group])))
        except Exception as error:
            for _, future in group:
                future.set_exception(error)
            return
        self.observe(len(group), time.monotonic() - started)
        for (_, future), row in zip(group, scores):
            future.set_result(row)
