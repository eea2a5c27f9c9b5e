"""Where J comes from: the costs of a stylized picture, by layer and by place.

Gatys, Ecker and Bethge, *Image Style Transfer Using Convolutional Neural Networks*, CVPR 2016, sections 2.1 and 2.2,
define the costs (models/perceptual.py has them); spreading them over the picture is ours.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from allaprima.baseline.compare import painting_of, training_loss
from allaprima.core.checks import check_path, check_whole
from allaprima.core.events import Listener, Task, ignore
from allaprima.infer.stylizer import Stylizer
from allaprima.insight.page import Row, Table
from allaprima.insight.sheet import check_page, drawn, figure, write, writing
from allaprima.media.pictures import read_photo, read_rgb
from allaprima.models.perceptual import PerceptualLoss, gram_matrix
from allaprima.models.tensors import to_tensor


@dataclass
class LayerCost:
    """One layer's part of J.

    kind: "content", "style", or "tv", the total variation of the layer "pixels", where it is a part of J. cost: per
    element for content, J_style[l] for style. photo_cost: that of the untouched photo; 0 for content. weight: of the cost
    in J, so that J is the sum of weight * cost. energy: the mean square of the activations over that of the painting's
    (style) or the photo's (content, tv): below 1, the picture has too little of what the layer sees. shares: float [h, w],
    the part of `cost` that each place of the layer has; they sum to `cost`.
    """

    kind: str
    layer: str
    weight: float
    cost: float
    photo_cost: float
    energy: float
    shares: np.ndarray

    @property
    def part(self) -> float:
        """Of J."""
        return self.weight * self.cost

    def percent(self, J: float) -> str:
        """Its part of J for a table; a J of 0 has no parts."""
        return f"{self.part / J if J else 0:.0%}"


def content_shares(activations: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The part of each place in the content cost per element; activations [N, C, h, w] give [N, h, w], 0 or more.

    At place p, 1/2 ||a_p(C) - a_p(G)||^2 / (n_C n_H n_W).
    """
    return 0.5 * (activations - target).square().sum(1) / target[0].numel()


