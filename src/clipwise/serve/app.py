"""The HTTP application: routes and refusals. ``create_app`` is the entry point.

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
from typing import Annotated, Any

import clipwise
from clipwise.errors import MissingExtraError
from clipwise.infer.segments import Segment, to_srt
from clipwise.io.text import plural
from clipwise.serve.analysis import Analyzer, LocalizeReader, Options
from clipwise.serve.api_errors import CODES, ApiError
from clipwise.serve.batching import BatchQueue
from clipwise.serve.decoders import DecoderPool
from clipwise.serve.jobs import Admission, Job, JobStore
from clipwise.serve.limits import Settings

try:
    from fastapi import FastAPI, Query
    from fastapi.exceptions import RequestValidationError
    from fastapi.requests import Request
    from fastapi.responses import JSONResponse, Response
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

    from clipwise.serve import schemas
    from clipwise.serve.fetch import fetch_url
    from clipwise.serve.middleware import Guard, ServerMetrics
    from clipwise.serve.uploads import Upload, display_name, receive_files, receive_urls
except ImportError as error:
    raise MissingExtraError(error.name or "fastapi", "serve", "clipwise serve") from None

_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = {  # a closed list: an address never becomes a path of the file system
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_OPERATIONS = {  # names of routes in the OpenAPI document, after which clients' functions are named
    "job": "getJob", "cancel_job": "cancelJob", "job_srt": "getSegments", "model": "getModel", "healthz": "health", "prometheus": "metrics",
}  # fmt: skip


def create_app(
    predictor: Any, settings: Settings | None = None, *, localizer: LocalizeReader | None = None, model_name: str = ""
) -> FastAPI:
    """The application (ASGI) for a predictor.

    Args:
        predictor: from ``clipwise.load(checkpoint)``, or an exported model.
        localizer: finds segments; None: they come from the windows' classes.
        model_name: shown on the page; the passport's model name if empty.
    """
    server = _Server(predictor, settings or Settings(), localizer, model_name)
    app = FastAPI(
        title="clipwise",
        version=clipwise.__version__,
        description="Recognize what happens in a video, and when. Scores lie between 0 and 1, times are in seconds.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=server.lifespan,
        openapi_url=None,  # a route of ours, so that the document describes it as well
        docs_url=None,  # these pages load scripts from other servers
        redoc_url=None,
        generate_unique_id_function=lambda route: _OPERATIONS.get(route.name, route.name),
    )
    server.add_routes(app)
    app.add_middleware(Guard, hosts=server.settings.hosts, metrics=server.metrics, refuse=server.refuse)
    app.state.server = server
    return app


class _Server:
    def __init__(self, predictor: Any, settings: Settings, localizer: LocalizeReader | None, model_name: str):
        self.settings, self.limits = settings, settings.limits
        self.passport, self.predictor = predictor.passport, predictor
        self.model_name = model_name or self.passport.model
        self.admission = Admission(self.limits)
        self.pool = DecoderPool(settings.decoders, self.limits)
        self.metrics = metrics = ServerMetrics(lambda: self.admission.total, lambda: self.pool.ended_badly)

        def observe(samples: int, seconds: float) -> None:
            metrics.batch_size.observe(samples)
            metrics.batch_seconds.observe(seconds)

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
        self.folder = Path()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI):
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
                allow_private = self.settings.allow_private_urls
                size = fetch_url(item, path, self.limits, allow_private=allow_private, cancelled=job.cancelled)
                self.metrics.upload_bytes.inc(size)
                result = self._analyze(path, job.sources[position], job.cancelled, options, progress)
            finally:
                path.unlink(missing_ok=True)
        else:
            result = self._analyze(item.path, item.name, job.cancelled, options, progress)
        self.metrics.video_seconds.observe(time.monotonic() - started)
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
                self.metrics.videos.labels(result["error"]["code"] if "error" in result else "done").inc()
            del self._uploads[job.id]
            for item in inputs:
                if not isinstance(item, str):
                    item.path.unlink(missing_ok=True)
            self.admission.leave(client, len(job.sources), (time.monotonic() - started) / len(job.sources))

        try:
            self.jobs.submit(job, finished)
        except ApiError:
            del self._uploads[job.id]
            raise

    # ---- routes --------------------------------------------------------------------------------------------------------------

    def add_routes(self, app: FastAPI) -> None:
        for path in _PAGE_FILES:
            app.get(path, include_in_schema=False)(self.page)
        app.get("/healthz", response_model=schemas.Health, responses={503: {"model": schemas.Health}})(self.healthz)
        metrics = schemas.text_answer("text/plain", "Prometheus text format.")
        app.get("/metrics", responses=metrics, response_class=Response)(self.prometheus)

        @app.get("/openapi.json", response_model=dict[str, Any])
        async def openapi() -> JSONResponse:
            """This document."""
            return JSONResponse(app.openapi())

        app.get("/v1/model", response_model=schemas.Model)(self.model)
        accepted = {"model": schemas.Job, "description": "Accepted (async=1); Location names the job."}
        subtitles = {"content": {"application/x-subrip": {"schema": {"type": "string"}}}, "description": "Analyzed."}
        other = ("unknown_job", "not_ready", "not_found", "method_not_allowed")
        app.post(
            "/v1/predict",
            response_model=schemas.Results,
            responses={200: subtitles, 202: accepted, **schemas.refusals(*(c for c in CODES if c not in other))},
            openapi_extra=schemas.upload_body(self.settings.allow_urls),
        )(self.predict)
        gone = schemas.refusals("unknown_job")
        app.get("/v1/jobs/{id}", response_model=schemas.Job, response_model_exclude_unset=True, responses=gone)(
            self.job
        )
        app.delete(
            "/v1/jobs/{id}",
            status_code=204,
            response_class=Response,
            responses=schemas.refusals("unknown_job", "cross_origin"),
        )(self.cancel_job)
        srt = schemas.text_answer("application/x-subrip", "Subtitles.")
        app.get(
            "/v1/jobs/{id}/segments.srt",
            response_class=Response,
            responses=srt | schemas.refusals("unknown_job", "not_ready", "not_found", "not_a_video"),
        )(self.job_srt)
        for kind, handler in self.handlers().items():
            app.add_exception_handler(kind, handler)

    async def page(self, request: Request) -> Response:
        name, kind = _PAGE_FILES[request.url.path]
        return Response((_PAGE / name).read_bytes(), headers={"Content-Type": kind, "Cache-Control": "no-cache"})

    async def healthz(self, response: Response) -> dict[str, Any]:
        """Whether the server works."""
        healthy = self.batches.alive and not self.pool.closed
        response.status_code = 200 if healthy else 503
        return {"status": "ok" if healthy else "failing", "queue_length": self.admission.total}

    async def prometheus(self) -> Response:
        """Figures for Prometheus."""
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def model(self) -> dict[str, Any]:
        """The model's passport: classes, protocol, limits."""
        recipe, spec = self.passport.recipe, self.analyzer.spec
        return {
            "name": self.model_name,
            "model": self.passport.model,
            "classes": self.analyzer.classes,
            "protocol": {
                "clip_len": spec.clip_len,
                "frame_interval": spec.frame_interval,
                "num_segments": spec.num_segments,
                "num_clips": spec.num_clips,
                "num_crops": spec.transform.num_crops,
                "average_clips": recipe["test"]["average_clips"],
            },
            "metrics": self.passport.metrics,
            "versions": {"clipwise": clipwise.__version__, "trained_with": self.passport.versions},
            "limits": self.limits.public(),
            "localizer": self.analyzer.localizer is not None,
            "urls": self.settings.allow_urls,
        }

    async def predict(self, request: Request, query: Annotated[schemas.PredictQuery, Query()]) -> Any:
        """Analyze one or several videos.

        Send a form with one or several files, or a file itself as the body. With one file an error is the answer's
        status; with several, each has its own result or error.
        """
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
            new = Job([item.name if isinstance(item, Upload) else display_name(item.split("?")[0]) for item in inputs])
            self._submit(new, client, inputs, query.options(self.settings.threshold))
            job = new
        finally:
            if job is None:
                self.admission.leave(client, entered)
                for item in inputs:
                    if isinstance(item, Upload):
                        item.path.unlink(missing_ok=True)
        if query.async_ == "1":
            return JSONResponse(self._job_dict(job), 202, headers={"Location": f"/v1/jobs/{job.id}"})
        await self._finish(request, job)
        if job.error is not None:
            raise job.error
        return self._srt(job) if query.format == "srt" else {"results": job.results}

    async def _files(self, request: Request, kind: str) -> list[Upload]:
        if kind == "application/x-www-form-urlencoded" or kind.startswith("text/"):
            raise ApiError(
                "unsupported_type",
                f"the content type {kind} is not accepted; send multipart/form-data, application/json, or the file itself as application/octet-stream or video/…",
            )
        folder = Path(tempfile.mkdtemp(prefix="request-", dir=self.folder))
        try:
            uploads = await receive_files(request, folder, self.limits)
            for upload in uploads:
                upload.path = upload.path.rename(self.folder / upload.path.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.metrics.upload_bytes.inc(sum(upload.size for upload in uploads))
        return uploads

    async def _urls(self, request: Request) -> list[str]:
        if not self.settings.allow_urls:
            raise ApiError(
                "urls_off",
                "this server does not fetch URLs (it was started without --allow-urls). Upload the file.",
            )
        return await receive_urls(request, self.limits, allow_private=self.settings.allow_private_urls)

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
                raise ApiError("cancelled", "the client disconnected.")
        finally:
            leaving.cancel()
            if not done.done():  # also when the server is shutting down
                job.cancelled.set()

    async def job(self, id: str) -> dict[str, Any]:
        """State and progress of a job, and its results."""
        return self._job_dict(self.jobs.get(id))

    async def cancel_job(self, id: str) -> Response:
        """Stop a job and forget it."""
        self.jobs.cancel(id)
        return Response(status_code=204)

    async def job_srt(self, id: str, item: int = 0) -> Response:
        """Segments of a finished job as subtitles; ``item`` selects one of its videos, from 0."""
        job = self.jobs.get(id)
        if job.finished_at is None:
            raise ApiError("not_ready", "the job has not finished.")
        if job.error is not None:
            raise job.error
        return self._srt(job, item)

    def _srt(self, job: Job, item: int = 0) -> Response:
        if not 0 <= item < len(job.results):
            raise ApiError("not_found", f"the job has {plural(len(job.results), 'video')}; item counts from 0.")
        result = job.results[item]
        if "error" in result:
            raise ApiError(result["error"]["code"], result["error"]["message"])
        return Response(
            to_srt(map(Segment.from_dict, result["segments"])),
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
        self.metrics.refusals.labels(error.code).inc()
        return JSONResponse({"error": error.to_dict()}, error.status, headers=error.headers)

    def handlers(self) -> dict[Any, Callable[[Request, Exception], Awaitable[Response]]]:
        async def api_error(request: Request, error: Exception) -> Response:
            assert isinstance(error, ApiError)
            return self.refuse(error)

        async def not_found(request: Request, error: Exception) -> Response:
            return self.refuse(ApiError("not_found", "no such address; /openapi.json lists the routes."))

        async def wrong_method(request: Request, error: Exception) -> Response:
            allowed = getattr(error, "headers", None) or {}
            refusal = ApiError(
                "method_not_allowed", f"this address does not accept {request.method[:20]}.", headers=dict(allowed)
            )
            return self.refuse(refusal)

        async def wrong_option(request: Request, error: Exception) -> Response:
            assert isinstance(error, RequestValidationError)
            return self.refuse(ApiError("bad_request", _explain(error)))

        return {ApiError: api_error, RequestValidationError: wrong_option, 404: not_found, 405: wrong_method}


def _explain(error: RequestValidationError) -> str:
    """The first wrong option in one sentence."""
    first = error.errors()[0]
    name = str(first["loc"][-1])[:60]
    if first["type"] == "extra_forbidden":
        known = sorted(field.alias or key for key, field in schemas.PredictQuery.model_fields.items())
        return f"unknown option {name!r}; known: {', '.join(known)}."
    return f"{name} is {str(first['input'])[:40]!r}: {first['msg'][0].lower()}{first['msg'][1:]}."
