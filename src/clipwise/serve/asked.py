"""What a request asks for: options in its address, addresses of videos in its body."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from clipwise.serve.analysis import Options
from clipwise.serve.api_errors import ApiError
from clipwise.serve.fetch import check_url
from clipwise.serve.limits import Limits

_QUERY = {"topk", "window_s", "stride_s", "threshold", "async", "format", "name"}


def read_options(query: Mapping[str, str], threshold: float) -> tuple[Options, bool, str]:
    """Options of the analysis, whether the client waits for it, and the form of the answer (json or srt).

    Raises:
        ApiError: an unknown option, or a value that is not allowed.
    """
    if unknown := sorted(set(query) - _QUERY):
        raise ApiError("bad_request", f"unknown option {unknown[0][:60]!r}; there are {', '.join(sorted(_QUERY))}.")
    options = Options(
        topk=int(_number(query, "topk", 5, 1, 100, whole=True)),
        window_s=_number(query, "window_s", None, 0.05, 600),
        stride_s=_number(query, "stride_s", None, 0.02, 600),
        threshold=_number(query, "threshold", threshold, 0.0, 1.0),
    )
    form, later = query.get("format", "json"), query.get("async", "0")
    if form not in ("json", "srt") or later not in ("0", "1"):
        raise ApiError("bad_request", "format is json or srt, async is 0 or 1.")
    return options, later == "0", form


async def read_urls(request: Request, limits: Limits, *, allowed: bool, allow_private: bool) -> list[str]:
    """The addresses of a JSON body, each checked.

    Raises:
        ApiError: not that JSON, too many, or addresses that the server does not fetch.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 65536:
            raise ApiError("too_large", "the JSON is longer than 64 kB.", headers={"Connection": "close"})
    if not allowed:
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
    if len(urls) > limits.max_files:
        raise ApiError("too_many_files", f"at most {limits.max_files} addresses are taken in a request.")
    for url in urls:
        await asyncio.to_thread(check_url, url, allow_private=allow_private)
    return urls


def _number(query: Mapping[str, str], name: str, default: Any, low: float, high: float, whole: bool = False) -> Any:
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
