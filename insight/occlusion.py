"""Where a picture matters to a feature map and to a classifier: a grey square over it, place by place.

Zeiler and Fergus 2013, section 4.2 and figure 7.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from allaprima.core.checks import check_kind, check_path, check_paths, check_whole
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Task, Warned, ignore
from allaprima.insight.deconvnet import Deconvnet, as_picture, check_picture, only
from allaprima.insight.features import check_usable
from allaprima.insight.page import Part, Row, Table
from allaprima.insight.sheet import check_page, drawn, figure, write, writing
from allaprima.media.pictures import read_photo
from allaprima.models.loss_network import UNREADABLE, LossNetwork
from allaprima.models.tensors import to_tensor

BATCH = 8
# What torchvision's networks are given: RGB, 0..1, standardised.
MEAN, DEVIATION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass
class Occlusion:
    """One photo. Maps are float [rows, columns]: the value with the square centred at that place.

    activity: the sum over feature map `channel`, the one with the strongest activation in the whole photo, over that
    sum without a square. projection: float [3, H, W], that activation by the deconvnet. probability: of `label`, the
    photo's most probable class, and `unhidden` without a square; most_probable: the label at each place. None without
    a classifier.
    """

    channel: int
    activity: np.ndarray
    projection: np.ndarray
    label: str | None = None
    unhidden: float | None = None
    probability: np.ndarray | None = None
    most_probable: list[list[str]] | None = None


def occluded(picture: torch.Tensor, y: float, x: float, square: int) -> torch.Tensor:
    """A copy of a picture [1, 3, H, W], 0..1, with a grey square of `square` pixels centred at (y, x), cut at the rim."""
    picture = picture.clone()
    top, left = (round(centre - square / 2) for centre in (y, x))
    picture[..., max(top, 0) : max(top + square, 0), max(left, 0) : max(left + square, 0)] = 0.5
    return picture


def centres(side: int, stride: int) -> list[float]:
    """Where the squares are centred along a side of so many pixels: evenly, `stride` apart at most."""
    count = -(-side // stride)
    return [(n + 0.5) * side / count for n in range(count)]


@torch.no_grad()
def occlude(
    network: LossNetwork, layer: str, photo: np.ndarray, *, square=64, stride=20, classifier=None, each=lambda n: None
) -> Occlusion:
    """Slide a grey square of `square` pixels over a photo, uint8 [H, W, 3], in steps of `stride`.

    classifier: as `load_classifier` gives it. each: called with the number of squares done.
    """
    picture, deconvnet = to_tensor(photo), Deconvnet(network)
    activations, switches = deconvnet.forward(picture, layer)
    channel, place = divmod(int(activations[0].argmax()), activations[0, 0].numel())
    alone = only(activations, channel, *divmod(place, activations.shape[3]))
    whole = activations[0, channel].float().sum().item()
    if whole <= 0:
        raise AllaprimaError(f"Nothing in the photo excites {layer}: choose another layer or photo.")
    rows, columns = (centres(side, stride) for side in photo.shape[:2])
    squares = [(y, x) for y in rows for x in columns]
    sums, classes = [], []
    for begin in range(0, len(squares), BATCH):
        batch = torch.cat([occluded(picture, y, x, square) for y, x in squares[begin : begin + BATCH]])
        sums.append(network(batch, [layer])[layer][:, channel].float().sum((1, 2)))
        if classifier:
            classes.append(probabilities(classifier, batch))
        each(len(batch))
    shape = len(rows), len(columns)
    projection = deconvnet.project(alone, layer, switches)[0].float().numpy()
    found = Occlusion(channel, (torch.cat(sums) / whole).view(shape).numpy(), projection)
    if classifier:
        likely = probabilities(classifier, picture)[0]
        label = int(likely.argmax())
        found.unhidden = likely[label].item()
        classes, names = torch.cat(classes), labels()
        found.label, found.probability = names[label], classes[:, label].view(shape).numpy()
        found.most_probable = [[names[n] for n in row] for row in classes.argmax(1).view(shape).tolist()]
    return found


def load_classifier(weights=None, listener: Listener = ignore):
    """torchvision's VGG-16 with its classifier, from a file or torchvision's cache; None where neither is there.

    Nothing is downloaded. Raises AllaprimaError when the file given can't be read as its weights.
    """
    from torchvision import models

    name = models.VGG16_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]
    file = Path(weights or Path(torch.hub.get_dir()) / "checkpoints" / name)
    if not weights and not os.path.isfile(file):
        listener(
            Warned(
                f"Class probabilities are left out: put torchvision's {file.name} into {file.parent}, or name it with "
                "--classifier."
            )
        )
        return None
    with torch.device("meta"):  # no memory and no time for weights that are replaced at once
        model = models.vgg16()
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True, mmap=True), assign=True)
    except (*UNREADABLE, TypeError) as error:
        raise AllaprimaError(f"{file} can't be read as torchvision's VGG-16: give the file {name}.") from error
    return model.eval()


def labels() -> list[str]:
    """The 1,000 classes of ImageNet, as torchvision names them."""
    from torchvision import models

    return models.VGG16_Weights.IMAGENET1K_V1.meta["categories"]


@torch.no_grad()
def probabilities(classifier, pictures: torch.Tensor) -> torch.Tensor:
    """Class probabilities [N, classes] of pictures RGB [N, 3, H, W], 0..1, each resized to 224x224 as a whole."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    pictures = F.interpolate(pictures, (224, 224), mode="bilinear", antialias=True)
    return classifier((pictures - mean) / deviation).softmax(1)


