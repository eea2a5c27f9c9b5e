"""Live: a webcam, a clip or a stream, stylized as it comes, for a window, a meeting, a pipe or a file.

    run_live(["starry.onnx", "wave.onnx"], source=0)

Capture, inference and display run in threads of their own, and hand over through mailboxes of one slot: who is slower
gets the newest frame, and what came between is dropped. So the delay is that of the frames under way, and never grows.
Of standard input nothing is dropped: who writes it waits.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from allaprima.core.checks import check_kind, check_path, check_size, check_switch, check_whole
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, Warned, Wrote, ignore
from allaprima.infer.library import find_style
from allaprima.infer.modelcheck import read_model
from allaprima.infer.modelfile import read_card
from allaprima.infer.overlay import Meter, View, describe
from allaprima.infer.steady import Painter
from allaprima.infer.stylizer import Stylizer
from allaprima.media.clips import STANDARD_INPUT
from allaprima.media.mailbox import Mailbox, Shot
from allaprima.media.pictures import write_rgb
from allaprima.media.sinks import Recorder, SinkClosed, Window
from allaprima.media.sources import SourceLost, first_opening, opener, source_name

TASK = "Live"  # the name of the task in events
BRUSHES = (0.5, 0.7, 1, 1.4, 2)  # the strokes that a key goes through; after the last come the network's own
PARTS = {"o": "beside", "h": "help", "?": "help", "l": "list", "i": "status"}  # of the View, by their keys
_RETRY = 0.5  # seconds between two tries to open a camera that is gone


class Styles:
    """The styles to switch between, opened when first wanted, and then kept."""

    def __init__(self, models, provider=None, threads=None):
        self._models = list(models)
        self._options = {"provider": provider, "threads": threads}
        self._open, self._thumbnails = {}, {}
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

    def thumbnail(self, index):
        """The thumbnail of the model's card, uint8 [h, w, 3], or None where it has none."""
        if index not in self._thumbnails:
            self._thumbnails[index] = self._thumbnail(self._models[index])
        return self._thumbnails[index]

    def _thumbnail(self, model):
        try:
            card = getattr(model, "card", None) if callable(model) else _card(find_style(model))
        except AllaprimaError:  # it is said when the style is chosen
            return None
        coded = np.frombuffer(card.thumbnail if card else b"", np.uint8)
        bgr = cv2.imdecode(coded, cv2.IMREAD_COLOR) if coded.size else None
        return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _card(path):
    return read_card(read_model(path), path)


def run_live(
    styles,
    source: int | str | Path | Callable = 0,
    *,
    controls: Controls | None = None,
    size=None,
    mirror=False,
    display=True,
    sinks=(),
    record=None,
    overwrite=False,
    frames=None,
    loop=False,
    deinterlace=True,
    provider=None,
    threads=None,
    snapshots=".",
    listener: Listener = ignore,
):
    """Stylize a camera, clip or picture as it comes, until its end, `frames` frames, the key q, or Ctrl-C.

    styles: what to switch between: paths or names of models, Stylizers, or what is called as one. The first one starts.
    source: a webcam's number, the path or URL of a video, the path of a picture, "-" for standard input, or a function
        that opens a source (media/sources.py).
    controls: what the keys turn, at the start. size: (width, height) to ask of a camera, or to fit a clip into.
    mirror: left and right swapped. display: in a window; without, a still is shown once.
    sinks: what gets each painted frame, beside the window (media/sinks.py); they are closed at the end.
    record: a video file to write, .mp4, .mov or .mkv. overwrite: it may take the place of a file that allaprima did not
    make. loop: a clip starts again at its end. deinterlace: make whole frames of a clip's interlaced ones.
    snapshots: the folder for pictures and recordings made by key.
    Raises AllaprimaError when the source, a model or the screen isn't there, or a file can't be written.
    """
    if not isinstance(styles, list | tuple) or not styles:
        raise AllaprimaError("styles must be a list of at least one model.")
    check_kind(Controls, controls=controls)
    check_switch(mirror=mirror, display=display, overwrite=overwrite, loop=loop, deinterlace=deinterlace)
    if frames is not None:
        check_whole(1, frames=frames)
    if size is not None:
        check_size(size)
    if isinstance(source, int):
        check_whole(0, source=source)
    elif not callable(source):
        check_path("source", source)
    piped = source == STANDARD_INPUT
    if piped and loop:
        raise AllaprimaError("Standard input can't start again at its end: leave out --loop.")
    inputs = [source] if isinstance(source, str | Path) and not piped else []
    recorder = Recorder(record, inputs, overwrite=overwrite, listener=listener) if record else None
    window, camera = None, None
    try:
        styles = Styles(styles, provider, threads)
        styles.get(0)
        window = Window() if display else None
        open_source = opener(source, size, loop, display, deinterlace)
        camera = first_opening(open_source, source)
        live = Live(
            styles,
            open_source,
            camera,
            window=window,
            sinks=sinks,
            recorder=recorder,
            controls=controls or Controls(),
            mirror=mirror,
            limit=frames,
            keeps_all=piped,
            folder=Path(snapshots),
            listener=listener,
        )
        how = "press h in the window for the keys, q to quit." if window else "Ctrl-C ends it."
        recording = f" Recording to {record}." if record else ""
        about = f"Live from {source_name(source)}, style {styles.names[0]}; {how}{recording}"
        listener(Started(TASK, frames, "frames", about))
        live.run()
    finally:
        for sink in filter(None, [window, *sinks]):
            sink.close()
        if recorder and camera is None:
            recorder.close()


