"""Live: a webcam or a clip, stylized as it comes, in a window or on a machine without one.

    run_live(["starry.onnx", "wave.onnx"], source=0)

Capture, inference and display run in threads of their own, and hand over through mailboxes of one slot: who is slower
gets the newest frame, and what came between is dropped. So the delay is that of the frames under way, and never grows.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from allaprima.errors import AllaprimaError
from allaprima.files import atomic, write_atomically
from allaprima.infer.stylizer import Stylizer
from allaprima.infer.video import Clip, VideoWriter, check_video_output, first_picture
from allaprima.progress import console

HELP = [
    "n p\tnext, previous style", "1-9\tstyle by number", "+ -\tstrength", "o\toriginal beside it",
    "s\tsnapshot", "r\trecord, stop", "h\tthis help", "q\tquit",
]
_REPORT = 5.0  # seconds between two lines without a window
_RETRY = 0.5  # seconds between two tries to open a camera that is gone


class SourceLost(Exception):
    """A camera that can't be opened or has stopped giving frames; it may come back."""


@dataclass(frozen=True)
class Shot:
    """A frame under way: `photo` as captured at `taken` (seconds of time.perf_counter), and as `painted`."""

    photo: np.ndarray
    taken: float
    painted: np.ndarray | None = None


class Mailbox:
    """One slot between two threads: a new letter takes the place of an unread one."""

    EMPTY = object()

    def __init__(self):
        self._changed = threading.Condition()
        self._letter, self._closed = self.EMPTY, False

    def put(self, letter):
        with self._changed:
            self._letter = letter
            self._changed.notify()

    def close(self):
        """No more letters come; the last one can still be read."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def get(self, timeout=None):
        """The newest letter; None when closed and empty; EMPTY when none came within `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._letter is not self.EMPTY, timeout)
            letter, self._letter = self._letter, self.EMPTY
            return None if letter is self.EMPTY and self._closed else letter


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
        _, self._pictures = first_picture(self._clip)
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


class Styles:
    """The styles to switch between, opened when first wanted, and then kept."""

    def __init__(self, models, provider=None, threads=None):
        self._models = list(models)
        self._options = {"provider": provider, "threads": threads}
        self._open = {}
        self.names = [getattr(m, "name", None) or Path(str(m)).stem for m in self._models]

    def __len__(self):
        return len(self._models)

    def has(self, index):
        return index in self._open

    def get(self, index):
        """The stylizer; AllaprimaError when its model can't be opened."""
        if index not in self._open:
            model = self._models[index]
            self._open[index] = model if callable(model) else Stylizer(model, one_size=True, **self._options)
            self.names[index] = getattr(self._open[index], "name", None) or self.names[index]
        return self._open[index]


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


class Recorder:
    """A video file of what is shown, at the times at which it was captured; whole or not at all.

    It encodes in a thread of its own. Where that can't keep up, frames are left out (counted in `dropped`).
    """

    _TIME_BASE = Fraction(1, 90000)

    def __init__(self, path):
        self.path = check_video_output(path)
        self.frames = self.dropped = 0
        self._waiting, self._error = queue.Queue(8), None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, shot):
        try:
            self._waiting.put_nowait(shot)
        except queue.Full:
            self.dropped += 1

    @property
    def failed(self) -> bool:
        return self._error is not None

    def finish(self):
        """Close the file. Raises AllaprimaError when it could not be written, a full disk say."""
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


_NO_WINDOWS = ("This OpenCV can't open windows: install opencv-python in the place of opencv-python-headless, "
               "or add --no-display.")


class Window:
    """A window of OpenCV's, opened with the first picture. Raises AllaprimaError where none can be opened."""

    def __init__(self, title="allaprima"):
        _check_display()
        self._title, self._size = title, None

    def show(self, bgr):
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


def parse_size(text) -> tuple[int, int]:
    """(width, height) from "640x480"; AllaprimaError when it is anything else."""
    width, _, height = str(text).lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) >= 16 and int(height) >= 16):
        raise AllaprimaError(f"{text} is no size. Give width and height of at least 16 pixels, as in 640x480.")
    return int(width), int(height)


def run_live(styles, source=0, *, strength=1.0, size=None, mirror=False, display=True, record=None, frames=None,
             loop=False, provider=None, threads=None, snapshots="."):
    """Stylize a camera or clip as it comes, until its end, `frames` frames, the key q, or Ctrl-C.

    styles: what to switch between: paths or names of models, or Stylizers. The first is the one to start with.
    source: a webcam's number, the path or URL of a video, or a function that opens an object with `read()` (the next
        frame, uint8 [H, W, 3] RGB; None at the end; raises SourceLost) and `close()`.
    strength: 0 (the photo) to 1 (the full style). size: (width, height) to ask of a camera, or to fit a clip into.
    mirror: left and right swapped. display: in a window; without, the rate is printed every few seconds.
    record: a video file to write, .mp4, .mov or .mkv. loop: a clip starts again at its end.
    snapshots: the folder for pictures and recordings made by key.
    Raises AllaprimaError when the source, a model or the screen isn't there, or a file can't be written.
    """
    if not styles:
        raise AllaprimaError("No style was given: name at least one model.")
    styles = Styles(styles, provider, threads)
    styles.get(0)
    recorder = Recorder(record) if record else None
    window, camera = None, None
    try:
        window = Window() if display else None
        open_source = _opener(source, size, loop)
        camera = _first_opening(open_source, source)
        live = Live(styles, open_source, camera, window, recorder, strength, mirror, frames, Path(snapshots))
        what = f"camera {source}" if str(source).isdecimal() else "source" if callable(source) else source
        console.print(f"Live from {what}, style {styles.names[0]}; "
                      + ("press h in the window for the keys, q to quit." if window else "Ctrl-C ends it.")
                      + (f" Recording to {record}." if record else ""), highlight=False, soft_wrap=True, markup=False)
        live.run()
    finally:
        if window:
            window.close()
        if recorder and camera is None:
            recorder.finish()


def _opener(source, size, loop):
    """The function that opens the source, now and again after it was lost."""
    if callable(source):
        return source
    if str(source).isdecimal():
        return lambda: Webcam(int(source), size)
    return lambda: Player(source, size, loop)


def _first_opening(open_source, source):
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


class Live:
    """The three stages: `_capture` and `_paint` in threads, `run` where it is called, which windows insist on."""

    def __init__(self, styles, open_source, camera, window, recorder, strength, mirror, limit, folder):
        self.styles, self.window, self.recorder, self.limit, self.folder = styles, window, recorder, limit, folder
        self.open_source, self.camera, self.mirror = open_source, camera, mirror
        # What the keys set and the stages read
        self.strength, self.style, self.beside, self.help = strength, 0, False, False
        self.lost = ""  # why no frames come, while none do
        self.must_record = recorder is not None
        self.taken, self.painted = Mailbox(), Mailbox()
        self.meter, self.shown = Meter(), 0
        self._stopped, self._errors = threading.Event(), []
        self._message, self._message_until = "", 0.0

    def run(self):
        stages = [threading.Thread(target=self._guarded, args=stage, daemon=True)
                  for stage in ((self._capture, self.taken), (self._paint, self.painted))]
        for stage in stages:
            stage.start()
        began = time.perf_counter()
        try:
            self._display()
        except KeyboardInterrupt:
            pass  # the usual way to end it without a window
        finally:
            self._stopped.set()
            self.taken.close()
            for stage in stages:
                stage.join(timeout=5)
            self._stop_recording()
        if self._errors:
            raise self._errors[0]
        seconds = time.perf_counter() - began
        console.print(f"{self.shown} frames in {seconds:.1f} s, {self.shown / seconds:.1f} frames/s.", highlight=False)

    def _guarded(self, stage, out):
        try:
            stage()
        except BaseException as error:
            self._errors.append(error)
        finally:
            out.close()

    # The first stage

    def _capture(self):
        camera = self.camera
        try:
            while not self._stopped.is_set():
                try:
                    camera = camera or self.open_source()
                    rgb = camera.read()
                except (SourceLost, AllaprimaError) as lost:  # the latter from a stream that can't be opened again
                    self.lost = f"{lost} Waiting for it to come back."
                    if camera:
                        camera.close()
                    camera = None
                    self._stopped.wait(_RETRY)
                    continue
                if rgb is None:
                    return
                self.lost = ""
                self.taken.put(Shot(cv2.flip(rgb, 1) if self.mirror else rgb, time.perf_counter()))
        finally:
            if camera:
                camera.close()

    # The second stage

    def _paint(self):
        while (shot := self.taken.get()) is not None:
            self.painted.put(replace(shot, painted=self._stylizer()(shot.photo, strength=self.strength)))

    def _stylizer(self):
        """The style that is chosen now; where its model can't be opened, the one that was in use."""
        wanted = self.style
        if not self.styles.has(wanted):
            self.say(f"Opening {self.styles.names[wanted]} ...", 60)
        try:
            stylizer = self.styles.get(wanted)
        except AllaprimaError as error:
            self.say(str(error), 6)
            self.style = wanted = self._in_use
            return self.styles.get(wanted)
        if wanted != self._in_use:
            self.say(self.styles.names[wanted])
        self._in_use = wanted
        return stylizer

    _in_use = 0

    # The third stage

    def _display(self):
        shot, reported = None, time.perf_counter()
        while self.limit is None or self.shown < self.limit:
            new = self.painted.get(timeout=0.01 if self.window else 0.2)
            if new is None:
                return
            fresh = new is not Mailbox.EMPTY
            shot = new if fresh else shot
            if fresh and self.recorder:
                self.recorder.add(shot)
            if self.window and self._draw(shot, fresh) == "q":
                return
            now = time.perf_counter()
            if fresh:
                self.shown += 1
                self.meter.add(now, shot.taken)
            if self.recorder and self.recorder.failed:
                self._stop_recording()
            if not self.window and now - reported > _REPORT:
                reported = now
                console.print(self.lost or str(self.meter), highlight=False, soft_wrap=True)

    _drawn = 0.0

    def _draw(self, shot, fresh) -> str:
        """Show the newest frame, answer the keys; a frame that stays is drawn again now and then, for the messages."""
        now = time.perf_counter()
        if fresh or now - self._drawn > 0.1:
            self._drawn = now
            self.window.show(self._picture(shot))
        key = self.window.key()
        if key:
            self.press(key, shot)
        return key

    def _picture(self, shot):
        """The picture with what is written on it, uint8 BGR."""
        if shot is None:
            bgr = np.zeros((480, 640, 3), np.uint8)
        else:
            sides = [shot.photo, shot.painted] if self.beside else [shot.painted]
            bgr = cv2.cvtColor(np.hstack(sides), cv2.COLOR_RGB2BGR)
        line = f"{self.styles.names[self.style]}  {self.strength:.0%}  {self.meter}"
        top = [line] + (HELP if self.help else [])
        bottom = [text for text in (self._notice(), self.lost) if text]
        _write_on(bgr, top, bottom, recording=self.recorder is not None)
        return bgr

    # What the keys do

    def press(self, key, shot):
        key = key.lower()
        if key in "np":
            self.style = (self.style + (1 if key == "n" else -1)) % len(self.styles)
        elif key.isdecimal() and 1 <= int(key) <= len(self.styles):
            self.style = int(key) - 1
        elif key in "+=]-_[":
            step = 0.1 if key in "+=]" else -0.1
            self.strength = min(1.0, max(0.0, round(self.strength + step, 2)))
        elif key == "o":
            self.beside = not self.beside
        elif key in "h?":
            self.help = not self.help
        elif key == "s" and shot is not None:
            self._snapshot(shot)
        elif key == "r":
            self._toggle_recording()

    def say(self, text, seconds=3.0):
        """Show a message in the window for a while."""
        self._message, self._message_until = text, time.perf_counter() + seconds

    def _notice(self) -> str:
        return self._message if time.perf_counter() < self._message_until else ""

    def _file(self, ending):
        return self.folder / f"allaprima-{datetime.now():%Y%m%d-%H%M%S-%f}{ending}"

    def _snapshot(self, shot):
        path = self._file(".png")
        try:
            write_atomically(path, cv2.imencode(".png", cv2.cvtColor(shot.painted, cv2.COLOR_RGB2BGR))[1].tobytes())
            self.say(f"Saved {path}")
        except AllaprimaError as error:
            self.say(str(error), 6)

    def _toggle_recording(self):
        if self.recorder:
            return self._stop_recording()
        try:
            self.recorder = Recorder(self._file(".mp4"))
        except AllaprimaError as error:
            self.say(str(error), 6)

    def _stop_recording(self):
        """Finish the file, if one is being written. Only the one that was asked for at the start may end the run."""
        recorder, self.recorder = self.recorder, None
        if recorder is None:
            return
        must, self.must_record = self.must_record, False
        try:
            recorder.finish()
        except AllaprimaError as error:
            if must:
                raise
            self.say(str(error), 6)
            return
        if recorder.frames:
            lost = f" ({recorder.dropped} left out)" if recorder.dropped else ""
            console.print(f"Recorded {recorder.frames} frames{lost} in {recorder.path}.",
                          highlight=False, soft_wrap=True)
            self.say(f"Saved {recorder.path}")


def _write_on(bgr, top, bottom, recording):
    """Write lines at the top left and the bottom left of a picture, in place; a red dot while it is recorded.

    Each line lies on a darkened strip, to be read on any picture; a tab leads to the second column.
    """
    scale = max(0.45, bgr.shape[0] / 800)
    step = round(32 * scale)

    def line(text, y):
        columns = [(x * 2 * step + step // 2, part) for x, part in enumerate(text.split("\t"))]
        (width, _), _ = cv2.getTextSize(columns[-1][1], cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        strip = bgr[max(0, y - step * 3 // 4) : y + step // 4, : columns[-1][0] + width + step // 2]
        np.multiply(strip, 0.4, out=strip, casting="unsafe")
        for x, part in columns:
            cv2.putText(bgr, part, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)

    for row, text in enumerate(top):
        line(text, step * (row + 1))
    for row, text in enumerate(reversed(bottom)):
        line(text, bgr.shape[0] - step // 2 - step * row)
    if recording:
        cv2.circle(bgr, (bgr.shape[1] - step, step), step // 3, (0, 0, 255), -1, cv2.LINE_AA)
