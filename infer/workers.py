"""What the workers of an archive do, and where they are: in this process, in others of this machine, on a Ray cluster.

A pool hands tasks to workers. A task is a function of this module, called with what all have in common, `Work`, and the
`Job`, one file; it returns a `Report`, of what went wrong too. When a worker is lost, the pool's future raises.
"""

import os
import platform
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial, wraps
from multiprocessing import get_context
from queue import SimpleQueue

from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError, import_with_extra
from allaprima.core.events import Advanced, Listener, Warned, ignore
from allaprima.core.files import temporary_folder
from allaprima.core.remote import exists, fetched, stored
from allaprima.infer.jobs import in_a_sentence, is_hopeless, paint_picture
from allaprima.infer.stylizer import Stylizer, physical_cores
from allaprima.infer.video import paint_part, paint_video
from allaprima.media.parts import Span, find_spans, join_parts

_STORE = 100 * 2**20  # bytes of Ray's object store, where we start it: what workers return is small


@dataclass(frozen=True)
class Work:
    """What is the same for every file. name, model: of the style, its file's bytes. seconds: of a part of a video.

    The others are as in `stylize`.
    """

    name: str
    model: bytes
    controls: Controls
    provider: str | None
    threads: int
    foreign: str | None
    deinterlace: bool
    seconds: float


@dataclass(frozen=True)
class Job:
    """A file: a path or an address, and that of its result. replace: the result is there, and is to be replaced."""

    source: str
    target: str
    video: bool = False
    replace: bool = False


@dataclass
class Report:
    """What came of a task. frames: painted; spans: parts in which the video is to be painted; worker: machine and process.

    processor: seconds that it took of all cores. hopeless: no other file can be done either. names: what temporary paths
    stand for.
    """

    frames: int = 0
    processor: float = 0.0
    spans: list[Span] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str = ""
    hopeless: bool = False
    worker: str = field(default_factory=lambda: f"{platform.node()}:{os.getpid()}")
    names: dict[str, str] = field(default_factory=dict)

    def listener(self, event) -> None:
        if isinstance(event, Warned):
            self.warnings.append(self.in_words(event.text))
        elif isinstance(event, Advanced) and event.task != "tiles":
            self.frames = int(event.done)

    def in_words(self, text: str) -> str:
        for path, place in self.names.items():
            text = text.replace(path, place)
        return text


def _task(do):
    """The function as a task: called as do(work, job, report, *arguments), which fills in the report."""

    @wraps(do)
    def task(work: Work, job: Job, *arguments) -> Report:
        report, began = Report(), time.process_time()
        try:
            do(work, job, report, *arguments)
        except Exception as error:
            report.error = report.in_words(str(in_a_sentence(error, job.source)))
            report.hopeless = is_hopeless(error)
        report.processor = time.process_time() - began
        return report

    return task


@lru_cache(1)
def _stylizer(work: Work) -> Stylizer:
    """The model is loaded once in a process."""
    with temporary_folder() as folder:
        model = folder / f"{work.name}.onnx"
        model.write_bytes(work.model)
        return Stylizer(model, work.provider, work.threads, work.foreign)


@_task
def paint(work, job, report):
    """Paint a file, or say in which parts a long video is to be painted."""
    if _is_done(job):
        return
    stylizer = _stylizer(work)
    if job.video and not work.controls.steady:  # which needs the frame before
        report.spans = find_spans(job.source, work.seconds)
    if report.spans:
        return
    with stored(job.target, replace=job.replace) as target:
        report.names[str(target)] = job.target
        if job.video:
            how = {"deinterlace": work.deinterlace, "listener": report.listener}
            paint_video(job.source, target, stylizer, work.controls, **how)
            return
        with fetched(job.source) as source:
            report.names[str(source)] = job.source
            paint_picture(source, target, stylizer, work.controls, listener=report.listener)
        report.frames = 1


@_task
def paint_span(work, job, report, span, place):
    """Paint a part of a video into a file at `place`."""
    report.frames = span.frames
    if exists(place):
        return
    with stored(place, replace=False) as target:
        report.names[str(target)] = job.target
        how = {"deinterlace": work.deinterlace}
        report.frames = paint_part(job.source, target, _stylizer(work), work.controls, span, **how)


@_task
def join(work, job, report, places, frames):
    """Join the parts at `places`, of a video of so many frames."""
    if _is_done(job):
        return
    with stored(job.target, replace=job.replace) as target:
        report.names[str(target)] = job.target
        report.frames, left_out = join_parts(job.source, _each(places), target)
    if left_out:
        report.warnings.append(f"Left out of {job.target}: {'; '.join(left_out)}.")
    if report.frames < frames:
        report.warnings.append(f"{job.source} is damaged: some of it is lost; {report.frames} frames were kept.")


