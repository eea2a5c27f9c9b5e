"""The studio: the page served on this machine, to this machine alone, with trainings and conversions behind it."""

from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from allaprima.core.events import Listener, ignore
from allaprima.serve.frames import UPLINK
from allaprima.serve.library import Library
from allaprima.serve.page import page_routes
from allaprima.serve.server import LOOPBACK, Guard, run
from allaprima.serve.service import Service
from allaprima.serve.workshop import Workshop


def studio_app(library: Path | None = None) -> Starlette:
    """The page, its styles as they are now in the library, and what the studio does beside painting.

    library: the folder of the user's own styles; None for the one that `allaprima models` lists.
    """
    folder = Library(library)
    service = Service(styles=folder.styles)
    workshop = Workshop(folder, service.readers)

    @asynccontextmanager
    async def lifespan(app):
        async with workshop.running():
            yield

    routes = [Mount("/studio", workshop.app), *service.routes(), *page_routes(folder.styles)]
    return Starlette(routes=routes, middleware=[Middleware(Guard)], lifespan=lifespan)


def studio(port=8017, library: Path | None = None, *, browser=True, listener: Listener = ignore) -> None:
    """Serve the page on this machine until Ctrl-C. port: 0 for a free one. library: as of `studio_app`.

    browser: open the page in one.

    A program must guard its main module by `if __name__ == "__main__"`, as for multiprocessing.
    Raises AllaprimaError when the port is taken, or the library another studio's.
    """
    about = "The studio is at {address}, for this machine alone. Ctrl-C ends it."
    run(studio_app(library), LOOPBACK, port, about, browser=browser, listener=listener, **UPLINK)
