"""What the library says while it works: a few events, handed to whoever listens.

Everything that takes long takes a `listener`, a callable that gets each event; the command line draws them, a page shows
them, a program ignores them. The library itself never prints and never draws.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Started:
    """A task begins. total: units of work, None when that is not known. about: what will be done and written, a sentence."""

    task: str
    total: float | None = None
    unit: str = ""
    about: str = ""


@dataclass(frozen=True)
class Advanced:
    """So much of a task is done; the task is over when `done` reaches the total. total: where it is known better by now.

    values: what was measured at this point, by name.
    """

    task: str
    done: float
    total: float | None = None
    note: str = ""
    values: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Warned:
    """Something is not as the user may expect, and the work goes on: one sentence."""

    text: str


@dataclass(frozen=True)
class Wrote:
    """A file is there, whole; path: or its address. about: what is in it, where the path alone does not say it."""

    path: Path | str
    about: str = ""


Event = Started | Advanced | Warned | Wrote
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that ignores every event."""


class _Raised(BaseException):
    """What a listener raised, on its way past all that explains what goes wrong with the work."""

    def __init__(self, error: Exception):
        self.error = error


@contextmanager
def passing(listener: Listener) -> Generator[Listener]:
    """Yield the listener for a block that explains errors: those of the listener itself come out of it as they are."""

    def told(event: Event) -> None:
        try:
            listener(event)
        except Exception as error:
            raise _Raised(error) from None

    try:
        yield told
    except _Raised as raised:
        raise raised.error from None


class Task:
    """A task that is counted up: `Started` when it is made, `Advanced` with each call of `advance`."""

    def __init__(self, listener: Listener, task: str, total: float, unit: str = "", about: str = ""):
        self.listener, self.task, self.done = listener, task, 0
        listener(Started(task, total, unit, about))

    def advance(self, count: float = 1, note: str = "") -> None:
        """Add `count` units to what is done."""
        self.done += count
        self.listener(Advanced(self.task, self.done, note=note))
