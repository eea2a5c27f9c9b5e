"""What stages of a live picture hand over: a slot that holds one frame, the newest."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Shot:
    """A frame under way: `photo` as captured at `taken` (seconds of time.perf_counter), and as `painted`.

    start: when it is to be shown, in seconds by the clock of its source.
    """

    photo: np.ndarray
    taken: float
    start: float
    painted: np.ndarray | None = None


class Mailbox:
    """One slot between two threads: a new letter takes the place of an unread one.

    keeps_all: `put` waits instead until the letter before it was read.
    """

    EMPTY = object()

    def __init__(self, keeps_all=False):
        self._keeps_all, self._changed = keeps_all, threading.Condition()
        self._letter, self._closed = self.EMPTY, False

    def put(self, letter):
        with self._changed:
            if self._keeps_all:
                self._changed.wait_for(lambda: self._closed or self._letter is self.EMPTY)
            self._letter = letter
            self._changed.notify()

    def close(self):
        """No more letters come; the last one can still be read."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def get(self, timeout=None) -> Any:
        """The newest letter; None when closed and empty; EMPTY when none came within `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._letter is not self.EMPTY, timeout)
            letter, self._letter = self._letter, self.EMPTY
            self._changed.notify()
            return None if letter is self.EMPTY and self._closed else letter
