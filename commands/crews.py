"""Trainings in processes of their own: one painting on several GPUs, or several paintings, one on each device.

A crew is the processes that train one painting. Where one of them dies, all are started again, from the last checkpoint.
"""

import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from allaprima.core.checks import check_path, check_whole, names_folder
from allaprima.core.errors import AllaprimaError, import_with_extra
from allaprima.core.events import Advanced, Event, Listener, Started, Task, Warned, ignore
from allaprima.core.files import check_output, identity
from allaprima.media.pictures import read_rgb
from allaprima.serve.library import free_name
from allaprima.train.settings import Settings

RESTARTS = 3  # of a crew, after which its training is given up
REFUSED, STOPPED = 2, 130  # exit codes of a process: the input was bad, it was told to stop; any other but 0 is a death
LOOK_EVERY = 0.5  # seconds between looks whether to stop


@dataclass(frozen=True)
class Job:
    """A painting to train. settings: None for those of its checkpoint, with `changes`. about: `name`, `credit`, `licence`, and
    whether the `painting` goes into the model file, each None for what the checkpoint has."""

    style: Path
    output: Path
    settings: Settings | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    overwrite: bool = False
    about: dict[str, Any] = field(default_factory=dict)
    report: bool = True

    @property
    def page(self) -> Path:
        """The report."""
        return self.output.with_suffix(".html")


def make_jobs(
    styles: list[Path],
    output: str | None,
    settings: Settings,
    changes: dict[str, Any] | None,
    resume: bool,
    **how: Any,
) -> list[Job]:
    """A job for each painting; of several, for those that are not trained yet, and all are checked before any is begun.

    output: a model file, or a folder. settings: those of a new training. changes: what is changed in those of a checkpoint;
    None where `settings` are given for it too. how: fields of Job.
    """
    ranks, checkpoints = import_with_extra("allaprima.train.ranks"), import_with_extra("allaprima.train.checkpoint")
    if len(styles) > 1 and how["about"]["name"]:
        raise AllaprimaError("--name is for one style: leave it out, and each gets the name of its painting.")
    styles = list({identity(style): style for style in styles}.values())
    jobs = []
    for style, target in zip(styles, _targets(styles, output), strict=True):
        there = ranks.of_first(checkpoints.checkpoint_of(target).exists)
        again = (resume and (there or len(styles) == 1)) or (ranks.restarted() and there)
        begun = {"changes": changes} if again and changes is not None else {"settings": settings}
        jobs.append(Job(style, target, resume=again, **begun, **how))
    if len(styles) > 1:
        jobs = [job for job in jobs if not (job.resume and _is_finished(job))]
        for job in jobs:
            read_rgb(job.style)
            import_with_extra("allaprima.train.run").checked_output(job.output, job.style, job.resume or job.overwrite)
            if job.report:
                check_output(job.page, [job.style], overwrite=job.overwrite)
    return jobs


def _targets(styles: list[Path], given: str | None) -> list[Path]:
    """The model file of each painting. given: a model file, or a folder."""
    output = None if given is None else check_path("output", given)
    is_folder = output is not None and (os.path.isdir(output) or names_folder(given or ""))
    if output and len(styles) == 1 and not is_folder:
        return [output]
    if output and not is_folder and output.suffix.lower() == ".onnx":
        raise AllaprimaError(f"{output} is the name of one file, and there are {len(styles)} paintings: give a folder.")
    names: list[str] = []
    for style in styles:
        names.append(free_name(style.stem, names, ".onnx") + ".onnx")
    return [(output or Path()) / name for name in names]


def _is_finished(job: Job) -> bool:
    """Whether no step is left, and its files are there and say what they shall."""
    checkpoints = import_with_extra("allaprima.train.checkpoint")
    tensors, values = checkpoints.read_checkpoint(checkpoints.checkpoint_of(job.output))
    steps = (job.settings.steps if job.settings else job.changes.get("steps")) or values["settings"].steps
    about = values.get("about", {})
    same = all(value in (None, about.get(key)) for key, value in job.about.items())
    done = len(tensors.get("history", ())) >= steps
    return done and same and os.path.exists(job.output) and (os.path.exists(job.page) or not job.report)


