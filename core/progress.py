"""One look for every long job: a bar, a rate, the time left. Drawn on stderr, so that stdout stays for results."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

console = Console(stderr=True)


class RateColumn(ProgressColumn):
    """Units per second, from rich's own smoothed speed; nothing for a task without a unit."""

    def render(self, task):
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text("" if speed is None or not unit else f"{speed:.1f} {unit}/s", style="cyan")


def progress_bar() -> Progress:
    """A rich Progress; give each task `unit="frames"` or the like, and a `note` to show behind the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
