"""What requests may ask and what answers hold. FastAPI checks both and describes them in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from clipwise.serve.analysis import Options
from clipwise.serve.api_errors import CODES

Score = Annotated[float, Field(ge=0, le=1)]
ClassName = Annotated[str, Field(alias="class", description="Name of the class; its number where the checkpoint has no names.")]  # fmt: skip


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class PredictQuery(_Model):
    """Options of ``POST /v1/predict``."""

    topk: int = Field(5, ge=1, le=100, description="Number of classes.")
    window_s: float | None = Field(None, ge=0.05, le=600, description="Length of the timeline's windows.")
    stride_s: float | None = Field(
        None, ge=0.02, le=600, description="From one window to the next; half a window by default."
    )
    threshold: Score | None = Field(None, description="Score at which a segment begins.")
    async_: Literal["0", "1"] = Field("0", alias="async", description="1: answer at once with a job to poll.")
    format: Literal["json", "srt"] = Field("json", description="srt: the first video's segments as subtitles.")
    name: str | None = Field(None, description="Name of the file where the body is the file itself.")

    def options(self, threshold: float) -> Options:
        """Options of the analysis; ``threshold`` is the server's own."""
        return Options(self.topk, self.window_s, self.stride_s, threshold if self.threshold is None else self.threshold)


Url = Annotated[str, Field(max_length=4095, json_schema_extra={"format": "uri"})]


class OneUrl(_Model):
    url: Url

    @property
    def addresses(self) -> list[str]:
        return [self.url]


class SeveralUrls(_Model):
    urls: list[Url] = Field(min_length=1)

    @property
    def addresses(self) -> list[str]:
        return self.urls


Urls: TypeAdapter[OneUrl | SeveralUrls] = TypeAdapter(OneUrl | SeveralUrls)


class Prediction(_Model):
    class_: ClassName
    index: int = Field(description="Number of the class, from 0.")
    score: Score


class Window(_Model):
    """The classes between two times; windows overlap."""

    start_s: float
    end_s: float
    predictions: list[Prediction]


class Curve(_Model):
    """A class along the time."""

    class_: ClassName
    index: int
    scores: list[float] = Field(description="One score per window.")


class Timeline(_Model):
    window_s: float = Field(description="Length of a window in seconds.")
    stride_s: float = Field(description="Seconds from one window to the next.")
    windows: list[Window]
    curves: list[Curve] = Field(description="The classes with the highest peaks, at most 8.")


class Segment(_Model):
    start_s: float
    end_s: float
    class_: ClassName
    index: int | None = Field(
        description="Number of the class; null if a localization network gave a class that the model does not have."
    )
    score: Score


class Video(_Model):
    duration_s: float
    num_frames: int
    fps: float
    width: int
    height: int
    codec: str
    damage: str | None = Field(description="What is wrong with the file; the part before it is analyzed.")


class Result(_Model):
    source: str = Field(description="The file's name.")
    video: Video
    predictions: list[Prediction] = Field(
        description="The whole video under the checkpoint's test protocol, as `clipwise predict` gives it, best first."
    )
    timeline: Timeline
    segments: list[Segment] = Field(description="Sorted by start.")
    segments_from: Literal["windows", "localizer"]
    note: str | None = Field(None, description="Why the video is unlike those that the localizer was trained on.")
    seconds: float = Field(description="Time of the analysis.")


class ErrorBody(_Model):
    code: str = Field(json_schema_extra={"enum": list(CODES)})
    message: str


class Error(_Model):
    """Every refusal has this form."""

    error: ErrorBody


class Failed(_Model):
    """One of several videos that failed."""

    source: str
    error: ErrorBody


class Results(_Model):
    results: list[Result | Failed] = Field(description="In the order of the upload.")


class Job(_Model):
    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: Score
    sources: list[str]
    results: list[Result | Failed] = Field([], description="Present when the job is over.")


class Model(_Model):
    name: str
    model: str
    classes: list[str] | None
    protocol: dict[str, Any] = Field(description="How clips are cut for the whole-video prediction.")
    metrics: dict[str, Any] = Field(description="Measured on the checkpoint's validation videos.")
    versions: dict[str, Any]
    limits: dict[str, float | int] = Field(description="The server's limits; names as in `clipwise serve --help`.")
    localizer: bool = Field(description="Segments come from a localization network.")
    urls: bool = Field(description="Addresses are fetched.")


class Health(_Model):
    status: Literal["ok", "failing"]
    queue_length: int


def refusals(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The answers of codes for a route's ``responses``, grouped by status."""
    grouped: dict[int, list[str]] = {}
    for code in codes:
        grouped.setdefault(CODES[code][0], []).append(f"`{code}`: {CODES[code][1]}")
    answers: dict[int | str, dict[str, Any]] = {}
    for status, texts in sorted(grouped.items()):
        answers[status] = {"model": Error, "description": "; ".join(texts)}
        if status in (429, 503):
            retry = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
            answers[status]["headers"] = {"Retry-After": retry}
    return answers


def text_answer(media: str, description: str) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route that answers with text."""
    return {200: {"description": description, "content": {media: {"schema": {"type": "string"}}}}}


def upload_body(allow_urls: bool) -> dict[str, Any]:
    """The body of ``POST /v1/predict``; JSON is part of it only where addresses are fetched."""
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": {"type": "array", "items": file}}, "required": ["file"]}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    content |= {"application/octet-stream": {"schema": file}, "video/*": {"schema": file}}
    if allow_urls:
        schemas = [model.model_json_schema() for model in (OneUrl, SeveralUrls)]
        content["application/json"] = {"schema": {"oneOf": schemas}}
    return {"requestBody": {"required": True, "content": content}}
