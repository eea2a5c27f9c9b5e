"""Output files: planned before any work, never over an input, whole or not at all.

One rule for every command: an output is never an input, and none is named twice. A file that exists is replaced without
asking only where allaprima made it itself, which its mark tells, and the user is told; any other only with --overwrite.
"""

import json
import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import cast

from allaprima.core import __version__
from allaprima.core.checks import StrPath, check_file, check_path, check_switch
from allaprima.core.errors import AllaprimaError, explain_os_error
from allaprima.core.events import Listener, Warned, ignore

try:
    import fcntl
except ImportError:  # Windows, where what a killed process leaves stays
    fcntl = None

# in the metadata of every picture, video and page that is written; never in a model's
MARK = "allaprima style transfer"
_PART = ".allaprima-"  # in the names of temporary files, which are nobody else's
_EDGE = 64 * 1024  # bytes at either end of a file, in which metadata lies


def check_output(
    path: StrPath, inputs: Iterable[StrPath] = (), *, overwrite: bool = False, listener: Listener = ignore
) -> Path:
    """`check_outputs` for a single path."""
    return check_outputs([path], inputs, overwrite=overwrite, listener=listener)[0]


def check_outputs(
    paths: Iterable[StrPath], inputs: Iterable[StrPath] = (), *, overwrite: bool = False, listener: Listener = ignore
) -> list[Path]:
    """Prove, before any work is done, that all of `paths` can be written; missing folders are made.

    inputs: what is read, and so never written over: paths; those that do not exist are let be.
    overwrite: replace files that allaprima did not make, too. listener: is told what will be replaced.
    Raises AllaprimaError where a path is a folder, an input, named twice, can't be written, or exists and may not be
    replaced.
    """
    check_switch(overwrite=overwrite)
    outputs = [check_file("output", path) for path in paths]
    there = {identity(path) for path in inputs if os.path.exists(path)}
    seen: set[object] = set()
    for path in outputs:
        if os.path.isdir(path):
            raise AllaprimaError(f"{path} is a folder. Give a file name inside it.")
        if os.path.exists(path) and not os.path.isfile(path):
            raise AllaprimaError(f"{path} is not an ordinary file. Give another output.")
        key = identity(path)
        if key in there:
            raise AllaprimaError(f"{path} is an input, and inputs are never written over. Give another output.")
        if key in seen:
            raise AllaprimaError(f"{path} is named for two outputs. Give each a name of its own.")
        seen.add(key)
    existing = [path for path in outputs if os.path.exists(path)]
    foreign = [path for path in existing if not is_ours(path)]
    if foreign and not overwrite:
        which = str(foreign[0]) if len(foreign) == 1 else f"{foreign[0]} and {len(foreign) - 1} other outputs"
        raise AllaprimaError(
            f"{which} already exist{'s'[: len(foreign) == 1]}. "
            "Give another output, or add --overwrite (in Python, overwrite=True)."
        )
    for path in {path.parent: path for path in outputs}.values():
        _check_writable(path)
    if len(existing) == 1:
        listener(Warned(f"{existing[0]} will be replaced{'' if foreign else ', an earlier result of allaprima'}."))
    elif existing:
        earlier = f", {len(existing) - len(foreign)} of them earlier results of allaprima"
        listener(Warned(f"{len(existing)} files will be replaced{earlier}; the first: {existing[0]}"))
    return outputs