def _is_done(job) -> bool:
    """Did a worker finish the file that was lost before it could say so?"""
    return not job.replace and exists(job.target)


def _each(places):
    for place in places:
        with fetched(place) as path:
            yield path


@dataclass
class Pool:
    """submit: called as submit(task, job, *arguments), returns a Future of the Report. room: tasks to hand out at a time."""

    submit: Callable[..., Future]
    room: Callable[[], int]
    about: str


@contextmanager
def open_pool(work: Work, workers: int | None, ray: str | None, listener: Listener = ignore) -> Generator[Pool]:
    """A pool of `workers`, for the time of the block: on the Ray cluster where `ray` says, else on this machine.

    workers: one for each physical core when None; of a cluster, all that its CPUs allow.
    ray: an address, "local" for a cluster of this machine alone, "auto" for the one that this machine is in, or a local one.
    """
    workers = workers if workers or ray else physical_cores() or os.cpu_count() or 1
    with _on_ray(work, workers, ray, listener) if ray else _here(work, workers) as pool:
        yield pool


@contextmanager
def _here(work, workers):
    if workers == 1:  # this process
        yield Pool(lambda task, *arguments: _done(task(work, *arguments)), lambda: 1, "one worker")
        return
    processes = _Processes(work, workers)
    try:
        yield Pool(processes.submit, lambda: workers, f"{workers} workers")
    finally:
        processes.end()


def _done(result) -> Future:
    future = Future()
    future.set_result(result)
    return future


class _Processes:
    """Processes of one worker each, so that the one which is lost, for lack of memory say, takes no other task with it."""

    def __init__(self, work, workers):
        self._work, self._idle, self._all = work, SimpleQueue(), set()
        self._ended, self._lifeline = get_context("spawn").Pipe(duplex=False)
        for _ in range(workers):
            self._idle.put(self._new())

    def _new(self):
        new = ProcessPoolExecutor(1, get_context("spawn"), _begin, (self._ended,))
        self._all.add(new)
        return new

    def submit(self, task, *arguments) -> Future:
        process = self._idle.get()
        future = process.submit(task, self._work, *arguments)
        future.add_done_callback(partial(self._free, process))
        return future

    def _free(self, process, future):
        if not future.cancelled() and isinstance(future.exception(), BrokenExecutor):
            self._all.remove(process)
            process = self._new()
        self._idle.put(process)

    def end(self):
        self._lifeline.close()
        for process in self._all:
            process.shutdown(wait=True, cancel_futures=True)


def _begin(lifeline):
    """A worker ends with the process that started it, however that ends; Ctrl-C is that one's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        try:
            lifeline.recv()
        except EOFError:
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _on_ray(work, workers, address, listener):
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent
    os.environ.setdefault(
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0"
    )  # else `uv run` has Ray copy the whole folder to each node
    ray = import_with_extra("ray")
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address, workers or physical_cores() or None, listener)
    try:
        there = ray.cluster_resources()
        gpus = there.get("GPU", 0) if work.provider in ("cuda", "tensorrt") else 0
        needs = {"num_cpus": work.threads, "num_gpus": min(1, gpus / workers) if workers else min(1, gpus)}
        call, shared = ray.remote(_call).options(max_retries=0, **needs), ray.put(work)

        def room():  # more than are at work, so that none waits; as many as the cluster of the moment takes
            return workers or 2 * max(1, int(ray.cluster_resources().get("CPU", 1) // work.threads))

        about = f"{workers} workers" if workers else f"CPUs: {there.get('CPU', 0):g}, nodes: {len(ray.nodes())}"
        yield Pool(lambda task, *arguments: call.remote(task, shared, *arguments).future(), room, f"Ray, {about}")
    finally:
        if ours:
            ray.shutdown()


def _call(task, *arguments):
    return task(*arguments)


def _connect(ray, address, cpus, listener):
    quiet = {"log_to_driver": False, "configure_logging": False}
    try:
        if address not in ("local", "auto"):  # Ray itself waits for minutes
            host, _, port = address.rpartition("/")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        if address != "local":
            ray.init(address=address, **quiet)
            return
    except Exception as error:
        if address != "auto" or not isinstance(error, ConnectionError):
            reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
            raise AllaprimaError(
                f"There is no Ray cluster at {address} ({reason}). Give HOST:PORT as `ray start --head` prints it, or local."
            ) from error
        listener(Warned("No Ray cluster is running here: one of this machine alone is started for this work."))
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray keeps one in the home folder
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=_STORE, **quiet)
