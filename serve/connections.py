"""Connections that bound what clients can hold who say nothing, or read nothing: uvicorn itself waits for them for ever."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None

SILENCE = 10.0  # seconds without a whole head of a request, after which a connection is closed
UNREAD = 60.0  # seconds in which a client takes nothing of an answer, after which its connection is closed
MOST = 256  # connections at a time
BACKLOG = (
    128  # connections that the system keeps for us, all of which may be taken at once; a client beyond waits a second
)


def most_connections() -> int:
    """Connections at a time, of which each is an open file: at most a quarter of those that the process may have."""
    return MOST if resource is None else min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


class Connection(H11Protocol):
    """One client's connection, closed when it asks nothing for SILENCE, or takes nothing of its answer for UNREAD.

    With too many, the longest idle one makes room.
    """

    since = 0.0  # when it began, or was answered last
    unread: asyncio.TimerHandle | None = None  # while more of an answer waits than is sent at once

    def connection_made(self, transport):
        super().connection_made(transport)
        self.since = self.loop.time()
        self.loop.call_later(SILENCE, self._look)
        if len(self.connections) > most_connections():
            idle = [each for each in self.connections if isinstance(each, Connection) and each.is_idle()]
            min(idle, key=lambda each: each.since).transport.abort()

    def on_response_complete(self):
        super().on_response_complete()
        self.since = self.loop.time()

    def pause_writing(self):
        super().pause_writing()
        self._look_at_unread(float("inf"))

    def resume_writing(self):
        super().resume_writing()
        self._forget_unread()

    def connection_lost(self, exc):
        super().connection_lost(exc)
        self._forget_unread()

    def _look_at_unread(self, before):
        """before: the bytes that waited the last time. One answer of many bytes waits as a whole, and gets less and less."""
        waiting = self.transport.get_write_buffer_size()
        if waiting >= before:
            self.transport.abort()
        else:
            self.unread = self.loop.call_later(UNREAD, self._look_at_unread, waiting)

    def _forget_unread(self):
        if self.unread:
            self.unread.cancel()
            self.unread = None

    def is_idle(self):
        """Is nothing asked, and all answered and sent? A connection that became a WebSocket is another protocol's."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self.transport.is_closing() and not self.transport.get_write_buffer_size()

    def _look(self):
        left = self.since + SILENCE - self.loop.time()
        if self not in self.connections:
            return
        if self.is_idle() and left <= 0:
            self.transport.close()
        else:
            self.loop.call_later(left if left > 0 else SILENCE, self._look)
