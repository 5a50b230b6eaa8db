"""Every way in which a request can be refused: one table of codes, statuses and what they mean."""

from __future__ import annotations

from typing import Any

# code -> (HTTP status, meaning). The page translates the codes; the OpenAPI document lists them.
CODES: dict[str, tuple[int, str]] = {
    "bad_request": (400, "the request is malformed, or an option is not allowed"),
    "bad_host": (421, "the Host header names another machine"),
    "cross_origin": (403, "a page of another site sent the request"),
    "not_found": (404, "no such address"),
    "unknown_job": (404, "no such job, or its result has expired"),
    "not_ready": (409, "the job has not finished"),
    "method_not_allowed": (405, "the address does not accept that method"),
    "too_slow": (408, "the request's body came too slowly or never ended"),
    "too_large": (413, "the upload is larger than allowed"),
    "too_many_files": (413, "more files in a request than allowed"),
    "too_many_pixels": (413, "the frames are larger than allowed"),
    "too_many_frames": (413, "more frames than allowed"),
    "too_long": (413, "the video is longer than allowed"),
    "unsupported_type": (415, "a content type or a container that is not accepted"),
    "not_a_video": (422, "the file is not a video, or is damaged"),
    "decode_timeout": (422, "decoding took too long"),
    "decode_memory": (422, "decoding would take too much memory"),
    "decode_crash": (422, "the decoder crashed on this file"),
    "urls_off": (403, "the server does not fetch URLs"),
    "url_refused": (403, "the server does not fetch this URL"),
    "url_failed": (502, "the URL could not be fetched"),
    "too_many_requests": (429, "too many videos of this client at once"),
    "queue_full": (503, "too many videos in the queue"),
    "shutting_down": (503, "the server is shutting down"),
    "disk_full": (507, "the server has no room for the upload"),
    "timeout": (504, "the video took longer than allowed"),
    "cancelled": (410, "the job was cancelled"),
    "internal": (500, "internal error; the log has the traceback"),
}


class ApiError(Exception):
    """A refusal: ``code`` of :data:`CODES`, a sentence for a person, and headers such as Retry-After."""

    def __init__(self, code: str, message: str, *, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.code, self.message, self.headers = code, message, headers or {}
        self.status = CODES[code][0]

    def to_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message}
