"""Bodies of requests, onto the disk: as they come, never more than allowed, never slower than allowed."""

from __future__ import annotations

import asyncio
import errno
import re
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastapi.requests import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from clipwise.serve.api_errors import ApiError
from clipwise.serve.fetch import check_url
from clipwise.serve.limits import Limits
from clipwise.serve.schemas import Urls

_MAX_PART_HEAD = 8192
_MAX_JSON = 65536


@dataclass
class Upload:
    """A file of a request: where it lies, and what its sender calls it (for showing only, never for a path)."""

    path: Path
    name: str
    size: int = 0


def display_name(name: str) -> str:
    """A stranger's file name, fit to be shown: its last part, without control characters, not too long."""
    name = re.split(r"[/\\]", name)[-1]
    name = "".join(c for c in name if c.isprintable()).strip().lstrip(".")
    return name[:120] or "video"


async def body_of(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """Chunks of a request's body.

    Raises:
        ApiError: too_large as soon as that is known, too_slow.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.max_upload_bytes:
        await _drain(request, limits)
        raise _too_large(limits)
    until = time.monotonic() + limits.upload_timeout_s
    seen = 0
    chunks = request.stream().__aiter__()
    while True:
        patience = min(limits.idle_timeout_s, until - time.monotonic())
        try:
            chunk = await asyncio.wait_for(chunks.__anext__(), max(0.0, patience))
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ApiError(
                "too_slow",
                f"no data for {limits.idle_timeout_s:g} s, or the upload took longer than {limits.upload_timeout_s:g} s in all.",
                headers={"Connection": "close"},
            ) from None
        seen += len(chunk)
        if seen > limits.max_upload_bytes:
            await _drain(request, limits)
            raise _too_large(limits)
        yield chunk


def _too_large(limits: Limits) -> ApiError:
    return ApiError(
        "too_large",
        f"the upload is larger than {limits.max_upload_mb:g} MB. Send a shorter or smaller video.",
        headers={"Connection": "close"},
    )


async def _drain(request: Request, limits: Limits, seconds: float = 1.0) -> None:
    """Read on for a moment: a client that is still writing would otherwise see a reset instead of the answer."""
    until, seen = time.monotonic() + seconds, 0
    try:
        while seen < 64 * 2**20:
            message = await asyncio.wait_for(request.receive(), max(0.0, until - time.monotonic()))
            seen += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                return
    except TimeoutError:
        return


async def receive_files(request: Request, folder: Path, limits: Limits) -> list[Upload]:
    """Write a request's files (multipart parts with a file name, or the body itself) into a folder.

    Raises:
        ApiError: over a limit, empty, not understood, or no room on the disk.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            uploads = await _receive_multipart(request, folder, limits)
        else:
            uploads = [await _receive_raw(request, folder, limits)]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ApiError("disk_full", "the server has no disk space for this upload.") from error
        raise
    except ClientDisconnect:
        raise ApiError("too_slow", "the connection ended before the upload did.") from None
    if not uploads:
        raise ApiError("bad_request", "the form has no file; send the video as a part with a file name.")
    for upload in uploads:
        if not upload.size:
            raise ApiError("bad_request", f"{upload.name} is empty (0 bytes).")
    return uploads


def _new_file(folder: Path) -> tuple[BinaryIO, Path]:
    handle = tempfile.NamedTemporaryFile(dir=folder, prefix="upload-", suffix=".bin", delete=False)  # noqa: SIM115
    return handle, Path(handle.name)  # type: ignore[return-value]


async def _receive_raw(request: Request, folder: Path, limits: Limits) -> Upload:
    name = request.query_params.get("name") or "video"
    file, path = _new_file(folder)
    upload = Upload(path, display_name(name))
    with file:
        async for chunk in body_of(request, limits):
            file.write(chunk)
            upload.size += len(chunk)
    return upload


async def _receive_multipart(request: Request, folder: Path, limits: Limits) -> list[Upload]:
    _, options = parse_options_header(request.headers["content-type"])
    uploads: list[Upload] = []
    file: BinaryIO | None = None
    try:
        parser = PushMultipartParser(options.get("boundary", ""), max_header_size=_MAX_PART_HEAD)
        async for chunk in body_of(request, limits):
            for event in parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    file, upload = _new_part(event, folder, limits, len(uploads))
                    uploads.append(upload)
                elif event is None and file is not None:
                    file.close()
                elif event and file is not None:
                    file.write(event)
                    uploads[-1].size += len(event)
        parser.close()
    except MultipartError as error:
        text = "it ends in the middle of a part; the upload was cut off" if uploads else str(error)
        raise ApiError("bad_request", f"the form is broken: {text}.") from None
    finally:
        if file is not None:
            file.close()
    return uploads


def _new_part(part: MultipartSegment, folder: Path, limits: Limits, before: int) -> tuple[BinaryIO, Upload]:
    if part.filename is None:
        raise ApiError(
            "bad_request",
            f"the form has a field {(part.name or '')[:60]!r} that is not a file; options go into the address (?topk=3).",
        )
    if before == limits.max_files:
        raise ApiError("too_many_files", f"at most {limits.max_files} files are allowed in a request.")
    file, path = _new_file(folder)
    return file, Upload(path, display_name(part.filename))


async def receive_urls(request: Request, limits: Limits, *, allow_private: bool) -> list[str]:
    """The URLs of a JSON body, each checked.

    Raises:
        ApiError: not that JSON, too many, or URLs that the server does not fetch.
    """
    body = b""
    async for chunk in body_of(request, limits):
        body += chunk
        if len(body) > _MAX_JSON:
            raise ApiError("too_large", "the JSON is longer than 64 kB.", headers={"Connection": "close"})
    try:
        urls = Urls.validate_json(body).addresses
    except ValidationError:
        raise ApiError("bad_request", 'the JSON must be {"url": "https://…"} or {"urls": ["https://…", …]}.') from None
    if len(urls) > limits.max_files:
        raise ApiError("too_many_files", f"at most {limits.max_files} URLs are allowed in a request.")
    for url in urls:
        await asyncio.to_thread(check_url, url, allow_private=allow_private)
    return urls
