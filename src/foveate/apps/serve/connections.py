"""The connections of a server: clients that send nothing, or too slowly, lose theirs and leave room for others."""

import asyncio
import sys
from collections import Counter
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # from the connection, or from the last response, to the end of a request's headers
WRITE_SECONDS = 60.0  # for which a client may read nothing of its response
MAX_CONNECTIONS = 1000
AT_ONCE = 8  # connections that asyncio accepts in one turn of its loop
RESERVED = 64 + 3 * AT_ONCE  # file descriptors of the process itself, and of three turns until one too many is closed
PIECE, CHUNK = 4096, 128  # bytes that are read at a time, and of a body's chunks on average: each of them takes time
SMALL_CHUNKS = f"The chunks of the body have less than {CHUNK} bytes: send larger ones, or a Content-Length."


def limit_connections() -> int:
    """How many connections are open at most, within the limit of the process on file descriptors."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_CONNECTIONS if files < 0 else min(MAX_CONNECTIONS, max(files - RESERVED, 16))


class GuardedProtocol(H11Protocol):
    """uvicorn's connection, with time limits for headers and for clients that read no response.

    uvicorn itself only limits how long a connection is idle after a response.
    """

    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    since = 0.0  # when the server began to wait for the client's headers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for headers, and close another connection if there are too many."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._wait_for_headers()
        make_room([one for one in self.connections if isinstance(one, GuardedProtocol)], limit_connections())

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        super().connection_lost(exc)
        _cancel(self._header_timer)
        _cancel(self._write_timer)

    def data_received(self, data: bytes) -> None:
        """Read in pieces what is not plain, and stop waiting once the headers are complete."""
        while data and not self.transport.is_closing():
            is_plain = self.conn.their_state is h11.SEND_BODY and not self.has_chunks
            size = len(data) if is_plain else PIECE
            self._read_piece(data[:size])
            data = data[size:]
        if not self.awaits_headers:
            _cancel(self._header_timer)

    def on_response_complete(self) -> None:
        """Wait for the next headers, or for the rest of a body that was refused."""
        super().on_response_complete()
        if self.awaits_headers:
            self._wait_for_headers()

    def pause_writing(self) -> None:
        """Limit how long the client reads nothing."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        _cancel(self._write_timer)

    @property
    def awaits_headers(self) -> bool:
        """Whether no request is open."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def awaits_client(self) -> bool:
        """Whether it is the client's turn: it owes headers or a body."""
        return self.awaits_headers or self.conn.their_state is h11.SEND_BODY

    @property
    def has_chunks(self) -> bool:
        """Whether a body arrives in chunks."""
        coded = any(name == b"transfer-encoding" for name, _ in self.headers or ())
        return coded and self.conn.their_state is h11.SEND_BODY

    def _read_piece(self, piece: bytes) -> None:
        """Refuse a body whose chunks are small, by what is left of a piece without their headings."""
        cycle, may_refuse = self.cycle, self.has_chunks and len(piece) == PIECE
        before = len(cycle.body) if may_refuse else 0
        super().data_received(piece)
        if not may_refuse or cycle is not self.cycle or self.conn.their_state is not h11.SEND_BODY:
            return  # the body ended in this piece: what follows is the next request
        if cycle.response_complete:  # what follows a refusal is not kept, so its ends of lines tell
            if piece.count(b"\r\n") * CHUNK > 2 * PIECE:
                self.abort()
        elif (PIECE - (len(cycle.body) - before)) * CHUNK > 6 * PIECE:  # an end of line, a length, an end of line
            self._refuse(SMALL_CHUNKS)

    def _refuse(self, text: str) -> None:
        if self.conn.our_state is h11.SEND_RESPONSE:
            self.send_400_response(text)
        else:
            self.abort()
        self.cycle.disconnected = True
        self.cycle.message_event.set()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _wait_for_headers(self) -> None:
        _cancel(self._header_timer)
        self.since = self.loop.time()
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self.abort)


def make_room(connections: list[GuardedProtocol], limit: int) -> None:
    """If there are more than `limit` connections, close one that waits for its client, of the address with the most.

    The oldest one is closed, so that a client which sends its request at once is served.
    """
    still_open = [one for one in connections if not one.transport.is_closing()]
    if len(still_open) <= limit:
        return
    counts = Counter(_address(one) for one in still_open)
    waiting = [one for one in still_open if one.awaits_client]
    max(waiting or still_open, key=lambda one: (counts[_address(one)], -one.since)).abort()


def _address(connection: GuardedProtocol) -> str:
    return connection.client[0] if connection.client else ""


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
