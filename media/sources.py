"""Where live frames come from: a camera, a clip, a stream. Each has `read()` and `close()`."""

import time

import cv2

from allaprima.core.errors import AllaprimaError
from allaprima.media.clips import Clip, first_frame


class SourceLost(Exception):
    """A camera that can't be opened or has stopped giving frames; it may come back."""


class Webcam:
    """A camera by its number: `read()` waits for its next frame, uint8 [H, W, 3] RGB.

    size: (width, height) to ask for; the camera answers with the nearest that it has. Raises SourceLost.
    """

    def __init__(self, number, size=None):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # a missing camera is said in a sentence
        self._name = f"camera {number}"
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise SourceLost(f"There is no {self._name}.")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # no frames in store: each would be a frame of delay
        if size:
            # Raw pictures of this size don't fit through USB at full rate, JPEGs do.
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])

    def read(self):
        good, bgr = self._capture.read()
        if not good:
            raise SourceLost(f"{self._name[0].upper()}{self._name[1:]} gives no picture.")
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    def close(self):
        self._capture.release()


class Player:
    """A clip, or a stream from the net, in the place of a camera: `read()` waits until the next frame is due.

    size: (width, height) to fit larger frames into. Raises AllaprimaError when it is no video.
    """

    def __init__(self, path, size=None, loop=False):
        self._path, self._size, self._loop = path, size, loop
        self._open()

    def _open(self):
        self._clip = Clip(self._path)
        _, self._pictures = first_frame(self._clip)
        self._began = None

    def read(self):
        """The next frame, None at the end."""
        picture = next(self._pictures, None)
        if picture is None and self._loop:
            self.close()
            self._open()
            picture = next(self._pictures)
        endless = not self._clip.duration  # a stream from the net, which comes at its own pace
        if picture is None and endless:
            raise SourceLost(f"{self._path} has stopped.")
        if picture is None:
            return None
        if not endless:
            due = float(picture.start * self._clip.video.time_base)
            self._began = time.perf_counter() - due if self._began is None else self._began
            time.sleep(max(0.0, self._began + due - time.perf_counter()))
        return self._fitted(picture.rgb)

    def _fitted(self, rgb):
        height, width = rgb.shape[:2]
        scale = min(self._size[0] / width, self._size[1] / height) if self._size else 1
        if scale >= 1:
            return rgb
        return cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)

    def close(self):
        self._clip.close()


def opener(source, size, loop):
    """The function that opens the source, now and again after it was lost."""
    if callable(source):
        return source
    if str(source).isdecimal():
        return lambda: Webcam(int(source), size)
    return lambda: Player(source, size, loop)


def first_opening(open_source, source):
    try:
        return open_source()
    except SourceLost as lost:
        there = [n for n in range(6) if str(n) != str(source) and _is_camera(n)]
        advice = f"Try {' or '.join(map(str, there))}" if there else "Connect one, or give a video file"
        raise AllaprimaError(f"{str(lost).rstrip('.')}: {advice[0].lower()}{advice[1:]}.") from lost


def _is_camera(number) -> bool:
    try:
        Webcam(number).close()
    except SourceLost:
        return False
    return True
