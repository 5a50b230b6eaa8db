"""Run the application with uvicorn on a socket of ours, until Ctrl-C."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from clipwise.errors import ClipwiseError, MissingExtraError
from clipwise.serve.limits import Limits

_MAX_CONNECTIONS = 512


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


def make_server(app: Any, limits: Limits) -> Any:
    """A ``uvicorn.Server``; call ``run(sockets=[…])``.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    try:
        import uvicorn

        from clipwise.serve.protocol import guarded_protocol

        protocol = guarded_protocol(limits.idle_timeout_s)
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
        proxy_headers=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=3,
        limit_concurrency=_MAX_CONNECTIONS,
        h11_max_incomplete_event_size=32768,
    )
    return uvicorn.Server(config)
