"""The HTTP application: routes, refusals, headers. ``create_app`` is all that others need.

The order of things in a request: the Host and Origin headers are checked, a place in the queue is taken, the body is
written to disk under limits, a job does the work in a thread with a decoder process, the answer is JSON or SRT.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import clipwise
from clipwise.errors import MissingExtraError
from clipwise.serve.analysis import Analyzer, Localizer, Options
from clipwise.serve.api_errors import ApiError
from clipwise.serve.batching import BatchQueue
from clipwise.serve.counters import ServerMetrics
from clipwise.serve.decoders import DecoderPool
from clipwise.serve.jobs import Admission, Job, JobStore
from clipwise.serve.limits import Settings
from clipwise.serve.openapi import openapi_document
from clipwise.serve.segment_json import to_srt

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    from clipwise.serve.asked import read_options, read_urls
    from clipwise.serve.fetch import fetch_url
    from clipwise.serve.guard import Guard
    from clipwise.serve.uploads import Upload, display_name, receive_files
except ImportError as error:
    raise MissingExtraError(error.name or "starlette", "serve", "clipwise serve") from None

_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {  # the only files there are: no path of the file system is ever made from an address
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


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
    app.add_middleware(Guard, hosts=server.settings.hosts, metrics=server.metrics, refuse=server.refuse)
    app.state.server = server
    return app


class _Server:
    def __init__(self, predictor: Any, settings: Settings, localizer: Localizer | None, model_name: str):
        self.settings, self.limits = settings, settings.limits
        self.passport, self.predictor = predictor.passport, predictor
        self.model_name = model_name or self.passport.model
        self.admission = Admission(self.limits)
        self.pool = DecoderPool(settings.decoders, self.limits)
        self.metrics = metrics = ServerMetrics(lambda: self.admission.total, lambda: self.pool.ended_badly)

        def observe(samples: int, seconds: float) -> None:
            metrics.batch_size(samples)
            metrics.batch_seconds(seconds)

        self.batches = BatchQueue(predictor, max_batch=settings.max_batch, observe=observe)
        self.analyzer = Analyzer(
            predictor,
            self.batches,
            localizer=localizer,
            max_windows=self.limits.max_windows,
            window_s=settings.window_s,
        )
        self.jobs = JobStore(self._work, settings.decoders, self.limits)
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
                self.metrics.upload_bytes(
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
        self.metrics.video_seconds(time.monotonic() - started)
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
                self.metrics.videos(outcome=result["error"]["code"] if "error" in result else "done")
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
        options, wait, form = read_options(request.query_params, self.settings.threshold)
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
        self.metrics.upload_bytes(sum(upload.size for upload in uploads))
        return uploads

    def _urls(self, request: Request) -> Awaitable[list[str]]:
        settings = self.settings
        return read_urls(request, self.limits, allowed=settings.allow_urls, allow_private=settings.allow_private_urls)

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
        self.metrics.refusals(code=error.code)
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