def occlusion(
    photos,
    layer="relu5_3",
    output="occlusion.html",
    *,
    size=320,
    square=64,
    stride=20,
    classifier=None,
    network: LossNetwork | None = None,
    overwrite=False,
    listener: Listener = ignore,
) -> list[Occlusion]:
    """Write a page of what a grey square over each place of each photo does to `layer`, and to a classifier.

    photos: files, each scaled down to a long side of `size` pixels. square, stride: in pixels. classifier: a file of
    torchvision's VGG-16; None for torchvision's cache, and where it is not there it is left out. output: as for
    `features`. Raises AllaprimaError for an unknown layer, and for photos that are too small or can't be read.
    """
    check_whole(1, size=size, square=square, stride=stride)
    check_kind(LossNetwork, network=network)
    photos = check_paths("photos", photos)
    output = check_page(output, photos, overwrite, listener)
    network = network or LossNetwork()
    pictures = [read_photo(photo, size) for photo in photos]
    for photo, picture in zip(photos, pictures, strict=True):
        check_picture(network, layer, picture.shape[:2], photo)
    model = load_classifier(classifier and check_path("classifier", classifier), listener)
    counts = [len(centres(p.shape[0], stride)) * len(centres(p.shape[1], stride)) for p in pictures]
    many = f"a grey square over {len(pictures)} photos, and what {layer} makes of it"
    task = Task(listener, "squares", sum(counts), "squares", writing(output, many))
    found, skipped = [], []
    for photo, picture in zip(photos, pictures, strict=True):
        try:
            one = occlude(network, layer, picture, square=square, stride=stride, classifier=model, each=task.advance)
            found.append((photo, picture, one))
        except AllaprimaError as error:  # one that excites nothing, after others have taken their minutes
            skipped.append(f"{photo}: {error}")
    check_usable(photos, skipped, 1, listener)
    parts: list[Part] = [
        f"A grey square of {square}x{square} pixels moves over each photo, {stride} pixels at a time. Activity: the sum of "
        f"the feature map of {layer} ({network.name}) that has the photo's strongest activation, divided by that sum "
        "without a square. Blue: the square takes away what the map answers to. Red: the square adds to it. Projection: "
        "the strongest activation, by the deconvnet."
    ]
    for photo, picture, one in found:
        parts.append(Row([(_figure(picture, one, square), f"{photo.name}, {layer}, map {one.channel}")]))
        if one.label:
            parts.append(_label_table(one))
    write(output, "What happens when a part is hidden", parts, listener)
    return [one for *_, one in found]


def _label_table(one):
    names = [name for row in one.most_probable for name in row]
    rows = sorted(((name, names.count(name) / len(names)) for name in set(names)), key=lambda row: -row[1])
    return Table(["most probable class", "part of the places"], [[name, f"{part:.0%}"] for name, part in rows])


def _figure(photo, one, square):
    height, width = photo.shape[:2]
    columns = 4 if one.label is None else 5
    drawing = figure(330 * columns, 70 + round(280 * height / width))
    axes = drawing.subplots(1, columns)
    extent = (0, width, height, 0)
    least = np.array(np.unravel_index(one.activity.argmin(), one.activity.shape))
    y, x = (least + 0.5) / one.activity.shape * (height, width)
    hidden = occluded(to_tensor(photo), y, x, square)[0].permute(1, 2, 0).numpy()
    spread = max(abs(one.activity - 1).max(), 1e-6)
    for ax, picture, title in (
        (axes[0], photo, "photo"),
        (axes[1], hidden, f"least activity: {one.activity.min():.0%}"),
        (axes[3], as_picture(one.projection), f"projection, map {one.channel}"),
    ):
        ax.imshow(picture)
        ax.set_title(title)
    axes[2].imshow(photo.mean(2), cmap="gray", extent=extent)
    shown = axes[2].imshow(one.activity, cmap="RdBu_r", vmin=1 - spread, vmax=1 + spread, alpha=0.7, extent=extent)
    axes[2].set_title("activity with the square here")
    drawing.colorbar(shown, ax=axes[2], shrink=0.8)
    if one.label:
        shown = axes[4].imshow(one.probability, cmap="viridis", vmin=0, vmax=1, extent=extent)
        axes[4].set_title(f"p({one.label}), {one.unhidden:.0%} unhidden")
        drawing.colorbar(shown, ax=axes[4], shrink=0.8)
    for ax in axes:
        ax.set_axis_off()
    return drawn(drawing)
