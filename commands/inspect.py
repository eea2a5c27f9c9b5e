"""The commands of `allaprima inspect`. What they do is in the module of each name, imported when it runs."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from allaprima.core.errors import AllaprimaError, import_with_extra

app = Typer(no_args_is_help=True, help="Look into the networks: what they see, keep, ignore, and where J comes from.")

Page = Annotated[Path, Option("--output", "-o", help="The page to write, .html; a .png lies beside it.")]
Network = Annotated[str, Option("--loss-network", help="vgg16_oxford, vgg16 or vgg19.")]
Weights = Annotated[Path | None, Option("--loss-weights", help="The loss network's weights, a local file.")]


@app.command()
def features(
    photos: Annotated[Path | None, Argument(help="A folder of nine photos or more. Default: bundled ones.")] = None,
    layer: Annotated[str, Option(help="The layer, as relu3_3.")] = "relu3_3",
    output: Page = Path("features.html"),
    maps: Annotated[str | None, Option(help="Numbers of feature maps, as 3,17. Default: random ones.")] = None,
    count: Annotated[int, Option(help="How many random ones.")] = 8,
    seed: Annotated[int, Option(help="Of the random choice.")] = 0,
    size: Annotated[int, Option(help="Long side in pixels that photos are scaled down to.")] = 512,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
):
    """The top nine activations of feature maps over a folder of photos, projected to pixels, beside their patches.

    allaprima inspect features ~/Pictures --layer relu4_3
    """
    _module("features").features(
        photos,
        layer,
        output,
        maps=_integers(maps),
        count=count,
        seed=seed,
        size=size,
        network=_network(loss_network, loss_weights),
    )


@app.command()
def evolution(
    run: Annotated[Path, Argument(help="A .run folder, or the model file beside it, of a training with --snapshots.")],
    photos: Annotated[Path | None, Option(help="A folder of photos. Default: the bundled ones.")] = None,
    layers: Annotated[str | None, Option(help="Layers of the style network. Default: six at most.")] = None,
    output: Page = Path("evolution.html"),
    count: Annotated[int, Option(help="Features of each layer.")] = 2,
    seed: Annotated[int, Option(help="Of their random choice.")] = 0,
    size: Annotated[int, Option(help="Long side in pixels that photos are scaled down to.")] = 256,
):
    """How the features of a style network came to be while it was trained, and its picture at each time.

    allaprima train painting.jpg --snapshots; allaprima inspect evolution painting.onnx
    """
    _module("evolution").evolution(
        run, photos, output, layers=_names(layers) if layers else None, count=count, size=size, seed=seed
    )


@app.command()
def invariance(
    photos: Annotated[Path | None, Argument(help="A folder of photos. Default: the bundled ones.")] = None,
    layers: Annotated[str, Option(help="Layers, as relu1_2,relu5_3.")] = "relu1_2,relu2_2,relu3_3,relu4_3,relu5_3",
    output: Page = Path("invariance.html"),
    count: Annotated[int, Option(help="Photos of the folder that are taken.")] = 5,
    window: Annotated[int, Option(help="Side in pixels of what the network sees of a photo.")] = 224,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
):
    """How far features and Gram matrices move when a photo is translated, scaled and rotated.

    allaprima inspect invariance ~/Pictures --layers relu1_2,relu4_3
    """
    _module("invariance").invariance(
        photos, _names(layers), output, count=count, window=window, network=_network(loss_network, loss_weights)
    )


@app.command()
def occlusion(
    photos: Annotated[list[Path], Argument(help="One photo or more.")],
    layer: Annotated[str, Option(help="The layer, as relu5_3.")] = "relu5_3",
    output: Page = Path("occlusion.html"),
    size: Annotated[int, Option(help="Long side in pixels that photos are scaled down to.")] = 320,
    square: Annotated[int, Option(help="Side of the grey square, pixels.")] = 64,
    stride: Annotated[int, Option(help="Pixels from one place of the square to the next.")] = 20,
    classifier: Annotated[
        Path | None,
        Option(help="A file of torchvision's VGG-16, for class probabilities. Default: torchvision's cache."),
    ] = None,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
):
    """What a grey square over each place of a photo does to a layer's strongest feature map, and to a classifier.

    allaprima inspect occlusion photo.jpg --layer relu4_3
    """
    _module("occlusion").occlusion(
        photos,
        layer,
        output,
        size=size,
        square=square,
        stride=stride,
        classifier=classifier,
        network=_network(loss_network, loss_weights),
    )


@app.command()
def correspondence(
    parts: Annotated[
        Path | None,
        Option(help="A JSON file of part positions, x before y. Default: four faces in the bundled photos."),
    ] = None,
    layers: Annotated[str, Option(help="Layers, as relu3_3,relu5_3.")] = "relu3_3,relu4_3,relu5_3",
    output: Page = Path("correspondence.html"),
    window: Annotated[int, Option(help="Pixels that each picture's parts are scaled to.")] = 224,
    square: Annotated[int, Option(help="Side of the grey square, pixels.")] = 48,
    draws: Annotated[int, Option(help="Random places to compare with.")] = 20,
    seed: Annotated[int, Option(help="Of the random places.")] = 0,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
):
    """Whether hiding the same part in several pictures changes a layer's features alike, against random places.

    The file: [{"photo": "a.jpg", "parts": {"left eye": [203, 101], "nose": [222, 128]}}, ...]
    """
    _module("correspondence").correspondence(
        parts,
        _names(layers),
        output,
        window=window,
        square=square,
        draws=draws,
        seed=seed,
        network=_network(loss_network, loss_weights),
    )


@app.command()
def reconstruct(
    photo: Annotated[Path, Argument(help="A photo, for the content.")],
    painting: Annotated[Path, Argument(help="A painting, for the style.")],
    output: Page = Path("reconstruct.html"),
    content_layers: Annotated[str, Option(help="One picture from each.")] = "relu1_2,relu2_2,relu3_2,relu4_2,relu5_2",
    style_layers: Annotated[
        str, Option(help="One picture from the first, the first two, ... of these.")
    ] = "relu1_1,relu2_1,relu3_1,relu4_1,relu5_1",
    size: Annotated[int, Option(help="Long side in pixels that both are scaled down to.")] = 192,
    iterations: Annotated[int, Option(help="Of L-BFGS, for each picture.")] = 100,
    seed: Annotated[int, Option(help="Of the noise.")] = 0,
    loss_network: Network = "vgg16_oxford",
    loss_weights: Weights = None,
):
    """What a layer keeps of a photo, and of a painting: pictures made from noise until that layer agrees.

    allaprima inspect reconstruct photo.jpg painting.jpg
    """
    _module("reconstruct").reconstructions(
        photo,
        painting,
        output,
        content_layers=_names(content_layers),
        style_layers=_names(style_layers),
        size=size,
        iterations=iterations,
        seed=seed,
        network=_network(loss_network, loss_weights),
    )


@app.command()
def loss(
    photo: Annotated[Path, Argument(help="A photo.")],
    model: Annotated[str, Option("--model", "-m", help="A model file, or the name of a style.")],
    style: Annotated[Path | None, Option(help="The painting, where the model file does not remember it.")] = None,
    output: Page = Path("loss.html"),
    size: Annotated[int, Option(help="Long side in pixels that the photo is scaled down to.")] = 512,
    loss_weights: Weights = None,
):
    """Where the loss of a stylized photo comes from: content and style costs by layer, and heat maps over the picture.

    allaprima inspect loss photo.jpg -m starry.onnx
    """
    _module("costs").costs(photo, model, style, output, size=size, loss_weights=loss_weights)


def _module(name):
    return import_with_extra(f"allaprima.insight.{name}")


def _network(name, weights):
    """In float32: bfloat16 would make neighbouring activations equal."""
    return import_with_extra("allaprima.models.loss_network").LossNetwork(name, weights=weights)


def _names(text):
    return [part.strip() for part in text.split(",") if part.strip()]


def _integers(text):
    try:
        return [int(part) for part in text.split(",")] if text else None
    except ValueError as error:
        raise AllaprimaError(f"{text!r} is no list of numbers: write them as 3,17.") from error
