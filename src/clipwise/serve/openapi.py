"""The API's description, OpenAPI 3.1, as ``GET /openapi.json`` gives it."""

from __future__ import annotations

from typing import Any

import clipwise
from clipwise.serve.api_errors import CODES

_NUMBER, _INT, _STRING, _BOOL = {"type": "number"}, {"type": "integer"}, {"type": "string"}, {"type": "boolean"}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = (), text: str = "") -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
    return {**schema, "description": text} if text else schema


def _list(items: dict[str, Any], text: str = "") -> dict[str, Any]:
    return {"type": "array", "items": items, **({"description": text} if text else {})}


def _said(schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {**schema, "description": text}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _maybe(schema: dict[str, Any], text: str = "") -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}], **({"description": text} if text else {})}


_CLASS = {
    "class": _said(_STRING, "Name of the class; its number where the checkpoint has no names."),
    "index": _said(_INT, "Number of the class, from 0."),
    "score": {"type": "number", "minimum": 0, "maximum": 1},
}

SCHEMAS: dict[str, Any] = {
    "Prediction": _object(_CLASS),
    "Window": _object(
        {"start_s": _NUMBER, "end_s": _NUMBER, "predictions": _list(_ref("Prediction"))},
        text="What is seen between two times; windows overlap.",
    ),
    "Curve": _object(
        {"class": _STRING, "index": _INT, "scores": _list(_NUMBER, "One score a window.")},
        text="A class along the time.",
    ),
    "Timeline": _object(
        {
            "window_s": _said(_NUMBER, "Length of a window in seconds."),
            "stride_s": _said(_NUMBER, "Seconds from one window to the next."),
            "windows": _list(_ref("Window")),
            "curves": _list(_ref("Curve"), "The classes with the highest peaks, at most 8."),
        }
    ),
    "Segment": _object(
        {
            "start_s": _NUMBER,
            "end_s": _NUMBER,
            **_CLASS,
            "index": _maybe(
                _INT, "Number of the class; null if a localization network gave a class that the model has not."
            ),
        }
    ),
    "Video": _object(
        {
            "duration_s": _NUMBER,
            "num_frames": _INT,
            "fps": _NUMBER,
            "width": _INT,
            "height": _INT,
            "codec": _STRING,
            "damage": _maybe(_STRING, "What is wrong with the file; the part before it is analyzed."),
        }
    ),
    "Result": _object(
        {
            "source": _said(_STRING, "The file's name."),
            "video": _ref("Video"),
            "predictions": _list(
                _ref("Prediction"),
                "The whole video under the checkpoint's test protocol, as `clipwise predict` gives it, best first.",
            ),
            "timeline": _ref("Timeline"),
            "segments": _list(_ref("Segment"), "Sorted by start."),
            "segments_from": {"enum": ["windows", "localizer"]},
            "seconds": _said(_NUMBER, "Time that the analysis took."),
        }
    ),
    "ErrorBody": _object({"code": {"enum": list(CODES)}, "message": _STRING}),
    "Error": _object({"error": _ref("ErrorBody")}, text="Every refusal has this form."),
    "Failed": _object({"source": _STRING, "error": _ref("ErrorBody")}, text="A video of several that failed."),
    "Results": _object({"results": _list({"anyOf": [_ref("Result"), _ref("Failed")]}, "In the order of the upload.")}),
    "Job": _object(
        {
            "id": _STRING,
            "state": {"enum": ["queued", "running", "done", "failed", "cancelled"]},
            "progress": {"type": "number", "minimum": 0, "maximum": 1},
            "sources": _list(_STRING),
            "results": _list({"anyOf": [_ref("Result"), _ref("Failed")]}, "There when the job is over."),
        },
        optional=("results",),
    ),
    "Urls": {
        "oneOf": [
            _object({"url": {"type": "string", "format": "uri"}}),
            _object({"urls": _list({"type": "string", "format": "uri"})}),
        ]
    },
    "Model": _object(
        {
            "name": _STRING,
            "model": _STRING,
            "classes": _maybe(_list(_STRING)),
            "protocol": {"type": "object", "description": "How clips are cut for the whole-video prediction."},
            "metrics": {"type": "object", "description": "What was measured on the checkpoint's validation videos."},
            "versions": {"type": "object"},
            "limits": {
                "type": "object",
                "description": "What the server lets in; names as in `clipwise serve --help`.",
            },
            "localizer": _said(_BOOL, "Segments come from a localization network."),
            "urls": _said(_BOOL, "Addresses are fetched."),
        }
    ),
    "Health": _object({"status": {"enum": ["ok", "failing"]}, "queue_length": _INT}),
}


