"""The studio: the Paint page served on this machine, to this machine alone."""

import socket
import webbrowser
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Started, ignore
from allaprima.infer.library import list_styles
from allaprima.serve.site import EXAMPLE, WEB, entry

LOOPBACK = "127.0.0.1"
# Threads of WebAssembly need a page that shares its process with no other.
ISOLATED = [
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
]


class Isolated:
    """ASGI middleware that adds the headers above to every answer."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def with_headers(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *ISOLATED]
            await send(message)

        await self.app(scope, receive, with_headers)


def studio_app() -> Starlette:
    """The page, its styles as they are now in the library, and the example photo.

    Other host names than those of this machine are refused: a stranger's page can't reach it by a name of its own
    (DNS rebinding).
    """
    return Starlette(
        routes=[
            Route("/styles.json", _styles),
            Route("/styles/{name}.onnx", _style),
            Route("/example.jpg", lambda request: FileResponse(EXAMPLE)),
            Mount("/", StaticFiles(directory=WEB, html=True)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"]),
            Middleware(Isolated),
        ],
    )


def _styles(request):
    found = []
    for style in list_styles():
        try:
            found.append(entry(style.path))
        except AllaprimaError:
            continue  # `allaprima models` says what is wrong with it
    return JSONResponse(found)


def _style(request):
    paths: dict[str, Path] = {style.name: style.path for style in list_styles()}
    if request.path_params["name"] not in paths:
        raise HTTPException(404)
    return FileResponse(paths[request.path_params["name"]])


def studio(port=8017, *, browser=True, listener: Listener = ignore) -> None:
    """Serve the page on this machine until Ctrl-C. port: 0 for a free one. browser: open the page in one.

    Raises AllaprimaError when the port is taken.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((LOOPBACK, port))
        except OSError as error:
            raise AllaprimaError(f"Port {port} is taken ({error.strerror}): give another with --port.") from error
        address = f"http://{LOOPBACK}:{listening.getsockname()[1]}/"
        listener(Started("studio", about=f"The studio is at {address}, for this machine alone. Ctrl-C ends it."))
        if browser:
            webbrowser.open(address)
        server = uvicorn.Server(uvicorn.Config(studio_app(), log_level="warning"))
        server.run(sockets=[listening])
