"""Fetch a video from a client's URL without giving the client access to the local network (SSRF)."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from clipwise.serve.api_errors import ApiError
from clipwise.serve.limits import Limits

_MAX_REDIRECTS = 3
_CHUNK = 2**16


def fetch_url(
    url: str, path: Path, limits: Limits, *, allow_private: bool = False, cancelled: threading.Event | None = None
) -> int:
    """Download an http(s) address into a file; returns its size.

    Each address, those of redirects included, is resolved once, every resolved number is checked, and the connection
    goes to the checked number, so that a name that changes its number in between gains nothing. Proxies of the
    environment are not used.

    Raises:
        ApiError: url_refused, url_failed, too_large, too_slow.
    """
    until = time.monotonic() + limits.upload_timeout_s
    for _ in range(_MAX_REDIRECTS + 1):
        parts, number = check_url(url, allow_private=allow_private)
        connection = _connect(parts, number, limits, until)
        # A server that sends a byte now and then never runs into the socket's own timeout.
        clock = threading.Timer(max(0.1, until - time.monotonic()), _hang_up, (connection.sock,))
        clock.daemon = True
        clock.start()
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            host = parts.hostname or ""
            host = f"[{host}]" if ":" in host else host
            host += f":{parts.port}" if parts.port else ""
            connection.request(
                "GET",
                target,
                headers={"Host": host, "User-Agent": "clipwise", "Accept": "*/*", "Accept-Encoding": "identity"},
            )
            answer = connection.getresponse()
            if answer.status in (301, 302, 303, 307, 308):
                url = urljoin(url, answer.getheader("Location") or "")
                continue
            if answer.status != 200:
                raise ApiError("url_failed", f"the URL answered {answer.status} {answer.reason}.")
            return _save(answer, path, limits, until, cancelled)
        except (OSError, http.client.HTTPException) as error:
            raise ApiError("url_failed", f"the URL could not be fetched ({type(error).__name__}).") from error
        finally:
            clock.cancel()
            connection.close()
    raise ApiError("url_failed", f"the URL redirects more than {_MAX_REDIRECTS} times.")


def check_url(url: str, *, allow_private: bool = False) -> tuple[SplitResult, str]:
    """The parts of an address and the number to connect to.

    Raises:
        ApiError: not http(s), a name and password inside, unknown host, or a number that is not public.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ApiError("url_refused", "the URL is malformed.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ApiError("url_refused", "only http:// and https:// URLs are fetched.")
    if parts.username is not None or parts.password is not None:
        raise ApiError("url_refused", "URLs with a user name or password are not fetched.")
    if any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise ApiError("url_refused", "the URL contains spaces or control characters.")
    try:
        found = socket.getaddrinfo(parts.hostname, port or 80, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ApiError("url_failed", "unknown host.") from None
    numbers = [str(entry[4][0]) for entry in found]
    if not allow_private and not all(is_public(number) for number in numbers):
        raise ApiError(
            "url_refused", "the URL leads to a private or local network (allowed with --allow-private-urls)."
        )
    return parts, numbers[0]


def is_public(number: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Of IPv6 only what IANA hands out as global unicast counts, and what carries a public IPv4 address. Python's own
    ``is_global`` also lets through site-local addresses (fec0::/10) and IPv4-compatible ones (::a.b.c.d).
    """
    address = ipaddress.ip_address(number.split("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            address = inner
        elif address not in _GLOBAL_UNICAST or address in _DOCUMENTATION:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")  # of RFC 9637; Python 3.11 does not know it


def _connect(parts: SplitResult, number: str, limits: Limits, until: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        plain = socket.create_connection(
            (number, port), timeout=min(limits.idle_timeout_s, max(0.1, until - time.monotonic()))
        )
        if secure:
            plain = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except OSError as error:
        raise ApiError("url_failed", f"the URL could not be reached ({type(error).__name__}).") from error
    connection = http.client.HTTPConnection(host, port)
    connection.sock = plain
    return connection


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _save(
    answer: http.client.HTTPResponse, path: Path, limits: Limits, until: float, cancelled: threading.Event | None
) -> int:
    size = 0
    with open(path, "wb") as file:
        while chunk := answer.read1(_CHUNK):
            size += len(chunk)
            if size > limits.max_upload_bytes:
                raise ApiError("too_large", f"the URL returns more than {limits.max_upload_mb:g} MB.")
            if time.monotonic() > until or (cancelled is not None and cancelled.is_set()):
                break
            file.write(chunk)
    if time.monotonic() > until or (cancelled is not None and cancelled.is_set()):
        raise ApiError("too_slow", f"fetching the URL took longer than {limits.upload_timeout_s:g} s.")
    if answer.length:
        raise ApiError("url_failed", "the connection ended before the file did.")
    return size
