"""What the library says while it works: a few events, handed to whoever listens.

Everything that takes long takes a `listener`, a callable that gets each event; the command line draws them, a page shows
them, a program ignores them. The library itself never prints and never draws.
"""

from collections.abc import Callable, Mapping
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


class Task:
    """A task that is counted up: `Started` when it is made, `Advanced` with each call of `advance`."""

    def __init__(self, listener: Listener, task: str, total: float, unit: str = "", about: str = ""):
        self.listener, self.task, self.done = listener, task, 0
        listener(Started(task, total, unit, about))

    def advance(self, count: float = 1, note: str = "") -> None:
        """Add `count` units to what is done."""
        self.done += count
        self.listener(Advanced(self.task, self.done, note=note))
