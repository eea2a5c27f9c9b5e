"""The studio's conversions: a queue of pictures and videos, painted one after another in a process apart.

The files lie in a folder of their own, under names of ours, which is emptied when the studio begins and when it ends.
"""

import asyncio
import io
import os
import re
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from allaprima.core.contract import Controls
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Event, Listener, Started, Warned
from allaprima.infer.jobs import stylize
from allaprima.media.clips import is_video, sample_frames
from allaprima.media.pictures import picture_kind, read_picture, to_jpeg
from allaprima.serve.apart import Apart, Readers
from allaprima.serve.library import Library, free_name, safe_stem

MOST = 20_000_000_000  # bytes of files and results that lie on the disk at a time
SPARE = 1_000_000_000  # bytes that are left free on the disk
SHOWN, QUALITY = 360, 88  # px, long side of a result on the page, and the quality of its JPEG
CHUNK = 2**20  # bytes
WAITING, PAINTING, DONE, FAILED = "waiting", "painting", "done", "failed"


@dataclass
class Conversion:
    """One file. name: as the page gave it, folders and all, for the page and the archive alone.

    kind: "picture" or "video". done, total: of its frames or tiles. seconds: that it took, or has taken so far.
    """

    id: str
    name: str
    kind: str
    style: str
    model: Path
    controls: Controls
    size: int
    state: str = WAITING
    done: float = 0
    total: float = 0
    seconds: float = 0
    about: str = ""
    result: Path | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


class Conversions:
    """The queue. `work` runs until it is cancelled. readers: of what is sent, to see which kind of file it is."""

    def __init__(self, library: Library, readers: Readers):
        self.library, self.readers, self.wake = library, readers, asyncio.Event()
        self.painter = Apart()
        self.all: dict[str, Conversion] = {}
        self.running = threading.Event()
        self.running.set()

    def clear_folder(self) -> None:
        """Remove all files: at the end, and at the beginning what a studio left that was killed."""
        if self.library.conversions.exists():
            self.library.claim()
            shutil.rmtree(self.library.conversions, ignore_errors=True)

    def folder(self, conversion: Conversion) -> Path:
        return self.library.conversions / conversion.id

    # -- what the page asks for ----------------------------------------------------------------------------------

    def room(self) -> int:
        """Bytes that may still be kept."""
        self.library.claim()
        self.library.conversions.mkdir(exist_ok=True)
        used = sum(path.stat().st_size for path in self.library.conversions.rglob("*") if path.is_file())
        return max(0, min(MOST - used, shutil.disk_usage(self.library.conversions).free - SPARE))

    def new_file(self, name: str) -> Path:
        """Where the bytes of a file are to be written: a folder of its own, and of its name the ending alone."""
        ending = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
        folder = self.library.conversions / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder / f"source{ending[0] if ending else ''}"

    def add(self, path: Path, name: str, style: str, controls: Controls) -> Conversion:
        """Put the file at `path`, from `new_file`, into the queue. Raises AllaprimaError when it can't be painted."""
        models = {each.name: each.path for each in self.library.styles()}
        if style not in models:
            raise AllaprimaError(f"There is no style {style!r} any more: choose another one.")
        read = self.readers.do
        is_picture = read(partial(picture_kind, path), name)
        kind = "picture" if is_picture else "video" if read(partial(is_video, path), name) else ""
        if not kind:
            raise AllaprimaError(f"{name} is neither a picture nor a video.")
        size = path.stat().st_size
        conversion = Conversion(path.parent.name, name, kind, style, models[style], controls, size)
        self.all[conversion.id] = conversion
        self.wake.set()
        return conversion

    def pause(self, paused: bool) -> None:
        """Hold the work where it is, or let it go on."""
        self.running.clear() if paused else self.running.set()

    def remove(self, conversion: Conversion) -> None:
        """Forget a file, and its result; one that is being painted is given up."""
        conversion.cancelled.set()
        self.all.pop(conversion.id, None)
        if conversion.state == PAINTING:
            self.painter.kill()  # and `work` removes the files
        else:
            shutil.rmtree(self.folder(conversion), ignore_errors=True)

    def to_dict(self) -> dict[str, Any]:
        """The queue as the page shows it. left: seconds until all is done, None where nothing is known yet."""
        shown = ("id", "name", "kind", "style", "size", "state", "done", "total", "about")
        return {
            "paused": not self.running.is_set(),
            "left": self._left(),
            "conversions": [
                {name: getattr(each, name) for name in shown} | {"result": each.result and result_name(each)}
                for each in self.all.values()
            ],
        }

    def _left(self) -> int | None:
        left = 0.0
        for each in self.all.values():
            if each.state == PAINTING and each.done:
                left += each.seconds * (max(each.total, each.done) / each.done - 1)
            elif each.state in (WAITING, PAINTING):
                known = [other for other in self.all.values() if other.state == DONE and other.kind == each.kind]
                if not known:
                    return None
                left += each.size * sum(other.seconds for other in known) / sum(other.size for other in known)
        return round(left)

    def archive(self) -> Iterator[bytes]:
        """All results as a ZIP file, piece by piece; the folders are as they came."""
        buffer, taken = _Buffer(), []
        with zipfile.ZipFile(buffer, "w") as archive:
            for each in [each for each in self.all.values() if each.result]:
                path = PurePosixPath(path_in_archive(each))
                name = free_name(str(path.with_suffix("")), taken, path.suffix) + path.suffix
                taken.append(name)
                with suppress(FileNotFoundError), open(each.result or "", "rb") as file:  # it may be removed by now
                    about = zipfile.ZipInfo(name, time.localtime(os.fstat(file.fileno()).st_mtime)[:6])
                    with archive.open(about, "w", force_zip64=True) as entry:
                        while piece := file.read(CHUNK):
                            entry.write(piece)
                            yield buffer.taken()
        yield buffer.taken()

    # -- the work ------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Paint what is in the queue, for ever."""
        while True:
            conversion = next((each for each in self.all.values() if each.state == WAITING), None)
            if conversion is None:
                self.wake.clear()
                await self.wake.wait()
                continue
            if not self.running.is_set():
                await asyncio.sleep(0.2)
                continue
            conversion.state = PAINTING
            painting = asyncio.ensure_future(asyncio.to_thread(self._paint, conversion))
            try:
                await asyncio.shield(painting)
            except asyncio.CancelledError:
                conversion.cancelled.set()
                self.painter.kill()
                await painting
                raise
            if conversion.cancelled.is_set():
                shutil.rmtree(self.folder(conversion), ignore_errors=True)

    def _paint(self, conversion: Conversion) -> None:
        folder = self.folder(conversion)
        source = next(folder.glob("source*"))
        began = time.monotonic()

        def listener(event: Event):
            nonlocal began
            held = time.monotonic()
            while not self.running.wait(0.1) and not conversion.cancelled.is_set():
                pass
            began += time.monotonic() - held
            if conversion.cancelled.is_set():
                self.painter.kill()
            conversion.seconds = time.monotonic() - began
            match event:
                case Started():
                    conversion.done, conversion.total = 0, event.total or 0
                case Advanced():
                    conversion.done, conversion.total = event.done, event.total or conversion.total
                case Warned():
                    conversion.about = self._in_words(event.text, conversion, source)

        try:
            paint = partial(_painted, source, folder, conversion.model, conversion.controls)
            conversion.result = self.painter.do(paint, conversion.name, listener=listener)
            conversion.state = DONE
        except AllaprimaError as error:
            conversion.state, conversion.about = FAILED, self._in_words(str(error), conversion, source)
            shutil.rmtree(folder / "result", ignore_errors=True)  # what a crash left
        except Exception as error:  # the queue goes on
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            conversion.state, conversion.about = FAILED, f"{conversion.name} could not be painted ({reason})."
        finally:
            conversion.seconds = time.monotonic() - began
            source.unlink(missing_ok=True)

    @staticmethod
    def _in_words(text: str, conversion: Conversion, source: Path) -> str:
        """A sentence about the file by the name that the user knows."""
        ours = re.escape(str(source.parent)) + r"[/\\](result[/\\])?source[\w.]*"
        return re.sub(ours, lambda found: conversion.name, text)


