"""What the studio does on this machine, for its page alone: trainings and conversions."""

import asyncio
import base64
import shutil
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.infer.library import DEFAULT_STYLE
from allaprima.media.paintings import faults
from allaprima.media.pictures import read_picture, to_jpeg
from allaprima.serve.apart import Readers
from allaprima.serve.conversions import QUALITY, Conversion, Conversions, result_name
from allaprima.serve.library import Library, safe_stem
from allaprima.serve.trainings import Training, Trainings
from allaprima.serve.uploads import read, save
from allaprima.train.settings import BUNDLED, Settings
from allaprima.train.settings import BUNDLED_HELD_OUT as HELD_OUT

NAME = 1000  # characters of a file's name, with its folders, at most
PAINTING = 100_000_000  # bytes at most
SHOWN = 480  # px, long side of a painting on the page


class Workshop:
    """app: its routes; who may ask is up to the server. Within `running` the work is done. readers: of what is sent.

    Raises AllaprimaError when the library is another studio's.
    """

    def __init__(self, library: Library, readers: Readers):
        self.library, self.readers = library, readers
        self.trainings, self.conversions = Trainings(library), Conversions(library, readers)
        self.trainings.load()
        self.conversions.clear_folder()
        self.app = Starlette(
            routes=[
                Route("/photos/{name}", self.photo),
                Route("/paintings", self.look, methods=["POST"]),
                Route("/trainings", self.list_trainings),
                Route("/trainings", self.begin_training, methods=["POST"]),
                Route("/trainings/{id}", self.remove_training, methods=["DELETE"]),
                Route("/trainings/{id}/{order}", self.order_training, methods=["POST"]),
                Route("/trainings/{id}/{file}", self.training_file),
                Route("/conversions", self.list_conversions),
                Route("/conversions", self.begin_conversion, methods=["POST"]),
                Route("/conversions", self.remove_conversions, methods=["DELETE"]),
                Route("/conversions/pause", self.pause, methods=["POST"]),
                Route("/conversions/go-on", self.pause, methods=["POST"]),
                Route("/conversions/results.zip", self.archive),
                Route("/conversions/{id}", self.remove_conversion, methods=["DELETE"]),
                Route("/conversions/{id}/{file}", self.conversion_file),
            ],
            exception_handlers={AllaprimaError: _sentence, HTTPException: _sentence, ClientDisconnect: _sentence},
        )

    @asynccontextmanager
    async def running(self):
        """Work while the body runs, and leave all in order."""
        work = [asyncio.create_task(each.work()) for each in (self.trainings, self.conversions)]
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            self.conversions.clear_folder()
            self.library.release()

    # -- trainings -----------------------------------------------------------------------------------------------

    async def photo(self, request: Request):
        """A photo that no training sees."""
        if request.path_params["name"] not in HELD_OUT:
            raise HTTPException(404)
        return FileResponse(BUNDLED / request.path_params["name"])

    async def look(self, request: Request):
        """What a painting is like, before it is trained on: size, faults, and a JPEG that any browser shows."""
        size = _number(request, "style_size", Settings().style_size)
        painting, shown = await run_in_threadpool(self._painting, await read(request, PAINTING))
        url = f"data:image/jpeg;base64,{base64.b64encode(shown).decode()}"
        about = {"width": painting.width, "height": painting.height, "shown": url}
        found = await run_in_threadpool(lambda: list(faults(painting, int(size))))
        return JSONResponse(about | {"faults": found})

    async def list_trainings(self, request: Request):
        """All trainings, in the order of the line, and what the page has to know to offer one."""
        trainings = self.trainings
        return JSONResponse(
            {
                "possible": find_spec("torch") is not None,
                "photos": HELD_OUT,
                "trainings": [trainings.to_dict(each) for each in trainings.all.values()],
            }
        )

    async def begin_training(self, request: Request):
        """The painting in the body into the line."""
        minutes = _number(request, "minutes", Settings().minutes)
        size = _number(request, "style_size", Settings().style_size)
        name = safe_stem(request.query_params.get("name", ""), "style")
        content = await read(request, PAINTING)
        _, shown = await run_in_threadpool(self._painting, content)
        training = self.trainings.add(name, content, shown, minutes, int(size))
        return JSONResponse(self.trainings.to_dict(training), 201)

    async def order_training(self, request: Request):
        """stop, continue, or longer by so many minutes."""
        training = self._training(request)
        match request.path_params["order"]:
            case "stop":
                self.trainings.stop(training)
            case "continue":
                self.trainings.go_on(training)
            case "longer":
                self.trainings.go_on(training, _number(request, "minutes", 5))
            case _:
                raise HTTPException(404)
        return JSONResponse(self.trainings.to_dict(training))

    async def remove_training(self, request: Request):
        self.trainings.remove(self._training(request))
        return Response(status_code=204)

    async def training_file(self, request: Request):
        """What the page shows of a training, by a name of ours."""
        training = self._training(request)
        names = {"report.html": f"{training.name}.html"}
        names |= {name: name for name in ("painting.jpg", "moment.onnx", "costs.json")}
        path = self.trainings.folder(training) / names.get(request.path_params["file"], "")
        if not path.is_file():
            raise HTTPException(404)
        return FileResponse(path)

    def _painting(self, content: bytes) -> tuple[Image.Image, bytes]:
        """A painting from the bytes of its file, and as a small JPEG for the page."""
        picture = self.readers.do(partial(read_picture, "This file", into="JPEG", content=content), "This file")
        pixels = picture.frames[0].pixels
        return Image.fromarray(pixels), to_jpeg(pixels, SHOWN, QUALITY)

    def _training(self, request: Request) -> Training:
        try:
            return self.trainings.all[request.path_params["id"]]
        except KeyError:
            raise HTTPException(404) from None

    # -- conversions ---------------------------------------------------------------------------------------------

    async def list_conversions(self, request: Request):
        """The queue as it is now."""
        return JSONResponse(self.conversions.to_dict())

    async def begin_conversion(self, request: Request):
        """The picture or video in the body into the queue."""
        asked = request.query_params
        name = asked.get("name", "")[:NAME] or "file"
        controls = Controls(
            strength=_number(request, "strength", 100) / 100,
            stroke=_number(request, "stroke", 1) if asked.get("stroke") else None,
            keep_colors=asked.get("keep_colors") == "true",
        )
        room = await run_in_threadpool(self.conversions.room)
        if not room:
            raise HTTPException(
                507, "This machine has no room for more files: take results and remove them, or free some space."
            )
        path = self.conversions.new_file(name)
        try:
            await save(request, path, room)
            conversion = await run_in_threadpool(
                self.conversions.add, path, name, asked.get("style", DEFAULT_STYLE), controls
            )
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        return JSONResponse({"id": conversion.id}, 201)

    async def pause(self, request: Request):
        self.conversions.pause(request.url.path.endswith("pause"))
        return Response(status_code=204)

    async def remove_conversion(self, request: Request):
        self.conversions.remove(self._conversion(request))
        return Response(status_code=204)

    async def remove_conversions(self, request: Request):
        for conversion in list(self.conversions.all.values()):
            self.conversions.remove(conversion)
        return Response(status_code=204)

    async def conversion_file(self, request: Request):
        """A result, or `shown.jpg`, the small picture of it; `?download` makes the browser keep it."""
        conversion, file = self._conversion(request), request.path_params["file"]
        if not conversion.result or file not in ("result", "shown.jpg"):
            raise HTTPException(404)
        if file == "shown.jpg":
            return FileResponse(self.conversions.folder(conversion) / "shown.jpg")
        how = "attachment" if "download" in request.query_params else "inline"
        name = result_name(conversion)
        return FileResponse(conversion.result, filename=name, content_disposition_type=how)

    async def archive(self, request: Request):
        """All results in one file."""
        about = {"Content-Disposition": 'attachment; filename="allaprima.zip"'}
        return StreamingResponse(self.conversions.archive(), media_type="application/zip", headers=about)

    def _conversion(self, request: Request) -> Conversion:
        try:
            return self.conversions.all[request.path_params["id"]]
        except KeyError:
            raise HTTPException(404) from None


def _sentence(request: Request, error: Exception):
    """An error as the page shows it."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    if isinstance(error, ClientDisconnect):  # nobody reads the answer
        return JSONResponse({"error": "The file broke off."}, 400)
    return JSONResponse({"error": str(error)}, 400)


def _number(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name, default)
    try:
        number = float(text)
        if 0 <= number < 1e6:
            return number
    except ValueError:
        pass
    raise HTTPException(400, f"{name} must be a number from 0 to 1,000,000, not {text!r}.")
