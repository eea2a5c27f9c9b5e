"""The studio's trainings: a line of them, one at a time in a process of its own, so that no torch is in the server.

All that is known of a training is in its folder, so a restart of the server goes on where the last one ended.
"""

import asyncio
import json
import re
import secrets
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from allaprima.core.errors import AllaprimaError
from allaprima.core.files import write_atomically
from allaprima.serve.library import Library, free_name
from allaprima.train.settings import Settings

WORKER = "allaprima.commands.worker"
STEPS_A_MINUTE = 440  # on two CPU cores: a first guess
TELLING = 100  # steps of a training after which its rate is that of the machine
LONG = 1.0  # minutes of a training that takes the seconds to measure the machine first, where no rate is known
WAITING, TRAINING, STOPPED, DONE, FAILED = "waiting", "training", "stopped", "done", "failed"


@dataclass
class Training:
    """What `training.json` in its folder holds, and what the page shows.

    steps: wanted, 0 while it is not known how many the minutes allow; `done` of them made. rate: steps a second. style:
    whether it hangs on the wall. about: what goes on, or went wrong, a sentence. process: the number of the one at work.
    """

    id: str
    name: str
    minutes: float
    steps: int
    style_size: int
    created: float
    state: str = WAITING
    done: int = 0
    rate: float = 0.0
    style: bool = False
    about: str = ""
    process: int = 0


