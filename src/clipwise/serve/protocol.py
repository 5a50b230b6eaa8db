"""uvicorn's connection with a clock on the request's head: a connection that says nothing, or drips, is closed."""

from __future__ import annotations

import asyncio
from typing import Any


def guarded_protocol(head_timeout_s: float) -> type[asyncio.Protocol]:
    """A protocol class for ``uvicorn.Config(http=…)``."""
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
