"""Videos that wait, are worked on, or are done: admission, the threads that work, and results that expire."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from clipwise.errors import ClipwiseError
from clipwise.io.text import plural
from clipwise.serve.api_errors import ApiError
from clipwise.serve.limits import Limits

log = logging.getLogger("clipwise.serve")

_MAX_KEPT = 256  # results that are kept at most


@dataclass
class Job:
    """One request's videos.

    ``state`` is queued, running, done, failed or cancelled; ``results`` are in the order of the upload, each a Result
    or {"source", "error"}.
    """

    sources: list[str]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = "queued"
    progress: float = 0.0
    results: list[dict[str, Any]] = field(default_factory=list)
    error: ApiError | None = None
    """Why the whole job failed; for a single video, its own error."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    timed_out: bool = False
    finished_at: float | None = None
    future: Future = field(default_factory=Future)
    """Set to None when the job is over, however it went."""


class Admission:
    """Counts videos from the moment their request is accepted until their result is there."""

    def __init__(self, limits: Limits):
        self.limits, self._lock = limits, threading.Lock()
        self.clients: Counter[str] = Counter()
        self.total = 0
        self.mean_s = 2.0
        """Running mean of a video's time; Retry-After comes from it."""

    def enter(self, client: str, count: int = 1) -> None:
        """
        Raises:
            ApiError: queue_full or too_many_requests, with Retry-After.
        """
        with self._lock:
            if self.total + count > self.limits.queue_length:
                raise ApiError(
                    "queue_full",
                    f"{plural(self.total, 'video is', 'videos are')} waiting or in progress, {self.limits.queue_length} is the limit. Try again later.",
                    headers={"Retry-After": str(self._retry_after())},
                )
            if self.clients[client] + count > self.limits.per_client:
                raise ApiError(
                    "too_many_requests",
                    f"{plural(self.clients[client], 'of your videos is', 'of your videos are')} waiting or in progress, {self.limits.per_client} is the limit. Wait for one of them.",
                    headers={"Retry-After": str(self._retry_after())},
                )
            self.total += count
            self.clients[client] += count

    def leave(self, client: str, count: int = 1, seconds: float | None = None) -> None:
        with self._lock:
            self.total -= count
            self.clients[client] -= count
            if self.clients[client] <= 0:
                del self.clients[client]
            if seconds is not None:
                self.mean_s += 0.1 * (seconds - self.mean_s)

    def _retry_after(self) -> int:
        return max(1, min(60, round(self.mean_s)))


class JobStore:
    """Runs jobs in threads (each waits for a decoder process or the network, so threads are enough).

    Args:
        work: ``work(job, position, progress) -> result`` for one video of a job; it raises ApiError for what a person should read.
        workers: videos at once.
    """

    def __init__(
        self, work: Callable[[Job, int, Callable[[float], None]], dict[str, Any]], workers: int, limits: Limits
    ):
        self._work, self._limits = work, limits
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="clipwise-job")
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False
        self.failures: Counter[str] = Counter()
        self.videos_done = 0

    def submit(self, job: Job, finished: Callable[[Job], None] = lambda job: None) -> None:
        """Queue a job; ``finished`` is called in a thread of this store when it is over, however it went."""
        with self._lock:
            self._forget_old()
            if self._closed:
                raise ApiError("shutting_down", "the server is shutting down; send the request again later.")
            self._jobs[job.id] = job
        clock = threading.Timer(self._limits.request_timeout_s, self._time_out, (job,))
        clock.daemon = True
        clock.start()

        def run() -> None:
            try:
                self._run(job)
            finally:
                clock.cancel()
                job.finished_at = time.monotonic()
                try:
                    finished(job)
                finally:
                    job.future.set_result(None)

        self._threads.submit(run)

    def get(self, job_id: str) -> Job:
        with self._lock:
            self._forget_old()
            job = self._jobs.get(job_id)
        if job is None:
            raise ApiError("unknown_job", "no such job; results are kept for --result-ttl-s seconds.")
        return job

    def cancel(self, job_id: str) -> Job:
        """Stop a job and forget it."""
        job = self.get(job_id)
        job.cancelled.set()
        with self._lock:
            self._jobs.pop(job_id, None)
        return job

    @property
    def running(self) -> int:
        with self._lock:
            return sum(job.finished_at is None for job in self._jobs.values())

    def close(self) -> None:
        """Cancel what runs and end the threads."""
        with self._lock:
            self._closed = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancelled.set()
        self._threads.shutdown(wait=True, cancel_futures=False)

    def _time_out(self, job: Job) -> None:
        job.timed_out = True
        job.cancelled.set()

    def _run(self, job: Job) -> None:
        job.state = "running"
        count = len(job.sources)
        for i, source in enumerate(job.sources):

            def progress(share: float, i: int = i) -> None:
                if job.cancelled.is_set():
                    raise ApiError("cancelled", "the job was cancelled.")
                job.progress = round((i + share) / count, 4)

            error = None
            try:
                progress(0.0)
                job.results.append({"source": source, **self._work(job, i, progress)})
                self.videos_done += 1
            except ApiError as raised:
                error = raised
            except ClipwiseError as raised:
                error = ApiError("not_a_video", str(raised))
            except Exception:
                log.exception("job %s failed on %r", job.id, source)
                error = ApiError("internal", "internal error on this video; the server's log has the traceback.")
            if error is not None and error.code in ("cancelled", "decode_crash") and job.timed_out:
                error = ApiError(
                    "timeout", f"this took longer than {self._limits.request_timeout_s:g} s and was ended."
                )
            if error is not None:
                self.failures[error.code] += 1
                job.results.append({"source": source, "error": error.to_dict()})
                if count == 1 or job.cancelled.is_set():
                    job.error = error
                    job.state = "cancelled" if error.code == "cancelled" else "failed"
                    return
        job.progress, job.state = 1.0, "done"

    def _forget_old(self) -> None:
        now = time.monotonic()
        over = [
            job.id
            for job in self._jobs.values()
            if job.finished_at is not None and now - job.finished_at > self._limits.result_ttl_s
        ]
        finished = [job.id for job in self._jobs.values() if job.finished_at is not None]
        surplus = len(self._jobs) - _MAX_KEPT
        for job_id in {*over, *finished[: max(0, surplus)]}:
            del self._jobs[job_id]
