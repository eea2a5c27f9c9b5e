"""The command line: every command's name, and what happens to errors."""

import os
import sys
import warnings

import typer
from rich.markup import escape

from allaprima.commands import baseline, inspect, styles, train
from allaprima.core import __version__
from allaprima.core.errors import AllaprimaError
from allaprima.core.progress import console

app = typer.Typer(
    name="allaprima",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One painting in, one fast style network out, running live on any webcam.",
)

for command in (
    train.train,
    styles.stylize,
    styles.live,
    baseline.baseline,
    baseline.compare,
    styles.models,
    styles.bench,
):
    app.command()(command)
app.add_typer(inspect.app, name="inspect")


def _version(wanted: bool):
    if wanted:
        print(f"allaprima {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
):
    if debug:
        os.environ["ALLAPRIMA_DEBUG"] = "1"


def main():
    """Run the command line; an AllaprimaError is one sentence and exit code 2, Ctrl-C exit code 130."""
    warnings.filterwarnings("ignore", module="PIL")  # they are about broken metadata, which is left out
    try:
        app()
    except AllaprimaError as error:
        if os.environ.get("ALLAPRIMA_DEBUG"):
            raise
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(130)
