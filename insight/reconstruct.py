"""What a layer keeps of a photo, and of a painting: pictures made from noise until one layer agrees.

Gatys, Ecker and Bethge, *Image Style Transfer Using Convolutional Neural Networks*, CVPR 2016, figure 1. The descent is
that of `baseline`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from allaprima.baseline.optimizer import Descent, Result, optimize
from allaprima.core.checks import check_kind, check_path, check_seed, check_whole
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, ignore
from allaprima.insight.deconvnet import check_layers
from allaprima.insight.page import Row, Table
from allaprima.insight.sheet import check_page, grid, write, writing
from allaprima.media.pictures import read_photo
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import Objective

# Those of the paper, behind their ReLUs.
CONTENT_LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@dataclass
class Reconstruction:
    """kind: "content", of one layer, or "style", of several. image: uint8 [H, W, 3]. remaining: its J over that of the
    noise. error: root mean square difference to the photo or painting, in grey levels."""

    kind: str
    layers: tuple[str, ...]
    image: np.ndarray
    remaining: float
    error: float


def plan(content_layers, style_layers) -> list[tuple[str, tuple[str, ...]]]:
    """What to reconstruct: content from each layer alone, style from the first, the first two, ... all."""
    content = [("content", (layer,)) for layer in content_layers]
    return content + [("style", tuple(style_layers[: n + 1])) for n in range(len(style_layers))]


def from_noise(
    photo: np.ndarray,
    painting: np.ndarray,
    kind: str,
    layers,
    network: LossNetwork,
    iterations=100,
    seed=0,
    each: Callable[[int], object] = lambda iteration: None,
) -> Reconstruction:
    """One picture, from noise. photo, painting: uint8 [H, W, 3]; layers: as in `plan`. Ctrl-C raises KeyboardInterrupt.

    each: called with the number of each iteration. Each style layer counts as much as the others at the start of a transfer (`balance`).
    """
    weights = dict.fromkeys(layers, 1.0)
    objective = Objective(weights, {}, beta=0.0) if kind == "content" else Objective({}, weights, alpha=0.0)
    target = photo if kind == "content" else painting
    result: Result = optimize(
        target,
        painting,
        objective,
        network=network,
        descent=Descent(iterations=iterations),
        init="noise",
        seed=seed,
        each=lambda step, picture: each(step.iteration),
    )
    if result.ended == "stopped":
        raise KeyboardInterrupt
    best = min(step.J for step in result.trace)
    difference = result.image.astype(float) - target
    return Reconstruction(
        kind, tuple(layers), result.image, best / result.trace[0].J, float(np.sqrt(np.square(difference).mean()))
    )


def reconstruct(
    photo,
    painting,
    output="reconstruct.html",
    *,
    content_layers=CONTENT_LAYERS,
    style_layers=STYLE_LAYERS,
    size=192,
    iterations=100,
    seed=0,
    network: LossNetwork | None = None,
    overwrite=False,
    listener: Listener = ignore,
) -> list[Reconstruction]:
    """Write a page of a photo's content from one layer alone, and a painting's style from the layers up to l.

    photo, painting: files, scaled down to a long side of `size` pixels. iterations: of L-BFGS, from noise, for each
    picture. output: as for `features`. Raises AllaprimaError for unknown layers, pictures that vanish in the
    poolings, and files that can't be read.
    """
    check_whole(1, size=size, iterations=iterations)
    check_seed(seed)
    check_kind(LossNetwork, network=network)
    photo, painting = check_path("photo", photo), check_path("painting", painting)
    output = check_page(output, [photo, painting], overwrite, listener)
    network = network or LossNetwork()
    content_layers = check_layers("content_layers", content_layers, 0)
    style_layers = check_layers("style_layers", style_layers, 0)
    if not content_layers and not style_layers:
        raise AllaprimaError("content_layers and style_layers are both empty: give at least one layer.")
    originals = {"content": read_photo(photo, size), "style": read_photo(painting, size)}
    for kind, layers, file in (("content", content_layers, photo), ("style", style_layers, painting)):
        network.check(layers)
        network.check_size(originals[kind].shape[:2], layers, file)
    todo = plan(content_layers, style_layers)
    many = f"{len(todo)} pictures made from noise in {iterations} iterations of L-BFGS each"
    listener(Started("reconstruct", len(todo) * iterations, "iterations", writing(output, many)))
    found = []
    for number, (kind, layers) in enumerate(todo):

        def each(iteration, number=number, note=f"{kind}, {layers[-1]}"):
            listener(Advanced("reconstruct", number * iterations + iteration, note=note))

        found.append(
            from_noise(originals["content"], originals["style"], kind, layers, network, iterations, seed, each)
        )
        each(iterations)  # it may have ended early
    rows = []
    for kind, file in (("content", photo), ("style", painting)):
        of_kind = [one for one in found if one.kind == kind]
        if of_kind:
            rows.append([(originals[kind], file.name), *((one.image, _caption(one)) for one in of_kind)])
    lines = [[one.kind, ", ".join(one.layers), one.remaining, one.error] for one in found]
    write(
        output,
        "What the layers keep",
        [
            f"Each picture began as noise. {iterations} iterations of L-BFGS made the layer of {network.name} answer to it "
            "as it answers to the photo (content: activations) or to the painting (style: Gram matrices).",
            Row([(grid(rows), "content from one layer alone, and style from the layers up to this one")]),
            Table(["from", "layers", "remaining part of J", "difference to the original, grey levels"], lines),
        ],
        listener,
    )
    return found


def _caption(one):
    return one.layers[0] if len(one.layers) == 1 else f"up to {one.layers[-1]}"
