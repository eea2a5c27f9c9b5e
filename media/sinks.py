"""Where live pictures go: a file, a pipe, a virtual camera, and a window, which shows what is written on them too.

A sink has `take(shot)`, which shows or keeps what is painted, and `close()`. It raises SinkClosed when nobody is at the
other end any more, and AllaprimaError when it can't be opened or written.
"""

import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from fractions import Fraction

import av
import cv2
import numpy as np
from av.error import FFmpegError

from allaprima.core.errors import AllaprimaError, import_with_extra
from allaprima.core.files import atomic
from allaprima.media.mailbox import Shot
from allaprima.media.writer import VideoWriter, check_video_output

_TIME_BASE = Fraction(1, 90000)  # seconds


class SinkClosed(Exception):
    """The receiver of the pictures has closed."""


class _Frames:
    """What an encoder can use of shots: pictures of the size of the first one, and times from 0 on that rise."""

    def __init__(self, first: Shot):
        self.height, self.width = first.painted.shape[:2]
        self._began, self._last = first.start, -1

    def of(self, shot: Shot) -> tuple[np.ndarray, int]:
        """The picture, uint8 [height, width, 3], and its time in units of _TIME_BASE."""
        rgb = np.asarray(shot.painted)
        if rgb.shape != (self.height, self.width, 3):  # another camera came back
            rgb = cv2.resize(rgb, (self.width, self.height), interpolation=cv2.INTER_AREA)
        self._last = max(self._last + 1, round((shot.start - self._began) / _TIME_BASE))
        return rgb, self._last


class Recorder:
    """A video file of what is shown, at the times at which it was captured; whole or not at all.

    It encodes in a thread of its own. Where that can't keep up, frames are left out (counted in `dropped`).
    inputs: paths that are read, and so may not be the file. how: as of `files.check_output`.
    """

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
        frames = _Frames(shot)
        with VideoWriter(part, frames.width, frames.height, 30, _TIME_BASE) as writer:
            while shot is not None:
                writer.write(*frames.of(shot), duration=3000)
                self.frames += 1
                shot = self._waiting.get()


class FramePipe:
    """Raw frames with their times, for FFmpeg: `ffmpeg -i -` reads what goes to standard output.

    The format is NUT (https://ffmpeg.org/nut.html), which says itself that the pixels are 8-bit RGB, and of what size.
    """

    def __init__(self, descriptor=1):
        self._container = av.open(f"pipe:{descriptor}", "w", format="nut")
        self._stream = self._frames = None

    def take(self, shot):
        self._frames = self._frames or _Frames(shot)
        self._stream = self._stream or self._opened(self._frames)
        rgb, start = self._frames.of(shot)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb))
        frame.pts, frame.time_base = start, _TIME_BASE
        try:
            self._container.mux(self._stream.encode(frame))
        except BrokenPipeError as error:
            raise SinkClosed from error
        except FFmpegError as error:
            raise AllaprimaError(f"The pipe can't be written: {error.strerror}.") from error

    def _opened(self, frames):
        stream = self._container.add_stream("rawvideo")
        stream.width, stream.height, stream.pix_fmt = frames.width, frames.height, "rgb24"
        stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.framerate = Fraction(0)  # not known: a reader takes it from the times
        return stream

    def close(self):
        with suppress(FFmpegError):  # the reader may have gone before
            self._container.close()


class VirtualCamera:
    """A camera for other programs to choose, of the size of the first picture: v4l2loopback's on Linux, OBS Studio's elsewhere."""

    def __init__(self):
        self._pyvirtualcam = import_with_extra("pyvirtualcam")
        self._camera = self._frames = None

    def take(self, shot):
        self._frames = self._frames or _Frames(shot)
        rgb, _ = self._frames.of(shot)
        rgb = np.ascontiguousarray(rgb[: len(rgb) // 2 * 2, : rgb.shape[1] // 2 * 2])  # they pass 4:2:0 on
        self._camera = self._camera or self._opened(rgb)
        self._camera.send(rgb)

    def _opened(self, rgb):
        height, width = rgb.shape[:2]
        try:
            return self._pyvirtualcam.Camera(width, height, 30)
        except RuntimeError as error:
            fix = _LOOPBACK if sys.platform.startswith("linux") else _OBS
            raise AllaprimaError(f"No virtual camera of {width}x{height} can be opened: {fix}.") from error

    def close(self):
        if self._camera:
            self._camera.close()


_LOOPBACK = "run `sudo modprobe v4l2loopback exclusive_caps=1`, of the package v4l2loopback-dkms, or close what uses it"
_OBS = "install OBS Studio, and start and stop its virtual camera once"


_NO_WINDOWS = (
    "This OpenCV can't open windows: install opencv-python in the place of opencv-python-headless, or add --no-display."
)


class Window:
    """A window of OpenCV's, opened with the first picture. Raises AllaprimaError where none can be opened."""

    def __init__(self, title="allaprima"):
        _check_display()
        self._title, self._size = title, None

    def show(self, rgb, size):
        """Show a picture, uint8 [H, W, 3], in a window of `size`, (width, height), or what the user has made of it."""
        if self._size is None:
            try:
                cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            except cv2.error as error:
                raise AllaprimaError(_NO_WINDOWS) from error
        if size != self._size:
            cv2.resizeWindow(self._title, *size)
            self._size = size
        cv2.imshow(self._title, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))

    def toggle_full_screen(self):
        full = cv2.getWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN)
        cv2.setWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN, float(not full))

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
