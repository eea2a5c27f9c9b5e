"""A training of the studio, in a process of its own: `python -m allaprima.commands.worker FOLDER`.

FOLDER holds `training.json` (name, style_size, steps, or 0 and minutes) and `painting`. A checkpoint in it is
continued. Each event goes to standard output as a line of JSON, the last one is {"event": "Failed", "text": sentence}
where it failed. The end of standard input, which the death of the studio is too, stops the training, with a checkpoint.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

from allaprima.commands import share_processor
from allaprima.core.errors import AllaprimaError, import_with_extra
from allaprima.core.events import Advanced, Event, Listener
from allaprima.core.files import write_atomically
from allaprima.train.settings import make_settings

EVERY, PART = 15.0, 0.02  # seconds between two models of the moment, and the part of the time that they may take
SHOWN, POINTS = ("J", "content", "style"), 200  # the curves, and the points of each at most


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the studio's
    share_processor()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is not an event

    def tell(**values):
        with suppress(OSError):  # the studio is gone: there is a checkpoint to write
            print(json.dumps(values, default=str), file=out, flush=True)

    try:
        _train(Path(sys.argv[1]), lambda event: tell(event=type(event).__name__, **asdict(event)))
    except AllaprimaError as error:
        tell(event="Failed", text=str(error))
        sys.exit(2)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        tell(event="Failed", text=f"Something went wrong that allaprima did not foresee ({reason}).")
        sys.exit(1)


def _train(folder: Path, tell: Listener) -> None:
    began, stop = time.perf_counter(), threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(stop,), daemon=True).start()
    job = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    training = import_with_extra("allaprima.train.run")
    write_report = import_with_extra("allaprima.insight.report").write_report
    device = import_with_extra("allaprima.models.devices").check_device(None)

    style, output = folder / "painting", folder / f"{job['name']}.onnx"
    if training.checkpoint_of(output).exists():
        how = {"resume": True, "steps": job["steps"]}
    else:
        length = {"steps": job["steps"]} if job["steps"] else {"minutes": job["minutes"]}
        how = {"settings": make_settings(device.type, style_size=job["style_size"], **length)}
    trainer = training.begin(style, output, device=device, listener=tell, about={"name": job["name"]}, **how)
    moments = Moments(trainer, folder)

    def stepping(event: Event):
        tell(event)
        if isinstance(event, Advanced):
            moments.follow()

    def reporting(event: Event):
        if stop.is_set():  # a continuation begins the report anew
            raise training.Stopped(trainer.done, training.checkpoint_of(output))
        tell(event)

    if stop.is_set():
        # A studio that was killed just now may not have kept that we are at work, and the next one trains here too.
        return
    with suppress(training.Stopped):
        training.run(trainer, output, listener=stepping, stop=stop.is_set)
        moments.write()
        training.write_model(trainer, style, output, tell)
        page, seconds = output.with_suffix(".html"), time.perf_counter() - began
        write_report(page, trainer, style, output, seconds, reporting)


def _wait_for_the_end(stop: threading.Event) -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock a thread may not hold when the process ends
        pass
    stop.set()


class Moments:
    """The network of the moment as a model file, `moment.onnx`, and the costs so far, `costs.json`, for the page to show."""

    def __init__(self, trainer, folder: Path):
        self.trainer, self.folder, self.due = trainer, folder, 0.0

    def follow(self) -> None:
        """Write them when it is time."""
        now = time.monotonic()
        if now >= self.due:
            self.write()
            self.due = time.monotonic() + max(EVERY, (time.monotonic() - now) / PART)

    def write(self) -> None:
        """Write them as they are now. The model is not verified, which would take ten times as long as writing it."""
        build_graph = import_with_extra("allaprima.models.export").build_graph
        network = deepcopy(self.trainer.network).float().cpu().eval()
        write_atomically(self.folder / "costs.json", json.dumps(curves(self.trainer.history)))
        write_atomically(self.folder / "moment.onnx", build_graph(network).SerializeToString())


def curves(history: list[dict[str, float]]) -> dict[str, list[float]]:
    """The costs that SHOWN names, each a mean over so many steps that there are at most POINTS; `step` is the last of those."""
    each = -(-len(history) // POINTS) or 1
    groups = [history[first : first + each] for first in range(0, len(history), each)]
    means = {name: [sum(row[name] for row in rows) / len(rows) for rows in groups] for name in SHOWN}
    return {"step": [min(len(history), each * (k + 1)) for k in range(len(groups))], **means}


if __name__ == "__main__":
    main()
