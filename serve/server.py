"""A page or a service on the network: whom it answers, and until when."""

import ipaddress
import secrets
import socket
import webbrowser
from urllib.parse import urlsplit

import uvicorn
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse

from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Started, ignore
from allaprima.serve.connections import BACKLOG, Connection

LOOPBACK = "127.0.0.1"
OPEN = "/api/health"  # needs no token: who watches over a server has none
COOKIE = "allaprima-token"
HEADERS = [
    # Threads of WebAssembly need a page that shares its process with no other.
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
]


class Guard:
    """ASGI middleware, for HTTP and WebSockets alike: refuses who may not ask, and adds HEADERS to every answer.

    names: the host names that it is asked by, besides IP addresses and localhost. Others are refused: a stranger's page
        can't reach it by a name of its own (DNS rebinding), nor from an origin of its own.
    token: what a program sends as `Authorization: Bearer TOKEN`. A browser gives it once, in `/?token=TOKEN`, and keeps
        a cookie.
    """

    def __init__(self, app, names=(), token: str | None = None):
        self.app, self.names, self.token = app, {"localhost", *(name.lower() for name in names)}, token

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)

        async def with_headers(message):
            if message["type"].endswith("http.response.start"):  # a refused WebSocket has it too
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        answer = self._refusal(HTTPConnection(scope)) or self.app
        await answer(scope, receive, with_headers)

    def _refusal(self, asked: HTTPConnection):
        host, origin = asked.headers.get("host", ""), asked.headers.get("origin")
        if not self._is_own(host):
            return refusal(400, f"This server does not know itself as {host}: use its IP address, or localhost.")
        if origin is not None and origin.partition("://")[2] != host:
            return refusal(403, "Pages of other origins are not answered.")
        if self.token is None or asked.url.path == OPEN:
            return None
        if "token" in asked.query_params and self._is_token(asked.query_params["token"]):
            answer = RedirectResponse("./", 303)
            secure = asked.url.scheme in ("https", "wss")
            answer.set_cookie(COOKIE, self.token, secure=secure, httponly=True, samesite="strict")
            return answer
        kind, _, given = asked.headers.get("authorization", "").partition(" ")
        if self._is_token(given if kind.lower() == "bearer" else asked.cookies.get(COOKIE, "")):
            return None
        answer = refusal(
            401, "Give the token that the server printed: Authorization: Bearer TOKEN, or open /?token=TOKEN."
        )
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _is_own(self, host):
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _is_token(self, given):
        return secrets.compare_digest(given.encode(), (self.token or "").encode())


def refusal(status: int, text: str, **headers: str) -> JSONResponse:
    """The answer to a refused request: `{"error": sentence}`."""
    return JSONResponse({"error": text}, status, headers or None)


def run(app, host, port, about, *, browser=False, listener: Listener = ignore, **settings) -> None:
    """Serve until Ctrl-C or SIGTERM. port: 0 for a free one. about: what is told to the listener, with {address} in it.

    browser: open the address in one. settings: of uvicorn. Raises AllaprimaError when the address can't be listened at.
    """
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise AllaprimaError(f"port must be a whole number from 0 to 65535, not {port!r}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise AllaprimaError(f"Port {port} of {host} can't be listened at ({reason}): give another.") from error
    with listening:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listening.getsockname()[1]}/"
        listener(Started("serve", about=about.format(address=address)))
        if browser:
            webbrowser.open(address)
        settings |= {"http": Connection, "backlog": BACKLOG, "timeout_graceful_shutdown": 5, "server_header": False}
        config = uvicorn.Config(app, log_level="warning", **settings)
        uvicorn.Server(config).run(sockets=[listening])
