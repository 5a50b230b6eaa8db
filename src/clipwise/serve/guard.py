"""Around every request: who may ask, which headers an answer carries, and what becomes of a bug or a shutdown."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi.requests import Request
from fastapi.responses import Response

from clipwise.serve.api_errors import ApiError
from clipwise.serve.counters import ServerMetrics

log = logging.getLogger("clipwise.serve")

_MAX_REQUESTS = 512  # at work at one time

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
                bug = ApiError("internal", "the server failed; its log says why.")
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
            raise ApiError("queue_full", f"more than {_MAX_REQUESTS} requests at a time.", headers={"Retry-After": "5"})
        host = request.headers.get("host", "").lower()
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if not self.any_host and name not in self.hosts:
            raise ApiError(
                "bad_host",
                f"this server is not called {name[:100]!r}; start it with --allow-host NAME if that is right.",
            )
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and (
            request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
            or (origin is not None and origin.lower().split("://")[-1] != host)
        ):
            raise ApiError("cross_origin", "requests from pages of other sites are not taken.")
