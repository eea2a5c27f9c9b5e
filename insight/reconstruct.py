"""What a layer keeps of a photo, and of a painting: pictures made from noise until one layer agrees.

Gatys, Ecker and Bethge, *Image Style Transfer Using Convolutional Neural Networks*, CVPR 2016, figure 1. The descent is
that of `baseline`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allaprima.baseline.optimizer import Descent, Result, optimize
from allaprima.core.errors import AllaprimaError
from allaprima.core.progress import progress_bar
from allaprima.insight.page import table
from allaprima.insight.sheet import announce, grid, write
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


def reconstruct(
    photo: np.ndarray,
    painting: np.ndarray,
    kind: str,
    layers,
    network: LossNetwork,
    iterations=100,
    seed=0,
    each=lambda: None,
) -> Reconstruction:
    """One picture, from noise. photo, painting: uint8 [H, W, 3]; layers: as in `plan`. Ctrl-C raises KeyboardInterrupt.

    Each style layer counts as much as the others at the start of a transfer (`balance`).
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
        each=lambda step, picture: each(),
    )
    if result.ended == "stopped":
        raise KeyboardInterrupt
    best = min(step.J for step in result.trace)
    difference = result.image.astype(float) - target
    return Reconstruction(
        kind, tuple(layers), result.image, best / result.trace[0].J, float(np.sqrt(np.square(difference).mean()))
    )


def reconstructions(
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
) -> list[Reconstruction]:
    """Write a page of a photo's content from one layer alone, and a painting's style from the layers up to l.

    photo, painting: files, scaled down to a long side of `size` pixels. iterations: of L-BFGS, from noise, for each
    picture. output: as for `features`. Raises AllaprimaError for unknown layers, pictures that vanish in the
    poolings, and files that can't be read.
    """
    network = network or LossNetwork()
    if size < 1 or iterations < 1:
        raise AllaprimaError(f"The size is {size} and the iterations {iterations}: give numbers above 0.")
    if not content_layers and not style_layers:
        raise AllaprimaError("There are no layers to reconstruct from: give content layers, style layers, or both.")
    originals = {"content": read_photo(photo, size), "style": read_photo(painting, size)}
    for kind, layers in (("content", content_layers), ("style", style_layers)):
        for layer in layers:
            network.check([layer])
            network.check_size(originals[kind].shape[:2], [layer])
    todo = plan(content_layers, style_layers)
    output = announce(output, f"{len(todo)} pictures made from noise in {iterations} iterations of L-BFGS each")
    found = []
    with progress_bar() as bar:
        task = bar.add_task("iterations", total=len(todo) * iterations, unit="it", note="")
        for number, (kind, layers) in enumerate(todo):
            bar.update(task, note=f"{kind}, {layers[-1]}")
            found.append(
                reconstruct(*originals.values(), kind, layers, network, iterations, seed, lambda: bar.advance(task))
            )
            bar.update(task, completed=(number + 1) * iterations)
    rows = []
    for kind, file in (("content", photo), ("style", painting)):
        of_kind = [one for one in found if one.kind == kind]
        if of_kind:
            rows.append([(originals[kind], Path(file).name), *((one.image, _caption(one)) for one in of_kind)])
    lines = [[one.kind, ", ".join(one.layers), one.remaining, one.error] for one in found]
    write(
        output,
        "What the layers keep",
        [
            f"Each picture began as noise; {iterations} iterations of L-BFGS made the layer, of {network.name}, answer to "
            "it as to the photo (content: activations) or as to the painting (style: Gram matrices).",
            (grid(rows), "above, content from one layer alone; below, style from the layers up to this one"),
            table(["from", "layers", "remaining part of J", "difference to the original, grey levels"], lines),
        ],
    )
    return found


def _caption(one):
    return one.layers[0] if len(one.layers) == 1 else f"up to {one.layers[-1]}"