class Trainings:
    """The line, and what is at its head. `work` runs until it is cancelled, which stops a training with a checkpoint."""

    def __init__(self, library: Library):
        self.library, self.wake = library, asyncio.Event()
        self.all: dict[str, Training] = {}
        self.child: asyncio.subprocess.Process | None = None
        self.stepped = False  # whether that has made a step

    def folder(self, training: Training) -> Path:
        return self.library.trainings / training.id

    def load(self) -> None:
        """Read what an earlier studio left; what it was training is in line again."""
        if not self.library.trainings.is_dir():
            return
        self.library.claim()
        for folder in self.library.trainings.glob("*"):
            if re.fullmatch("[0-9a-f]{16}", folder.name) and not (folder / "training.json").exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that was being added when the studio was killed
        known = {field.name for field in fields(Training)}
        found = []
        for path in self.library.trainings.glob("*/training.json"):
            with suppress(OSError, ValueError, TypeError):
                values = json.loads(path.read_text(encoding="utf-8")) | {"id": path.parent.name}
                found.append(Training(**{key: value for key, value in values.items() if key in known}))
        for training in sorted(found, key=lambda each: (each.state != TRAINING, each.created)):
            self.all[training.id] = training
            if training.state == TRAINING:
                training.state = WAITING

    def rate(self) -> float | None:
        """Steps a second on this machine; None where no training has told."""
        known = [each.rate for each in self.all.values() if each.rate and each.done >= TELLING]
        return known[-1] if known else None

    def steps(self, minutes: float) -> int:
        """The steps that take so many minutes."""
        return max(1, round(60 * minutes * (self.rate() or STEPS_A_MINUTE / 60)))

    def to_dict(self, training: Training) -> dict[str, Any]:
        """What the page is told of a training; `moment` and `style` change with the network and the style to look at."""
        folder = self.folder(training)
        steps = training.steps or self.steps(training.minutes)
        left = (steps - training.done) / (training.rate or self.rate() or STEPS_A_MINUTE / 60)
        return asdict(training) | {
            "left": round(left),
            "moment": _changed(folder / "moment.onnx"),
            "style": _changed(self.library.folder / f"{training.name}.onnx") if training.style else 0,
            "report": (folder / f"{training.name}.html").is_file(),
        }

    # -- what the page asks for ----------------------------------------------------------------------------------

    def add(self, name: str, painting: bytes, shown: bytes, minutes: float, style_size: int) -> Training:
        """Put a new training into the line. shown: the painting as a JPEG for the page.

        Raises AllaprimaError for a setting out of range, or a library that can't be written or is another studio's.
        """
        steps = self.steps(minutes) if self.rate() or minutes < LONG else 0
        Settings(minutes=minutes, style_size=style_size)
        taken = [style.name for style in self.library.styles()] + [each.name for each in self.all.values()]
        training = Training(secrets.token_hex(8), free_name(name, taken), minutes, steps, style_size, time.time())
        self.library.claim()
        for file, data in {"painting": painting, "painting.jpg": shown}.items():
            write_atomically(self.folder(training) / file, data)
        self._keep(training)
        self.all[training.id] = training
        self.wake.set()
        return training

    def stop(self, training: Training) -> None:
        """Out of the line, and where it is at work, stopped with a checkpoint."""
        if training.state not in (WAITING, TRAINING):
            return
        if training.state == TRAINING:
            self._close()
        training.state = STOPPED
        self._keep(training)

    def go_on(self, training: Training, minutes: float = 0) -> None:
        """Into the line again, with so many minutes more."""
        if training.state in (WAITING, TRAINING):
            return
        if minutes:
            training.minutes, training.steps = minutes, training.done + self.steps(minutes)
        training.state, training.about = WAITING, ""
        self._keep(training)
        self.wake.set()

    def remove(self, training: Training) -> None:
        """Forget a training that is not at work, with its checkpoint; a style on the wall stays there."""
        if training.state == TRAINING or self._is_at_work(training):
            raise AllaprimaError("This training is at work: stop it first, and give it a moment to save.")
        shutil.rmtree(self.folder(training), ignore_errors=True)
        del self.all[training.id]

    # -- the work ------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Train what is in line, the first first, for ever."""
        while True:
            training = next((each for each in self.all.values() if each.state == WAITING), None)
            if training is None:
                self.wake.clear()
                await self.wake.wait()
                continue
            try:
                await self._train(training)
            except Exception as error:  # a process can't be started, say: the line goes on
                training.state, training.about = FAILED, f"The training could not be done ({error})."
                with suppress(AllaprimaError):  # the disk may be full
                    self._keep(training)

    async def _train(self, training: Training) -> None:
        while self._is_at_work(training):  # a process of a studio that was killed, which writes its checkpoint
            await asyncio.sleep(0.2)
        if training.state != WAITING:
            return
        training.state, training.about, self.stepped = TRAINING, "Starting", False
        with open(self.folder(training) / "log.txt", "ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", WORKER, str(self.folder(training))),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        training.process = self.child.pid
        try:
            self._keep(training)
            failed = await self._listen(training, self.child)
        except BaseException:  # this task is cancelled, say: the studio ends
            self._close()
            raise
        finally:
            code = await self.child.wait()
            training.process = 0
        training.about = ""
        if training.state == TRAINING:
            training.state = FAILED if code else DONE
        if training.state == FAILED:
            log = self.folder(training) / "log.txt"
            training.about = failed or f"The training ended with exit code {code}; {log} says more."
        self._keep(training)

    async def _listen(self, training: Training, child) -> str:
        """Follow the events of the process until it ends; returns why it failed, if so."""
        first, failed = None, ""  # when this process began to step, and from where
        async for line in child.stdout:
            event = json.loads(line)
            match event["event"]:
                case "Started":
                    training.about = "Writing the report"
                    if event["task"] == "training":
                        training.about, training.steps = "Training", int(event["total"])
                        self._keep(training)
                case "Advanced" if event["task"] == "training":
                    training.done, self.stepped = int(event["done"]), True
                    first = first or (time.monotonic(), training.done)
                    seconds = time.monotonic() - first[0]
                    if seconds > 1:
                        training.rate = (training.done - first[1]) / seconds
                case "Wrote" if event["path"].endswith(".onnx"):
                    self._hang(training, Path(event["path"]))
                case "Failed":
                    failed = event["text"]
        return failed

    def _hang(self, training: Training, model: Path) -> None:
        """A copy of the model among the user's styles."""
        write_atomically(self.library.folder / model.name, model.read_bytes())
        training.style = True
        self._keep(training)

    def _close(self) -> None:
        """Tell the process at work to stop: the end of its input. One that has not made a step has nothing to save."""
        if self.child and self.child.stdin and self.child.returncode is None:
            self.child.stdin.close()
            if not self.stepped:
                self.child.kill()

    def _keep(self, training: Training) -> None:
        path = self.folder(training) / "training.json"
        write_atomically(path, json.dumps(asdict(training), indent=1))

    def _is_at_work(self, training: Training) -> bool:
        try:
            process = psutil.Process(training.process)
            return WORKER in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError):
            return False


def _changed(path: Path) -> int:
    """When a file was written last, in milliseconds; 0 when it is not there."""
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0