class _Buffer(io.RawIOBase):
    """What is written into it is taken out again: a ZIP file is made without lying anywhere."""

    def __init__(self):
        self.pieces: list[bytes] = []

    def writable(self):
        return True

    def write(self, data):
        self.pieces.append(bytes(data))
        return len(self.pieces[-1])

    def taken(self) -> bytes:
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)


def result_name(conversion: Conversion) -> str:
    """photo.jpg in the style wave is photo-wave.jpg."""
    ending = conversion.result.suffix if conversion.result else ""
    return f"{safe_stem(PurePosixPath(conversion.name).name, 'picture')}-{conversion.style}{ending}"


def path_in_archive(conversion: Conversion) -> str:
    """The result's name in the folder that the file came in; nothing that leads out of the archive."""
    folders = [safe_stem(part, "") for part in conversion.name.split("/")[:-1]]
    return "/".join([*filter(None, folders), result_name(conversion)])


def _painted(source: Path, folder: Path, model: Path, controls: Controls, listener: Listener) -> Path:
    """The result, in `folder`, with `shown.jpg` beside it."""
    (result,) = stylize(source, f"{folder / 'result'}/", model, controls, listener=listener)
    (folder / "shown.jpg").write_bytes(_shown(result))
    return result


def _shown(path: Path) -> bytes:
    """A result as a small JPEG that any browser shows; of a video, a frame in the middle."""
    if picture_kind(path):
        return to_jpeg(read_picture(path, into="JPEG").frames[0].pixels, SHOWN, QUALITY)
    return to_jpeg(next(iter(sample_frames(path, 1))), SHOWN, QUALITY)
