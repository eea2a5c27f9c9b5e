"""How events look on a terminal: a bar, a rate, the time left. On stderr, so that stdout stays for results."""

import codecs
import io
import sys
from contextlib import suppress
from typing import cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from allaprima.core.events import Advanced, Event, Started, Warned, Wrote

console = Console(stderr=True)


def prepare_streams() -> None:
    """Printing never fails: what the console's alphabet lacks is escaped, and a name that is not text goes out as its bytes."""
    codecs.register_error("as it is", _as_it_is)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="as it is")


def _as_it_is(error):
    if isinstance(error, UnicodeDecodeError):  # whoever reads back what was printed gets the bytes
        return codecs.lookup_error("surrogateescape")(error)
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a path that Python could not decode
        return bytes([code - 0xDC00]), error.start + 1
    return codecs.backslashreplace_errors(error)


# A name may hold anything: what would move the cursor, or end the line, is escaped.
_ESCAPED = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}


names: dict[str, str] = {}  # what the user knows files by that are not theirs, by path


def visible(text: object) -> str:
    """The text in one line, with no character that a terminal obeys."""
    text = str(text)
    for path, name in names.items():
        text = text.replace(path, name)
    return text.translate(_ESCAPED)


def result(line) -> None:
    """A line of results on stdout, a path say. The work is done by then: a pipe that is closed, or a full disk, ends nothing."""
    if not console.quiet:
        with suppress(OSError):
            print(visible(line) if sys.stdout.isatty() else line, flush=True)


def print_table(table: Table) -> None:
    """A table on stdout: drawn on a terminal; into a pipe a line for each row, its cells with tabs between them, uncut."""
    stdout = Console(highlight=False)
    if stdout.is_terminal:
        stdout.print(table)
        return
    columns = [
        [(Text.from_markup(cell) if isinstance(cell, str) else cast(Text, cell)).plain for cell in c.cells]
        for c in table.columns
    ]
    for row in zip(*columns, strict=True):
        print("\t".join(" ".join(cell.split()) for cell in row))


def say_error(sentence: str) -> None:
    """The last line of a command that failed; --quiet leaves it."""
    console.quiet = False
    console.print(Text.assemble(("error:", "red"), " ", visible(sentence)), highlight=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """Units per second, from rich's own smoothed speed; nothing for a task without a unit."""

    def render(self, task):
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text("" if speed is None or not unit else f"{speed:.1f} {unit}/s", style="cyan")


def say(sentence: str, style: str = "") -> None:
    """One line on stderr; what it names stays as it is written."""
    console.print(Text(visible(sentence), style), highlight=False, soft_wrap=True)


class Terminal:
    """The command line's listener, a context manager: bars are drawn from the first `Started` to the end of the block."""

    def __init__(self):
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )
        self._tasks = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._tasks:
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                if event.about:
                    say(event.about)
                self._progress.start()
                if event.task in self._tasks:
                    self._progress.remove_task(self._tasks[event.task])
                self._tasks[event.task] = self._progress.add_task(
                    visible(event.task), total=event.total, unit=event.unit, note=""
                )
            case Advanced():
                note = "  ".join(
                    [visible(event.note), *(f"{name} {value:.3g}" for name, value in event.values.items())]
                )
                task = self._tasks[event.task]
                self._progress.update(task, completed=event.done, total=event.total, note=note)
            case Warned():
                console.print(
                    Text.assemble(("warning: ", "yellow"), visible(event.text)), highlight=False, soft_wrap=True
                )
            case Wrote():
                say(f"Wrote {event.path}" + (f": {event.about}" if event.about else "."))
