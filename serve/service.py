"""Pictures painted for other programs, within bounds: the API of `allaprima serve`, and the page beside it."""

import asyncio
import secrets
import string
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute

from allaprima.core.checks import check_positive, check_whole
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, ignore
from allaprima.infer.library import DEFAULT_STYLE, changed, list_styles
from allaprima.infer.stylizer import Stylizer, physical_cores
from allaprima.media.pictures import Still, encode_picture, picture_kind, read_picture
from allaprima.serve.apart import Readers
from allaprima.serve.frames import UPLINK, answer_frames
from allaprima.serve.line import Full, Line
from allaprima.serve.openapi import document
from allaprima.serve.page import page_routes, style_entries
from allaprima.serve.parameters import controls_of
from allaprima.serve.server import LOOPBACK, Guard, refusal, run
from allaprima.serve.uploads import Bounded

FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}  # of answers, and Pillow's names of them
OPENED = 8  # styles that are kept open; the one that was not used for longest is let go
TOKEN = set(string.ascii_letters + string.digits + "-_")  # goes through URLs, cookies and headers as it is
RETRY = "1"  # seconds after which a client may ask again


@dataclass(frozen=True)
class Limits:
    """What one request may cost, and how many are accepted at a time.

    megabytes: of the body. megapixels: of the picture. seconds: from the first byte of a request to its answer.
    queue: pictures accepted and not yet answered. clients: pages that the server paints frames for at a time.
    Raises AllaprimaError for a value that is not positive.
    """

    megabytes: float = 25
    megapixels: float = 24
    seconds: float = 30
    queue: int = 8
    clients: int = 8

    def __post_init__(self):
        check_positive(megabytes=self.megabytes, megapixels=self.megapixels, seconds=self.seconds)
        check_whole(1, queue=self.queue, clients=self.clients)


class Service:
    """Styles that are open, the processes that read pictures, the threads that paint, and the routes that lead to them.

    provider, threads: as of Stylizer. styles: a function that lists those that there are, at every request.
    """

    def __init__(self, limits=Limits(), provider: str | None = None, threads: int | None = None, styles=list_styles):
        self.limits, self.styles = limits, styles
        workers = max(1, physical_cores())
        self.pictures, self.clients = Line(workers, limits.queue), Line(workers, limits.clients)
        self.readers = Readers(workers)
        self._open = lru_cache(OPENED)(lambda path, changed: Stylizer(path, provider, threads))
        registry = self._registry = CollectorRegistry()
        self._answers = Counter("allaprima_pictures", "Answers to /api/stylize.", ["status"], registry=registry)
        self._seconds = Histogram("allaprima_picture_seconds", "From a request to its picture.", registry=registry)
        queue = Gauge("allaprima_queue", "Pictures accepted and not yet answered.", registry=registry)
        queue.set_function(lambda: len(self.pictures))
        clients = Gauge("allaprima_clients", "Pages that frames are painted for.", registry=registry)
        clients.set_function(lambda: len(self.clients))
        ProcessCollector(registry=registry)

    def routes(self) -> list:
        api = [
            Route("/stylize", self._stylize, methods=["POST"]),
            Route("/styles", self._list),
            WebSocketRoute("/frames", self._frames),
            Route("/health", lambda request: JSONResponse({"status": "ok"})),
        ]
        return [
            Mount("/api", routes=api),
            Route(
                "/metrics", lambda request: Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
            ),
            Route("/openapi.json", lambda request: JSONResponse(document(FORMATS))),
        ]

    def stylizer(self, style: str) -> Stylizer:
        """The style of that name, open. Raises AllaprimaError when there is none, or it is broken; a path is not a name."""
        path = next((known.path for known in self.styles() if known.name == style), None)
        if path is None:
            raise AllaprimaError(f"There is no style {style!r}: GET /api/styles lists them.")
        with _without_folder(path):
            return self._open(path, changed(path))

    def paint(self, style: str, photo, controls):
        """The photo, uint8 [H, W, 3], in the style of that name; AllaprimaError as of `stylizer`."""
        stylizer = self.stylizer(style)
        with _without_folder(stylizer.path):
            return stylizer(photo, controls)

    async def _frames(self, websocket):
        await answer_frames(websocket, self.clients, self.paint)

    def _list(self, request):
        keys, entries = ("thumbnail", "credit", "licence"), style_entries(self.styles())
        return JSONResponse([{"name": entry["server"]} | {key: entry[key] for key in keys} for entry in entries])

    async def _stylize(self, request):
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self.limits.seconds), self.pictures.place() as run:
                answer = await self._painted(request, run)
            self._seconds.observe(time.perf_counter() - began)
        except AllaprimaError as error:
            answer = refusal(422, str(error))
        except HTTPException as error:
            answer = refusal(error.status_code, error.detail)
        except ClientDisconnect:  # nobody reads the answer
            answer = refusal(400, "The body broke off.")
        except Full:
            answer = refusal(503, "All places are taken: try again in a moment.", **{"Retry-After": RETRY})
        except TimeoutError:
            slow = f"The picture was not done within {self.limits.seconds:g} s: try again, or send a smaller one."
            answer = refusal(503, slow, **{"Retry-After": RETRY})
        self._answers.labels(answer.status_code).inc()
        return answer

    async def _painted(self, request, run):
        content, parameters = await _read(Bounded(request, int(self.limits.megabytes * 1e6)))
        style, format = parameters.pop("style", DEFAULT_STYLE), parameters.pop("format", None)
        if format not in {*FORMATS, None}:
            raise AllaprimaError(f"format must be one of {', '.join(FORMATS)}, not {format!r}.")
        body, kind = await run(self._paint, content, style, controls_of(parameters), format)
        return Response(body, media_type=f"image/{kind}")

    def _paint(self, content, style, controls, wanted):
        """In a thread: (the painted picture's bytes, its format)."""
        self.stylizer(style)  # what is not there is told before the picture is read
        about, most = "The picture", self.limits.megapixels * 1e6
        read = partial(read_picture, about, into="JPEG", content=content, most_pixels=most)  # of several the first
        picture = self.readers.do(read, about, self.limits.seconds)
        pixels, alpha, _ = picture.frames.pop()
        kind = wanted or next((name for name, format in FORMATS.items() if format == picture.kind), "jpeg")
        painted = replace(picture, frames=[Still(self.paint(style, pixels, controls), alpha)])
        return encode_picture(painted, FORMATS[kind]), kind