def is_ours(path: StrPath) -> bool:
    """Did allaprima make this file? Its pictures, videos and pages carry MARK in their metadata; its models do not."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            head = file.read(_EDGE)
            file.seek(max(len(head), os.fstat(file.fileno()).st_size - _EDGE))
            return MARK.encode() in head or MARK.encode() in file.read(_EDGE)
    except OSError:
        return False


def same_file(one: StrPath, other: StrPath) -> bool:
    """Do two paths lead to one file?"""
    return identity(one) == identity(other)


def folded(path: StrPath) -> str:
    """The spelling by which the least particular file systems tell names apart: without case, accents composed."""
    return unicodedata.normalize("NFC", os.path.abspath(path)).casefold()


def fit_name(folder: Path, stem: str, ending: str) -> Path:
    """folder / (stem + ending), the stem cut where the whole name is longer than the file system allows."""
    try:
        there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if os.path.exists(parent))
        longest = os.pathconf(there, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows; a file system that does not tell
        longest = 255
    while stem and len(os.fsencode(stem + ending)) > longest:
        stem = stem[:-1]
    return folder / (stem + ending)


def identity(path: StrPath) -> object:
    """What all paths of one file have in common: links, hard links, and names that its file system takes for the same."""
    try:
        status = os.stat(path)
    except OSError:
        return folded(path)
    return (status.st_dev, status.st_ino) if status.st_ino else folded(os.path.realpath(path))


@contextmanager
def atomic(path: StrPath) -> Generator[Path]:
    """Yield a temporary path in the folder of `path`, with the same ending; on success it becomes `path`.

    When the body raises (KeyboardInterrupt too) the temporary file is removed and `path` is as it was before.
    An OSError from the body, a full disk say, is raised again as an AllaprimaError.
    """
    path = check_path("output", path)
    if os.path.isdir(path):
        raise AllaprimaError(f"{path} is a folder. Give a file name inside it.")
    with _part_of(path) as part:
        try:
            yield part
            os.replace(part, path)
        except OSError as error:
            raise explain_os_error(error, path) from error


@contextmanager
def atomic_folder(path: Path, mark: str) -> Generator[Path]:
    """`atomic` for a folder: yield an empty one, which becomes `path`, or whose files go into the one that is there.

    mark: the name of a file that is put beside them and lists them. In a folder that is there, what its mark lists is
    replaced, and all else stays: a repository, notes. Raises AllaprimaError, too, where some of it is in the way.
    """
    with _part_of(path, folder=True) as part:
        new = part / "new"
        try:
            new.mkdir()
            yield new
            names = {file.relative_to(new).as_posix() for file in new.rglob("*") if file.is_file()}
            if os.path.lexists(path):
                _put_into(path, mark, new, names, part / "old")
            else:
                _list(new / mark, names)
                os.rename(new, path)
        except OSError as error:
            raise explain_os_error(error, path) from error


def _put_into(path: Path, mark: str, new: Path, names: set[str], old: Path) -> None:
    """Move what the mark of `path` lists to `old`, and the files `names` from `new` into its place; all, or nothing."""
    earlier = _listed(path, mark)
    _check_free(path, names, earlier)
    moves = [(path / name, old / name) for name in sorted(earlier) if os.path.lexists(path / name)]
    moves += [(new / name, path / name) for name in sorted(names)]
    done: list[tuple[Path, Path]] = []
    _list(path / mark, earlier | names)  # so that nothing of ours is unknown after a kill
    try:
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(source, target)
            done.append((source, target))
        _list(path / mark, names)
    except BaseException:
        for source, target in reversed(done):
            with suppress(OSError):
                os.rename(target, source)
        _list(path / mark, earlier)
        raise


def _check_free(path: Path, names: set[str], earlier: set[str]) -> None:
    """Raise AllaprimaError where something in the folder has one of these names, or leads out of it, and is not ours."""
    folders = {parent.as_posix() for name in names | earlier for parent in PurePosixPath(name).parents} - {"."}
    for name in sorted(names | folders):
        place = path / name
        is_folder = place.is_dir() and not place.is_symlink()
        free = is_folder if name in folders else name in earlier and not is_folder
        if os.path.lexists(place) and not free:
            raise AllaprimaError(
                f"{place} is in the way, and allaprima did not make it: move it away, or give another folder."
            )


def _list(mark: Path, names: set[str]) -> None:
    write_atomically(mark, json.dumps({"version": __version__, "files": sorted(names)}, indent=1))


def _listed(folder: Path, mark: str) -> set[str]:
    """The names, a/b, that the mark in a folder lists, but those that lead out of it: anybody may have written it."""
    whole = os.path.realpath(folder)
    try:
        names = cast("list[str]", json.loads((folder / mark).read_bytes())["files"])
        return {name for name in names if Path(os.path.realpath((folder / name).parent)).is_relative_to(whole)}
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return set()


@contextmanager
def staged(path: Path, *, replace: bool = True) -> Generator[Path]:
    """`atomic` for a writer with temporary files of its own: yield a path in an empty folder beside `path`.

    replace: False leaves a file that stands at `path` by then as it is.
    """
    with _part_of(path, folder=True) as folder:
        part = folder / path.name
        try:
            yield part
            if replace:
                os.replace(part, path)
            else:
                _put_beside(part, path)
        except OSError as error:
            raise explain_os_error(error, path) from error


@contextmanager
def temporary_folder() -> Generator[Path]:
    """Yield an empty folder among the system's temporary files, which the next process removes should this one be killed."""
    with _part_of(Path(tempfile.gettempdir()) / "allaprima", folder=True) as folder:
        yield folder


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder, now."""
    _sweep.cache_clear()
    _sweep(folder.absolute())


def _put_beside(part: Path, path: Path) -> None:
    """Give the file the name `path` where nothing has it: of several at once, one does."""
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not path.exists():
            os.replace(part, path)


def write_atomically(path: StrPath, data: bytes | str) -> Path:
    """Write bytes, or text as UTF-8, to `path`, whole or not at all."""
    with atomic(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
    return Path(path)


def _check_writable(path: Path) -> None:
    with _part_of(path):
        pass


@contextmanager
def _part_of(path: Path, folder: bool = False) -> Generator[Path]:
    """An empty temporary file or folder beside `path`, with the permissions of a new one, removed where it is still there.

    The folder of `path` is made. The part is locked as long as it is in use, and the system unlocks what a killed process
    held: so a part without a lock is a left one, which the next run removes (`_sweep`).
    """
    ending = path.suffix if len(os.fsencode(path.suffix)) < 16 else ""  # what has a short name, a file system takes
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            os.lstat(path)  # a name that is too long is told now, not after the work
        _sweep(path.parent.absolute())
        while True:
            part = path.with_name(f".{path.stem[:20]}{_PART}{secrets.token_hex(4)}{ending}")
            part.mkdir() if folder else os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            lock = _lock(part)
            if os.path.exists(part):  # else another process took it for a left one just before the lock
                break
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        yield part
    finally:
        _remove(part)
        if lock is not None:
            os.close(lock)


@lru_cache(1024)
def _sweep(folder: Path) -> None:
    """Remove the parts in a folder that killed processes left; once in a process, as a folder may be large."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if re.fullmatch(rf"\..*{re.escape(_PART)}[0-9a-f]{{8}}(\.[^.]*)?", name, re.DOTALL):
                lock = _lock(folder / name, wait=False)
                if lock is not None:
                    _remove(folder / name)
                    os.close(lock)


def _lock(path: Path, wait: bool = True) -> int | None:
    """Hold a file or folder until the descriptor is closed; None where another process does, or it can't be held."""
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return descriptor
    except OSError:  # a file system without locks, too
        if descriptor is not None:
            os.close(descriptor)
        return None


def _remove(part: Path) -> None:
    """Remove a file or a folder that may be there."""
    with suppress(OSError):
        shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()
