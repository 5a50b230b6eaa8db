"""Counters in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters, gauges and histograms by name; written out by :meth:`text`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._counters: dict[str, dict[Labels, float]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._histograms: dict[str, tuple[Sequence[float], list[int], list[float]]] = {}

    def counter(self, name: str, text: str) -> Callable[..., None]:
        """A counter; call what is returned as ``add(amount=1, label=value, …)``."""
        self._help[name] = ("counter", text)
        values = self._counters.setdefault(name, {})

        def add(amount: float = 1, **labels: str) -> None:
            key = tuple(sorted(labels.items()))
            with self._lock:
                values[key] = values.get(key, 0) + amount

        return add

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A value that is read when the metrics are asked for."""
        self._help[name] = ("gauge", text)
        self._gauges[name] = read

    def histogram(self, name: str, text: str, bounds: Sequence[float]) -> Callable[[float], None]:
        """A histogram; call what is returned with each value."""
        self._help[name] = ("histogram", text)
        counts, total = [0] * (len(bounds) + 1), [0.0]
        self._histograms[name] = (bounds, counts, total)

        def observe(value: float) -> None:
            place = next((i for i, bound in enumerate(bounds) if value <= bound), len(bounds))
            with self._lock:
                counts[place] += 1
                total[0] += value

        return observe

    def text(self) -> str:
        """Everything, as ``GET /metrics`` gives it."""
        lines = []
        with self._lock:
            for name, (kind, text) in self._help.items():
                lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
                if kind == "counter":
                    values = self._counters[name] or {(): 0.0}
                    lines += [f"{name}{_labels(key)} {value:g}" for key, value in sorted(values.items())]
                elif kind == "gauge":
                    lines.append(f"{name} {self._gauges[name]():g}")
                else:
                    bounds, counts, total = self._histograms[name]
                    seen = 0
                    for bound, count in zip([*map(str, bounds), "+Inf"], counts):
                        seen += count
                        lines.append(f'{name}_bucket{{le="{bound}"}} {seen}')
                    lines += [f"{name}_sum {total[0]:.6f}", f"{name}_count {seen}"]
        return "\n".join(lines) + "\n"


class ServerMetrics(Metrics):
    """What the server counts and times; each attribute is called with what happened."""

    def __init__(self, queue_length: Callable[[], float], decoders_killed: Callable[[], float]) -> None:
        super().__init__()
        self.requests = self.counter("clipwise_requests_total", "Answers, by route, method and status.")
        self.refusals = self.counter("clipwise_refusals_total", "Refusals, by code.")
        self.videos = self.counter("clipwise_videos_total", "Videos, by what came of them.")
        self.upload_bytes = self.counter("clipwise_upload_bytes_total", "Bytes of uploads.")
        seconds = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
        self.request_seconds = self.histogram("clipwise_request_seconds", "Time of an answer.", seconds)
        self.video_seconds = self.histogram("clipwise_video_seconds", "Time of a video's analysis.", seconds[2:])
        sizes = (1, 2, 4, 8, 16, 32)
        self.batch_size = self.histogram("clipwise_batch_size", "Clips that went through the network together.", sizes)
        self.batch_seconds = self.histogram("clipwise_batch_seconds", "Time of the network.", seconds[:8])
        self.gauge("clipwise_queue_length", "Videos that wait or are worked on.", queue_length)
        self.gauge("clipwise_decoders_killed", "Decoder processes that crashed or took too long.", decoders_killed)


def _labels(key: Labels) -> str:
    if not key:
        return ""
    pairs = (
        f'{name}="' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"' for name, value in key
    )
    return "{" + ",".join(pairs) + "}"
