"""Work that may crash its process, done in another one: pictures and videos are read by libraries in C."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from pickle import UnpicklingError
from queue import LifoQueue
from typing import Any

from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Event, Listener


class Apart:
    """A process that does one work at a time. It starts when there is work, and anew when it has died."""

    def __init__(self):
        self._process: Any = None
        self._pipe: Any = None

    def do(self, work: Callable[..., Any], about: str, seconds: float | None = None, listener: Listener | None = None):
        """What work() returns, or with a listener work(listener=...), which goes on whenever that has returned.

        work: a function of a module, or a `partial` of one. about: what is worked on, for the sentences. seconds: that it
        may take. Raises AllaprimaError: that of the work, or when it takes too long or ends the process. So does any
        other exception in it, which is printed.
        """
        self._start()
        try:
            answer = self._answer(work, seconds, listener)
        except BaseException as error:
            self._end()  # after an error on this side too, since the two are out of step
            if isinstance(error, TimeoutError):
                raise AllaprimaError(
                    f"{about} can't be read within {seconds:g} s: make it smaller, or save it again in another format."
                ) from error
            if isinstance(error, EOFError | OSError | UnpicklingError):
                raise AllaprimaError(
                    f"{about} can't be read: it makes the decoder crash, or takes more memory than is free. "
                    "Save it again in another format."
                ) from error
            raise
        if isinstance(answer, AllaprimaError):
            raise answer
        return answer

    def _answer(self, work, seconds, listener):
        self._pipe.send((work, listener is not None))
        while self._pipe.poll(seconds):
            answer = self._pipe.recv()
            if not isinstance(answer, Event):
                return answer
            listener(answer)
            self._pipe.send(None)
        raise TimeoutError

    def _start(self) -> None:
        if self._process and self._process.is_alive():
            return
        self._end()
        spawn = get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        process = spawn.Process(target=_work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()  # or its end would not be seen
        self._process = process

    def kill(self) -> None:
        """End the process, from any thread: a `do` that waits for it raises as after a crash."""
        if process := self._process:
            process.kill()
            process.join()

    def _end(self) -> None:
        self.kill()
        if self._process:
            self._pipe.close()
            self._process = None


class Readers:
    """Processes apart, of which as many are started as are at work at a time, but no more than `most`."""

    def __init__(self, most: int):
        self._idle = LifoQueue[Apart]()
        for _ in range(most):
            self._idle.put(Apart())

    def do(self, work: Callable[..., Any], about: str, seconds: float = 120) -> Any:
        """As `do` of Apart, when one of them is idle."""
        one = self._idle.get()
        try:
            return one.do(work, about, seconds=seconds)
        finally:
            self._idle.put(one)


def _work(pipe) -> None:
    """The life of a process apart."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the server
    threading.Thread(target=_end_with_the_server, daemon=True).start()

    def tell(event: Event):
        pipe.send(event)
        pipe.recv()

    with suppress(EOFError, ConnectionError):  # the server is gone
        while True:
            work, listens = pipe.recv()
            try:
                answer = work(listener=tell) if listens else work()
            except AllaprimaError as error:
                answer = error
            pipe.send(answer)


def _end_with_the_server() -> None:
    parent_process().join()
    os._exit(1)
