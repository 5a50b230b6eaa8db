"""The HTTP application: routes, refusals, headers. ``create_app`` is all that others need.

The order of things in a request: the Host and Origin headers are checked, a place in the queue is taken, the body is
written to disk under limits, a job does the work in a thread with a decoder process, the answer is JSON or SRT.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clipwise
from clipwise.errors import ClipwiseError, MissingExtraError
from clipwise.serve.analysis import Analyzer, Localizer, Options
from clipwise.serve.batching import BatchQueue
from clipwise.serve.decoders import DecoderPool
from clipwise.serve.errors import ApiError
from clipwise.serve.jobs import Admission, Job, JobStore
from clipwise.serve.limits import Limits
from clipwise.serve.metrics import Metrics
from clipwise.serve.openapi import openapi_document
from clipwise.serve.segments import to_srt

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    from clipwise.serve.fetch import check_url, fetch_url
    from clipwise.serve.uploads import Upload, display_name, receive_files
except ImportError as error:
    raise MissingExtraError(error.name or "starlette", "serve", "clipwise serve") from None

log = logging.getLogger("clipwise.serve")

_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {  # the only files there are: no path of the file system is ever made from an address
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
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
_QUERY = {"topk", "window_s", "stride_s", "threshold", "async", "format", "name"}


@dataclass(frozen=True)
class Settings:
    """How the server behaves, besides its limits."""

    limits: Limits = field(default_factory=Limits)
    allow_urls: bool = False
    allow_private_urls: bool = False
    """Fetch from private networks too; only for a server that nobody else reaches."""
    hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]")
    """Names under which the server may be called; "*" takes any."""
    decoders: int = max(2, min(8, os.cpu_count() or 2))
    """Files that are decoded at once."""
    max_batch: int = 16
    window_s: float | None = None
    threshold: float = 0.4
    folder: str | None = None
    """Where uploads lie while they are worked on; None: the system's folder for temporary files."""


def create_app(
    predictor: Any, settings: Settings | None = None, *, localizer: Localizer | None = None, model_name: str = ""
) -> Starlette:
    """The application (ASGI) for a predictor.

    Args:
        predictor: from ``clipwise.load(checkpoint)``, or an exported model.
        localizer: finds segments; None: they come from the windows' classes.
        model_name: shown on the page; the passport's model name if empty.
    """
    server = _Server(predictor, settings or Settings(), localizer, model_name)
    routes = [Route(path, server.page, methods=["GET"]) for path in _PAGE_FILES]
    routes += [
        Route("/healthz", server.healthz, methods=["GET"]),
        Route("/metrics", server.metrics_text, methods=["GET"]),
        Route("/openapi.json", server.openapi, methods=["GET"]),
        Route("/v1/model", server.model, methods=["GET"]),
        Route("/v1/predict", server.predict, methods=["POST"]),
        Route("/v1/jobs/{id}", server.job, methods=["GET"]),
        Route("/v1/jobs/{id}", server.cancel_job, methods=["DELETE"]),
        Route("/v1/jobs/{id}/segments.srt", server.job_srt, methods=["GET"]),
    ]
    app = Starlette(routes=routes, lifespan=server.lifespan, exception_handlers=server.handlers())
    app.add_middleware(_Guard, server=server)
    app.state.server = server
    return app


