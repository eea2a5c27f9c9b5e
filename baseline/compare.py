"""A trained network against the optimizer, by one J: how many iterations is a pass worth, and how much faster."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from rich import box
from rich.console import Console
from rich.table import Table

from allaprima.baseline.optimizer import Descent, Step, default_network, descend
from allaprima.core.errors import AllaprimaError
from allaprima.core.progress import console, progress_bar
from allaprima.media.pictures import check_picture_output, read_photo, write_rgb
from allaprima.models.perceptual import Objective, PerceptualLoss, balance
from allaprima.models.tensors import read_style, to_image, to_tensor
from allaprima.train.photos import Photos

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
    progress: Callable[[int, Step], None] | None = None,
) -> list[Comparison]:
    """Measure `stylize`, uint8 [H, W, 3] to the same, against L-BFGS (strong Wolfe, history 20) on each of `photos`.

    loss, style_targets: J as the network was trained on it. progress: called with the photo's number and each Step.
    """
    return [
        _compare_photo(stylize, photo, loss, style_targets, iterations, progress and partial(progress, number))
        for number, photo in enumerate(photos)
    ]


def _compare_photo(stylize, photo, loss, style_targets, iterations, progress):
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
        if progress:
            progress(step)
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


def compare(model, photos, style=None, *, size=384, iterations=200, output=None, loss_weights=None) -> list[Comparison]:
    """Compare a model file with the optimizer: print a table, and write a picture of all to `output` if given.

    model: a model file or the name of a style. photos: paths; each is scaled down to a long side of `size` pixels.
    style: the painting; when None, the path that the model file remembers. The objective, the loss network (its weights
    from `loss_weights` if given) and the painting's size are those of the model's training, from its metadata.
    Ctrl-C ends it with the photos that are done. Raises AllaprimaError for input that can't be used.
    """
    from allaprima.infer.stylizer import Stylizer

    if iterations < 1 or size < 1:
        raise AllaprimaError("The size and the iterations must be above 0.")
    if output:
        output = check_picture_output(output)
    stylizer = Stylizer(model)
    images = [read_photo(photo, size) for photo in photos]
    loss, style_targets = training_loss(stylizer.metadata, style, loss_weights)
    names = [Path(photo).name for photo in photos]
    console.print(
        f"Comparing {model} with {iterations} iterations of L-BFGS on {len(images)} photos"
        + (f", writing {output}." if output else "."),
        highlight=False,
    )
    rows = []
    with progress_bar() as bar:
        task = bar.add_task("compare", total=iterations * len(images), unit="it", note="")
        try:
            for number, image in enumerate(images):

                def progress(_, step, number=number):
                    bar.update(
                        task, completed=number * iterations + step.iteration, note=f"{names[number]}  J {step.J:.4g}"
                    )

                rows += compare_photos(stylizer, [image], loss, style_targets, iterations, progress)
        except KeyboardInterrupt:
            if not rows:
                raise
            console.print(f"Stopped after {len(rows)} of {len(images)} photos.")
    print_table(names, rows)
    if output:
        write_rgb(output, contact_sheet(names, rows))
    return rows


def training_loss(metadata, style, loss_weights):
    """J and the Gram matrices of the painting `style`, as in the training of a model with this metadata.

    J has default weights where the metadata does not say. Raises AllaprimaError when the painting is not there.
    """
    try:
        settings = json.loads(metadata.get("settings") or "{}")
    except ValueError as error:
        raise AllaprimaError("The model's settings can't be read: export or train it again.") from error
    style = style or settings.get("style_path")
    if not style or not Path(style).is_file():
        raise AllaprimaError("The painting that the model was trained on is needed: give it with --style.")
    name, pooling = settings.get("loss_network", "vgg16_oxford"), settings.get("pooling", "max")
    network = default_network(name, pooling, loss_weights)
    painting = read_style(style, settings.get("style_size", 512)).to(network.mean.device)
    if "objective" in settings:
        objective = Objective(**settings["objective"])
    else:
        console.print("The model does not say what it was trained on: J has the default layers and weights.")
        objective = balance(network, painting, Photos(size=256).batch(8, seed=0).to(network.mean.device), Objective())
    loss = PerceptualLoss(network, objective)
    return loss, loss.style_targets(painting)


def print_table(names, rows: list[Comparison]) -> None:
    """For each photo the costs and seconds of the network and of the optimizer, and what one pass is worth."""
    table = Table("photo", box=box.SIMPLE_HEAD)
    table.add_column("by", no_wrap=True)
    for head in ("J", "content", "as written", "style", "seconds"):
        table.add_column(head, justify="right")
    for name, row in zip(names, rows):
        for label, costs, seconds in _lines(row):
            values = (costs[key] for key in ("J", "content", "content_as_written", "style"))
            table.add_row(name, label, *(f"{value:.4g}" for value in values), f"{seconds:.3g}")
            name = ""
        table.add_section()
    stdout = Console(highlight=False)
    stdout.print(table)
    for name, row in zip(names, rows):
        stdout.print(f"{name}: one pass is worth {_worth(row)}.", soft_wrap=True)


def _lines(row):
    """(label, costs, seconds) of the network, the optimizer at the equivalent iteration, and its last."""
    lines = [("network", row.network_costs, row.network_seconds)]
    if row.equivalent_iteration is not None:
        at = row.trace[row.equivalent_iteration]
        lines.append((f"optimizer {at.iteration}", asdict(at), at.seconds))
    lines.append((f"optimizer {row.trace[-1].iteration}", row.finished_costs, row.optimizer_seconds))
    return lines


def _worth(row):
    if row.equivalent_iteration is None:
        return f"{row.equivalent_text} iterations, over {row.times_faster:.0f} times as fast"
    if row.equivalent_iteration == 0:
        return "0 iterations: the photo itself has as low a J"
    return (
        f"{row.equivalent_iteration} iterations ({row.equivalent_evaluations} evaluations of J), "
        f"{row.times_faster:.0f} times as fast"
    )


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
