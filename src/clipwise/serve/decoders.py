"""Decoding outside of the server: each file is opened in a process of its own that can be killed.

:class:`RemoteReader` is a :class:`VideoReader` like any other, so whatever in :mod:`clipwise.infer` takes a reader works
on a stranger's file without this process ever touching it.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.errors import WorkError
from clipwise.infer.predictor import VideoReader  # through infer: the server knows nothing below it
from clipwise.serve.api_errors import ApiError
from clipwise.serve.decoder_process import serve_file
from clipwise.serve.limits import Limits

_MAX_HEAD = 2**16
_MAX_CHUNK = 2**30  # bytes of one answer
_STREAM_BYTES = 32 * 2**20  # frames that come at once when a video is streamed


class _Process:
    """A decoder process that waits for its one file."""

    def __init__(self, context: Any, settings: dict[str, Any]):
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=serve_file, args=(theirs, "", "", settings), name="clipwise-decoder", daemon=True
        )
        self.process.start()
        theirs.close()

    def kill(self) -> None:
        """End the process; a second call does nothing."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class RemoteReader(VideoReader):
    """Frames of a file that another process decodes.

    Args:
        process: it works on this file alone.
        path, name: the file, and what to call it in messages.
        budget_s: time that the process may work in all.
        cancelled: once set, the next call raises.
    """

    def __init__(self, process: _Process, path: Path, name: str, budget_s: float, cancelled: threading.Event):
        self.name, self._process, self._left_s, self._cancelled = name, process, budget_s, cancelled
        self._budget_s = budget_s
        facts, body = self._ask(("open", str(path), name))
        self.num_frames, self.fps = int(facts["num_frames"]), float(facts["fps"])
        self._size = int(facts["height"]), int(facts["width"])
        self._duration_s = float(facts["duration_s"])
        self.damage = None if facts["damage"] is None else str(facts["damage"])
        self.codec, self.container = str(facts["codec"]), str(facts["container"])
        self._pts_s = np.frombuffer(body, np.float64)
        sane = self.num_frames > 0 and min(self._size) > 0 and len(self._pts_s) == self.num_frames
        if not sane or not math.isfinite(self._duration_s):
            raise ApiError("not_a_video", f"{name}: the decoder reports impossible facts about the file.")

    @property
    def duration_s(self) -> float:
        return self._duration_s

    def pts_s(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return self._pts_s[self._check_indices(indices)]

    def frames(self, indices: Sequence[int] | np.ndarray, transform: Any = None) -> np.ndarray:
        """As every reader; ``transform`` is done in the other process, so it must be picklable."""
        wanted = self._check_indices(indices)
        return self._frames(("frames", wanted, transform), len(wanted))

    def iterate(self, start: int = 0, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """As every reader; a chunk of frames crosses the border at a time."""
        size = max(1, min(64, _STREAM_BYTES // (3 * self.height * self.width)))
        numbers = range(start, self.num_frames, step)
        for first in range(0, len(numbers), size):
            part = numbers[first : first + size]
            frames = self._frames(("stream", part[0], step, len(part)), len(part))
            yield from zip(part, frames.copy())

    def _frames(self, request: Any, count: int) -> np.ndarray:
        facts, body = self._ask(request)
        shape = tuple(int(n) for n in facts["shape"])
        if math.prod(shape) != len(body) or shape[:1] != (count,):
            raise ApiError("decode_crash", f"{self.name}: the decoder's answer is malformed.")
        return np.frombuffer(body, np.uint8).reshape(shape)

    def _read(self, indices: np.ndarray, sink: Any) -> None:
        for index, frame in zip(indices.tolist(), self.frames(indices)):
            sink(index, frame)

    def _ask(self, request: Any) -> tuple[dict[str, Any], bytes]:
        if self._cancelled.is_set():
            raise ApiError("cancelled", "the job was cancelled.")
        started = time.monotonic()
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.process.kill()

        clock = threading.Timer(max(self._left_s, 0.01), end)  # a process that hangs in the middle of an answer too
        clock.start()
        connection = self._process.connection
        try:
            connection.send(request)
            head = json.loads(connection.recv_bytes(_MAX_HEAD))
            body = connection.recv_bytes(_MAX_CHUNK) if head["bytes"] or "error" not in head else b""
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            raise self._why_ended(late.is_set()) from error
        finally:
            clock.cancel()
            self._left_s -= time.monotonic() - started
        if "error" in head:
            code = str(head["error"])
            raise ApiError(code if code in _EXPECTED else "not_a_video", str(head["message"])[:1000])
        return head, body

    def _why_ended(self, late: bool) -> ApiError:
        if self._cancelled.is_set():
            return ApiError("cancelled", "the job was cancelled.")
        self._process.process.join(1)
        code = self._process.process.exitcode
        if late or code == -24:  # SIGXCPU
            message = f"{self.name}: decoding took longer than {self._budget_s:g} s."
            return ApiError("decode_timeout", message)
        self._process.process.kill()
        return ApiError("decode_crash", f"{self.name}: the decoder crashed on this file; the server goes on.")


_EXPECTED = {"unsupported_type", "too_many_pixels", "too_many_frames", "too_long", "not_a_video", "decode_memory"}


class DecoderPool:
    """At most ``size`` decoder processes at work, and as many that wait ready.

    A process serves one file and is then killed, so that nothing of one upload reaches the next. A ready one costs a
    fork (about 15 ms) of a process that has imported everything.
    """

    def __init__(self, size: int, limits: Limits):
        methods = multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if hasattr(self._context, "set_forkserver_preload"):
            self._context.set_forkserver_preload(
                ["clipwise.serve.decoder_process", "clipwise.infer.predictor", "clipwise.video.decode"]
            )
        self.size, self._budget_s = size, limits.decode_timeout_s
        self._settings = {
            "memory_mb": limits.decode_memory_mb,
            "cpu_s": limits.decode_timeout_s,
            "max_pixels": limits.max_pixels,
            "max_frames": limits.max_frames,
            "max_duration_s": limits.max_duration_s,
        }
        self._room = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._ready: list[_Process] = []
        self.closed = False
        self.ended_badly = 0

    def start(self) -> None:
        """Start the processes that wait ready; without it the first files wait for their process.

        Raises:
            WorkError: processes cannot be started, so that no file could be read.
        """
        first = _Process(self._context, self._settings)
        try:
            first.connection.send(("ready",))
            first.connection.recv_bytes(_MAX_HEAD)
        except (EOFError, OSError):
            raise WorkError(
                "the decoder processes do not start; their output above says why. A script that creates the app needs "
                "the usual guard: if __name__ == '__main__': …"
            ) from None
        finally:
            first.kill()
        for _ in range(self.size):
            self._add_ready()

    def _add_ready(self) -> None:
        process = _Process(self._context, self._settings)
        with self._lock:
            if not self.closed and len(self._ready) < self.size:
                self._ready.append(process)
                return
        process.kill()

    @contextlib.contextmanager
    def open(self, path: Path, name: str, cancelled: threading.Event) -> Iterator[RemoteReader]:
        """A reader of a file, valid inside the block.

        Raises:
            ApiError: the file cannot be read or goes over a limit, its process died or took too long, or ``cancelled`` is set.
        """
        while not self._room.acquire(timeout=0.2):
            if cancelled.is_set():
                raise ApiError("cancelled", "the job was cancelled.")
        watch, process = None, None
        try:
            for attempt in range(2):
                process = _Process(self._context, self._settings) if attempt else self._take()
                watch = _kill_when_set(cancelled, process)
                try:
                    reader = RemoteReader(process, path, name, self._budget_s, cancelled)
                    break
                except ApiError as error:  # the process may have been killed while it waited: once more, in a new one
                    watch()
                    process.kill()
                    if error.code != "decode_crash" or attempt or cancelled.is_set():
                        raise
            yield reader
        except ApiError as error:
            if error.code in ("decode_crash", "decode_timeout"):
                self.ended_badly += 1
            raise
        finally:
            if watch is not None and process is not None:
                watch()
                process.kill()
            self._room.release()
            if not self.closed:
                self._add_ready()

    def _take(self) -> _Process:
        """A process that waits ready, or a new one."""
        with self._lock:
            process = self._ready.pop() if self._ready else None
        if process is None or not process.process.is_alive():
            process = _Process(self._context, self._settings)
        return process

    def close(self) -> None:
        """End the processes that wait."""
        with self._lock:
            self.closed = True
            ready, self._ready = self._ready, []
        for process in ready:
            process.kill()


def _kill_when_set(cancelled: threading.Event, process: _Process):
    """Kill the process as soon as the event is set; returns the function that stops watching."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            if cancelled.is_set():
                process.process.kill()
                return

    threading.Thread(target=watch, name="clipwise-cancel", daemon=True).start()
    return done.set