@contextmanager
def _without_folder(path):
    """Where a style lies on this machine is no affair of who asks."""
    try:
        yield
    except AllaprimaError as error:
        raise AllaprimaError(str(error).replace(str(path), path.name)) from error


async def _read(request):
    """(the picture's bytes, the other parameters), of a multipart form or of a body that is the picture itself."""
    parameters = dict(request.query_params)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await request.body(), parameters
    content = None
    async with request.form(max_files=1, max_fields=16) as form:
        for name, value in form.items():
            if isinstance(value, UploadFile):  # whatever its file name is
                content = await value.read()
            else:
                parameters[name] = value
    if content is None:
        raise AllaprimaError("The form has no file: send the picture as one.")
    return content, parameters


def service_app(service: Service, names=(), token: str | None = None) -> Starlette:
    """The API and the Paint page. names, token: as of Guard."""

    def refuse(request, error):
        return refusal(error.status_code, error.detail, **(error.headers or {}))

    return Starlette(
        routes=[*service.routes(), *page_routes()],
        middleware=[Middleware(Guard, names=names, token=token)],
        exception_handlers={HTTPException: refuse},
    )


def needs_token(host: str) -> bool:
    """Whether others than this machine can reach what listens at the address."""
    return host not in (LOOPBACK, "localhost", "::1")


def serve(
    host=LOOPBACK,
    port=8018,
    *,
    token: str | None = None,
    names=(),
    limits=Limits(),
    provider: str | None = None,
    threads: int | None = None,
    listener: Listener = ignore,
) -> None:
    """Serve the API and the Paint page until Ctrl-C or SIGTERM.

    host: the address to listen at; any but this machine's own (loopback) needs a token. token: 16 letters, digits, - or _
    at the least; one is made when there is none and one is needed, and the listener told. names: host names that it is
    asked by, besides IP addresses and localhost. provider, threads: as of Stylizer.
    A program must guard its main module by `if __name__ == "__main__"`, as for multiprocessing.
    Raises AllaprimaError for bad input and when the address can't be listened at.
    """
    about = "The service is at {address}, its API at {address}openapi.json. Ctrl-C ends it."
    if token is None and needs_token(host):
        token = secrets.token_urlsafe(24)
        about = f"{about} In a browser: {{address}}?token={token}, in programs: Authorization: Bearer {token}"
    if token is not None and not (len(token) >= 16 and set(token) <= TOKEN):
        raise AllaprimaError("A token is of at least 16 letters, digits, - and _: give another with --token, or none.")
    service = Service(limits, provider, threads)
    service.stylizer(DEFAULT_STYLE)  # a provider that does not start is told now
    service.readers.do(partial(picture_kind, ""), "A picture")  # nor does the first request wait for a process
    run(service_app(service, names, token), host, port, about, listener=listener, **UPLINK)