class Live:
    """The three stages: `_capture` and `_paint` in threads, `run` where it is called, which windows insist on."""

    def __init__(
        self,
        styles,
        open_source,
        camera,
        *,
        window,
        sinks,
        recorder,
        controls,
        mirror,
        limit,
        keeps_all,
        folder,
        listener: Listener,
    ):
        self.styles, self.open_source, self.camera, self.window, self.sinks = styles, open_source, camera, window, sinks
        self.recorder, self.limit, self.folder, self.listener = recorder, limit, folder, listener
        # What the keys set and the stages read
        self.controls, self.style, self.mirror, self.view = controls, 0, mirror, View()
        self.lost = ""  # why no frames come, while none do
        self.must_record = recorder is not None
        self.taken, self.painted = Mailbox(keeps_all), Mailbox(keeps_all)
        self.meter, self.shown = Meter(), 0
        self._stopped, self._errors = threading.Event(), []

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
        except (KeyboardInterrupt, SinkClosed):
            pass  # the usual ways to end it without a window
        finally:
            self._stopped.set()
            self.taken.close()
            self.painted.close()
            for stage in stages:
                stage.join(timeout=5)
            self._stop_recording()
        if self._errors:
            raise self._errors[0]
        seconds = time.perf_counter() - began
        self.listener(Advanced(TASK, self.shown, self.shown, f"{self.shown / seconds:.1f} frames/s"))

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
                except SourceLost as lost:
                    if not self.lost:
                        self.listener(Warned(f"{lost} Waiting for it to come back."))
                    self.lost = f"{lost} Waiting for it to come back."
                    if camera:
                        camera.close()
                    camera = None
                    self._stopped.wait(_RETRY)
                    continue
                if rgb is None:
                    return
                self.lost = ""
                taken, start = time.perf_counter(), getattr(camera, "start", None)
                photo = cv2.flip(rgb, 1) if self.mirror else rgb
                self.taken.put(Shot(photo, taken, taken if start is None else start))
        finally:
            if camera:
                camera.close()

    # The second stage

    def _paint(self):
        painter = Painter()
        while (shot := self.taken.get()) is not None:
            stylizer = self._stylizer()
            self.painted.put(replace(shot, painted=painter(stylizer, shot.photo, self.controls)))

    def _stylizer(self):
        """The style that is chosen now; where its model can't be opened, the one that was in use."""
        wanted = self.style
        if not self.styles.has(wanted):
            self.view.say(f"Opening {self.styles.names[wanted]} ...", 60)
        try:
            stylizer = self.styles.get(wanted)
        except AllaprimaError as error:
            self.view.say(str(error), 6)
            self.style = wanted = self._in_use
            return self.styles.get(wanted)
        if wanted != self._in_use:
            self.view.say(self.styles.names[wanted])
        self._in_use = wanted
        return stylizer

    _in_use = 0

    # The third stage

    def _display(self):
        shot = None
        while self.limit is None or self.shown < self.limit:
            new = self.painted.get(timeout=0.01 if self.window else 0.2)
            if new is None:
                return
            fresh = new is not Mailbox.EMPTY
            shot = new if fresh else shot
            if fresh:
                for sink in filter(None, [self.recorder, *self.sinks]):
                    sink.take(shot)
            if self.window and self._draw(shot, fresh) == "q":
                return
            if fresh and shot:
                self.shown += 1
                self.meter.add(time.perf_counter(), shot.taken)
                self.listener(Advanced(TASK, self.shown, note=str(self.meter)))
            if self.recorder and self.recorder.failed:
                self._stop_recording()

    _drawn = 0.0

    def _draw(self, shot, fresh) -> str:
        """Show the newest frame, answer the keys; a frame that stays is drawn again now and then, for the messages."""
        now = time.perf_counter()
        if fresh or now - self._drawn > 0.1:
            self._drawn = now
            line = f"{self.styles.names[self.style]}  {describe(self.controls)}  {self.meter}"
            recording = self.recorder is not None
            rgb = self.view.picture(shot, self.styles, self.style, line, self.lost, recording)
            self.window.show(rgb, (shot.photo if shot else rgb).shape[1::-1])  # the original beside it changes no size
        key = self.window.key()
        if key:
            self.press(key, shot)
        return key

    # What the keys do

    def press(self, key, shot):
        key = key.lower()
        if key in "np":
            self.style = (self.style + (1 if key == "n" else -1)) % len(self.styles)
        elif key.isdecimal() and 1 <= int(key) <= len(self.styles):
            self.style = int(key) - 1
        elif key in "+=]-_[":
            step = 0.1 if key in "+=]" else -0.1
            strength = min(1.0, max(0.0, round(self.controls.strength + step, 2)))
            self.controls = replace(self.controls, strength=strength)
        elif key == "b":
            larger = (stroke for stroke in BRUSHES if stroke > (self.controls.stroke or 0))
            self.controls = replace(self.controls, stroke=next(larger, None))
        elif key == "c":
            self.controls = replace(self.controls, keep_colors=not self.controls.keep_colors)
        elif key == "t":
            self.controls = replace(self.controls, steady=not self.controls.steady)
        elif key in PARTS:
            setattr(self.view, PARTS[key], not getattr(self.view, PARTS[key]))
        elif key == "m":
            self.mirror = not self.mirror
        elif key == "f":
            self.window.toggle_full_screen()
        elif key == "s" and shot is not None:
            self._snapshot(shot)
        elif key == "r":
            self._toggle_recording()

    def _file(self, name, ending):
        return self.folder / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}{ending}"

    def _snapshot(self, shot):
        style = re.sub(r"[^\w.-]+", "_", self.styles.names[self._in_use])  # a name may have any letters in it
        path = self._file(f"allaprima-{style}", ".png")
        try:
            write_rgb(path, shot.painted)
            self._wrote(path)
        except AllaprimaError as error:
            self.view.say(str(error), 6)

    def _toggle_recording(self):
        if self.recorder:
            return self._stop_recording()
        try:
            self.recorder = Recorder(self._file("allaprima", ".mp4"))
        except AllaprimaError as error:
            self.view.say(str(error), 6)

    def _stop_recording(self):
        """Finish the file, if one is being written. Only the one that was asked for at the start may end the run."""
        recorder, self.recorder = self.recorder, None
        if recorder is None:
            return
        must, self.must_record = self.must_record, False
        try:
            recorder.close()
        except AllaprimaError as error:
            if must:
                raise
            self.view.say(str(error), 6)
            return
        if recorder.frames:
            lost = f", {recorder.dropped} left out" if recorder.dropped else ""
            self._wrote(recorder.path, f"{recorder.frames} frame{'s'[: recorder.frames != 1]}{lost}")

    def _wrote(self, path, about=""):
        self.listener(Wrote(path, about))
        self.view.say(f"Saved {path}")