class _Server:
    def __init__(self, predictor: Any, settings: Settings, localizer: Localizer | None, model_name: str):
        self.settings, self.limits = settings, settings.limits
        self.passport, self.predictor = predictor.passport, predictor
        self.model_name = model_name or self.passport.model
        self.metrics = Metrics()
        count, histogram = self.metrics.counter, self.metrics.histogram
        self.count_request = count("clipwise_requests_total", "Answers, by route, method and status.")
        self.count_refusal = count("clipwise_refusals_total", "Refusals, by code.")
        self.count_video = count("clipwise_videos_total", "Videos, by what came of them.")
        self.count_bytes = count("clipwise_upload_bytes_total", "Bytes of uploads.")
        self.time_request = histogram(
            "clipwise_request_seconds", "Time of an answer.", (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
        )
        time_video = histogram(
            "clipwise_video_seconds", "Time of a video's analysis.", (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
        )
        self.time_video = time_video
        size_batch = histogram(
            "clipwise_batch_size", "Clips that went through the network together.", (1, 2, 4, 8, 16, 32)
        )
        time_batch = histogram(
            "clipwise_batch_seconds", "Time of the network.", (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
        )

        def observe(samples: int, seconds: float) -> None:
            size_batch(samples)
            time_batch(seconds)

        self.batches = BatchQueue(predictor, max_batch=settings.max_batch, observe=observe)
        self.analyzer = Analyzer(
            predictor,
            self.batches,
            localizer=localizer,
            max_windows=self.limits.max_windows,
            window_s=settings.window_s,
        )
        self.pool = DecoderPool(settings.decoders, self.limits)
        self.admission = Admission(self.limits)
        self.jobs = JobStore(self._work, settings.decoders, self.limits)
        self.metrics.gauge("clipwise_queue_length", "Videos that wait or are worked on.", lambda: self.admission.total)
        self.metrics.gauge(
            "clipwise_decoders_killed",
            "Decoder processes that crashed or took too long.",
            lambda: self.pool.ended_badly,
        )
        self._uploads: dict[str, tuple[list[Upload] | list[str], Options]] = {}
        self.document = openapi_document(settings.allow_urls)
        self.folder = Path()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette):
        self.folder = Path(tempfile.mkdtemp(prefix="clipwise-serve-", dir=self.settings.folder))
        self.batches.start()
        await asyncio.to_thread(self.pool.start)
        try:
            yield
        finally:
            await asyncio.to_thread(self.jobs.close)
            self.pool.close()
            self.batches.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    # ---- work ----------------------------------------------------------------------------------------------------------------

    def _work(self, job: Job, position: int, progress: Callable[[float], None]) -> dict[str, Any]:
        """One video of a job, in a thread of the job store."""
        inputs, options = self._uploads[job.id]
        item = inputs[position]
        started = time.monotonic()
        if isinstance(item, str):
            path = self.folder / f"url-{job.id}-{position}.bin"
            try:
                self.count_bytes(
                    fetch_url(
                        item,
                        path,
                        self.limits,
                        allow_private=self.settings.allow_private_urls,
                        cancelled=job.cancelled,
                    )
                )
                result = self._analyze(path, job.sources[position], job.cancelled, options, progress)
            finally:
                path.unlink(missing_ok=True)
        else:
            result = self._analyze(item.path, item.name, job.cancelled, options, progress)
        self.time_video(time.monotonic() - started)
        return result

    def _analyze(
        self, path: Path, name: str, cancelled: threading.Event, options: Options, progress: Callable[[float], None]
    ) -> dict[str, Any]:
        with self.pool.open(path, name, cancelled) as reader:
            return self.analyzer(reader, options, progress)

    def _submit(self, job: Job, client: str, inputs: list[Upload] | list[str], options: Options) -> None:
        self._uploads[job.id] = (inputs, options)
        started = time.monotonic()

        def finished(job: Job) -> None:
            for result in job.results:
                self.count_video(outcome=result["error"]["code"] if "error" in result else "done")
            del self._uploads[job.id]
            for item in inputs:
                if not isinstance(item, str):
                    item.path.unlink(missing_ok=True)
            self.admission.leave(client, len(job.sources), (time.monotonic() - started) / len(job.sources))

        self.jobs.submit(job, finished)

    # ---- routes --------------------------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        name, kind = _PAGE_FILES[request.url.path]
        return Response((_PAGE / name).read_bytes(), headers={"Content-Type": kind, "Cache-Control": "no-cache"})

    async def healthz(self, request: Request) -> Response:
        healthy = self.batches.alive and not self.pool.closed
        content = {"status": "ok" if healthy else "failing", "queue_length": self.admission.total}
        return JSONResponse(content, 200 if healthy else 503)

    async def metrics_text(self, request: Request) -> Response:
        return PlainTextResponse(
            self.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(self.document)

    async def model(self, request: Request) -> Response:
        recipe, spec = self.passport.recipe, self.analyzer.spec
        return JSONResponse(
            {
                "name": self.model_name,
                "model": self.passport.model,
                "classes": self.analyzer.classes,
                "protocol": {
                    "clip_len": spec.clip_len,
                    "frame_interval": spec.frame_interval,
                    "num_segments": spec.num_segments,
                    "num_clips": spec.num_clips,
                    "num_crops": spec.transform.num_crops,
                    "average_clips": recipe["average_clips"],
                },
                "metrics": self.passport.metrics,
                "versions": {"clipwise": clipwise.__version__, "trained_with": self.passport.versions},
                "limits": self.limits.public(),
                "localizer": self.analyzer.localizer is not None,
                "urls": self.settings.allow_urls,
            }
        )

    async def predict(self, request: Request) -> Response:
        options, wait, form = self._options(request)
        client = request.client.host if request.client else "?"
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        self.admission.enter(client)  # before the body: a full server reads none
        entered, job = 1, None
        inputs: list[Any] = []
        try:
            inputs = await (self._urls(request) if kind == "application/json" else self._files(request, kind))
            if len(inputs) > 1:
                self.admission.enter(client, len(inputs) - 1)
                entered = len(inputs)
            job = Job([item.name if isinstance(item, Upload) else display_name(item.split("?")[0]) for item in inputs])
            self._submit(job, client, inputs, options)
        finally:
            if job is None:
                self.admission.leave(client, entered)
                for item in inputs:
                    if isinstance(item, Upload):
                        item.path.unlink(missing_ok=True)
        if not wait:
            return JSONResponse(self._job_dict(job), 202, headers={"Location": f"/v1/jobs/{job.id}"})
        await self._finish(request, job)
        if job.error is not None:
            raise job.error
        if form == "srt":
            return self._srt(job)
        return JSONResponse({"results": job.results})

    async def _files(self, request: Request, kind: str) -> list[Upload]:
        if kind == "application/x-www-form-urlencoded" or kind.startswith("text/"):
            raise ApiError(
                "unsupported_type",
                f"the content type {kind} is not taken; send multipart/form-data, application/json, or the file itself as application/octet-stream or video/…",
            )
        folder = Path(tempfile.mkdtemp(prefix="request-", dir=self.folder))
        try:
            uploads = await receive_files(request, folder, self.limits)
            for upload in uploads:
                upload.path = upload.path.rename(self.folder / upload.path.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.count_bytes(sum(upload.size for upload in uploads))
        return uploads

    async def _urls(self, request: Request) -> list[str]:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > 65536:
                raise ApiError("too_large", "the JSON is longer than 64 kB.", headers={"Connection": "close"})
        if not self.settings.allow_urls:
            raise ApiError(
                "urls_off",
                "this server does not fetch addresses (it was started without --allow-urls). Upload the file.",
            )
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            raise ApiError("bad_request", "the body is not JSON.") from None
        urls = content.get("urls", [content.get("url")]) if isinstance(content, dict) and len(content) == 1 else None
        if not isinstance(urls, list) or not urls or not all(isinstance(u, str) and len(u) < 4096 for u in urls):
            raise ApiError("bad_request", 'the JSON must be {"url": "https://…"} or {"urls": ["https://…", …]}.')
        if len(urls) > self.limits.max_files:
            raise ApiError("too_many_files", f"at most {self.limits.max_files} addresses are taken in a request.")
        for url in urls:
            await asyncio.to_thread(check_url, url, allow_private=self.settings.allow_private_urls)
        return urls

    def _options(self, request: Request) -> tuple[Options, bool, str]:
        query = request.query_params
        if unknown := sorted(set(query) - _QUERY):
            raise ApiError("bad_request", f"unknown option {unknown[0][:60]!r}; there are {', '.join(sorted(_QUERY))}.")
        options = Options(
            topk=int(_number(query, "topk", 5, 1, 100, whole=True)),
            window_s=_number(query, "window_s", None, 0.05, 600),
            stride_s=_number(query, "stride_s", None, 0.02, 600),
            threshold=_number(query, "threshold", self.settings.threshold, 0.0, 1.0),
        )
        form, later = query.get("format", "json"), query.get("async", "0")
        if form not in ("json", "srt") or later not in ("0", "1"):
            raise ApiError("bad_request", "format is json or srt, async is 0 or 1.")
        return options, later == "0", form

    async def _finish(self, request: Request, job: Job) -> None:
        """Wait for a job; a client that goes away cancels it."""

        async def gone() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        done = asyncio.ensure_future(asyncio.wrap_future(job.future))
        leaving = asyncio.ensure_future(gone())
        try:
            await asyncio.wait({done, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                job.cancelled.set()
                raise ApiError("cancelled", "the client went away.")
        finally:
            leaving.cancel()

    async def job(self, request: Request) -> Response:
        return JSONResponse(self._job_dict(self.jobs.get(request.path_params["id"])))

    async def cancel_job(self, request: Request) -> Response:
        self.jobs.cancel(request.path_params["id"])
        return Response(status_code=204)

    async def job_srt(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["id"])
        if job.finished_at is None:
            raise ApiError("not_ready", "the job has not finished yet.")
        if job.error is not None:
            raise job.error
        return self._srt(job, request.query_params.get("item", "0"))

    def _srt(self, job: Job, item: str = "0") -> Response:
        if not item.isdigit() or int(item) >= len(job.results):
            raise ApiError("not_found", f"the job has {len(job.results)} videos; item counts from 0.")
        result = job.results[int(item)]
        if "error" in result:
            raise ApiError(result["error"]["code"], result["error"]["message"])
        return Response(
            to_srt(result["segments"]),
            headers={
                "Content-Type": "application/x-subrip; charset=utf-8",
                "Content-Disposition": 'attachment; filename="segments.srt"',
            },
        )

    def _job_dict(self, job: Job) -> dict[str, Any]:
        content: dict[str, Any] = {"id": job.id, "state": job.state, "progress": job.progress, "sources": job.sources}
        if job.finished_at is not None:
            content["results"] = job.results
        return content

    # ---- refusals ------------------------------------------------------------------------------------------------------------

    def refuse(self, error: ApiError) -> Response:
        self.count_refusal(code=error.code)
        return JSONResponse({"error": error.to_dict()}, error.status, headers=error.headers)

    def handlers(self) -> dict[Any, Callable[[Request, Exception], Awaitable[Response]]]:
        async def api_error(request: Request, error: Exception) -> Response:
            assert isinstance(error, ApiError)
            return self.refuse(error)

        async def not_found(request: Request, error: Exception) -> Response:
            return self.refuse(
                ApiError("not_found", "there is nothing at this address; /openapi.json lists what there is.")
            )

        async def wrong_method(request: Request, error: Exception) -> Response:
            allowed = getattr(error, "headers", None) or {}
            return self.refuse(
                ApiError(
                    "method_not_allowed", f"this address does not take {request.method[:20]}.", headers=dict(allowed)
                )
            )

        return {ApiError: api_error, 404: not_found, 405: wrong_method}


def _number(query: Any, name: str, default: Any, low: float, high: float, whole: bool = False) -> Any:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ApiError("bad_request", f"{name} is {text[:40]!r}; it must be a number from {low:g} to {high:g}.")
    return value


class _Guard:
    """Middleware: checks Host and Origin, adds the security headers, counts, and turns a bug into a JSON 500."""

    def __init__(self, app: Any, server: _Server):
        self.app, self.server = app, server
        self.any_host = "*" in server.settings.hosts
        self.hosts = {host.lower() for host in server.settings.hosts}

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

        request = Request(scope)
        try:
            try:
                self._check(request)
                await self.app(scope, receive, send_guarded)
            except ApiError as error:
                await self.server.refuse(error)(scope, receive, send_guarded)
            except Exception:
                log.exception("%s %s failed", scope["method"], scope["path"])
                if status:
                    raise
                bug = ApiError("internal", "the server failed; its log says why.")
                await self.server.refuse(bug)(scope, receive, send_guarded)
        finally:
            seconds = time.monotonic() - started
            self.server.time_request(seconds)
            route = scope.get("route")
            path = getattr(route, "path", "other") if status not in (404, 405) else "other"
            method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD") else "other"
            self.server.count_request(route=path, method=method, status=str(status))

    def _check(self, request: Request) -> None:
        """A page of another site must not reach the server by a name of its own (DNS rebinding) or by a form."""
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


def check_settings(settings: Settings) -> None:
    """
    Raises:
        ClipwiseError: numbers that make no sense.
    """
    if settings.decoders < 1 or settings.max_batch < 1:
        raise ClipwiseError("--decoders and --max-batch must be at least 1.")
    if not 0 < settings.threshold <= 1:
        raise ClipwiseError(f"--threshold {settings.threshold}: it must be greater than 0 and at most 1.")
    if settings.allow_private_urls and not settings.allow_urls:
        raise ClipwiseError("--allow-private-urls has no effect without --allow-urls.")
