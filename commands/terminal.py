"""How events look on a terminal: a bar, a rate, the time left. On stderr, so that stdout stays for results."""

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from allaprima.core.events import Advanced, Event, Started, Warned, Wrote

console = Console(stderr=True)


class RateColumn(ProgressColumn):
    """Units per second, from rich's own smoothed speed; nothing for a task without a unit."""

    def render(self, task):
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text("" if speed is None or not unit else f"{speed:.1f} {unit}/s", style="cyan")


def say(sentence: str, style: str = "") -> None:
    """One line on stderr; what it names stays as it is written."""
    console.print(Text(sentence, style), highlight=False, soft_wrap=True)


class Terminal:
    """The command line's listener, a context manager: bars are drawn from the first `Started` to the end of the block."""

    def __init__(self):
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._tasks = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
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
                    escape(event.task), total=event.total, unit=event.unit, note=""
                )
            case Advanced():
                total = {} if event.total is None else {"total": event.total}
                note = "  ".join([event.note, *(f"{name} {value:.3g}" for name, value in event.values.items())])
                self._progress.update(self._tasks[event.task], completed=event.done, note=escape(note), **total)
            case Warned():
                console.print(Text.assemble(("warning: ", "yellow"), event.text), highlight=False, soft_wrap=True)
            case Wrote():
                say(f"Wrote {event.path}" + (f": {event.about}" if event.about else "."))
