"""The `train` command. Its options for settings follow from train/settings.py."""

import inspect
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from allaprima.commands.crews import carry_out, crews_for, make_jobs, train_apart
from allaprima.commands.terminal import Terminal, console, say
from allaprima.core.errors import import_with_extra
from allaprima.core.events import ignore
from allaprima.train.settings import Settings, described, make_settings


def with_settings(command: Callable) -> Callable:
    """The command with an option for each setting, in the place of its `**changes`."""
    signature = inspect.signature(command)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=own + [_parameter(setting) for setting in fields(Settings)])
    return command


def _parameter(setting: Field) -> inspect.Parameter:
    kind = setting.type if setting.type in (int, float, bool) else str
    names = setting.metadata["options"] or ()
    option = Option(*names, help=described(setting), rich_help_panel=setting.metadata["panel"], show_default=False)
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


@with_settings
def train(
    styles: Annotated[
        list[Path], Argument(help="The painting: any picture file, without frame or margin; or several of them.")
    ],
    output: Annotated[
        str | None,
        Option(
            "--output",
            "-o",
            help="The model file to write, or, with / at its end, a folder for it. Default: the painting's name with .onnx.",
        ),
    ] = None,
    config: Annotated[Path | None, Option(help="A TOML file of settings, named as the options with _ for -.")] = None,
    resume: Annotated[
        bool, Option("--resume", help="Continue an interrupted training, or a finished one with more --steps.")
    ] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace a model and a training that are there already.")
    ] = False,
    name: Annotated[str | None, Option(help="Name of the style, for the model file.")] = None,
    credit: Annotated[str | None, Option(help="Who painted it, for the model file.")] = None,
    licence: Annotated[str | None, Option(help="Licence of the model, for the model file.")] = None,
    painting: Annotated[
        bool | None,
        Option(help="Put the painting into the model file, as is the default, or its Gram matrices instead."),
    ] = None,
    report: Annotated[bool, Option(help="Write a report: pictures, curves, the comparison with the optimizer.")] = True,
    device: Annotated[str | None, Option(help="cpu, cuda or mps. Default: the best there is.")] = None,
    gpus: Annotated[
        int | None,
        Option(
            help="How many GPUs train: they share the photos of one painting, or take a painting each. "
            "Default: one for one painting, all for several.",
        ),
    ] = None,
    **changes,
):
    """Train a style from one painting and write it as one ONNX file; of several paintings, one each.

    Example: allaprima train examples/styles/starry_night.jpg -o starry.onnx
    """
    training, ranks = import_with_extra("allaprima.train.run"), import_with_extra("allaprima.train.ranks")
    saved = ""
    with ranks.joined(device) as place, Terminal() as terminal:
        console.quiet = console.quiet or not ranks.is_first()
        crews = crews_for(len(styles), gpus, device)
        settings = make_settings(place.type, config, processes=max(ranks.count(), *map(len, crews), 1), **changes)
        about = {"name": name, "credit": credit, "licence": licence, "painting": painting}
        how = {"overwrite": overwrite, "about": about, "report": report}
        jobs = make_jobs(styles, output, settings, None if config else changes, resume, **how)
        say("Ctrl-C saves the training, and --resume continues it." if jobs else "All of them are trained already.")
        if crews:
            with stop_signals() as stop:
                if not train_apart(jobs, crews, terminal, stop):
                    saved = "Saved what was done. To continue: the same command with --resume"
        else:
            (job,) = jobs
            try:
                carry_out(job, place, terminal if ranks.is_first() else ignore, stop_signals())
            except training.Stopped as stopped:
                again = ["allaprima", "train", str(job.style), "-o", str(job.output), "--resume"]
                again = shlex.join(again + ["--no-report"] * (not report))  # which is not in the checkpoint
                saved = f"Saved step {stopped.step} in {stopped.checkpoint}. To continue: {again}"
    if saved:
        say(saved)
        raise Exit(130)
    for job in jobs[-1:]:
        say(f"Next: allaprima stylize photo.jpg -m {job.output}   or, with a webcam: allaprima live -m {job.output}")


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGINT or SIGTERM came; a second one interrupts at once."""
    came, before = [], {}

    def note(number, frame):
        if came:
            raise KeyboardInterrupt
        came.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
