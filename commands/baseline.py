"""The commands `baseline` and `compare`. What they do is in the folder baseline/, imported when they run."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Argument, Exit, Option

from allaprima.commands.styles import KeepColors, Overwrite
from allaprima.commands.terminal import Terminal, say
from allaprima.core.errors import AllaprimaError, import_with_extra

J_IS = "J = alpha * content cost + beta * style cost{}: the number that the network and the optimizer both minimise."
EQUIVALENT_IS = (
    "Equivalent iteration: the first iteration of the optimizer, started from the photo, whose J is at or below that of "
    "the network's one pass."
)


def baseline(
    content: Annotated[Path, Argument(help="The photo.")],
    styles: Annotated[list[Path], Argument(help="One painting or more.")],
    output: Annotated[str, Option("--output", "-o", help="The picture file to write.")],
    size: Annotated[int, Option(help="Long side in pixels that the photo is scaled down to.")] = 512,
    style_size: Annotated[
        int | None,
        Option(help="Long side in pixels of the paintings; larger means larger strokes. Default: that of the photo."),
    ] = None,
    style_weights: Annotated[str | None, Option(help="The share of each painting, for example 2,1.")] = None,
    alpha: Annotated[float | None, Option(help="Weight of the content cost; with 0 only the style is kept.")] = None,
    beta: Annotated[float | None, Option(help="Weight of the style cost; with 0 only the content is kept.")] = None,
    tv: Annotated[float | None, Option(help="Weight of total variation, which smooths the picture.")] = None,
    content_layers: Annotated[
        str | None, Option(help="Content layers and their weights, for example relu2_2=1,relu3_3=2.")
    ] = None,
    style_layers: Annotated[
        str | None, Option(help="Style layers and their weights (lambda), for example relu1_1,relu2_1=0.5.")
    ] = None,
    raw_weights: Annotated[
        bool, Option("--raw-weights", help="Use the weights as given, without balancing them for the painting.")
    ] = False,
    init: Annotated[str, Option(help="Picture to start from: content, noise or style.")] = "content",
    method: Annotated[str, Option(help="Descent method: lbfgs or adam.")] = "lbfgs",
    iterations: Annotated[int, Option(help="Number of iterations at each scale.")] = 300,
    history: Annotated[int, Option(help="Number of gradient pairs that L-BFGS remembers.")] = 20,
    learning_rate: Annotated[float, Option(help="Learning rate of Adam, for pixel values 0 to 1.")] = 0.02,
    scales: Annotated[int, Option(help="Number of scales, coarse to fine; each is half the size of the next.")] = 1,
    keep_colors: KeepColors = False,
    trace: Annotated[
        str | None, Option(help="File for J and its parts by iteration, .csv or .json. Default: none.")
    ] = None,
    every: Annotated[
        int, Option(help="Write the picture of every k-th iteration into the folder OUTPUT_steps; 0 writes none.")
    ] = 0,
    loss_network: Annotated[str, Option(help="Loss network: vgg16_oxford, vgg16 or vgg19.")] = "vgg16_oxford",
    loss_weights: Annotated[Path | None, Option(help="Local file of the loss network's weights.")] = None,
    pooling: Annotated[str, Option(help="Pooling in the loss network: max or avg.")] = "max",
    seed: Annotated[int, Option(help="Random seed.")] = 0,
    overwrite: Overwrite = False,
):
    """Paint a photo with the slow Gatys optimizer: gradient descent on its pixels. Ctrl-C keeps the best picture so far.

    The number that it minimises is J = alpha * content cost + beta * style cost: the distance to the photo and to the
    painting, as a loss network sees them. --tv adds tv * total variation.

    Example: allaprima baseline photo.jpg painting.jpg -o painted.png --keep-colors
    """
    optimizer = import_with_extra("allaprima.baseline.optimizer")
    from allaprima.baseline.files import optimize_files
    from allaprima.models.perceptual import Objective
    from allaprima.train.settings import parse_layers

    given = {
        "alpha": alpha,
        "beta": beta,
        "tv": tv,
        "content": parse_layers(content_layers),
        "style": parse_layers(style_layers),
    }
    objective = Objective(**{name: value for name, value in given.items() if value is not None})
    with Terminal() as listener:
        result = optimize_files(
            content,
            styles,
            output,
            size=size,
            trace=trace,
            every=every,
            overwrite=overwrite,
            listener=listener,
            objective=objective,
            network=optimizer.default_network(loss_network, pooling, loss_weights, listener),
            descent=optimizer.Descent(method, iterations, history, learning_rate),
            balanced=not raw_weights,
            style_weights=_numbers(style_weights),
            style_size=style_size,
            init=init,
            scales=scales,
            keep_colors=keep_colors,
            seed=seed,
        )
    if result.ended == "stopped":
        say("Stopped.")
        raise Exit(130)


def compare(
    photos: Annotated[list[Path], Argument(help="Photos, preferably ones that the model was not trained on.")],
    model: Annotated[str, Option("--model", "-m", help="A model file, or the name of a style.")],
    style: Annotated[Path | None, Option(help="The painting, where the model file does not hold it.")] = None,
    output: Annotated[
        str | None, Option("--output", "-o", help="Picture file to write, with all pictures side by side.")
    ] = None,
    size: Annotated[int, Option(help="Long side in pixels that the photos are scaled down to.")] = 384,
    iterations: Annotated[int, Option(help="Number of iterations of L-BFGS.")] = 200,
    loss_weights: Annotated[Path | None, Option(help="Local file of the loss network's weights.")] = None,
    overwrite: Overwrite = False,
):
    """Compare a trained style with the optimizer: J, costs, seconds, and the equivalent iteration.

    J = alpha * content cost + beta * style cost, and + tv * total variation of a style that was trained with --tv: the
    number that the network and the optimizer both minimise.
    Equivalent iteration: the first iteration of the optimizer, started from the photo, whose J is at or below that of
    the network's one pass.

    Example: allaprima compare photo.jpg -m starry.onnx -o compare.png
    """
    run = import_with_extra("allaprima.baseline.compare").compare
    with Terminal() as listener:
        rows = run(
            model,
            photos,
            style,
            size=size,
            iterations=iterations,
            output=output,
            loss_weights=loss_weights,
            overwrite=overwrite,
            listener=listener,
        )
    _print_table([photo.name for photo in photos], rows)


def _print_table(names, rows):
    """For each photo the costs and seconds of the network and of the optimizer, and what one pass is worth.

    Total variation is among them where the model was trained with it, and so it is a part of J.
    """
    tv = any(row.network_costs["tv"] for row in rows)
    shown = ["J", "content", "content_as_written", "style"] + ["tv"] * tv
    table = Table("photo", box=box.SIMPLE_HEAD)
    table.add_column("by", no_wrap=True)
    for head in (*shown, "seconds"):
        table.add_column(head.removeprefix("content_").replace("_", " "), justify="right")
    for name, row in zip(names, rows):
        for label, costs, seconds in _lines(row):
            table.add_row(escape(name), label, *(f"{costs[key]:.4g}" for key in shown), f"{seconds:.3g}")
            name = ""
        table.add_section()
    stdout = Console(highlight=False)
    stdout.print(table)
    stdout.print(J_IS.format(" + tv * total variation" if tv else ""), EQUIVALENT_IS, sep="\n", soft_wrap=True)
    for name, row in zip(names, rows):
        stdout.print(f"{name}: {_worth(row)}.", soft_wrap=True, markup=False)


def _lines(row):
    """(label, costs, seconds) of the network, the optimizer at the equivalent iteration, and its last."""
    lines = [("network", row.network_costs, row.network_seconds)]
    if row.equivalent_iteration is not None:
        at = row.trace[row.equivalent_iteration]
        lines.append((f"optimizer {at.iteration}", asdict(at), at.seconds))
    lines.append((f"optimizer {row.trace[-1].iteration}", row.finished_costs, row.optimizer_seconds))
    return lines


def _worth(row):
    if row.equivalent_iteration == 0:
        return "one pass is worth 0 iterations: the photo itself has as low a J"
    if row.equivalent_iteration is None:
        return f"one pass is worth {row.equivalent_text} iterations and is over {row.times_faster:.0f} times as fast"
    return (
        f"one pass is worth {row.equivalent_text} iterations ({row.equivalent_evaluations} evaluations of J) and is "
        f"{row.times_faster:.0f} times as fast"
    )


def _numbers(text):
    try:
        return [float(part) for part in text.split(",")] if text else None
    except ValueError as error:
        raise AllaprimaError(
            f"style weights must be numbers with commas between them, for example 2,1, not {text!r}."
        ) from error
