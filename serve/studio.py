"""The studio: the Paint page served on this machine, to this machine alone."""

from starlette.applications import Starlette
from starlette.middleware import Middleware

from allaprima.core.events import Listener, ignore
from allaprima.serve.page import page_routes
from allaprima.serve.server import LOOPBACK, Guard, run


def studio_app() -> Starlette:
    """The page, its styles as they are now in the library, and the example photo."""
    return Starlette(routes=page_routes(), middleware=[Middleware(Guard)])


def studio(port=8017, *, browser=True, listener: Listener = ignore) -> None:
    """Serve the page on this machine until Ctrl-C. port: 0 for a free one. browser: open the page in one.

    Raises AllaprimaError when the port is taken.
    """
    about = "The studio is at {address}, for this machine alone. Ctrl-C ends it."
    run(studio_app(), LOOPBACK, port, about, browser=browser, listener=listener)
