"""The same work on many files, in processes, with progress; one bad file never ends the rest."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from clipwise.errors import ClipwiseError
from clipwise.io.interrupts import STOPS
from clipwise.io.progress import Progress


def run_jobs(work: Callable[[Any], Any], jobs: Sequence[Any], *, workers: int | None = None, progress: Progress | None = None,
             describe: Callable[[Any], str] = str) -> list[Any]:  # fmt: skip
    """Does ``work(job)`` for every job.

    Args:
        work: a function of a module (workers import it by name).
        jobs: its arguments.
        workers: processes; None: one a core; 0 or 1: here, in this process.
        progress: called as ``progress(done, total, message)`` after each job.
        describe: name of a job, for ``progress``.

    Returns:
        In the order of ``jobs``: what ``work`` returned, or the exception it raised. A job whose process died (a crash inside a
        decoder, or memory that ran out) gives a RuntimeError.
    """
    results: list[Any] = [None] * len(jobs)
    for done, (index, result) in enumerate(
        _results(work, jobs, os.cpu_count() or 1 if workers is None else workers), 1
    ):
        results[index] = result
        if progress is not None:
            progress(done, len(jobs), describe(jobs[index]))
    return results


def _results(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
    if workers <= 1 or len(jobs) <= 1:
        for index, job in enumerate(jobs):
            yield index, attempt(work, job)
        return
    left = set(range(len(jobs)))
    try:
        with ProcessPoolExecutor(min(workers, len(jobs)), initializer=_start_worker) as pool:
            futures: dict[Future, int] = {pool.submit(attempt, work, job): i for i, job in enumerate(jobs)}
            try:
                for future in as_completed(futures):
                    result = future.result()
                    left.discard(futures[future])
                    yield futures[future], result
            except BaseException:
                _end_workers(pool)
                raise
    except BrokenProcessPool:
        pass
    for index in sorted(left):  # a process died; each remaining job alone, to find the one that killed it
        with ProcessPoolExecutor(1, initializer=_start_worker) as pool:
            try:
                yield index, pool.submit(attempt, work, jobs[index]).result()
            except BrokenProcessPool:
                yield (
                    index,
                    RuntimeError("the process that worked on it died (a crash in the decoder, or out of memory)"),
                )


_working = _ended = False  # of a worker process


def _start_worker() -> None:
    """A signal that ends the command, which a terminal sends to all its processes, ends this job with its cleaning up."""

    def end(number: int, frame: object) -> None:
        global _ended
        first, _ended = not _ended, True
        if first and _working:
            raise KeyboardInterrupt

    for number in STOPS:
        signal.signal(number, end)


def _end_workers(pool: ProcessPoolExecutor) -> None:
    """Have the jobs at work broken off: the pool itself would do them, and those that lie ready, to their end."""
    processes = list((pool._processes or {}).values())  # shutdown forgets them
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        with contextlib.suppress(OSError):
            process.terminate()
    for process in processes:
        process.join(10)


def attempt(work: Callable[[Any], Any], job: Any) -> Any:
    """``work(job)``, or the exception that it raised."""
    global _working
    if _ended:
        raise KeyboardInterrupt
    _working = True
    try:
        return work(job)
    except (ClipwiseError, OSError, ValueError, RuntimeError, MemoryError) as error:
        return error
    finally:
        _working = False
