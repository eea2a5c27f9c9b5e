"""The whole product in one function: pictures, folders and videos, in a style."""

import errno
import os
from dataclasses import replace
from pathlib import Path

from rich.markup import escape

from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Started, Warned
from allaprima.core.files import check_outputs
from allaprima.core.progress import console, progress_bar
from allaprima.infer.library import DEFAULT_STYLE
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import Frame, is_picture, picture_format, read_picture, write_picture

DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # the next file would fail as this one did


def stylize(source, output=None, model=DEFAULT_STYLE, strength=1.0, provider=None, threads=None, foreign=None):
    """Stylize pictures and videos; returns the list of the paths written.

    source: a picture, a video or a folder (its pictures and videos, nested ones too), or a list of these.
    output: a file for one file, else a folder, in which a source folder keeps its structure. When None, photo.jpg
        becomes photo-STYLE.jpg beside it, and a folder `photos` becomes `photos-STYLE`.
    model, provider, threads, foreign: as of Stylizer. strength: 0 is the photo, 1 the full style.

    A broken file in a folder or a list does not stop the others: they are all done, then AllaprimaError names it.
    Raises AllaprimaError for bad input, before anything is written where that can be known.
    """
    sources = [Path(one).expanduser() for one in (source if isinstance(source, (list, tuple)) else [source])]
    stylizer = Stylizer(model, provider, threads, foreign)
    if not 0 <= strength <= 1:
        raise AllaprimaError(f"The strength is a number from 0 to 1, not {strength}.")
    jobs, others = _plan(
        sources,
        Path(output).expanduser() if output is not None else None,
        stylizer.path.stem,
        into_folder=output is not None and str(output).endswith(("/", os.sep)),
    )
    check_outputs(jobs.values(), jobs)
    if len(jobs) > 1:  # a single file is announced once it has proved readable
        skipped = f", leaving out {others} other files" if others else ""
        folder = os.path.commonpath([target.parent for target in jobs.values()])
        say(f"Stylizing {len(jobs)} files into {folder}{skipped}")
    return _work_off(jobs, stylizer, strength)


def say(sentence):
    """One line on stderr; what it names stays as it is written."""
    console.print(escape(sentence), highlight=False, soft_wrap=True)


def _plan(sources, output, style, into_folder):
    """({source file: target file}, how many files of other kinds were left out)."""
    jobs, others = {}, 0
    several = len(sources) > 1 or into_folder or (output is not None and output.is_dir())
    for source in sources:
        if source.is_dir():
            root = output or source.with_name(f"{source.resolve().name}-{style}")
            if root.is_file():
                raise AllaprimaError(f"{root} is a file, and {source} is a folder: give a folder for the output.")
            files = [
                path
                for path in sorted(source.rglob("*"))
                if path.is_file()
                and not _hidden(path, source)
                and (root.resolve() == source.resolve() or root.resolve() not in path.resolve().parents)
            ]
            media = [path for path in files if is_picture(path) or _is_video(path)]
            others += len(files) - len(media)
            if not media and len(sources) == 1:
                raise AllaprimaError(f"There is no picture and no video in {source}: give another folder.")
            for path in media:
                _add(jobs, path, _with_suffix(root / path.relative_to(source)))
        elif not source.exists():
            raise AllaprimaError(f"{source} does not exist. Check the spelling of the path.")
        elif output is None:
            _add(jobs, source, _with_suffix(source.with_name(f"{source.stem}-{style}{source.suffix}")))
        elif several:
            _add(jobs, source, _with_suffix(output / source.name))
        else:
            _check_suffix(source, output)
            _add(jobs, source, output)
    return jobs, others


def _add(jobs, source, target):
    """A plain name, unless a.jpg and a.psd would both become a.png: then a.psd.png."""
    if target in jobs.values():
        target = target.with_name(source.name + target.suffix)
    jobs[source] = target


def _hidden(path, root):
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _is_video(path):
    from allaprima.media.clips import VIDEO_SUFFIXES, is_video

    if is_picture(path):
        return False
    return is_video(path) if Path(path).exists() else Path(path).suffix.lower() in VIDEO_SUFFIXES


def _with_suffix(target):
    """Where the kind of the source can't be written, the nearest kind that can."""
    if _is_video(target):
        from allaprima.media.writer import OUTPUT_SUFFIXES

        return target if target.suffix.lower() in OUTPUT_SUFFIXES else target.with_suffix(".mp4")
    try:
        picture_format(target)
        return target
    except AllaprimaError:
        return target.with_suffix(".png")


def _check_suffix(source, target):
    if _is_video(source):
        from allaprima.media.writer import check_video_output

        check_video_output(target)
    else:
        picture_format(target)


def _work_off(jobs, stylizer, strength):
    """Pictures under one bar, then the videos, which draw their own."""
    pictures = [source for source in jobs if not _is_video(source)]
    written, failed = [], {}

    def attempt(work, source):
        try:
            work(source, jobs[source], stylizer, strength)
            written.append(jobs[source])
        except AllaprimaError as error:
            cause = error.__cause__
            if len(jobs) == 1 or (isinstance(cause, OSError) and cause.errno in DISK_IS_FULL):
                raise
            failed[source] = error

    if pictures:
        with progress_bar() as bar:
            files = bar.add_task("pictures", total=len(pictures), unit="files", note="", visible=len(jobs) > 1)
            for source in pictures:
                bar.update(files, note=escape(source.name))
                attempt(lambda *job: _stylize_picture(*job, bar, announce=len(jobs) == 1), source)
                bar.advance(files)
    for source in (source for source in jobs if source not in set(pictures)):
        attempt(_stylize_video, source)
    for error in failed.values():
        say(str(error))
    if failed:
        names = ", ".join(str(source) for source in failed)
        raise AllaprimaError(
            f"{len(failed)} of {len(jobs)} files could not be stylized, the reasons are above: "
            f"{names}. All others are written."
        )
    return written


def _stylize_picture(source, target, stylizer, strength, bar, announce):
    picture = read_picture(source, into=picture_format(target))
    if announce:
        frames = f", {len(picture.frames)} frames" if len(picture.frames) > 1 else ""
        say(f"Stylizing {source} to {target}{frames}")
    if picture.left_out:
        say(picture.left_out)
    tiles = None

    def on_tile(done, total):
        nonlocal tiles
        if tiles is None:
            tiles = bar.add_task("tiles", total=total, unit="tiles", note="")
        bar.update(tiles, completed=done)

    try:
        # Pixels are let go as soon as they are used: a large picture is not held twice.
        frames = []
        while picture.frames:
            pixels, alpha, duration = picture.frames.pop(0)
            frames.append(Frame(stylizer(pixels, strength, progress=on_tile), alpha, duration))
    finally:
        if tiles is not None:
            bar.remove_task(tiles)
    write_picture(target, replace(picture, frames=frames))


def _stylize_video(source, target, stylizer, strength):
    from allaprima.infer.video import paint_video

    def tell(event):
        if isinstance(event, Warned | Started):
            say(event.text if isinstance(event, Warned) else event.about)

    paint_video(source, target, stylizer, Controls(strength), listener=tell)
