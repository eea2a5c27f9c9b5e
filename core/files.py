"""Output files appear whole or not at all."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from allaprima.core.errors import AllaprimaError, explain_os_error

StrPath = str | os.PathLike[str]


def check_output(path: StrPath) -> Path:
    """Prove, before any work is done, that `path` can be written; missing parent folders are made.

    Raises AllaprimaError when it is a folder, or its folder can't be made or written.
    """
    path = Path(path)
    if path.is_dir():
        raise AllaprimaError(f"{path} is a folder. Give a file name inside it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".allaprima-"):
            pass
    except OSError as error:
        raise explain_os_error(error, path) from error
    return path


@contextmanager
def atomic(path: StrPath) -> Generator[Path]:
    """Yield a temporary path in the folder of `path`, with the same ending; on success it becomes `path`.

    When the body raises (KeyboardInterrupt too) the temporary file is removed and `path` is as it was before.
    An OSError from the body, a full disk say, is raised again as an AllaprimaError.
    """
    path = check_output(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)  # mkstemp makes it private; an ordinary new file follows the umask
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
