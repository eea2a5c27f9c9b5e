"""`-` in the place of a file: pictures and videos from standard input, and to standard output."""

import os
import sys
import tempfile
from pathlib import Path

from allaprima.core.errors import AllaprimaError


def through_pipes(sources, output, run) -> None:
    """Call run(sources, output), a generator of paths written, with files in the place of `-`, and hand the bytes on.

    Without an output, standard input goes to standard output. Raises AllaprimaError when there are other sources too.
    """
    if len(sources) > 1:
        raise AllaprimaError("- stands for standard input or output, which one file goes through: give one source.")
    if output in (None, "-") and sys.stdout.isatty():
        raise AllaprimaError("Standard output is a terminal: redirect it to a file, or name one with --output.")
    with tempfile.TemporaryDirectory(prefix="allaprima-") as folder:
        source = sources[0]
        if source == "-":
            source = Path(folder) / "stdin"
            source.write_bytes(sys.stdin.buffer.read())
        if output not in (None, "-"):
            list(run([source], output))
            return
        for path in run([source], os.path.join(folder, "out", "")):
            sys.stdout.buffer.write(path.read_bytes())
            sys.stdout.buffer.flush()
