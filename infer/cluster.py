"""Archives: any number of pictures and videos painted by many workers, of this machine or of a cluster, and resumed.

    stylize_archive("photos/", "painted/", "wave", workers=8)
    stylize_archive("s3://archive/films", "s3://archive/painted", "wave", ray="auto")

Long videos are cut at keyframes (media/parts.py), so that many workers paint one, and its parts are joined. The plan is the
same wherever the workers are. A result gets its name when it is whole; so what is there is done, and a manifest beside the
results says of which work, and which results are of before and still to be replaced.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from allaprima.core.checks import StrPath, check_positive, check_switch, check_whole
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, Warned, Wrote, ignore
from allaprima.core.files import check_outputs, sweep, temporary_folder
from allaprima.core.remote import exists, files_below, is_url, read_text, remove_folder, write_text
from allaprima.infer.jobs import check_failed, tell_left_out
from allaprima.infer.library import DEFAULT_STYLE
from allaprima.infer.plan import Plan, make_plan, plan_addresses
from allaprima.infer.stylizer import MOST_THREADS, Stylizer
from allaprima.infer.workers import Job, Pool, Report, Work, join, open_pool, paint, paint_span

FOLDER = ".allaprima"  # in the output: the manifest, and the parts of videos that are at work
PART_SECONDS = 60.0  # long enough that opening the file is nothing beside the painting, short enough to share out
MOST_WORKERS = 1024  # that can be asked for; without a number, as many as the machine or the cluster has room for
_TRIES = 3  # times that a task is begun when its workers are lost: it may be the task that ends them
_LINES, _PAUSE = 1000, 5.0  # of a piece of the manifest; seconds between two writings


def stylize_archive(
    source: StrPath | Sequence[StrPath],
    output: StrPath,
    model: StrPath = DEFAULT_STYLE,
    strength: float | Controls = 1.0,
    provider: str | None = None,
    threads: int | None = None,
    foreign: str | None = None,
    *,
    workers: int | None = None,
    ray: str | None = None,
    seconds: float = PART_SECONDS,
    overwrite: bool = False,
    deinterlace: bool = True,
    listener: Listener = ignore,
) -> list[str]:
    """Stylize pictures and videos with many workers; returns the paths and addresses written in this run.

    source: as of `stylize`; or addresses that fsspec opens, of files or folders, whose kinds the endings of names tell.
    output: a folder, or the address of one. What an earlier run with the same model and controls has written stays.
    model, strength, provider, foreign, overwrite, deinterlace: as of `stylize`. threads: of each worker, 1 when None.
    workers: how many; one for each physical core when None, or with `ray` what the cluster has room for.
    ray: the address of a Ray cluster, "local", "auto" (`workers.open_pool`), or None: processes of this machine.
    seconds: that a part of a video is long, at least. Videos of less than two parts are not cut, nor with
    `Controls.steady`, whose frames need the one before.

    With processes, a program must guard its main module by `if __name__ == "__main__"`, as for multiprocessing.
    Raises AllaprimaError as `stylize` does; a rerun goes on with what is left.
    """
    if workers is not None:
        check_whole(1, MOST_WORKERS, workers=workers)
    if threads is not None:
        check_whole(1, MOST_THREADS, threads=threads)
    check_positive(seconds=seconds)
    check_switch(overwrite=overwrite, deinterlace=deinterlace)
    controls = strength if isinstance(strength, Controls) else Controls(strength)
    style = Stylizer(model, "cpu" if ray else provider, 1, foreign)  # what is not a model is told now
    how = (provider, threads or 1, foreign, deinterlace, float(seconds))
    work = Work(style.path.stem, style.path.read_bytes(), controls, *how)
    folder = _place(output)
    plan, targets = _plan(source, folder, work.name)
    manifest = Manifest(f"{folder}/{FOLDER}", work)
    jobs = _jobs(plan, targets, folder, manifest, overwrite, listener)
    tell_left_out(plan, listener)
    if len(jobs) < len(targets):
        listener(
            Warned(f"{len(targets) - len(jobs)} of {len(targets)} files are done already, as {folder}/{FOLDER} says.")
        )
    archive = _Archive(jobs, manifest, listener)
    try:
        if jobs:
            with open_pool(work, workers, ray, listener) as pool:
                archive.run(pool, f"Stylizing {len(jobs)} file{'s'[: len(jobs) > 1]} into {folder}")
    finally:
        manifest.write()
        for place in (
            set() if is_url(folder) else {Path(target).parent for target in (*targets.values(), manifest.parts)}
        ):
            sweep(place)
    check_failed(archive.failed, len(targets))
    remove_folder(manifest.parts)
    return archive.written


def _place(path: StrPath) -> str:
    """An address, without a slash at its end, or a whole path: workers are in other folders than the program."""
    text = str(path)
    text = text[len("file://") :] if text.lower().startswith("file://") else text
    return text.rstrip("/") if is_url(text) else str(Path(text).absolute())


def _plan(source, folder, style) -> tuple[Plan, dict[Any, str]]:
    """The plan, and the targets by the sources: where the output is an address, the plan is that for an empty folder."""
    sources = [_place(one) for one in (source if isinstance(source, list | tuple) else [source])]
    addresses = [one for one in sources if is_url(one)]
    if addresses and len(addresses) < len(sources):
        raise AllaprimaError("Paths and addresses can't be stylized in one run: give either.")
    with temporary_folder() as empty:
        root = empty if is_url(folder) else Path(folder)
        plan = plan_addresses(addresses, root) if addresses else make_plan(sources, f"{root}/", style)
        names = {one: target.relative_to(root).as_posix() for one, target in plan.jobs.items()}
    return plan, {one: f"{folder}/{name}" for one, name in names.items()}


def _jobs(plan, targets, folder, manifest, overwrite, listener) -> list[Job]:
    """What is to be done: all files but those that a run of the same work has written."""
    if is_url(folder):
        names = set(files_below(folder))
        there = {target for target in targets.values() if target.removeprefix(f"{folder}/") in names}
    else:
        there = {target for target in targets.values() if exists(target)}
    replaced = there & manifest.replaced if manifest.known else there
    left = {one: target for one, target in targets.items() if target not in there - replaced}
    if not is_url(folder):
        check_outputs(left.values(), plan.jobs, overwrite=overwrite, listener=listener)
    elif replaced and not overwrite:
        raise AllaprimaError(
            f"{len(replaced)} of the results are there already, {min(replaced)} say, and no manifest says that this work "
            "wrote them. Give another output, or add --overwrite (in Python, overwrite=True)."
        )
    manifest.begin(replaced)
    return [Job(str(one), target, one in plan.videos, target in replaced) for one, target in left.items()]


class Manifest:
    """What a work has written, in lines of JSON: of which work, which results of before it replaces, then file by file.

    It lies in pieces, since stores of objects can't append. known: is it of this work? replaced: results that were there
    before, and still are.
    """

    def __init__(self, folder: str, work: Work):
        self.folder, self.parts = folder, f"{folder}/parts"
        about = {"controls": asdict(work.controls), "foreign": work.foreign, "deinterlace": work.deinterlace}
        model = hashlib.sha256(work.model).hexdigest()
        self._about = {"format": 1, "style": work.name, "model": model, "seconds": work.seconds, **about}
        self._lines: list[dict[str, Any]] = []
        pieces = [name for name in files_below(folder) if name.startswith("manifest-")]
        try:
            lines = [json.loads(line) for name in pieces for line in read_text(f"{folder}/{name}").splitlines()]
        except ValueError:
            lines = []
        self.known = lines[:1] == [self._about]
        lines = lines[1:] if self.known else []
        self.replaced: set[str] = {line["replaces"] for line in lines if "replaces" in line}
        self.replaced -= {line["target"] for line in lines if "target" in line}
        self._piece = len(pieces) + 1 if self.known else 1
        self._written = time.monotonic()

    def begin(self, replaced: set[str]) -> None:
        """Write what has to be known of a new work before it begins."""
        if not self.known:
            remove_folder(self.folder)
            self._lines = [self._about, *({"replaces": target} for target in sorted(replaced))]
            self.write()

    def add(self, job: Job, report: Report, processor: float) -> None:
        """Note a file that is written. What is not written down when the program is killed is known by its result.

        processor: seconds of a core that it took.
        """
        did = {"frames": report.frames, "worker": report.worker, "processor": round(processor, 3)}
        self._lines.append({"target": job.target, "source": job.source, **did})
        if time.monotonic() - self._written > _PAUSE:
            self.write()

    def write(self) -> None:
        """Write the lines so far."""
        if self._lines:
            write_text(
                f"{self.folder}/manifest-{self._piece:06}.jsonl", "".join(json.dumps(x) + "\n" for x in self._lines)
            )
        if len(self._lines) >= _LINES:
            self._piece, self._lines = self._piece + 1, []
        self._written = time.monotonic()

    def part(self, job: Job, number: int, span) -> str:
        """Where a part of a video is kept until all are there."""
        name = hashlib.sha256(job.target.encode()).hexdigest()[:16]
        return f"{self.parts}/{name}/{number:05}-{span.begin or 0}.mp4"


@dataclass
class _Task:
    """A function of `workers`, its arguments, and how often it was begun."""

    do: Any
    job: Job
    arguments: tuple = ()
    tries: int = 1


@dataclass
class _Cut:
    """A video in parts: their places, how many are not painted yet, and seconds of a core that the others took."""

    places: list[str]
    left: int
    frames: int
    processor: float


class _Archive:
    """The tasks of an archive, handed to a pool: each file's, and where a video is cut its parts' and then the joining."""

    def __init__(self, jobs, manifest, listener):
        self.manifest, self.listener, self.count = manifest, listener, len(jobs)
        self.waiting = deque(_Task(paint, job) for job in jobs)
        self.cut: dict[Job, _Cut] = {}
        self.written: list[str] = []
        self.failed: dict[str, None] = {}  # in order
        self.frames = 0

    def run(self, pool: Pool, about: str) -> None:
        self.listener(Started("archive", self.count, "files", f"{about} ({pool.about})."))
        at_work, done = {}, SimpleQueue()
        while self.waiting or at_work:
            while self.waiting and len(at_work) < pool.room():
                task = self.waiting.popleft()
                if task.job.source not in self.failed:
                    future = pool.submit(task.do, task.job, *task.arguments)
                    at_work[future] = task
                    future.add_done_callback(done.put)
            if at_work:
                future = done.get()
                self._ended(at_work.pop(future), future)
            self.listener(Advanced("archive", len(self.written) + len(self.failed), note=f"{self.frames} frames"))

    def _ended(self, task, future):
        job, lost = task.job, future.exception()
        if job.source in self.failed:  # in another part
            return
        if lost is not None and task.tries < _TRIES:
            self.listener(Warned(f"A worker was lost ({type(lost).__name__}); {job.source} is given to another one."))
            self.waiting.appendleft(_Task(task.do, job, task.arguments, task.tries + 1))
            return
        report = (
            future.result() if lost is None else Report(error=f"{job.source} ended {_TRIES} workers, and is left out.")
        )
        for text in report.warnings:
            self.listener(Warned(text))
        if report.error:
            self._fail(job, report)
        elif report.spans:
            self._cut(job, report)
        elif task.do is paint_span:
            self._painted(job, report)
        else:
            self._finish(job, report)

    def _cut(self, job, report):
        spans = report.spans
        places = [self.manifest.part(job, number, span) for number, span in enumerate(spans)]
        self.cut[job] = _Cut(places, len(spans), sum(span.frames for span in spans), report.processor)
        tasks = [_Task(paint_span, job, pair) for pair in zip(spans, places)]
        self.waiting.extendleft(reversed(tasks))  # before other files: so few videos lie about in parts

    def _painted(self, job, report):
        cut = self.cut[job]
        self.frames, cut.left, cut.processor = (
            self.frames + report.frames,
            cut.left - 1,
            cut.processor + report.processor,
        )
        if not cut.left:
            self.waiting.appendleft(_Task(join, job, (cut.places, cut.frames)))

    def _finish(self, job, report):
        cut = self.cut.pop(job, None)
        if cut:
            remove_folder(cut.places[0].rpartition("/")[0])
        else:
            self.frames += report.frames
        self.manifest.add(job, report, report.processor + (cut.processor if cut else 0))
        self.written.append(job.target)
        self.listener(Wrote(job.target if is_url(job.target) else Path(job.target)))

    def _fail(self, job, report):
        if report.hopeless or self.count == 1:
            raise AllaprimaError(report.error)
        self.failed[job.source] = None
        self.listener(Warned(report.error))
