"""Checkpoints on the Hugging Face Hub: ``hf://org/name``, ``hf://org/name@revision``, ``hf://org/name/best.safetensors``.

The hub's own library keeps what was downloaded (``$HF_HOME``), finds tokens (``hf auth login``, ``$HF_TOKEN``), and honors
``$HF_ENDPOINT`` and ``$HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipwise.errors import GIVEN_AS, CheckpointError, WorkError
from clipwise.io.plugins import is_foreign

PREFIX = "hf://"
WEIGHTS = "model.safetensors"
_NAMED = re.compile(r"(--?[\w-]+=|[\w.]+=)?hf:/(?:/|(?=[\w.-]+/))(.*)")
_SOURCE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^/\s]+(?:/\d+)?))?(?:/(\S+))?")  # refs/pr/1 is written pr/1


@dataclass(frozen=True)
class HubPlace:
    """A repository of the hub, and perhaps a file in it.

    Attributes:
        repo: ``org/name``.
        revision: branch, tag or commit; None for the main branch.
        file: a path in it; None for the weights by their usual name.
    """

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        return (
            f"{PREFIX}{self.repo}{'@' + self.revision if self.revision else ''}{'/' + self.file if self.file else ''}"
        )


def hub_place(source: str) -> HubPlace:
    """What an ``hf://`` source names.

    Raises:
        CheckpointError: it does not have that form.
    """
    match = _SOURCE.fullmatch(source)
    if match is None or ".." in source:
        raise CheckpointError(
            f"{source!r} is not a place on the hub; the form is hf://org/name, hf://org/name@revision, hf://org/name/file."
        )
    return HubPlace(*match.groups())


def fetch(source: str) -> Path:
    """The local copy of a file on the hub, downloaded unless this revision of it is in the hub's cache.

    Args:
        source: see the module.

    Raises:
        CheckpointError: no such repository, revision or file, no permission, or not reachable and not in the cache.
    """
    from huggingface_hub import hf_hub_download

    place, endpoint = hub_place(source), os.environ.get("HF_ENDPOINT")
    began = time.time()
    with said(place):
        path = hf_hub_download(
            place.repo,
            place.file or WEIGHTS,
            revision=place.revision,
            endpoint=endpoint,
            local_files_only=not is_reachable(endpoint),
        )
        if os.stat(path).st_mtime >= began - 2:  # downloaded now
            _check_download(Path(path), place)
    GIVEN_AS[path] = source
    return Path(path)


def _check_download(path: Path, place: HubPlace) -> None:
    """Look at what was downloaded; what is not the announced file does not stay in the cache.

    Raises:
        WorkError: its checksum is another one, or it is no file of weights but, say, a page that asks for a login.
    """
    blob = path.resolve()  # large files have their checksum as a name in the cache
    problem = ""
    if re.fullmatch("[0-9a-f]{64}", blob.name):
        with open(blob, "rb") as file:
            wrong = hashlib.file_digest(file, "sha256").hexdigest() != blob.name
        problem = "its SHA-256 is not the one that was announced" if wrong else ""
    with open(blob, "rb") as file:
        head = file.read(512)
    if not problem and path.suffix == ".safetensors" and head[8:9] != b"{":  # after the length of its header
        problem = "it is a web page" if head.lstrip()[:1] == b"<" else "it is no safetensors file"
    if problem:
        for name in {path, blob}:
            name.unlink(missing_ok=True)
        where = os.environ.get("HF_ENDPOINT") or "huggingface.co"
        raise WorkError(f"{place}: {where} sent another file ({problem}); it was removed from the cache. Try again.")


def is_reachable(endpoint: str | None = None) -> bool:
    """Whether the hub takes a connection; the hub's library tries for half a minute before it looks into its cache."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    address = urlsplit(endpoint or "https://huggingface.co")
    if address.scheme in getproxies() or "all" in getproxies():
        return True  # a proxy knows
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=10).close()
    except OSError:
        return False
    return True


def local_copy(source: Any) -> Any:
    """The one door of ``hf://``: the local copy of a place on the hub; anything else as it was given.

    Args:
        source: what a user names as a checkpoint; a word of a command line, also ``--option=hf://…`` or ``key=hf://…``; a
            ``Path("hf://…")``, which has lost a slash.
    """
    if not isinstance(source, (str, os.PathLike)):
        return source
    text = source if isinstance(source, str) else Path(source).as_posix()
    found = _NAMED.fullmatch(text)
    if found is None or is_foreign(text):
        return source
    path = fetch(PREFIX + found[2])
    return f"{found[1]}{path}" if found[1] else path


@contextmanager
def said(place: HubPlace) -> Iterator[None]:
    """Errors of the hub's library as one sentence of ours.

    Raises:
        CheckpointError: the source is wrong or not allowed.
        WorkError: the network failed.
    """
    from huggingface_hub import errors

    where = os.environ.get("HF_ENDPOINT") or "huggingface.co"
    try:
        yield
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{place}: access must be asked for on {where}/{place.repo}; then log in: hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"{place}: {where} has no {place.repo}, or it is private. Log in for private ones: hf auth login (or set HF_TOKEN)."
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{place}: {place.repo} has no revision {place.revision!r}.") from None
    except errors.LocalEntryNotFoundError as error:
        cause, status = error.__cause__, getattr(getattr(error.__cause__, "response", None), "status_code", None)
        if status or isinstance(cause, errors.FileMetadataError):
            said_by = (
                f"answered {status}"
                if status
                else "gave an answer that is not the hub's (a page that asks for a login?)"
            )
            raise WorkError(f"{place} is not in the hub's cache, and {where} {said_by}.") from None
        raise CheckpointError(
            f"{place} is not in the hub's cache, and {where} was not reached (offline, or HF_HUB_OFFLINE is set)."
        ) from None
    except errors.EntryNotFoundError:
        raise CheckpointError(
            f"{place}: {place.repo} has no file {place.file or WEIGHTS}. Name one: hf://{place.repo}/FILE"
        ) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            raise CheckpointError(
                f"{place}: not allowed by {where} ({status}). Log in with a token that may: hf auth login"
            ) from None
        raise WorkError(f"{place}: {where} answered {status}: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise WorkError(f"{place}: {where} was not reached ({error}).") from None
    except ValueError as error:  # a name that the hub does not allow, metadata that it refuses
        raise CheckpointError(f"{place}: {str(error).splitlines()[0]}") from None
    except Exception as error:
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        raise WorkError(
            f"{place}: the connection to {where} broke ({str(error) or type(error).__name__}). Try again."
        ) from None
