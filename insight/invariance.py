"""How far features, and Gram matrices, move when a photo is translated, scaled or rotated.

Zeiler and Fergus 2013, figure 5 and section 4.1, "Feature Invariance". They shift a photo inside its frame; here a
window moves over a larger photo, so that no made-up border enters.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from allaprima.core.checks import check_kind, check_whole
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Task, ignore
from allaprima.insight.deconvnet import check_layers, check_picture
from allaprima.insight.features import check_usable, find_photos
from allaprima.insight.page import Heading, Row, Table
from allaprima.insight.sheet import check_page, drawn, enlarge, figure, grid, write, writing
from allaprima.media.pictures import read_photo
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import gram_matrix, style_cost
from allaprima.models.tensors import to_tensor

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
ROOM = 1.5  # the photo's short side over the window's: enough for every turn of the window (the root of 2), and a shift
# What is done to the window: pixels down, times as large, degrees against the clock.
CHANGES = {
    "translation": [0, 1, 2, 4, 8, 16, 24, 32, 40, 48, 56],
    "scale": [1, 1.05, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8],
    "rotation": [0, 2, 5, 10, 20, 30, 45, 60, 90, 120, 150, 180, 210, 240, 270, 300, 315, 330, 340, 350, 355, 358, 360],
}
TABLED = {2, 8, 32, 1.1, 1.4, 10, 90, 180}  # those of the tables
UNITS = {"translation": "pixels down", "scale": "times as large", "rotation": "degrees"}


def steps(change: str, window: int) -> list[float]:
    """The amounts of a change that a window of so many pixels has room for: it is moved by a quarter of it at most."""
    return [amount for amount in CHANGES[change] if change != "translation" or amount <= window / 4]


@dataclass
class Distances:
    """Of one change and one layer, arrays [photos, steps]; the first step is no change.

    features: ||a(x) - a(Tx)|| / ||a(x)||, place by place. grams: the same of Gram matrices, that is the root of J_style
    between the two over J_style of x against no activation at all.
    """

    features: np.ndarray
    grams: np.ndarray


def changed(photo: Image.Image, window: int, change: str, amount: float) -> Image.Image:
    """The square of `window` pixels at the photo's middle after a change from CHANGES; bicubic, without new borders.

    photo: its short side is ROOM times the window at least. Whole pixels of translation are copied as they are.
    """
    width, height = photo.size
    centre = np.array([width / 2, height / 2]).round()
    shift, scale, angle = (
        (amount if change == name else none) for name, none in (("translation", 0), ("scale", 1), ("rotation", 0))
    )
    # for each pixel of the window, the pixel of the photo: x = a u + b v + c, y = d u + e v + f
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / scale
    offset = centre - (0, shift) - matrix @ (window / 2, window / 2)
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    return photo.transform((window, window), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)


@torch.no_grad()
def distances(network: LossNetwork, layers, photos, window=224, each=lambda: None) -> dict[str, dict[str, Distances]]:
    """Distances of each change and layer. photos: PIL images with a short side of ROOM times the window at least.

    each: called after every photo and change.
    """
    found = {change: {layer: [] for layer in layers} for change in CHANGES}
    for photo in photos:
        for change, by_layer in found.items():
            windows = (changed(photo, window, change, amount) for amount in steps(change, window))
            for layer, rows in _moved(network, layers, windows).items():
                by_layer[layer].append(rows)
            each()
    return {
        change: {layer: Distances(*np.array(rows).transpose(2, 0, 1)) for layer, rows in by_layer.items()}
        for change, by_layer in found.items()
    }


def _moved(network, layers, windows):
    """For each layer, (features, grams) of Distances for each window, against the first."""
    first, rows = None, {layer: [] for layer in layers}
    for window in windows:
        taps = network(to_tensor(window), layers)
        first = first or taps
        for layer in layers:
            a, b = first[layer], taps[layer]
            gram = gram_matrix(a)
            grams = (style_cost(gram_matrix(b), gram) / style_cost(torch.zeros_like(gram), gram)).sqrt()
            rows[layer].append((((a - b).norm() / a.norm()).item(), grams.item()))
    return rows


def load(file, window) -> Image.Image:
    """A photo scaled to a short side of ROOM times the window. Raises AllaprimaError when it is smaller."""
    image = Image.fromarray(read_photo(file, 10**6))
    ratio = ROOM * window / min(image.size)
    if ratio > 1.12:  # a little interpolation does no harm
        raise AllaprimaError(
            f"{file} has {image.width}x{image.height} pixels, and a window of {window} needs a short side of "
            f"{int(ROOM * window)}: give a larger photo or a smaller --window."
        )
    return image.resize([round(side * ratio) for side in image.size], Image.Resampling.LANCZOS)


def invariance(
    photos=None,
    layers=LAYERS,
    output="invariance.html",
    *,
    count=5,
    window=224,
    network: LossNetwork | None = None,
    overwrite=False,
    listener: Listener = ignore,
) -> dict[str, dict[str, Distances]]:
    """Write a page of how far each layer's features and Gram matrices move under translation, scaling and rotation.

    photos: a folder, of which the first `count` that can be read and are large enough are taken; None for 15 of the bundled
    ones. layers: names. window: side in pixels of what the network sees. output: as for `features`.
    Raises AllaprimaError for an unknown layer, for a window that is too small, and where no photo can be used.
    """
    check_whole(1, count=count, window=window)
    check_kind(LossNetwork, network=network)
    network, layers = network or LossNetwork(), check_layers("layers", layers)
    for layer in layers:
        check_picture(network, layer, (window, window), "The window")
    there = find_photos(photos, least=1)
    output = check_page(output, there, overwrite, listener)
    images, skipped = {}, []
    for file in there:
        try:
            images[file] = load(file, window)
        except AllaprimaError as error:
            skipped.append(str(error))
        if len(images) == count:
            break
    check_usable([*images, *skipped], skipped, 1, listener)
    files, images = [*images], [*images.values()]
    many = f"distances of {len(layers)} layers over {len(files)} photos and {len(CHANGES)} changes"
    task = Task(listener, "changes", len(files) * len(CHANGES), about=writing(output, many))
    found = distances(network, layers, images, window, task.advance)
    write(
        output,
        "What the layers ignore: translation, scale and rotation",
        [
            f"{len(files)} photos: {', '.join(file.name for file in files)}. A window of {window}x{window} pixels in the "
            "middle of each is moved, scaled and turned.",
            Row([(_examples(images[0], window), "some of the windows, of the first photo")]),
            Row(
                [
                    (
                        _plots(found, layers, window),
                        f"mean over the photos; the shading is from the least to the largest; {network.name}",
                    )
                ]
            ),
            *_tables(found, window),
        ],
        listener,
    )
    return found


def _examples(photo, window):
    rows = []
    for change in CHANGES:
        amounts = steps(change, window)
        picked = [amounts[n] for n in np.linspace(0, len(amounts) - 1, 7).round().astype(int)]
        windows = [np.asarray(changed(photo, window, change, amount)) for amount in picked]
        texts = [f"{amount:g} {UNITS[change]}" for amount in picked]
        rows.append([(enlarge(picture, 128), text) for picture, text in zip(windows, texts, strict=True)])
    return grid(rows)


def _plots(found, layers, window):
    drawing = figure(1200, 760)
    axes = drawing.subplots(2, 3, sharey="row")
    colours = [f"C{number}" for number in range(len(layers))]
    for column, (change, by_layer) in zip(axes.T, found.items(), strict=True):
        amounts = steps(change, window)
        for ax, what in zip(column, ("features", "grams"), strict=True):
            for layer, colour in zip(layers, colours, strict=True):
                values = getattr(by_layer[layer], what)
                ax.plot(amounts, values.mean(0), colour, label=layer, marker=".")
                ax.fill_between(amounts, values.min(0), values.max(0), color=colour, alpha=0.1, linewidth=0)
            ax.grid(alpha=0.3)
            ax.set_xlabel(f"{change}, {UNITS[change]}")
    axes[0, 0].set_ylabel("distance of features, relative")
    axes[1, 0].set_ylabel("distance of Gram matrices, relative")
    for line in axes:
        line[0].set_ylim(0, line[0].get_ylim()[1])
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(layers))
    return drawn(drawing)


def _tables(found, window):
    for change, by_layer in found.items():
        amounts = steps(change, window)
        some = [n for n, amount in enumerate(amounts) if amount in TABLED]
        head = ["layer", *(f"{what} at {amounts[n]:g}" for what in ("features", "Gram") for n in some)]
        rows = [
            [layer, *(float(values.mean(0)[n]) for values in (d.features, d.grams) for n in some)]
            for layer, d in by_layer.items()
        ]
        yield from (Heading(f"Means: {change}, {UNITS[change]}"), Table(head, rows))
