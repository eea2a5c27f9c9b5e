"""The command line: every command's name, what all of them have in common, and what happens to errors."""

import inspect as introspection
import os
import sys
import warnings
from functools import wraps
from typing import Annotated

import typer

from allaprima.commands import baseline, inspect, serve, share_processor, styles, train
from allaprima.commands.terminal import console, prepare_streams, say, say_error
from allaprima.core import __version__
from allaprima.core.errors import AllaprimaError

app = typer.Typer(
    name="allaprima",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="One painting in, one fast style network out, running live on any webcam.",
)
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors, and the tables asked for.")]


def as_command(work):
    """The function as a command: with --quiet, and stopped by Ctrl-C with a word and exit code 130."""

    @wraps(work)
    def command(*args, quiet=False, **options):
        console.quiet = quiet
        try:
            return work(*args, **options)
        except KeyboardInterrupt as stop:
            say("Stopped.")
            raise typer.Exit(130) from stop

    signature = introspection.signature(work)
    parameter = introspection.Parameter("quiet", introspection.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)
    shown = signature.replace(parameters=[*signature.parameters.values(), parameter])
    command.__signature__ = shown  # pyright: ignore[reportAttributeAccessIssue]
    command.__annotations__ = work.__annotations__ | {"quiet": Quiet}
    return command


for work in (
    train.train,
    styles.stylize,
    styles.live,
    baseline.baseline,
    baseline.compare,
    styles.models,
    styles.bench,
    serve.studio,
    serve.serve,
    serve.export_web,
):
    app.command()(as_command(work))
for registered in inspect.app.registered_commands:
    registered.callback = as_command(registered.callback)
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
    """Run the command line; an error is one sentence and exit code 2, one that nobody foresaw exit code 1."""
    prepare_streams()
    share_processor()
    warnings.filterwarnings("ignore", module="PIL")  # they are about broken metadata, which is left out
    try:
        app()
    except Exception as error:
        if os.environ.get("ALLAPRIMA_DEBUG"):
            raise
        if isinstance(error, AllaprimaError):
            say_error(str(error))
            sys.exit(2)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        say_error(f"Something went wrong that allaprima did not foresee ({reason}). allaprima --debug shows where.")
        sys.exit(1)
