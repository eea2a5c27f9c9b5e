"""Where live pictures go: a window, a file.

A sink has `take(shot)`, which shows or keeps what is painted, and `close()`.
"""

import os
import queue
import subprocess
import sys
import threading
from fractions import Fraction

import cv2
from av.error import FFmpegError

from allaprima.core.errors import AllaprimaError
from allaprima.core.files import atomic
from allaprima.media.writer import VideoWriter, check_video_output


class Recorder:
    """A video file of what is shown, at the times at which it was captured; whole or not at all.

    It encodes in a thread of its own. Where that can't keep up, frames are left out (counted in `dropped`).
    inputs: paths that are read, and so may not be the file. how: as of `files.check_output`.
    """

    _TIME_BASE = Fraction(1, 90000)

    def __init__(self, path, inputs=(), **how):
        self.path = check_video_output(path, inputs, **how)
        self.frames = self.dropped = 0
        self._waiting, self._error = queue.Queue(8), None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, shot):
        try:
            self._waiting.put_nowait(shot)
        except queue.Full:
            self.dropped += 1

    @property
    def failed(self) -> bool:
        return self._error is not None

    def close(self):
        """Finish the file. Raises AllaprimaError when it could not be written, a full disk say."""
        while self._thread.is_alive():
            try:
                self._waiting.put(None, timeout=0.1)
                break
            except queue.Full:
                pass
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self):
        try:
            first = self._waiting.get()
            if first is not None:
                with atomic(self.path) as part:
                    self._write(part, first)
        except FFmpegError as error:
            self._error = AllaprimaError(f"FFmpeg can't write {self.path}: {error.strerror}.")
        except BaseException as error:
            self._error = error

    def _write(self, part, shot):
        height, width = shot.painted.shape[:2]
        began, last = shot.taken, -1
        with VideoWriter(part, width, height, 30, self._TIME_BASE) as writer:
            while shot is not None:
                rgb = shot.painted
                if rgb.shape != (height, width, 3):  # another camera came back
                    rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
                last = max(last + 1, round((shot.taken - began) / self._TIME_BASE))
                writer.write(rgb, last, duration=3000)
                self.frames += 1
                shot = self._waiting.get()


_NO_WINDOWS = (
    "This OpenCV can't open windows: install opencv-python in the place of opencv-python-headless, or add --no-display."
)


class Window:
    """A window of OpenCV's, opened with the first picture. Raises AllaprimaError where none can be opened."""

    def __init__(self, title="allaprima"):
        _check_display()
        self._title, self._size = title, None

    def take(self, shot):
        bgr = cv2.cvtColor(shot.painted, cv2.COLOR_RGB2BGR)
        size = bgr.shape[1::-1]
        if self._size is None:
            try:
                cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            except cv2.error as error:
                raise AllaprimaError(_NO_WINDOWS) from error
        if size != self._size:
            cv2.resizeWindow(self._title, *size)
            self._size = size
        cv2.imshow(self._title, bgr)

    def key(self) -> str:
        """The key pressed since the last call, "" when none was, "q" when the window was closed."""
        code = cv2.pollKey()
        try:
            closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # it was the last window, and OpenCV has put its window system away with it
            closed = True
        if closed and self._size:
            return "q"
        return "" if code < 0 else "q" if code & 255 == 27 else chr(code & 255)

    def close(self):
        cv2.destroyAllWindows()


def _check_display():
    """OpenCV's window system ends the whole process when it has no screen: so ask first, in a process of its own."""
    if not sys.platform.startswith("linux"):
        return
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # it warns of fonts that it lacks and we don't use
    advice = "Run it in a desktop session, or add --no-display (and --record FILE to keep the result)."
    if not os.environ.get("DISPLAY"):
        raise AllaprimaError(f"There is no screen to open a window on (DISPLAY is not set). {advice}")
    trial = [sys.executable, "-c", "import os, cv2; cv2.namedWindow('trial'); os._exit(0)"]
    ended = subprocess.run(trial, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    if ended < 0:
        raise AllaprimaError(f"No window can be opened on the screen {os.environ['DISPLAY']}. {advice}")
    if ended > 0:
        raise AllaprimaError(_NO_WINDOWS)
