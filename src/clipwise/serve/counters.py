"""The server's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class ServerMetrics:
    """Counters, histograms and gauges of one server, in a registry of their own."""

    def __init__(self, queue_length: Callable[[], float], decoders_killed: Callable[[], float]) -> None:
        self.registry = own = CollectorRegistry()
        labels = ("route", "method", "status")
        self.requests = Counter("clipwise_requests", "Answers, by route, method and status.", labels, registry=own)
        self.refusals = Counter("clipwise_refusals", "Refusals, by code.", ("code",), registry=own)
        self.videos = Counter("clipwise_videos", "Videos, by outcome.", ("outcome",), registry=own)
        self.upload_bytes = Counter("clipwise_upload_bytes", "Bytes of uploads.", registry=own)

        def histogram(name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
            return Histogram(f"clipwise_{name}", text, buckets=bounds, registry=own)

        self.request_seconds = histogram("request_seconds", "Time of an answer.", _SECONDS)
        self.video_seconds = histogram("video_seconds", "Time of a video's analysis.", _SECONDS[2:])
        self.batch_size = histogram("batch_size", "Clips in a batch.", (1, 2, 4, 8, 16, 32))
        self.batch_seconds = histogram("batch_seconds", "Time of a batch.", _SECONDS[:8])
        Gauge("clipwise_queue_length", "Videos waiting or worked on.", registry=own).set_function(queue_length)
        Gauge(
            "clipwise_decoders_killed", "Decoder processes that crashed or ran out of time.", registry=own
        ).set_function(decoders_killed)

    def text(self) -> bytes:
        """The body of ``GET /metrics``."""
        return generate_latest(self.registry)