def carry_out(job: Job, device, listener: Listener, stopping: AbstractContextManager[Callable[[], bool]]) -> None:
    """Train, write the model file and the report, in this process. Raises run.Stopped when what `stopping` yields says so."""
    began = time.perf_counter()
    training, ranks = import_with_extra("allaprima.train.run"), import_with_extra("allaprima.train.ranks")
    if job.report and ranks.is_first():
        check_output(job.page, [job.style], overwrite=job.overwrite, listener=listener)
    how = {"resume": job.resume, "overwrite": job.overwrite, "device": device, "listener": listener, "about": job.about}
    trainer = training.begin(job.style, job.output, job.settings, **how, **job.changes)
    with stopping as stop:
        training.run(trainer, job.output, listener=listener, stop=stop)
    if not ranks.is_first():
        return
    training.write_model(trainer, job.style, job.output, listener)
    if job.report:
        write_report = import_with_extra("allaprima.insight.report").write_report
        write_report(job.page, trainer, job.style, job.output, time.perf_counter() - began, listener)


def crews_for(paintings: int, gpus: int | None, device: str | None) -> list[list[str]]:
    """The devices of each crew, by which so many paintings are trained; no crew where this process does it.

    Raises AllaprimaError where there are fewer GPUs, or torchrun has begun this.
    """
    check_whole(1, gpus=1 if gpus is None else gpus)
    there = import_with_extra("torch").cuda.device_count()
    if import_with_extra("allaprima.train.ranks").count() > 1 and (gpus or paintings > 1):
        raise AllaprimaError(
            "Under torchrun, all processes train one painting: give a single one, and leave --gpus out."
        )
    if gpus and device:
        raise AllaprimaError("--gpus and --device exclude each other: give one of them.")
    if gpus and gpus > there:
        found = f"{there} GPU{'s' * (there > 1)}" if there else "no GPU"
        raise AllaprimaError(f"This machine has {found} that torch can use, and --gpus asks for {gpus}: leave it out.")
    if paintings == 1 and (gpus or 1) == 1:
        return []
    count = gpus or (0 if device else there)
    devices = [f"cuda:{number}" for number in range(count)]
    devices = devices or [str(import_with_extra("allaprima.models.devices").check_device(device))]
    return [devices] if paintings == 1 else [[each] for each in devices]


