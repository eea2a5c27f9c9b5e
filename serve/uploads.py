"""What a page sends: bytes up to a limit, into memory or a file."""

from collections.abc import AsyncIterator
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def read(request: Request, most: int) -> bytes:
    """A request's body. Raises HTTPException when it is empty, or longer than `most` bytes: the rest is not read."""
    return b"".join([part async for part in _parts(request, most)])


async def save(request: Request, path: Path, most: int) -> None:
    """Write a request's body into a new file. Raises HTTPException as `read` does."""
    with open(path, "xb") as file:
        async for part in _parts(request, most):
            file.write(part)


async def _parts(request: Request, most: int) -> AsyncIterator[bytes]:
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"This is more than the {most / 1e6:,.0f} MB that there is room for.")
        yield part
    if not size:
        raise HTTPException(400, "The file is empty.")
