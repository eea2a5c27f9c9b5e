"""Threads that paint, apart from the event loop, and a bounded number of places in front of them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any


class Full(Exception):
    """Every place in the line is taken."""


class Line:
    """threads: how many works run at a time. places: how many may be under way or wait."""

    def __init__(self, threads: int, places: int):
        self._threads, self._places, self._taken = ThreadPoolExecutor(threads, "line"), places, set()

    def __len__(self):
        return len(self._taken)

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[Callable[..., Any]]:
        """A place, as a function: `await run(work, *arguments)` is the work's result. Raises Full at once.

        A work that nobody waits for any more is not begun; one that has begun can't be stopped, and keeps its place to
        its end. So what is accepted has a bound, whatever the clients do.
        """
        if len(self._taken) >= self._places:
            raise Full
        place, works = object(), list[Future]()
        self._taken.add(place)

        async def run(work, *arguments):
            works[:] = [self._threads.submit(work, *arguments)]
            return await asyncio.wrap_future(works[0])

        try:
            yield run
        finally:
            if works:
                works[0].add_done_callback(lambda _: self._taken.discard(place))
            else:
                self._taken.discard(place)
