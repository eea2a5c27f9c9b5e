"""The `train` command. Its options for settings follow from train/settings.py."""

import inspect
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from allaprima.commands.terminal import Terminal, say
from allaprima.core.errors import import_with_extra
from allaprima.core.files import check_output
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
    style: Annotated[Path, Argument(help="The painting: any picture file, without frame or margin.")],
    output: Annotated[
        Path | None, Option("--output", "-o", help="The model file to write. Default: the painting's name with .onnx.")
    ] = None,
    config: Annotated[Path | None, Option(help="A TOML file of settings, named as the options with _ for -.")] = None,
    resume: Annotated[
        bool, Option("--resume", help="Continue an interrupted training, or a finished one with more --steps.")
    ] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace a model and a training that are there already.")
    ] = False,
    name: Annotated[str, Option(help="Name of the style, for the model file.")] = "",
    credit: Annotated[str, Option(help="Who painted it, for the model file.")] = "",
    licence: Annotated[str, Option(help="Licence of the model, for the model file.")] = "",
    no_painting: Annotated[
        bool,
        Option("--no-painting", help="Keep the painting out of the model file; its Gram matrices are stored instead."),
    ] = False,
    report: Annotated[bool, Option(help="Write a report: pictures, curves, the comparison with the optimizer.")] = True,
    device: Annotated[str | None, Option(help="cpu, cuda or mps. Default: the best there is.")] = None,
    **changes,
):
    """Train a style from one painting and write it as one ONNX file.

    Example: allaprima train examples/styles/starry_night.jpg -o starry.onnx
    """
    share_processor()
    began = time.perf_counter()
    training = import_with_extra("allaprima.train.run")
    place = import_with_extra("allaprima.models.devices").check_device(device)
    output = output or Path(style.with_suffix(".onnx").name)
    settings = None
    if config or not resume:  # else those of the checkpoint, changed
        settings, changes = make_settings(place.type, config, **changes), {}
    page = output.with_suffix(".html")
    with Terminal() as listener:
        if report:
            check_output(page, [style], overwrite=overwrite, listener=listener)
        trainer = training.begin(
            style, output, settings, resume=resume, overwrite=overwrite, device=place, listener=listener, **changes
        )
        say("Ctrl-C saves the training, and --resume continues it.")
        try:
            with stop_signals() as stop:
                training.run(trainer, output, listener=listener, stop=stop)
        except training.Stopped as stopped:
            again = shlex.join(["allaprima", "train", str(style), "-o", str(output), "--resume"])
            say(f"Saved step {stopped.step} in {stopped.checkpoint}. To continue: {again}")
            raise Exit(130) from None
        about = {"name": name, "credit": credit, "licence": licence}
        training.write_model(trainer, style, output, **about, painting=not no_painting, listener=listener)
        if report:
            write_report = import_with_extra("allaprima.insight.report").write_report
            write_report(page, trainer, style, output, time.perf_counter() - began, listener)
    say(f"Next: allaprima stylize photo.jpg -m {output}   or, with a webcam: allaprima live -m {output}")


def share_processor() -> None:
    """Before torch is imported: let its threads sleep while they wait, or training is several times slower beside any
    other program; but not at once, or it is half as long again beside none. GNU's OpenMP can wait so: some microseconds
    (docs/networks.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


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
