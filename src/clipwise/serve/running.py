"""Run the application with uvicorn on a socket of ours, until Ctrl-C."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from clipwise.errors import ClipwiseError, MissingExtraError
from clipwise.serve.limits import Limits


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ClipwiseError: the port is taken, or the address is not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ClipwiseError(f"--host {host}: {error.strerror or error}. 127.0.0.1 is this machine alone.") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise ClipwiseError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port; 0 takes a free one."
        ) from None
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_proxies(proxies: Sequence[str]) -> list[str]:
    """IP addresses and networks of proxies, checked.

    Raises:
        ClipwiseError: something else; a name would have to be resolved, and may change.
    """
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise ClipwiseError(
                f"--trusted-proxy {proxy}: give the proxy's IP address (10.0.0.5) or its network (10.0.0.0/24)."
            ) from None
    return list(proxies)


def make_server(app: Any, limits: Limits, trusted_proxies: Sequence[str] = ()) -> Any:
    """A ``uvicorn.Server``; call ``run(sockets=[…])``.

    Args:
        trusted_proxies: addresses and networks whose ``X-Forwarded-For`` says who the client is. From anyone else
            that header is ignored: a client could give itself a new address with every request.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    try:
        import uvicorn

        protocol = _guarded_protocol(limits.idle_timeout_s)
    except ImportError as error:
        raise MissingExtraError(error.name or "uvicorn", "serve", "clipwise serve") from None
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=check_proxies(trusted_proxies),
        timeout_keep_alive=10,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=32768,
    )
    return uvicorn.Server(config)


def _guarded_protocol(head_timeout_s: float) -> type[asyncio.Protocol]:
    """uvicorn's connection with a clock on the request's head: one that is silent, or drips, is closed."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class GuardedProtocol(H11Protocol):
        """Closes a connection whose next request has begun, or never begins, and whose head is not complete in time."""

        head_clock: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._set_clock()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # IDLE: the head of a request is expected. The clock is not wound again by each byte that drips in.
            if self.conn.their_state is not h11.IDLE:
                self._stop_clock()
            elif self.head_clock is None:
                self._set_clock()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_clock()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            """In the form of every refusal; uvicorn's own is plain text."""
            body = b'{"error":{"code":"bad_request","message":"this is not a valid HTTP request."}}'
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ]
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
            self.transport.close()

        def _set_clock(self) -> None:
            self.head_clock = self.loop.call_later(head_timeout_s, self._late)

        def _stop_clock(self) -> None:
            if self.head_clock is not None:
                self.head_clock.cancel()
                self.head_clock = None

        def _late(self) -> None:
            self.head_clock = None
            if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
                return
            body = b'{"error":{"code":"too_slow","message":"the head of the request did not come in time."}}'
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
            )
            self.transport.close()

    return GuardedProtocol
