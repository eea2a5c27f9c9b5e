"""`-` in the place of a file: pictures and videos from standard input, and to standard output."""

import os
import sys
from contextlib import contextmanager
from glob import glob

from allaprima.commands import terminal
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import temporary_folder


def check_pipes(reads: bool, writes: bool) -> None:
    """Raise AllaprimaError where standard input is to be read, or output written, and is a terminal."""
    if reads and sys.stdin.isatty():
        raise AllaprimaError("Standard input is a terminal: pipe a file or a video into it.")
    if writes and sys.stdout.isatty():
        raise AllaprimaError("Standard output is a terminal: redirect it to a file, or pipe it into a program.")


def through_pipes(sources, output, run) -> None:
    """Call run(sources, output), a generator of paths written, with files in the place of `-`, and hand the bytes on.

    Without an output, standard input goes to standard output. Raises AllaprimaError when there are other sources too.
    """
    if len(sources) > 1:
        raise AllaprimaError("- stands for standard input or output, which one file goes through: give one source.")
    source = sources[0]
    found = [source] if source == "-" or os.path.exists(source) else glob(source)
    if output == "-" and (len(found) > 1 or any(map(os.path.isdir, found))):
        raise AllaprimaError(
            f"{source} stands for several files, and standard output is for one: give a folder instead."
        )
    check_pipes("-" in sources, output in (None, "-"))
    with temporary_folder() as folder, _named(folder):
        if source == "-":
            source = folder / "stdin"
            source.write_bytes(sys.stdin.buffer.read())
        if output not in (None, "-"):
            list(run([source], output))
            return
        for path in run([source], os.path.join(folder, "out", "")):
            sys.stdout.buffer.write(path.read_bytes())
            sys.stdout.buffer.flush()


@contextmanager
def _named(folder):
    """What is said of the files in this folder, which the user has not made, speaks of what they are to the user."""
    terminal.names |= {os.path.join(folder, "stdin"): "standard input"}
    terminal.names |= {os.path.join(folder, "out", ""): "standard output, as "}
    try:
        yield
    except AllaprimaError as error:
        raise AllaprimaError(terminal.visible(error)) from error
    finally:
        terminal.names.clear()
