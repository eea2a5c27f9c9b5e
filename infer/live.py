"""Live: a webcam or a clip, stylized as it comes, in a window or on a machine without one.

    run_live(["starry.onnx", "wave.onnx"], source=0)

Capture, inference and display run in threads of their own, and hand over through mailboxes of one slot: who is slower
gets the newest frame, and what came between is dropped. So the delay is that of the frames under way, and never grows.
"""

import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from allaprima.core.errors import AllaprimaError
from allaprima.core.files import write_atomically
from allaprima.core.progress import console
from allaprima.infer.overlay import HELP, Meter, write_on
from allaprima.infer.stylizer import Stylizer
from allaprima.media.mailbox import Mailbox, Shot
from allaprima.media.sinks import Recorder, Window
from allaprima.media.sources import SourceLost, first_opening, opener

_REPORT = 5.0  # seconds between two lines without a window
_RETRY = 0.5  # seconds between two tries to open a camera that is gone


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


def run_live(
    styles,
    source=0,
    *,
    strength=1.0,
    size=None,
    mirror=False,
    display=True,
    record=None,
    frames=None,
    loop=False,
    provider=None,
    threads=None,
    snapshots=".",
):
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
        open_source = opener(source, size, loop)
        camera = first_opening(open_source, source)
        live = Live(styles, open_source, camera, window, recorder, strength, mirror, frames, Path(snapshots))
        what = f"camera {source}" if str(source).isdecimal() else "source" if callable(source) else source
        console.print(
            f"Live from {what}, style {styles.names[0]}; "
            + ("press h in the window for the keys, q to quit." if window else "Ctrl-C ends it.")
            + (f" Recording to {record}." if record else ""),
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
        live.run()
    finally:
        if window:
            window.close()
        if recorder and camera is None:
            recorder.finish()


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
        stages = [
            threading.Thread(target=self._guarded, args=stage, daemon=True)
            for stage in ((self._capture, self.taken), (self._paint, self.painted))
        ]
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
        write_on(bgr, top, bottom, recording=self.recorder is not None)
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
            console.print(
                f"Recorded {recorder.frames} frames{lost} in {recorder.path}.", highlight=False, soft_wrap=True
            )
            self.say(f"Saved {recorder.path}")
