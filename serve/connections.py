"""Connections that bound what clients can hold who connect and say nothing: uvicorn itself waits for them for ever."""

from uvicorn.protocols.http.h11_impl import H11Protocol

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None

SILENCE = 10.0  # seconds without a whole head of a request, after which a connection is closed
MOST = 256  # connections at a time
BACKLOG = 64  # connections that the system keeps for us; all of them may be taken at once


def most_connections() -> int:
    """Connections at a time, of which each is an open file: at most a quarter of those that the process may have."""
    return MOST if resource is None else min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


class Connection(H11Protocol):
    """One client's connection, closed when it asks nothing for SILENCE; with too many, the longest idle one makes room."""

    began = 0.0

    def connection_made(self, transport):
        super().connection_made(transport)
        self.began = self.loop.time()
        self.loop.call_later(SILENCE, self._look, self.cycle)
        if len(self.connections) > most_connections():
            idle = [each for each in self.connections if isinstance(each, Connection) and each.is_idle()]
            min(idle, key=lambda each: each.began).transport.abort()

    def is_idle(self):
        """Is nothing asked that is not answered? A connection that became a WebSocket has left `connections`."""
        return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)

    def _look(self, before):
        """Every SILENCE. before: what was asked last when it looked the last time."""
        if self not in self.connections:
            return
        if self.is_idle() and self.cycle is before:
            self.transport.close()
        else:
            self.loop.call_later(SILENCE, self._look, self.cycle)
