"""Connections that bound what clients can hold who connect and say nothing: uvicorn itself waits for them for ever."""

from uvicorn.protocols.http.h11_impl import H11Protocol

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None

SILENCE = 10.0  # seconds without a whole head of a request, after which a connection is closed
MOST = 256  # connections at a time
BACKLOG = (
    128  # connections that the system keeps for us, all of which may be taken at once; a client beyond waits a second
)


def most_connections() -> int:
    """Connections at a time, of which each is an open file: at most a quarter of those that the process may have."""
    return MOST if resource is None else min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


class Connection(H11Protocol):
    """One client's connection, closed when it asks nothing for SILENCE; with too many, the longest idle one makes room."""

    since = 0.0  # when it began, or was answered last

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
