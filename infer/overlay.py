"""What is written on a live picture: status, help, messages; and the rate and delay in the status."""

from collections import deque
from statistics import median

import cv2
import numpy as np

HELP = [
    "n p\tnext, previous style",
    "1-9\tstyle by number",
    "+ -\tstrength",
    "b\tbrush size",
    "c\tthe photo's colours",
    "o\toriginal beside it",
    "s\tsnapshot",
    "r\trecord, stop",
    "h\tthis help",
    "q\tquit",
]


class Meter:
    """Frame rate and delay over the last second."""

    def __init__(self):
        self._shown = deque()

    def add(self, now, taken):
        self._shown.append((now, now - taken))
        while now - self._shown[0][0] > 1 and len(self._shown) > 2:
            self._shown.popleft()

    @property
    def rate(self) -> float:
        """Frames per second: those shown in the last second over the time from the first to the last of them."""
        span = self._shown[-1][0] - self._shown[0][0] if self._shown else 0
        return (len(self._shown) - 1) / span if span else 0.0

    @property
    def delay(self) -> float:
        """Seconds from the capture of a frame until it is shown, the median."""
        return median(delay for _, delay in self._shown) if self._shown else 0.0

    def __str__(self):
        return f"{self.rate:.1f} frames/s  {self.delay * 1000:.0f} ms"


def describe(controls) -> str:
    """What is turned, as the status line has it."""
    stroke = "" if controls.stroke is None else f"  stroke {controls.stroke:g}"
    colours = "  photo's colours" if controls.keep_colors else ""
    return f"{controls.strength:.0%}{stroke}{colours}"


def write_on(rgb, top, bottom, recording):
    """Write lines at the top left and the bottom left of a picture, in place; a red dot while it is recorded.

    Each line lies on a darkened strip, to be read on any picture; a tab leads to the second column.
    """
    scale = max(0.45, rgb.shape[0] / 800)
    step = round(32 * scale)

    def line(text, y):
        columns = [(x * 2 * step + step // 2, part) for x, part in enumerate(text.split("\t"))]
        (width, _), _ = cv2.getTextSize(columns[-1][1], cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        strip = rgb[max(0, y - step * 3 // 4) : y + step // 4, : columns[-1][0] + width + step // 2]
        np.multiply(strip, 0.4, out=strip, casting="unsafe")
        for x, part in columns:
            cv2.putText(rgb, part, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)

    for row, text in enumerate(top):
        line(text, step * (row + 1))
    for row, text in enumerate(reversed(bottom)):
        line(text, rgb.shape[0] - step // 2 - step * row)
    if recording:
        cv2.circle(rgb, (rgb.shape[1] - step, step), step // 3, (255, 0, 0), -1, cv2.LINE_AA)