def _answer(text: str, schema: str = "", media: str = "application/json") -> dict[str, Any]:
    content = {media: {"schema": _ref(schema) if schema else _STRING}}
    return {"description": text, "content": content}


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _errors(*codes: str) -> dict[str, Any]:
    """Answers for codes, grouped by status."""
    grouped: dict[str, list[str]] = {}
    for code in codes:
        status, meaning = CODES[code]
        grouped.setdefault(str(status), []).append(f"`{code}`: {meaning}")
    answers: dict[str, Any] = {}
    for number, texts in sorted(grouped.items()):
        answers[number] = _answer("; ".join(texts), "Error")
        if number in ("429", "503"):
            answers[number]["headers"] = {"Retry-After": {"schema": _INT, "description": "Seconds to wait."}}
    return answers


_FILE = {"type": "string", "format": "binary"}
_JOB_ID = {"name": "id", "in": "path", "required": True, "schema": _STRING}


def openapi_document(allow_urls: bool) -> dict[str, Any]:
    """The document; the body ``{"url": …}`` is in it only where addresses are fetched."""
    upload: dict[str, Any] = {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"file": _list(_FILE)}, "required": ["file"]},
        },
        "application/octet-stream": {"schema": _FILE},
        "video/*": {"schema": _FILE},
    }
    if allow_urls:
        upload["application/json"] = {"schema": _ref("Urls")}
    refusals = tuple(
        code for code in CODES if code not in ("unknown_job", "not_ready", "not_found", "method_not_allowed")
    )
    predict = {
        "operationId": "predict",
        "summary": "Analyze one or several videos",
        "description": (
            "Send a form with one or several files, or a file itself as the body. With one file an error is the answer's status; "
            "with several, each has its own result or error."
        ),
        "parameters": [
            _query("topk", {"type": "integer", "minimum": 1, "maximum": 100, "default": 5}, "Classes to give."),
            _query(
                "window_s", {"type": "number", "minimum": 0.05, "maximum": 600}, "Length of the timeline's windows."
            ),
            _query(
                "stride_s",
                {"type": "number", "minimum": 0.02, "maximum": 600},
                "From one window to the next; half a window if not given.",
            ),
            _query("threshold", {"type": "number", "minimum": 0, "maximum": 1}, "Score at which a segment begins."),
            _query("async", {"enum": ["0", "1"], "default": "0"}, "1: answer at once with a job to ask for."),
            _query(
                "format", {"enum": ["json", "srt"], "default": "json"}, "srt: the first video's segments as subtitles."
            ),
            _query("name", _STRING, "Name of the file where the body is the file itself."),
        ],
        "requestBody": {"required": True, "content": upload},
        "responses": {
            "200": {
                "description": "Analyzed.",
                "content": {
                    "application/json": {"schema": _ref("Results")},
                    "application/x-subrip": {"schema": _STRING},
                },
            },
            "202": _answer("Accepted (async=1); Location names the job.", "Job"),
            **_errors(*refusals),
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "clipwise",
            "version": clipwise.__version__,
            "description": "Recognize what happens in a video, and when. Scores lie between 0 and 1, times are seconds.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/predict": {"post": predict},
            "/v1/jobs/{id}": {
                "get": {
                    "operationId": "getJob",
                    "summary": "How far a job is, and its results",
                    "parameters": [_JOB_ID],
                    "responses": {"200": _answer("The job.", "Job"), **_errors("unknown_job")},
                },
                "delete": {
                    "operationId": "cancelJob",
                    "summary": "Stop a job and forget it",
                    "parameters": [_JOB_ID],
                    "responses": {"204": {"description": "Stopped."}, **_errors("unknown_job", "cross_origin")},
                },
            },
            "/v1/jobs/{id}/segments.srt": {
                "get": {
                    "operationId": "getSegments",
                    "summary": "A finished job's segments as subtitles",
                    "parameters": [_JOB_ID, _query("item", _INT, "Which of the job's videos, from 0.")],
                    "responses": {
                        "200": _answer("Subtitles.", media="application/x-subrip"),
                        **_errors("unknown_job", "not_ready", "not_found", "not_a_video"),
                    },
                }
            },
            "/v1/model": {
                "get": {
                    "operationId": "getModel",
                    "summary": "The model's passport: classes, protocol, limits",
                    "responses": {"200": _answer("The model.", "Model")},
                }
            },
            "/healthz": {
                "get": {
                    "operationId": "health",
                    "summary": "Whether the server works",
                    "responses": {"200": _answer("It works.", "Health"), "503": _answer("It does not.", "Health")},
                }
            },
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Counters for Prometheus",
                    "responses": {"200": _answer("Text format 0.0.4.", media="text/plain")},
                }
            },
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document",
                    "responses": {
                        "200": {
                            "description": "OpenAPI 3.1.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        }
                    },
                }
            },
        },
        "components": {"schemas": SCHEMAS},
    }
