"""A trained network against the optimizer, by one J: how many iterations is a pass worth, and how much faster."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from allaprima.baseline.optimizer import Descent, Step, default_network, descend
from allaprima.core.checks import (
    StrPath,
    check_file,
    check_kind,
    check_path,
    check_paths,
    check_switch,
    check_whole,
)
from allaprima.core.contract import Card
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, Warned, Wrote, ignore
from allaprima.media.pictures import check_picture_output, read_photo, read_rgb, write_rgb
from allaprima.models.loss_network import LossNetwork
from allaprima.models.perceptual import Objective, PerceptualLoss, balance
from allaprima.models.tensors import as_style, to_image, to_tensor
from allaprima.train.photos import Photos
from allaprima.train.settings import Settings

COSTS = ("J", "content", "content_as_written", "style", "tv")


@dataclass
class Comparison:
    """One photo: what the network made of it in one pass, and the optimizer in `iterations`.

    Pictures are uint8 [H, W, 3]. Costs are dicts of J, content (per element), content_as_written, style and tv.
    equivalent_iteration: the first iteration of L-BFGS, from the photo, whose J is at or below the network's; 0 when
    the photo itself is as good; None when none of them is, and then `at_equivalent` is the last picture.
    equivalent_evaluations: of J and its gradient up to there. Seconds: of one pass; of all iterations; of those up to
    the equivalent one (of all, when there is none).
    """

    photo: np.ndarray
    network: np.ndarray
    at_equivalent: np.ndarray
    finished: np.ndarray
    network_costs: dict
    finished_costs: dict
    network_seconds: float
    optimizer_seconds: float
    equivalent_seconds: float
    equivalent_iteration: int | None
    equivalent_evaluations: int | None
    iterations: int
    trace: list[Step]

    @property
    def equivalent_text(self) -> str:
        """The equivalent iteration for a table: "12", or "more than 60"."""
        if self.equivalent_iteration is None:
            return f"more than {self.iterations}"
        return str(self.equivalent_iteration)

    @property
    def times_faster(self) -> float:
        """How many times as fast as the optimizer the network gets to its J (at least, when there is no equivalent)."""
        return self.equivalent_seconds / self.network_seconds


def compare_photos(
    stylize: Callable[[np.ndarray], np.ndarray],
    photos: list[np.ndarray],
    loss: PerceptualLoss,
    style_targets: dict,
    iterations=200,
    each: Callable[[int, Step], None] | None = None,
) -> list[Comparison]:
    """Measure `stylize`, uint8 [H, W, 3] to the same, against L-BFGS (strong Wolfe, history 20) on each of `photos`.

    loss, style_targets: J as the network was trained on it. each: called with the photo's number and each Step.
    """
    check_kind(PerceptualLoss, loss=loss)
    check_whole(0, iterations=iterations)
    return [
        _compare_photo(stylize, photo, loss, style_targets, iterations, each and partial(each, number))
        for number, photo in enumerate(photos)
    ]


def _compare_photo(stylize, photo, loss, style_targets, iterations, each):
    device = loss.network.mean.device
    start = to_tensor(photo).to(device)
    content_targets = loss.content_targets(start)
    painted, network_seconds = _time(stylize, photo)
    with torch.no_grad():
        costs = loss(to_tensor(painted).to(device), content_targets, style_targets)
    network_costs = {name: getattr(costs, name).item() for name in COSTS}
    trace, equivalent = [], None
    next(descend(loss, start, content_targets, style_targets, Descent()))  # warm-up, as the network has in `_time`
    for step, pixels in descend(loss, start, content_targets, style_targets, Descent(iterations=iterations)):
        trace.append(step)
        if equivalent is None and network_costs["J"] >= step.J:
            equivalent = step, to_image(pixels)
        if each:
            each(step)
    last = trace[-1]
    at, picture = equivalent or (last, to_image(pixels))
    return Comparison(
        photo,
        painted,
        picture,
        to_image(pixels),
        network_costs,
        {name: getattr(last, name) for name in COSTS},
        network_seconds,
        last.seconds,
        at.seconds,
        at.iteration if equivalent else None,
        at.evaluations if equivalent else None,
        iterations,
        trace,
    )


def _time(stylize, photo, runs=3):
    """The picture and the median seconds of a pass, after one that warms up."""
    stylize(photo)
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        painted = stylize(photo)
        seconds.append(time.perf_counter() - began)
    return painted, median(seconds)


def compare(
    model: StrPath,
    photos: StrPath | Sequence[StrPath],
    style: StrPath | None = None,
    *,
    size: int = 384,
    iterations: int = 200,
    output: StrPath | None = None,
    loss_weights: StrPath | None = None,
    overwrite: bool = False,
    listener: Listener = ignore,
) -> list[Comparison]:
    """Compare a model file with the optimizer on each photo; write a picture of all to `output` if given.

    model: a model file or the name of a style. photos: paths; each is scaled down to a long side of `size` pixels.
    style: the painting; when None, that of the model file, or its Gram matrices there. The objective, the loss network (its
    weights from `loss_weights` if given) and the painting's size are those of the model's training, from its card.
    overwrite: replace a file at `output` that allaprima did not make.
    Ctrl-C ends it with the photos that are done. Raises AllaprimaError for input that can't be used.
    """
    from allaprima.infer.stylizer import Stylizer

    check_whole(1, size=size, iterations=iterations)
    check_switch(overwrite=overwrite)
    check_path("model", model)
    photos = check_paths("photos", photos)
    style = style and check_path("style", style)
    loss_weights = loss_weights and check_path("loss_weights", loss_weights)
    if output is not None:
        inputs = [model, *photos, *([style] if style else [])]
        output = check_picture_output(check_file("output", output), inputs, overwrite=overwrite, listener=listener)
    stylizer = Stylizer(model)
    images = [read_photo(photo, size) for photo in photos]
    loss, style_targets = training_loss(stylizer.card, style, loss_weights, listener)
    for photo, image in zip(photos, images, strict=True):  # all, before the first takes its minutes
        loss.check_size(image.shape[:2], photo)
    names = [photo.name for photo in photos]
    about = f"Comparing {model} with {iterations} iterations of L-BFGS on photos: {len(images)}."
    about += f" Writing {output}." if output else ""
    listener(Started("compare", iterations * len(images), "iterations", about))
    rows = []
    try:
        for number, image in enumerate(images):

            def each(_, step, number=number):
                done = number * iterations + step.iteration
                listener(Advanced("compare", done, note=f"{names[number]}  J {step.J:.4g}"))

            rows += compare_photos(stylizer, [image], loss, style_targets, iterations, each)
    except KeyboardInterrupt:
        if not rows:
            raise
        listener(Warned(f"Stopped after {len(rows)} of {len(images)} photos."))
    if output:
        write_rgb(output, contact_sheet(names, rows))
        listener(Wrote(output, "photo, network and optimizer side by side"))
    return rows


def training_loss(card: Card, style=None, loss_weights=None, listener: Listener = ignore):
    """J and the Gram matrices of the painting, as in the training of the model with this card: (PerceptualLoss, targets).

    style: a picture file in the place of the model's own painting. loss_weights: of the loss network, a file. J has default
    weights where the card does not say. Raises AllaprimaError when neither a painting nor its Gram matrices are there.
    """
    named = {name: card.settings[name] for name in ("loss_network", "pooling", "style_size") if name in card.settings}
    settings = Settings(**named)  # which refuses what no training has: a card can be a stranger's
    network = default_network(settings.loss_network, settings.pooling, loss_weights, listener)
    device, image = network.mean.device, painting_of(card, style)
    objective = _objective_of(card)
    if image is None and not (objective and objective.style.keys() <= card.grams.keys()):
        raise AllaprimaError("The model file does not hold its painting: give it with --style.")
    painting = None if image is None else as_style(image, settings.style_size).to(device)
    if objective is None:
        listener(Warned("The model file does not hold its objective: J has the default layers and weights."))
        photos = Photos(size=256).batch(8, seed=0).to(device)
        objective = balance(network, cast(torch.Tensor, painting), photos, Objective())
    loss = PerceptualLoss(network, objective)
    if painting is None:
        return loss, {layer: _gram_of(card, layer, network) for layer in objective.style}
    return loss, loss.style_targets(painting)


def _objective_of(card: Card) -> Objective | None:
    """The objective that a card holds, if it does. Raises AllaprimaError when it can't be read."""
    try:
        return Objective(**card.objective) if card.objective else None
    except (TypeError, AllaprimaError) as error:
        raise AllaprimaError("The objective in the model file can't be read: export the model again.") from error