def train_apart(jobs: list[Job], crews: list[list[str]], listener: Listener, stop: Callable[[], bool]) -> bool:
    """Carry out all jobs, as many at once as there are crews; returns whether all were, before `stop` said to end.

    Raises AllaprimaError where one can't be, when the others are done.
    """
    waiting, free, at_work = deque(jobs), deque(crews), list[Crew]()
    failed, alone = dict[Path, AllaprimaError](), len(jobs) == 1
    paintings = None if alone else Task(listener, "paintings", len(jobs))
    threads = max(1, (os.cpu_count() or 1) // sum(map(len, crews)))
    try:
        while at_work or (waiting and not stop()):
            while waiting and free and not stop():
                at_work.append(Crew(waiting.popleft(), free.popleft(), threads, listener, alone))
            crew_of = {pipe: crew for crew in at_work for pipe in crew.members}
            for pipe in wait(list(crew_of), LOOK_EVERY):
                crew_of[pipe].hear(pipe)
            for crew in [*at_work]:
                if stop():
                    crew.stop()
                if crew.members:
                    continue
                at_work.remove(crew)
                free.append(crew.devices)
                if crew.error:
                    failed[crew.job.style] = crew.error
                elif paintings and not crew.told:
                    paintings.advance()
    finally:
        for crew in at_work:
            crew.kill()
    if failed and alone:
        raise failed[jobs[0].style]
    if failed:
        reasons = " ".join(f"{style}: {error}" for style, error in failed.items())
        raise AllaprimaError(f"{len(failed)} of {len(jobs)} paintings could not be trained, the others are. {reasons}")
    return not stop()


class Crew:
    """The processes at work on a job, by the pipes to them; none are left when it is done, stopped, or failed with `error`."""

    def __init__(self, job: Job, devices: list[str], threads: int, listener: Listener, alone: bool):
        self.job, self.devices, self.threads = job, devices, threads
        self.listener, self.alone = listener, alone
        self.members: dict[Any, Any] = {}
        self.reasons: dict[Any, str] = {}  # what a process says before it dies, if anything
        self.error: AllaprimaError | None = None
        self.restarts, self.told = 0, False
        self._start()

    def _start(self) -> None:
        spawn = get_context("spawn")
        shared = {"WORLD_SIZE": str(len(self.devices)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        shared["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(self.threads))
        for rank, device in enumerate(self.devices):
            place = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_work, args=(self.job, device, place, theirs), daemon=True)
            process.start()
            theirs.close()  # or its end would not be seen
            self.members[ours] = process

    def hear(self, pipe: Any) -> None:
        """Take the next message of a process, or its end."""
        if pipe not in self.members:
            return
        try:
            message = pipe.recv()
        except (EOFError, OSError, UnpicklingError):
            self._ended(pipe)
            return
        if isinstance(message, AllaprimaError):
            self.error = message
        elif isinstance(message, str):
            self.reasons[pipe] = message
        else:
            self._tell(message)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Started) and event.task == "training":  # there is a checkpoint from now on
            self.job = replace(self.job, settings=None, changes={}, resume=True)
        if isinstance(event, Started | Advanced) and not self.alone:  # a bar for each crew
            event = replace(event, task=", ".join(self.devices))
        if isinstance(event, Advanced) and not self.alone:
            event = replace(event, note=f"{self.job.output.stem}  {event.note}")
        self.listener(event)

    def _ended(self, pipe: Any) -> None:
        process = self.members.pop(pipe)
        process.join()
        pipe.close()
        if process.exitcode in (0, STOPPED):
            return
        self.kill()  # the others would wait for it
        if process.exitcode == REFUSED or self.told:
            return
        died = (
            f"A process that trains {self.job.style} died ({self.reasons.get(pipe, f'exit code {process.exitcode}')})"
        )
        if self.restarts == RESTARTS:
            self.error = AllaprimaError(
                f"{died} for the {RESTARTS + 1}th time: give a smaller batch if memory ran out, and --resume continues it."
            )
            return
        self.restarts += 1
        self.listener(Warned(f"{died}: it goes on from the last checkpoint."))
        self._start()

    def stop(self) -> None:
        """Ask for a checkpoint and the end."""
        if not self.told:
            self.told = True
            for pipe in self.members:
                with suppress(OSError):
                    pipe.send("stop")

    def kill(self) -> None:
        """End its processes at once."""
        for pipe, process in self.members.items():
            process.kill()
            process.join()
            pipe.close()
        self.members = {}


def _work(job: Job, device: str, place: dict[str, str], pipe: Connection) -> None:
    """The life of a process: a job on a device, as the one of its crew that `place` says. What it is told means stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the process that tells
    os.environ.update(place)

    def tell(message: object) -> None:
        with suppress(OSError):  # nobody is there any more, and there is a checkpoint to write
            pipe.send(message)

    training, ranks = import_with_extra("allaprima.train.run"), import_with_extra("allaprima.train.ranks")
    try:
        with ranks.joined(device) as found:
            carry_out(job, found, tell if ranks.is_first() else ignore, nullcontext(pipe.poll))
    except AllaprimaError as error:
        tell(error)
        sys.exit(REFUSED)
    except training.Stopped:
        sys.exit(STOPPED)
    except Exception as error:
        if os.environ.get("ALLAPRIMA_DEBUG"):
            raise
        tell(f"{type(error).__name__}: {error}".splitlines()[0])
        sys.exit(1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
