"""What is written on a live picture: status, help, the list of styles, messages; and the rate and delay in the status."""

import time
from collections import deque
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np

HELP = [
    "n p\tnext, previous style",
    "1-9\tstyle by number",
    "l\tlist of styles",
    "+ -\tstrength",
    "b\tbrush size",
    "c\tthe photo's colours",
    "t\tsteady strokes",
    "o\toriginal beside it",
    "m\tmirror",
    "f\tfull screen",
    "i\tstatus line",
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


@dataclass
class View:
    """What the window shows: the parts that keys switch on and off, and a message for a while."""

    beside: bool = False
    help: bool = False
    list: bool = False
    status: bool = True
    _message: str = ""
    _until: float = 0.0

    def say(self, text, seconds=3.0):
        """Show a message for a while."""
        self._message, self._until = text, time.perf_counter() + seconds

    def picture(self, shot, styles, chosen, status, lost, recording):
        """The shot as the window shows it, uint8 [H, W, 3], or a black picture before the first.

        styles: with `names` and `thumbnail(index)`. status: a line. lost: why no frames come, "" while they do.
        """
        if shot is None:
            rgb = np.zeros((480, 640, 3), np.uint8)
        else:
            rgb = _beside(shot.photo, shot.painted) if self.beside else shot.painted.copy()
        top = ([status] if self.status else []) + (HELP if self.help else [])
        message = self._message if time.perf_counter() < self._until else ""
        write_on(rgb, top, [text for text in (message, lost) if text], recording)
        if self.list:
            write_list(rgb, styles, chosen)
        return rgb


def describe(controls) -> str:
    """What is turned, as the status line has it."""
    stroke = "" if controls.stroke is None else f"  stroke {controls.stroke:g}"
    colours = "  photo's colours" if controls.keep_colors else ""
    steady = "  steady" if controls.steady else ""
    return f"{controls.strength:.0%}{stroke}{colours}{steady}"


def write_on(rgb, top, bottom, recording):
    """Write lines at the top left and the bottom left of a picture, in place; a red dot while it is recorded.

    Each line lies on a darkened strip, to be read on any picture; a tab leads to the second column.
    """
    scale, step = _letters(rgb)

    def line(text, y):
        columns = [(x * 2 * step + step // 2, part) for x, part in enumerate(text.split("\t"))]
        (width, _), _ = cv2.getTextSize(columns[-1][1], cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        _darken(rgb[max(0, y - step * 3 // 4) : y + step // 4, : columns[-1][0] + width + step // 2])
        for x, part in columns:
            _text(rgb, part, x, y, scale)

    for row, text in enumerate(top):
        line(text, step * (row + 1))
    for row, text in enumerate(reversed(bottom)):
        line(text, rgb.shape[0] - step // 2 - step * row)
    if recording:
        cv2.circle(rgb, (rgb.shape[1] - step, step), step // 3, (255, 0, 0), -1, cv2.LINE_AA)


def write_list(rgb, styles, chosen):
    """Write the styles at the right border of a picture, in place: number, thumbnail, name; the chosen one stands out.

    Where they are more than the height has room for, those around the chosen one.
    """
    scale, step = _letters(rgb)
    side, count = 2 * step, len(styles.names)
    rows = min(count, (rgb.shape[0] - 2 * step) // side)
    first = min(max(0, chosen - rows // 2), count - rows)
    widest = max(cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] for name in styles.names)
    left = max(0, rgb.shape[1] - (widest + 2 * side + step))
    _darken(rgb[step : step + rows * side, left:])
    for row, index in enumerate(range(first, first + rows)):
        top = step + row * side
        if index == chosen:
            cv2.rectangle(rgb, (left, top), (rgb.shape[1] - 1, top + side - 1), (255, 255, 255), max(1, step // 16))
        _text(rgb, f"{index + 1:2}", left + step // 4, top + side * 2 // 3, scale)
        _paste(rgb[top + 2 : top + side - 2, left + side + 2 : left + 2 * side - 2], styles.thumbnail(index))
        _text(rgb, styles.names[index], left + 2 * side + step // 4, top + side * 2 // 3, scale)


def _beside(photo, painted):
    """The two side by side, with black above and below: of the proportions of one, which are those of the window."""
    height, width = photo.shape[:2]
    rgb = np.zeros((2 * height, 2 * width, 3), np.uint8)
    rgb[height // 2 : height // 2 + height] = np.hstack([photo, painted])
    return rgb


def _letters(rgb):
    """Size of the letters (of OpenCV's font) and of the steps from line to line, in pixels."""
    scale = max(0.45, rgb.shape[0] / 800)
    return scale, round(32 * scale)


def _darken(part):
    np.multiply(part, 0.4, out=part, casting="unsafe")


def _text(rgb, text, x, y, scale):
    cv2.putText(rgb, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _paste(place, picture):
    """Put the middle of a picture into `place`, which it fills."""
    height, width = place.shape[:2]
    if picture is None or not place.size:
        return
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    fitted = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    top, left = (fitted.shape[0] - height) // 2, (fitted.shape[1] - width) // 2
    place[:] = fitted[top : top + height, left : left + width]
