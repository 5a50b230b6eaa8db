"""Around every request: allowed hosts and origins, security headers, figures for Prometheus, answers to bugs and a shutdown."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi.requests import Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from clipwise.serve.api_errors import ApiError

log = logging.getLogger("clipwise.serve")

_MAX_REQUESTS = 512  # in progress at one time
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


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


class Guard:
    """Middleware: checks Host and Origin, adds the security headers, counts, and turns a bug into a JSON 500."""

    def __init__(self, app: Any, hosts: Sequence[str], metrics: ServerMetrics, refuse: Callable[[ApiError], Response]):
        self.app, self.metrics, self.refuse = app, metrics, refuse
        self.any_host = "*" in hosts
        self.hosts = {host.lower() for host in hosts}
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0

        async def send_guarded(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = list(message["headers"]) + [
                    (name.lower().encode(), value.encode())
                    for name, value in _HEADERS.items()
                    if name.lower().encode() not in given
                ]
            await send(message)

        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD") else "other"
        if method == "HEAD":  # answered as GET; the connection leaves the body out
            scope = {**scope, "method": "GET"}
        self.requests += 1
        try:
            try:
                self._check(Request(scope))
                await self.app(scope, receive, send_guarded)
            except ApiError as error:
                await self.refuse(error)(scope, receive, send_guarded)
            except asyncio.CancelledError:  # uvicorn cancels what is still at work when its time to end is over
                if status:
                    raise
                ending = ApiError("shutting_down", "the server is shutting down; send the request again later.")
                await self.refuse(ending)(scope, receive, send_guarded)
            except Exception:
                log.exception("%s %s failed", scope["method"], scope["path"])
                if status:
                    raise
                bug = ApiError("internal", "internal error; the server's log has the traceback.")
                await self.refuse(bug)(scope, receive, send_guarded)
        finally:
            self.requests -= 1
            seconds = time.monotonic() - started
            self.metrics.request_seconds.observe(seconds)
            route = scope.get("route")
            path = getattr(route, "path", "other") if status not in (404, 405) else "other"
            self.metrics.requests.labels(path, method, str(status)).inc()

    def _check(self, request: Request) -> None:
        """A page of another site must not reach the server by a name of its own (DNS rebinding) or by a form."""
        if self.requests > _MAX_REQUESTS:
            raise ApiError(
                "queue_full",
                f"more than {_MAX_REQUESTS} requests at a time. Try again later.",
                headers={"Retry-After": "5"},
            )
        host = request.headers.get("host", "").lower()
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if not self.any_host and name not in self.hosts:
            raise ApiError(
                "bad_host",
                f"unknown host name {name[:100]!r}; allow it with --allow-host NAME.",
            )
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and (
            request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
            or (origin is not None and origin.lower().split("://")[-1] != host)
        ):
            raise ApiError("cross_origin", "requests from pages of other sites are refused.")
