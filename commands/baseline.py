"""The commands `baseline` and `compare`. What they do is in optimizer.py and compare.py, imported when they run."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from allaprima.core.errors import AllaprimaError, import_with_extra


def baseline(
    content: Annotated[Path, Argument(help="The photo.")],
    styles: Annotated[list[Path], Argument(help="One painting or more.")],
    output: Annotated[Path, Option("--output", "-o", help="The picture to write.")],
    size: Annotated[int, Option(help="Long side in pixels that the photo is scaled down to.")] = 512,
    style_size: Annotated[
        int | None,
        Option(help="Long side of the paintings in pixels: larger means larger strokes. Without it, the photo's."),
    ] = None,
    style_weights: Annotated[str | None, Option(help="How much each painting counts, as 2,1.")] = None,
    alpha: Annotated[float | None, Option(help="Weight of content; 0 reconstructs the style alone.")] = None,
    beta: Annotated[float | None, Option(help="Weight of style; 0 reconstructs the content alone.")] = None,
    tv: Annotated[float | None, Option(help="Weight of total variation, against noise.")] = None,
    content_layers: Annotated[str | None, Option(help="Layers and weights, as relu2_2=1,relu3_3=2.")] = None,
    style_layers: Annotated[str | None, Option(help="Layers and weights (lambda), as relu1_1,relu2_1=0.5.")] = None,
    raw_weights: Annotated[bool, Option("--raw-weights", help="Take the weights as they are, not balanced.")] = False,
    init: Annotated[str, Option(help="Start from content, noise or style.")] = "content",
    method: Annotated[str, Option(help="lbfgs or adam.")] = "lbfgs",
    iterations: Annotated[int, Option(help="Iterations, at each scale.")] = 300,
    history: Annotated[int, Option(help="Pairs of gradients that L-BFGS remembers.")] = 20,
    learning_rate: Annotated[float, Option(help="Of Adam, for values 0..1.")] = 0.02,
    scales: Annotated[int, Option(help="Coarse to fine: each scale has half the size of the next.")] = 1,
    original_colours: Annotated[bool, Option("--original-colours", help="Keep the photo's colours.")] = False,
    trace: Annotated[Path | None, Option(help="Write J and its parts by iteration to a .csv or .json.")] = None,
    every: Annotated[int, Option(help="Write every k-th picture into the folder OUTPUT_steps.")] = 0,
    loss_network: Annotated[str, Option(help="vgg16_oxford, vgg16 or vgg19.")] = "vgg16_oxford",
    loss_weights: Annotated[Path | None, Option(help="The loss network's weights, a local file.")] = None,
    pooling: Annotated[str, Option(help="max or avg.")] = "max",
    seed: Annotated[int, Option(help="Of the noise.")] = 0,
):
    """Paint a photo with the slow Gatys optimizer: gradient descent on its pixels. Ctrl-C keeps the best so far.

    allaprima baseline photo.jpg painting.jpg -o painted.png --original-colours
    """
    optimizer = import_with_extra("allaprima.baseline.optimizer")
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
    result = optimizer.optimize_files(
        content,
        styles,
        output,
        size,
        trace,
        every,
        objective=objective,
        network=optimizer.default_network(loss_network, pooling, loss_weights),
        descent=optimizer.Descent(method, iterations, history, learning_rate),
        balanced=not raw_weights,
        style_weights=_numbers(style_weights),
        style_size=style_size,
        init=init,
        scales=scales,
        original_colours=original_colours,
        seed=seed,
    )
    if result.ended == "stopped":
        raise Exit(130)


def compare(
    photos: Annotated[list[Path], Argument(help="Photos, best ones that the model has not seen.")],
    model: Annotated[str, Option("--model", "-m", help="A model file, or the name of a style.")],
    style: Annotated[Path | None, Option(help="The painting, where the model file does not remember it.")] = None,
    output: Annotated[Path | None, Option("--output", "-o", help="A picture of all, side by side.")] = None,
    size: Annotated[int, Option(help="Long side in pixels that photos are scaled down to.")] = 384,
    iterations: Annotated[int, Option(help="Iterations of L-BFGS.")] = 200,
    loss_weights: Annotated[Path | None, Option(help="The loss network's weights, a local file.")] = None,
):
    """Compare a trained style with the optimizer: J, costs, seconds, and how many iterations one pass is worth.

    allaprima compare photo.jpg -m starry.onnx --style painting.jpg -o compare.png
    """
    import_with_extra("allaprima.baseline.compare").compare(
        model, photos, style, size=size, iterations=iterations, output=output, loss_weights=loss_weights
    )


def _numbers(text):
    try:
        return [float(part) for part in text.split(",")] if text else None
    except ValueError as error:
        raise AllaprimaError(f"{text!r} is no list of weights: write them as 2,1.") from error