def _gram_of(card: Card, layer: str, network: LossNetwork) -> torch.Tensor:
    """The Gram matrix [1, C, C] of a layer that a card holds. Raises AllaprimaError when it is of another layer."""
    gram, channels = card.grams[layer], network.channels(layer)
    if gram.shape != (channels, channels):
        raise AllaprimaError(
            f"The Gram matrix in the model file is not one of {layer}: give the painting with --style."
        )
    return torch.from_numpy(gram)[None].to(network.mean.device)


def painting_of(card: Card, style=None) -> Image.Image | None:
    """The painting in the file `style`, or else the one that the card holds, or None."""
    if style is not None:
        return read_rgb(style)
    return read_rgb("The painting in the model file", content=card.painting) if card.painting else None


def contact_sheet(names, rows: list[Comparison]) -> np.ndarray:
    """uint8 [H, W, 3]: for each photo a row of photo, network, optimizer as good as it, optimizer finished."""
    side, gap, line = max(max(row.photo.shape[:2]) for row in rows), 12, 40
    heights = [row.photo.shape[0] + line + gap for row in rows]
    sheet = Image.new("RGB", (4 * (side + gap) + gap, sum(heights) + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(10, min(15, side // 20)))
    top = gap
    for name, row, height in zip(names, rows, heights):
        if row.equivalent_iteration is None:
            equivalent, J = f"optimizer, not as good in {row.iterations}", row.finished_costs["J"]
        else:
            equivalent, J = f"optimizer, iteration {row.equivalent_iteration}", row.trace[row.equivalent_iteration].J
        cells = [
            (row.photo, name, ""),
            (row.network, "network", f"J {row.network_costs['J']:.4g}   {row.network_seconds:.2g} s"),
            (row.at_equivalent, equivalent, f"J {J:.4g}   {row.equivalent_seconds:.3g} s"),
            (
                row.finished,
                f"optimizer, iteration {row.trace[-1].iteration}",
                f"J {row.finished_costs['J']:.4g}   {row.optimizer_seconds:.3g} s",
            ),
        ]
        for column, (picture, *captions) in enumerate(cells):
            left = gap + column * (side + gap)
            draw.multiline_text((left, top), "\n".join(captions), fill="black", font=font)
            sheet.paste(Image.fromarray(picture), (left, top + line))
        top += height
    return np.asarray(sheet)
