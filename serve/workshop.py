"""What the studio does on this machine, for its page alone: paintings looked at, trainings."""

import asyncio
import base64
import io
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from allaprima.core.errors import AllaprimaError
from allaprima.media.paintings import faults
from allaprima.media.pictures import read_picture
from allaprima.serve.library import Library, safe_stem
from allaprima.serve.trainings import Training, Trainings
from allaprima.serve.uploads import read
from allaprima.train.settings import Settings

PHOTOS = Path(str(files("allaprima.train") / "photos"))
HELD_OUT = ("astronaut.jpg", "china.jpg", "sunset.jpg")  # of the bundled photos, those that no training sees
PAINTING = 100_000_000  # bytes at most
SHOWN = 480  # px, long side of a painting on the page


class Workshop:
    """app: its routes; who may ask is up to the server. Within `running` the trainings are done.

    Raises AllaprimaError when the library is another studio's.
    """

    def __init__(self, library: Library):
        self.library, self.trainings = library, Trainings(library)
        self.trainings.load()
        self.app = Starlette(
            routes=[
                Route("/photos/{name}", self.photo),
                Route("/paintings", self.look, methods=["POST"]),
                Route("/trainings", self.list_trainings),
                Route("/trainings", self.begin_training, methods=["POST"]),
                Route("/trainings/{id}", self.remove_training, methods=["DELETE"]),
                Route("/trainings/{id}/{order:str}", self.order_training, methods=["POST"]),
                Route("/trainings/{id}/{file:str}", self.training_file),
            ],
            exception_handlers={AllaprimaError: _sentence, HTTPException: _sentence},
        )

    @asynccontextmanager
    async def running(self):
        """Work while the body runs, and leave all in order."""
        work = asyncio.create_task(self.trainings.work())
        try:
            yield
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            self.library.release()

    # -- trainings -----------------------------------------------------------------------------------------------

    async def photo(self, request: Request):
        """A photo that no training sees."""
        if request.path_params["name"] not in HELD_OUT:
            raise HTTPException(404)
        return FileResponse(PHOTOS / request.path_params["name"])

    async def look(self, request: Request):
        """What a painting is like, before it is trained on: size, faults, and a JPEG that any browser shows."""
        size = _number(request, "style_size", Settings().style_size)
        painting = await run_in_threadpool(_painting, await read(request, PAINTING))
        shown = base64.b64encode(_jpeg(painting)).decode()
        about = {"width": painting.width, "height": painting.height, "shown": f"data:image/jpeg;base64,{shown}"}
        return JSONResponse(about | {"faults": list(faults(painting, int(size)))})

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
        minutes, size = _number(request, "minutes", 5), _number(request, "style_size", Settings().style_size)
        name = safe_stem(request.query_params.get("name", ""), "style")
        content = await read(request, PAINTING)
        shown = _jpeg(await run_in_threadpool(_painting, content))
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

    def _training(self, request: Request) -> Training:
        try:
            return self.trainings.all[request.path_params["id"]]
        except KeyError:
            raise HTTPException(404) from None


def _sentence(request: Request, error: Exception):
    """An error as the page shows it."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
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


def _painting(content: bytes) -> Image.Image:
    return Image.fromarray(read_picture("This file", into="JPEG", content=content).frames[0].pixels)


def _jpeg(painting: Image.Image) -> bytes:
    small = painting.copy()
    small.thumbnail((SHOWN, SHOWN))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=88)
    return data.getvalue()
