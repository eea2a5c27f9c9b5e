"""The whole product in one function: pictures, folders and videos, in a style."""

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from allaprima.core.checks import StrPath, check_switch
from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, Warned, Wrote, ignore, passing
from allaprima.core.files import check_outputs
from allaprima.infer.library import DEFAULT_STYLE
from allaprima.infer.plan import Plan, make_plan
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import Still, picture_format, read_picture, write_picture

DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # the next file would fail as this one did


def stylize(
    source: StrPath | Sequence[StrPath],
    output: StrPath | None = None,
    model: StrPath = DEFAULT_STYLE,
    strength: float | Controls = 1.0,
    provider: str | None = None,
    threads: int | None = None,
    foreign: str | None = None,
    *,
    overwrite: bool = False,
    deinterlace: bool = True,
    listener: Listener = ignore,
) -> list[Path]:
    """Stylize pictures and videos; returns the list of the paths written.

    source: a picture, a video or a folder (its pictures and videos, nested ones too), or a list of these. Kinds are
        judged by content. Results of allaprima are left out of a folder and of a list.
    output: a file for one file, else a folder, in which a source folder keeps its structure. When None, photo.jpg
        becomes photo-STYLE.jpg beside it, and a folder `photos` becomes `photos-STYLE`. Of several results with one
        name the second gets the number 2, and so on: x.png, x-2.png, x-3.png.
    model, provider, threads, foreign: as of Stylizer. strength: 0 is the photo, 1 the full style; or Controls.
    overwrite: replace files that allaprima did not make; its own results are replaced in any case. No source ever is.
    deinterlace: make whole frames of a video's interlaced ones.

    A broken file in a folder or a list does not stop the others: they are all done, then AllaprimaError names it.
    Raises AllaprimaError for bad input, before anything is written where that can be known.
    """
    check_switch(overwrite=overwrite, deinterlace=deinterlace)
    stylizer = Stylizer(model, provider, threads, foreign)
    controls = strength if isinstance(strength, Controls) else Controls(strength)
    plan = make_plan(source, output, stylizer.path.stem)
    check_outputs(plan.jobs.values(), plan.jobs, overwrite=overwrite, listener=listener)
    tell_left_out(plan, listener)
    with passing(listener) as told:
        return _Work(plan, stylizer, controls, deinterlace, told).done()


def tell_left_out(plan: Plan, listener: Listener) -> None:
    """Warn of the files that the plan leaves out."""
    for reason, files in plan.left_out.items():
        names = ", ".join(path.name for path in files[:3]) + (", ..." if len(files) > 3 else "")
        count = "1 file is" if len(files) == 1 else f"{len(files)} files are"
        listener(Warned(f"{count} left out ({reason}): {names}"))


def paint_picture(source, target, stylizer, controls, *, about=None, listener: Listener = ignore) -> None:
    """Write the picture `source`, painted, to `target`. about: is told with the number of frames before the work."""
    picture = read_picture(source, into=picture_format(target))
    if about:
        frames = f", {len(picture.frames)} frames" if len(picture.frames) > 1 else ""
        listener(Started("picture", 1, "files", f"{about}{frames}."))
    if picture.left_out:
        listener(Warned(picture.left_out))

    def tile(done, total):
        if done == 1:
            listener(Started("tiles", total, "tiles"))
        listener(Advanced("tiles", done))

    frames = []  # pixels are let go as soon as they are used: a large picture is not held twice
    while picture.frames:
        pixels, alpha, duration = picture.frames.pop(0)
        frames.append(Still(stylizer(pixels, controls, progress=tile), alpha, duration))
    write_picture(target, replace(picture, frames=frames))
    if about:
        listener(Advanced("picture", 1))
    listener(Wrote(target))


def in_a_sentence(error: Exception, source) -> AllaprimaError:
    """What goes wrong with a file, in whichever library, as a sentence."""
    if isinstance(error, AllaprimaError):
        return error
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    sentence = AllaprimaError(f"{source} could not be stylized ({reason}). Save it again in another format.")
    sentence.__cause__ = error
    return sentence


def is_hopeless(error: Exception) -> bool:
    """Would every other file fail as this one did?"""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in DISK_IS_FULL


def check_failed(failed, count: int) -> None:
    """Raise AllaprimaError where some of `count` files could not be stylized."""
    if failed:
        raise AllaprimaError(
            f"{len(failed)} of {count} files could not be stylized: {', '.join(map(str, failed))}. All others are written."
        )


class _Work:
    """The files of a plan, one after another: pictures first, then videos."""

    def __init__(self, plan, stylizer, controls, deinterlace, listener):
        self.jobs, self.stylizer, self.controls, self.listener = plan.jobs, stylizer, controls, listener
        self.deinterlace = deinterlace
        self.pictures = [source for source in plan.jobs if source not in plan.videos]
        self.videos = [source for source in plan.jobs if source in plan.videos]
        self.about = f"Stylizing {len(plan.jobs)} files {plan.into}." if len(plan.jobs) > 1 else ""
        self.written, self.failed = [], []

    def done(self) -> list[Path]:
        if self.pictures and len(self.jobs) > 1:
            self.listener(Started("pictures", len(self.pictures), "files", self.about))
        elif self.about:
            self.listener(Started("videos", len(self.videos), "files", self.about))
        for number, source in enumerate(self.pictures):
            if len(self.jobs) > 1:
                self.listener(Advanced("pictures", number, note=source.name))
            self._attempt(self._picture, source)
        if self.pictures and len(self.jobs) > 1:
            self.listener(Advanced("pictures", len(self.pictures)))
        for number, source in enumerate(self.videos):
            self._attempt(self._video, source)
            if self.about and not self.pictures:
                self.listener(Advanced("videos", number + 1))
        check_failed(self.failed, len(self.jobs))
        return self.written

    def _attempt(self, work, source):
        """One file; what goes wrong with it, in whichever library, is one sentence, and the others go on."""
        try:
            work(source, self.jobs[source])
        except Exception as error:
            sentence = in_a_sentence(error, source)
            if len(self.jobs) == 1 or is_hopeless(error):
                raise sentence from sentence.__cause__
            self._fail(source, sentence)
        else:
            self.written.append(self.jobs[source])

    def _fail(self, source, error):
        self.failed.append(source)
        self.listener(Warned(str(error)))

    def _picture(self, source, target):
        about = f"Stylizing {source} to {target}" if len(self.jobs) == 1 else None
        paint_picture(source, target, self.stylizer, self.controls, about=about, listener=self.listener)

    def _video(self, source, target):
        from allaprima.infer.video import paint_video

        how = {"deinterlace": self.deinterlace, "listener": self.listener}
        paint_video(source, target, self.stylizer, self.controls, **how)
