"""What a page sends: bytes up to a limit."""

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def read(request: Request, most: int) -> bytes:
    """A request's body. Raises HTTPException when it is empty, or longer than `most` bytes: the rest is not read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"This is more than {most / 1e6:,.0f} MB: send a smaller file.")
        parts.append(part)
    if not size:
        raise HTTPException(400, "The file is empty.")
    return b"".join(parts)
