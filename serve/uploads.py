"""What a page sends: bytes up to a limit, into memory or a file."""

from collections.abc import AsyncGenerator
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request


class Bounded(Request):
    """A request whose body may not be longer than `most` bytes: HTTPException, and the rest is not read."""

    def __init__(self, request: Request, most: int):
        super().__init__(request.scope, request.receive)
        self.most = most

    async def stream(self) -> AsyncGenerator[bytes]:
        size = 0
        async for part in super().stream():
            size += len(part)
            if size > self.most:
                raise HTTPException(
                    413, f"This is longer than the {self.most / 1e6:,.6g} megabytes that are taken here."
                )
            yield part


async def read(request: Request, most: int) -> bytes:
    """A request's body. Raises HTTPException when it is empty, or longer than `most` bytes."""
    return b"".join([part async for part in _parts(request, most)])


async def save(request: Request, path: Path, most: int) -> None:
    """Write a request's body into a new file. Raises HTTPException as `read` does."""
    with open(path, "xb") as file:
        async for part in _parts(request, most):
            file.write(part)


async def _parts(request: Request, most: int) -> AsyncGenerator[bytes]:
    empty = True
    async for part in Bounded(request, most).stream():
        empty = empty and not part
        yield part
    if empty:
        raise HTTPException(400, "The file is empty.")
