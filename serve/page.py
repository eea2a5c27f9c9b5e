"""The Paint page as a server gives it: its files, the styles as they are now in the library, and the example photo."""

import os
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from allaprima.core.errors import AllaprimaError
from allaprima.infer.library import Style, list_styles
from allaprima.serve.site import EXAMPLE, WEB, entry


def page_routes(styles: Callable[[], list[Style]] = list_styles) -> list:
    """The last routes of an application: they take every path that is left. styles: what there is, at every request."""

    def style(request):
        path = next((each.path for each in styles() if each.name == request.path_params["name"]), None)
        if path is None or not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise HTTPException(404)
        return FileResponse(path)

    return [
        Route("/styles.json", lambda request: JSONResponse(style_entries(styles()))),
        Route("/styles/{name}.onnx", style),
        Route("/example.jpg", lambda request: FileResponse(EXAMPLE)),
        Mount("/", StaticFiles(directory=WEB, html=True)),
    ]


def style_entries(styles: list[Style]) -> list[dict]:
    """What the page shows of each style that browsers can run, and its name on this server."""
    found = []
    for style in styles:
        try:
            found.append(entry(style.path) | {"server": style.name})
        except AllaprimaError:
            continue  # `allaprima models` says what is wrong with it
    return found
