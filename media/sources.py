"""Where live frames come from: a camera, a clip, a stream, a pipe, a picture.

A source has `read()`, which waits for its next frame, uint8 [H, W, 3] RGB, and gives None at the end, and `close()`. It
raises SourceLost when no frames come but may come again, and AllaprimaError when it is over. It may have `start`: when
the frame read last is to be shown, in seconds; where it has none, that is when it was read.
"""

import os
import re
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from allaprima.core.errors import AllaprimaError
from allaprima.core.remote import is_url
from allaprima.media.clips import STANDARD_INPUT, Clip, first_frame
from allaprima.media.picture_kinds import is_picture
from allaprima.media.pictures import read_picture

_DEVICE = "/dev/video{}"  # a camera on Linux
_STILL = 0.1  # seconds after which a still is shown again: what was changed by key is seen at once


class SourceLost(Exception):
    """A source that can't be opened or has stopped giving frames; it may come back."""


class Webcam:
    """A camera by its number. size: (width, height) to ask for; the camera answers with the nearest that it has."""

    def __init__(self, number, size=None):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # a missing camera is said in a sentence
        self._number = number
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise SourceLost(_why_closed(number))
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # no frames in store: each would be a frame of delay
        if size:
            # Raw pictures of this size don't fit through USB at full rate, JPEGs do.
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])

    def read(self):
        good, bgr = self._capture.read()
        if not good or bgr is None or bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or not bgr.size:
            raise SourceLost(f"Camera {self._number} gives no picture.")
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    def close(self):
        self._capture.release()


class Player:
    """A clip, or a stream from the net, in the place of a camera: each frame comes when it is due.

    A file ends, whether it tells its length or not; a stream that stops may come back. Standard input is read as it
    comes, and `start` tells when a frame of it is to be shown. Pixels come out square.
    size: (width, height) to fit larger frames into. loop: a file starts again at its end.
    """

    def __init__(self, path, size=None, loop=False, deinterlace=True):
        self._path, self._size, self._loop, self._deinterlace = path, size, loop, deinterlace
        self._piped, self.start = path == STANDARD_INPUT, None
        self._open()

    def _open(self):
        try:
            self._clip = Clip(self._path, deinterlace=self._deinterlace)
            _, self._pictures = first_frame(self._clip)
        except AllaprimaError as error:
            if is_url(self._path):
                raise SourceLost(str(error)) from error
            raise
        self._began, self._until = None, 0.0

    def read(self):
        picture = next(self._pictures, None)
        if picture is None and self._began is not None:  # the last one stays as long as it should
            time.sleep(max(0.0, self._began + self._until - time.perf_counter()))
        if picture is None and self._clip.endless:
            raise SourceLost(f"{self._path} has stopped.")
        if picture is None and self._loop:
            self.close()
            self._open()
            picture = next(self._pictures)
        if picture is None:
            return None
        due = float(picture.start * self._clip.video.time_base)
        self._until = due + float(picture.duration * self._clip.video.time_base)
        if self._piped:
            self.start = due
        elif not self._clip.endless:  # a stream comes at its own pace
            self._began = time.perf_counter() - due if self._began is None else self._began
            time.sleep(max(0.0, self._began + due - time.perf_counter()))
        return _fitted(picture.rgb, self._size, self._clip.aspect or 1)

    def close(self):
        self._clip.close()


class Slide:
    """A picture in the place of a camera: a still stays, if wanted, an animation plays.

    size: (width, height) to fit a larger picture into. stays: give a still again and again, or once.
    loop: an animation starts again at its end, and a still stays.
    """

    def __init__(self, path, size=None, stays=False, loop=False):
        frames = read_picture(path).frames
        if not all(frame.duration for frame in frames):  # pages, and not an animation
            frames = frames[:1]
        self._frames = [(_fitted(frame.pixels, size), frame.duration / 1000) for frame in frames]
        self._again = loop or (stays and len(frames) == 1)
        self._next, self._due = 0, time.perf_counter()

    def read(self):
        if self._next == len(self._frames) and not self._again:
            return None
        self._next %= len(self._frames)
        rgb, seconds = self._frames[self._next]
        self._next += 1
        time.sleep(max(0.0, self._due - time.perf_counter()))
        self._due = time.perf_counter() + (seconds or _STILL)
        return rgb

    def close(self):
        pass


def _fitted(rgb, size, aspect: Fraction | int = 1):
    """The picture with square pixels, no larger than `size`."""
    height, width = rgb.shape[:2]
    width, height = (width * aspect, height) if aspect > 1 else (width, height / aspect)
    scale = min(1, size[0] / width, size[1] / height) if size else 1
    fitted = max(1, round(width * scale)), max(1, round(height * scale))
    return rgb if fitted == rgb.shape[1::-1] else cv2.resize(rgb, fitted, interpolation=cv2.INTER_AREA)


def opener(source, size=None, loop=False, stays=False, deinterlace=True):
    """The function that opens the source, now and again after it was lost."""
    if callable(source):
        return source
    number = _camera_number(source)
    if number is not None:
        return lambda: Webcam(number, size)
    if source != STANDARD_INPUT and not is_url(source) and is_picture(source):
        return lambda: Slide(source, size, stays, loop)
    return lambda: Player(source, size, loop, deinterlace)


def first_opening(open_source, source):
    """Open the source. A camera that is not there is an AllaprimaError with advice."""
    try:
        return open_source()
    except SourceLost as lost:
        if isinstance(lost.__cause__, AllaprimaError):  # an address that can't be opened
            raise lost.__cause__ from lost
        there = [n for n in range(6) if n != _camera_number(source) and _is_camera(n)]
        advice = f"Try {' or '.join(map(str, there))}" if there else "Connect one, or give a video file"
        raise AllaprimaError(f"{lost} {advice}.") from lost


def source_name(source) -> str:
    """What to call the source in a sentence."""
    if callable(source):
        return "a source"
    number = _camera_number(source)
    if number is not None:
        return f"camera {number}"
    return "standard input" if source == STANDARD_INPUT else str(source)


def _camera_number(source) -> int | None:
    """The number in 0, "0" or "/dev/video0"."""
    device = re.fullmatch(r"(?:/dev/video)?(\d+)", "" if callable(source) else str(source), re.ASCII)
    return int(device[1]) if device else None


def _is_camera(number) -> bool:
    try:
        Webcam(number).close()
    except SourceLost:
        return False
    return True


def _why_closed(number) -> str:
    """A camera that is there but can't be opened is in other hands, on Linux, where that can be told."""
    device = Path(_DEVICE.format(number))
    if not device.exists():
        return f"There is no camera {number}."
    if not os.access(device, os.R_OK | os.W_OK):
        return f"No permission for camera {number} ({device}): add your user to the group that owns it, or use another."
    return f"Camera {number} ({device}) is there and gives no picture: another program may be using it, so close that."
