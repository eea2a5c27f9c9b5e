"""Files at addresses (s3://, gs://, memory://, http://), listed, read and written through fsspec, and paths beside them.

Every function takes either: a path is the file system's own affair, an address that of fsspec, which is imported for one
alone. What a store answers that is not what was asked for is an AllaprimaError with the address in it.
"""

import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from allaprima.core.errors import AllaprimaError, import_with_extra
from allaprima.core.files import staged, temporary_folder, write_atomically

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_OF_FFMPEG = {"http", "https", "ftp"}  # that fsspec knows too


def is_url(source: object) -> bool:
    """A file may have any name, one with a colon too; a URL has a scheme and two slashes."""
    return _URL.match(str(source)) is not None and not os.path.exists(str(source))


def is_store(source: object) -> bool:
    """Is it an address that fsspec opens, and FFmpeg does not?"""
    scheme = _URL.match(str(source))
    if scheme is None or scheme[1].lower() in _OF_FFMPEG or not is_url(source):
        return False
    try:
        from fsspec.registry import known_implementations  # pyright: ignore
    except ModuleNotFoundError:
        return False
    return scheme[1].lower() in known_implementations


@contextmanager
def _store(address: str) -> Generator[tuple[Any, str]]:
    """(fsspec's file system, the path in it); what goes wrong in the block is a sentence."""
    try:
        yield import_with_extra("fsspec").core.url_to_fs(address)
    except (AllaprimaError, FileExistsError):
        raise
    except FileNotFoundError as error:
        raise AllaprimaError(f"{address} does not exist. Check the spelling of the address.") from error
    except Exception as error:  # those of botocore, aiohttp and all others
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        advice = "Check the address, your permissions, and that the package for it is installed"
        raise AllaprimaError(f"{address} can't be used ({reason}). {advice}.") from error


def open_store(address: str) -> IO[bytes]:
    """The file at the address, opened to read bytes; only what is asked for is fetched."""
    with _store(address) as (store, path):
        return store.open(path, "rb")


def exists(place: str) -> bool:
    """Is there a file?"""
    if not is_url(place):
        return os.path.exists(place)
    with _store(place) as (store, path):
        return store.exists(path)


def files_below(folder: str) -> list[str]:
    """The names of all files in a folder and those in it, relative, with slashes, in order; none where it is missing."""
    if not is_url(folder):
        return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if os.path.isfile(path))
    with _store(folder) as (store, path):
        store.invalidate_cache()  # others write too
        root = path.rstrip("/") + "/"
        return sorted(name.removeprefix(root) for name in store.find(path) if name.startswith(root))


@contextmanager
def fetched(place: str) -> Generator[Path]:
    """Yield a path at which the file can be read: its own, or that of a copy for the time of the block."""
    if not is_url(place):
        yield Path(place)
        return
    with temporary_folder() as folder:
        copy = folder / place.rsplit("/", 1)[-1]
        with _store(place) as (store, path):
            store.get_file(path, str(copy))
        yield copy


@contextmanager
def stored(place: str, *, replace: bool = True) -> Generator[Path]:
    """Yield a path to write a file to, which is at `place` after the block, whole, unless the block raised.

    replace: False keeps a file that is there by then: of two that do the same work the first one counts.
    """
    if not is_url(place):
        with staged(Path(place), replace=replace) as part:
            yield part
        return
    with temporary_folder() as folder:
        part = folder / place.rsplit("/", 1)[-1]
        yield part
        with _store(place) as (store, path), suppress(FileExistsError):
            store.put_file(str(part), path, mode="overwrite" if replace else "create")


def read_text(place: str) -> str:
    """The text of a file, UTF-8."""
    if not is_url(place):
        return Path(place).read_text("utf-8")
    with _store(place) as (store, path):
        return store.cat_file(path).decode()


def write_text(place: str, text: str) -> None:
    """Write a file, UTF-8, whole or not at all."""
    if not is_url(place):
        write_atomically(place, text)
        return
    with _store(place) as (store, path):
        store.pipe_file(path, text.encode())


def remove_folder(folder: str) -> None:
    """Remove a folder that may be there, with all that is in it."""
    if not is_url(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with _store(folder) as (store, path):
        if store.exists(path):
            store.rm(path, recursive=True)
