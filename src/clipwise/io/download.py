"""Download a file once: resumable, checked, safe against two processes, with mirrors.

A file is written under a temporary name and moved into place when its checksum is right, so what stands in the
cache is whole. A connection that breaks is taken up where it broke, also by a later run.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import clipwise
from clipwise.errors import CheckpointError
from clipwise.io.progress import Progress, ProgressBar

CHUNK = 1 << 20
ATTEMPTS = 6
"""Tries on one address; a try that brought new bytes does not count."""


def cache_folder() -> Path:
    """``$CLIPWISE_CACHE``, or ``clipwise`` in ``$XDG_CACHE_HOME``, or ``~/.cache/clipwise``."""
    own = os.environ.get("CLIPWISE_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "clipwise"


def addresses(url: str) -> list[str]:
    """Where to look for a file: the mirrors in ``$CLIPWISE_MIRROR`` (separated by commas) first, then its own address.

    A mirror is an address or a folder; the file is looked for under the path of its address there, then under its bare name.
    """
    path = urllib.parse.urlparse(url).path.lstrip("/")
    found = []
    for mirror in filter(None, (m.strip() for m in os.environ.get("CLIPWISE_MIRROR", "").split(","))):
        base = mirror if "://" in mirror else Path(mirror).expanduser().resolve().as_uri()
        found += [f"{base.rstrip('/')}/{path}", f"{base.rstrip('/')}/{path.rsplit('/', 1)[-1]}"]
    return [*dict.fromkeys([*found, url])]


def download(url: str, target: Path, sha256: str, progress: Progress | None = None) -> Path:
    """Fetch a file unless it is there already.

    Args:
        url: its published address.
        target: where it shall lie.
        sha256: the beginning of its checksum, in hexadecimal digits.
        progress: counts bytes; a bar or lines on stderr if not given.

    Returns:
        ``target``.

    Raises:
        CheckpointError: it cannot be downloaded, or another file was received. The message says what to put where by hand.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(target.name + ".lock")):
        if target.exists():
            if _checksum(target).startswith(sha256):
                return target
            raise CheckpointError(
                f"{target} is not the published file: its SHA-256 begins with {_checksum(target)[: len(sha256)]}, not {sha256}. "
                "Delete it to download it again."
            )
        problems = []
        report = progress or ProgressBar(target.name, unit=("MB", 1e6))
        for address in addresses(url):
            try:
                _fetch(address, target, sha256, report)
                return target
            except (urllib.error.URLError, OSError, http.client.HTTPException, _WrongFileError) as error:
                if not isinstance(error, urllib.error.URLError) and getattr(error, "filename", None):
                    raise  # the cache can't be written: no mirror will help
                problems.append(f"{address}: {_reason(error)}")
    listed = "\n  ".join(problems)
    raise CheckpointError(
        f"{target.name} could not be downloaded:\n  {listed}\n"
        f"Without a network, fetch {url} elsewhere and put it at {target}, "
        "or set CLIPWISE_MIRROR to a folder or an address that has it."
    )


class _WrongFileError(Exception):
    """A whole file came, but not the right one."""


def _fetch(url: str, target: Path, sha256: str, progress: Progress) -> None:
    part = target.with_name(target.name + ".part")
    if urllib.parse.urlparse(url).scheme not in ("http", "https", "file"):
        raise _WrongFileError("only http, https and file addresses are read")
    fresh = not part.exists()
    tries = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            complete = _read_on(url, part, progress)
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:  # what lies there is longer than the file
                part.unlink()
                fresh = True
                continue
            if error.code < 500 and error.code not in (408, 429):
                raise
            complete = False
            failure: Exception = error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            complete = False
            failure = error
        else:
            failure = ConnectionError("the connection broke")
        if complete:
            digest = _checksum(part)
            if digest.startswith(sha256):
                os.replace(part, target)
                return
            part.unlink()
            if fresh:
                raise _WrongFileError(f"its SHA-256 begins with {digest[: len(sha256)]}, not {sha256}: another file")
            fresh = True  # the part of an earlier run was another file's; once more from the beginning
            continue
        after = part.stat().st_size if part.exists() else 0
        tries = 0 if after > before else tries + 1
        unreachable = isinstance(failure, urllib.error.URLError) and not isinstance(failure, urllib.error.HTTPError)
        if tries >= (2 if unreachable and not after else ATTEMPTS):
            raise failure
        time.sleep(min(0.2 * 2**tries, 10))


def _read_on(url: str, part: Path, progress: Progress) -> bool:
    """Append what is missing to ``part``; True if the file is whole."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": f"clipwise/{clipwise.__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.build_opener(_HttpRedirects).open(request, timeout=30) as response:
        resumed = response.status == 206 and _range_start(response.headers) == have
        if have and not resumed:  # the server gives the whole file
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress(have, total, "")
    return total is None or have == total


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects to http and https only; urllib's own handler follows ftp as well."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        scheme = urllib.parse.urlparse(newurl).scheme
        if scheme not in ("http", "https"):
            raise _WrongFileError(f"it redirects to a {scheme} address; only http and https are followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _range_start(headers) -> int | None:
    span = headers.get("Content-Range", "")
    digits = span.removeprefix("bytes").strip().partition("-")[0]
    return int(digits) if digits.isdigit() else None


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server says {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return str(error) or type(error).__name__


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out while the block runs (where the system has file locks)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: two processes may download the same file, and the later one replaces the earlier's
        yield
        return
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
