"""Output files: planned before any work, never over an input, whole or not at all.

One rule for every command: an output is never an input, and none is named twice. A file that exists is replaced without
asking only where allaprima made it itself, which its mark tells, and the user is told; any other only with --overwrite.
"""

import os
import secrets
import unicodedata
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from allaprima.core.checks import StrPath, check_path
from allaprima.core.errors import AllaprimaError, explain_os_error
from allaprima.core.events import Listener, Warned, ignore

MARK = (
    "allaprima style transfer"  # in the metadata of every picture, video and page that is written; never in a model's
)
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
    outputs = [check_path("output", path) for path in paths]
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
    part = _check_writable(path, keep=True)
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: StrPath, data: bytes | str) -> Path:
    """Write bytes, or text as UTF-8, to `path`, whole or not at all."""
    with atomic(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
    return Path(path)


def _check_writable(path: Path, keep: bool = False) -> Path:
    """Make an empty temporary file beside `path`, with the permissions of an ordinary new file; and its folder."""
    ending = path.suffix if len(os.fsencode(path.suffix)) < 16 else ""  # what has a short name, a file system takes
    part = path.with_name(f".{path.stem[:20]}-{secrets.token_hex(4)}{ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            os.lstat(path)  # a name that is too long is told now, not after the work
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if not keep:
            part.unlink()
    except OSError as error:
        raise explain_os_error(error, path) from error
    return part
