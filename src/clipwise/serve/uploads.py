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
from typing import Any, BinaryIO

from starlette.requests import ClientDisconnect, Request

from clipwise.serve.api_errors import ApiError
from clipwise.serve.limits import Limits

_MAX_PART_HEAD = 8192


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
                f"the upload stood still for {limits.idle_timeout_s:g} s, or took longer than {limits.upload_timeout_s:g} s in all.",
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
            raise ApiError("disk_full", "the server has no room for this upload at the moment.") from error
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
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary")
    if not boundary:
        raise ApiError("bad_request", "the content type multipart/form-data has no boundary.")
    form = _Form(folder, limits, parse_options_header)
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        async for chunk in body_of(request, limits):
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise ApiError("bad_request", f"the form is broken: {error}") from None
    finally:
        form.close()
    if not form.complete:
        raise ApiError("bad_request", "the form ends in the middle of a part; the upload was cut off.")
    return form.uploads


class _Form:
    """Receives the events of a multipart parser; every part with a file name becomes a file."""

    def __init__(self, folder: Path, limits: Limits, parse_options: Any):
        self.folder, self.limits, self.parse_options = folder, limits, parse_options
        self.uploads: list[Upload] = []
        self.complete = False
        self._file: BinaryIO | None = None
        self._field, self._value, self._disposition, self._head_size = b"", b"", b"", 0

    def callbacks(self) -> dict[str, Any]:
        names = "part_begin part_data part_end header_field header_value header_end headers_finished end"
        return {f"on_{name}": getattr(self, f"on_{name}") for name in names.split()}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def on_part_begin(self) -> None:
        self._field, self._value, self._disposition, self._head_size = b"", b"", b"", 0

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(end - start)
        self._value += data[start:end]

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > _MAX_PART_HEAD:
            raise ApiError("bad_request", "a part of the form has a header that is too long.")

    def on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def on_headers_finished(self) -> None:
        _, options = self.parse_options(self._disposition)
        if b"filename" not in options:
            field = options.get(b"name", b"").decode("utf-8", "replace")
            raise ApiError(
                "bad_request",
                f"the form has a field {field[:60]!r} that is not a file; options go into the address (?topk=3).",
            )
        if len(self.uploads) == self.limits.max_files:
            raise ApiError("too_many_files", f"at most {self.limits.max_files} files are taken in a request.")
        self._file, path = _new_file(self.folder)
        self.uploads.append(Upload(path, display_name(options[b"filename"].decode("utf-8", "replace"))))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._file.write(data[start:end])
        self.uploads[-1].size += end - start

    def on_part_end(self) -> None:
        self.close()

    def on_end(self) -> None:
        self.complete = True
