"""The commands of `allaprima inspect`. What they do is in the module of each name, imported when it runs."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from allaprima.commands.styles import Overwrite
from allaprima.commands.terminal import Terminal
from allaprima.core.errors import AllaprimaError, import_with_extra

app = Typer(
    no_args_is_help=True,
    help="Look into the networks: what they see, keep and ignore, and where J, the loss, comes from.",
)

Page = Annotated[str, Option("--output", "-o", help="Page to write, .html; its pictures go into a .png beside it.")]
Network = Annotated[str, Option("--loss-network", help="Loss network: vgg16_oxford, vgg16 or vgg19.")]
Weights = Annotated[Path | None, Option("--loss-weights", help="Local file of the loss network's weights.")]


@app.command()
def features(
    photos: Annotated[
        Path | None, Argument(help="A folder with at least nine photos. Default: 15 of the bundled ones.")
    ] = None,
    layer: Annotated[str, Option(help="Layer of the loss network, for example relu3_3.")] = "relu3_3",
    output: Page = "features.html",
    maps: Annotated[
        str | None, Option(help="Numbers of the feature maps to show, for example 3,17. Default: random ones.")
    ] = None,
    count: Annotated[int, Option(help="Number of random feature maps.")] = 8,
    seed: Annotated[int, Option(help="Random seed.")] = 0,
    size: Annotated[int, Option(help="Long side in pixels that the photos are scaled down to.")] = 512,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
    overwrite: Overwrite = False,
):
    """Show the nine strongest activations of feature maps over a folder of photos, projected to pixels.

    Example: allaprima inspect features ~/Pictures --layer relu4_3
    """
    _run(
        "features",
        photos,
        layer,
        output,
        maps=_integers(maps),
        count=count,
        seed=seed,
        size=size,
        network=_network(loss_network, loss_weights),
        overwrite=overwrite,
    )


@app.command()
def evolution(
    run: Annotated[Path, Argument(help="The .run folder of a training with --snapshots, or the model file beside it.")],
    photos: Annotated[Path | None, Option(help="A folder of photos. Default: 15 of the bundled ones.")] = None,
    layers: Annotated[
        str | None, Option(help="Layers of the style network, with commas between them. Default: at most six.")
    ] = None,
    output: Page = "evolution.html",
    count: Annotated[int, Option(help="Number of features of each layer.")] = 2,
    seed: Annotated[int, Option(help="Random seed.")] = 0,
    size: Annotated[int, Option(help="Long side in pixels that the photos are scaled down to.")] = 256,
    overwrite: Overwrite = False,
):
    """Show how the features of a style network came to be while it was trained, and its picture at each time.

    Example: allaprima train painting.jpg --snapshots; allaprima inspect evolution painting.onnx
    """
    _run(
        "evolution",
        run,
        photos,
        output,
        layers=_names(layers) if layers else None,
        count=count,
        size=size,
        seed=seed,
        overwrite=overwrite,
    )


@app.command()
def invariance(
    photos: Annotated[Path | None, Argument(help="A folder of photos. Default: 15 of the bundled ones.")] = None,
    layers: Annotated[
        str, Option(help="Layers of the loss network, with commas between them.")
    ] = "relu1_2,relu2_2,relu3_3,relu4_3,relu5_3",
    output: Page = "invariance.html",
    count: Annotated[int, Option(help="Number of photos that are taken from the folder.")] = 5,
    window: Annotated[int, Option(help="Side in pixels of the part of a photo that the network sees.")] = 224,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
    overwrite: Overwrite = False,
):
    """Show how far features and Gram matrices move when a photo is translated, scaled or rotated.

    Example: allaprima inspect invariance ~/Pictures --layers relu1_2,relu4_3
    """
    _run(
        "invariance",
        photos,
        _names(layers),
        output,
        count=count,
        window=window,
        network=_network(loss_network, loss_weights),
        overwrite=overwrite,
    )


@app.command()
def occlusion(
    photos: Annotated[list[Path], Argument(help="One or more photos.")],
    layer: Annotated[str, Option(help="Layer of the loss network, for example relu5_3.")] = "relu5_3",
    output: Page = "occlusion.html",
    size: Annotated[int, Option(help="Long side in pixels that the photos are scaled down to.")] = 320,
    square: Annotated[int, Option(help="Side of the grey square in pixels.")] = 64,
    stride: Annotated[int, Option(help="Distance in pixels from one place of the square to the next.")] = 20,
    classifier: Annotated[
        Path | None,
        Option(help="File of torchvision's VGG-16, for class probabilities. Default: the one in torchvision's cache."),
    ] = None,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
    overwrite: Overwrite = False,
):
    """Show what a grey square at each place of a photo does to a layer's strongest feature map and to a classifier.

    Example: allaprima inspect occlusion photo.jpg --layer relu4_3
    """
    _run(
        "occlusion",
        photos,
        layer,
        output,
        size=size,
        square=square,
        stride=stride,
        classifier=classifier,
        network=_network(loss_network, loss_weights),
        overwrite=overwrite,
    )


@app.command()
def correspondence(
    parts: Annotated[
        Path | None,
        Option(help="JSON file of part positions, x before y. Default: four faces in the bundled photos."),
    ] = None,
    layers: Annotated[
        str, Option(help="Layers of the loss network, with commas between them.")
    ] = "relu3_3,relu4_3,relu5_3",
    output: Page = "correspondence.html",
    window: Annotated[
        int, Option(help="Side in pixels that the square around each picture's parts is scaled to.")
    ] = 224,
    square: Annotated[int, Option(help="Side of the grey square in pixels.")] = 48,
    draws: Annotated[int, Option(help="Number of random places to compare with.")] = 20,
    seed: Annotated[int, Option(help="Random seed.")] = 0,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
    overwrite: Overwrite = False,
):
    """Show whether hiding the same part in several pictures changes a layer's features alike.

    Random places are the control. The file of --parts: [{"photo": "a.jpg", "parts": {"left eye": [203, 101], "nose": [222, 128]}}, ...]
    """
    _run(
        "correspondence",
        parts,
        _names(layers),
        output,
        window=window,
        square=square,
        draws=draws,
        seed=seed,
        network=_network(loss_network, loss_weights),
        overwrite=overwrite,
    )


@app.command()
def reconstruct(
    photo: Annotated[Path, Argument(help="The photo, for the content.")],
    painting: Annotated[Path, Argument(help="The painting, for the style.")],
    output: Page = "reconstruct.html",
    content_layers: Annotated[
        str, Option(help="Content layers; one picture is made from each.")
    ] = "relu1_2,relu2_2,relu3_2,relu4_2,relu5_2",
    style_layers: Annotated[
        str, Option(help="Style layers; pictures are made from the first, the first two, and so on.")
    ] = "relu1_1,relu2_1,relu3_1,relu4_1,relu5_1",
    size: Annotated[int, Option(help="Long side in pixels that both are scaled down to.")] = 192,
    iterations: Annotated[int, Option(help="Number of iterations of L-BFGS for each picture.")] = 100,
    seed: Annotated[int, Option(help="Random seed.")] = 0,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
    overwrite: Overwrite = False,
):
    """Show what a layer keeps of a photo and of a painting: pictures made from noise until that layer agrees.

    Example: allaprima inspect reconstruct photo.jpg painting.jpg
    """
    _run(
        "reconstruct",
        photo,
        painting,
        output,
        content_layers=_names(content_layers),
        style_layers=_names(style_layers),
        size=size,
        iterations=iterations,
        seed=seed,
        network=_network(loss_network, loss_weights),
        overwrite=overwrite,
    )


@app.command()
def loss(
    photo: Annotated[Path, Argument(help="The photo.")],
    model: Annotated[str, Option("--model", "-m", help="A model file, or the name of a style.")],
    style: Annotated[Path | None, Option(help="The painting, where the model file does not hold it.")] = None,
    output: Page = "loss.html",
    size: Annotated[int, Option(help="Long side in pixels that the photo is scaled down to.")] = 512,
    loss_weights: Weights = None,
    overwrite: Overwrite = False,
):
    """Show where J, the loss of a stylized photo, comes from: costs by layer, and heat maps over the picture.

    J = alpha * content cost + beta * style cost: the distance to the photo and to the painting, as a loss network sees
    them; and + tv * total variation of a style that was trained with --tv.

    Example: allaprima inspect loss photo.jpg -m starry.onnx
    """
    _run("costs", photo, model, style, output, size=size, loss_weights=loss_weights, overwrite=overwrite)


def _run(name, *arguments, **options):
    """Call the function that a module of insight is named after, and draw its events."""
    module = import_with_extra(f"allaprima.insight.{name}")
    with Terminal() as listener:
        getattr(module, name)(*arguments, listener=listener, **options)


def _network(name, weights):
    """The loss network in float32: bfloat16 would make neighbouring activations equal."""
    network = import_with_extra("allaprima.models.loss_network").LossNetwork
    with Terminal() as listener:
        return network(name, weights=weights, listener=listener)


def _names(text):
    return [part.strip() for part in text.split(",") if part.strip()]


def _integers(text):
    try:
        return [int(part) for part in text.split(",")] if text else None
    except ValueError as error:
        raise AllaprimaError(
            f"maps must be numbers with commas between them, for example 3,17, not {text!r}."
        ) from error