def style_shares(activations: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The part of each place in J_style of a layer: activations [N, C, h, w], Gram matrices [N, C, C], to [N, h, w].

    The Gram matrix G, divided by n_H n_W, is the mean over places p of the local ones, a_p a_p^T. So is its deviation
    D = G - S from the painting's, and J_style = <D, D> / (4 n_C^2) is the mean of <D, a_p a_p^T - S> / (4 n_C^2): how
    far each local deviation points where the whole deviates to. That, divided by n_H n_W, is the share of p. The shares
    sum to J_style; a negative one is of a place that brings the picture nearer to the painting. But for a constant it
    is a quarter of activation times gradient, a_p . dJ_style/da_p, which alone would sum to something else.
    """
    deviation = gram_matrix(activations) - target
    along = torch.einsum("nchw,ncd,ndhw->nhw", activations, deviation, activations)
    constant = (deviation * target).sum((1, 2)).view(-1, 1, 1)
    channels, places = activations.shape[1], along[0].numel()
    return (along - constant) / (4 * channels**2 * places)


def variation_shares(images: torch.Tensor) -> torch.Tensor:
    """The part of each pixel in the total variation of images [N, 3, H, W], that of its right and lower edge: [N, H, W]."""
    across = (images[..., 1:] - images[..., :-1]).square()
    down = (images[..., 1:, :] - images[..., :-1, :]).square()
    return F.pad(across.sum(1) / across[0].numel(), (0, 1)) + F.pad(down.sum(1) / down[0].numel(), (0, 0, 0, 1))


@torch.no_grad()
def layer_costs(loss: PerceptualLoss, style_targets: dict, photo: np.ndarray, painted: np.ndarray) -> list[LayerCost]:
    """What J of the picture `painted` for `photo` is made of. Pictures: uint8 [H, W, 3]; targets: as PerceptualLoss has
    them."""
    goal, device = loss.objective, loss.network.mean.device
    layers = [*goal.content, *goal.style]
    picture, original = (to_tensor(pixels).to(device) for pixels in (painted, photo))
    taps, before = ({name: a.float() for name, a in loss.network(seen, layers).items()} for seen in (picture, original))
    rows = []
    for layer, weight in goal.content.items():
        shares = content_shares(taps[layer], before[layer])
        energy = (taps[layer].square().mean() / before[layer].square().mean()).item()
        rows.append(LayerCost("content", layer, goal.alpha * weight, shares.sum().item(), 0.0, energy, _numpy(shares)))
    for layer, weight in goal.style.items():
        target = style_targets[layer].float()
        shares = style_shares(taps[layer], target)
        cost, photo_cost = shares.sum().item(), style_shares(before[layer], target).sum().item()
        energy = (taps[layer].square().sum(1).mean() / target.diagonal(dim1=1, dim2=2).sum()).item()
        rows.append(LayerCost("style", layer, goal.beta * weight, cost, photo_cost, energy, _numpy(shares)))
    if goal.tv:
        shares, photo_cost = variation_shares(picture), variation_shares(original).sum().item()
        energy = (picture.square().mean() / original.square().mean()).item()
        rows.append(LayerCost("tv", "pixels", goal.tv, shares.sum().item(), photo_cost, energy, _numpy(shares)))
    return rows


def _numpy(shares):
    return shares[0].cpu().numpy()


def costs(
    photo,
    model,
    style=None,
    output="loss.html",
    *,
    size=512,
    loss_weights=None,
    overwrite=False,
    listener: Listener = ignore,
) -> list[LayerCost]:
    """Write a page of where J comes from when a model paints a photo: a table by layer, and a heat map for each.

    photo: a file, scaled down to a long side of `size` pixels. model: a model file or the name of a style. style: the
    painting; None for that of the model file. loss_weights: as for `compare`. output: as for
    `features`. Raises AllaprimaError for files that are missing or can't be read.
    """
    check_whole(1, size=size)
    check_path("model", model)
    photo, style = check_path("photo", photo), style and check_path("style", style)
    output = check_page(output, [photo, model, *([style] if style else [])], overwrite, listener)
    loss_weights = loss_weights and check_path("loss_weights", loss_weights)
    stylizer = Stylizer(model)
    image = read_photo(photo, size)
    loss, targets = training_loss(stylizer.card, style, loss_weights, listener)
    loss.check_size(image.shape[:2], photo)
    what = f"the costs of {photo} in the style of {model}, by layer and place"
    task = Task(listener, "costs", 2, about=writing(output, what))
    painted = stylizer(image)
    task.advance()
    rows = layer_costs(loss, targets, image, painted)
    task.advance()
    J, photo_J = sum(row.part for row in rows), sum(row.weight * row.photo_cost for row in rows)
    lines = [[r.kind, r.layer, r.weight, r.cost, r.photo_cost, r.energy, r.part, r.percent(J)] for r in rows]
    head = ["kind", "layer", "weight in J", "cost", "cost of the photo itself", "energy", "part of J", ""]
    maps = _figure(image, painted, *_painting(stylizer.card, style), rows)
    write(
        output,
        f"{photo.name} in the style of {Path(model).stem}: where J comes from",
        [
            f"J is {loss.objective.formula}, what training minimised. Here it is {J:.4g}; that of the untouched photo is "
            f"{photo_J:.4g}. Energy: the mean square of the activations, divided by the painting's (style) or the photo's "
            "(content, tv).",
            Table(head, lines),
            Row([(maps, "The costs by place, in multiples of the average place.")]),
            "Content: where the picture has lost the photo; tv: where neighbouring pixels differ. Both maps are 0 or more. Style: red places drive the picture away "
            "from the painting, at the layer's own scale; blue places bring it nearer. The average over a map is 1.",
        ],
        listener,
    )
    return rows


def _painting(card, style):
    """The painting and its title; the thumbnail of the style where the painting may not be included."""
    painting = painting_of(card, style)
    if painting is None:
        return np.asarray(read_rgb("The thumbnail in the model file", content=card.thumbnail)), "the style"
    return np.asarray(painting), "painting"


def _figure(photo, painted, painting, title, rows):
    others = [row for row in rows if row.kind != "style"]
    style = [row for row in rows if row.kind == "style"]
    columns = max(3 + len(others), len(style))
    height, width = photo.shape[:2]
    drawing = figure(330 * columns, 2 * (50 + round(290 * height / width)))
    axes = drawing.subplots(2, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, picture, name in zip(axes[0], (photo, painted, painting), ("photo", "painted", title), strict=False):
        ax.imshow(picture)
        ax.set_title(name)
    grey, J = painted.mean(2), sum(row.part for row in rows)
    for line, maps in ((axes[0, 3:], others), (axes[1], style)):
        for ax, row in zip(line, maps, strict=False):
            _heat(drawing, ax, grey, row, row.percent(J))
    return drawn(drawing)


def _heat(drawing, ax, grey, row, percent):
    """A map in multiples of its mean, over the picture in grey."""
    values = row.shares / max(abs(row.shares.mean()), 1e-30)
    limit = max(np.percentile(np.abs(values), 99), 1e-30)
    extent = (0, grey.shape[1], grey.shape[0], 0)
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent)
    colours, least = ("RdBu_r", -limit) if row.kind == "style" else ("inferno", 0)
    shown = ax.imshow(values, cmap=colours, vmin=least, vmax=limit, alpha=0.7, extent=extent)
    ax.set_title(f"{row.kind}, {row.layer}: {percent} of J")
    drawing.colorbar(shown, ax=ax, shrink=0.8)
