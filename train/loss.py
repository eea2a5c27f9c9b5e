"""The loss of a training: a sum of named terms, each a cost times a weight.

    loss = alpha * content + beta * style + tv * TV                      J, as models/perceptual.py defines it
         + beta * (stability * noise + motion * motion + evenness * grid)         what a training adds, below

All terms are those of pictures as files have them, cut to 0..1 (`Cut`), as the optimizer's are. J is reported without what
is added, so that a network and the optimizer are measured by the same number. What is added grows with beta, as J does: by a
weight of its own it would cost a painting of a low beta far more of its strokes.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

from allaprima.core.contract import PERIOD
from allaprima.train.schedule import steadied
from allaprima.train.settings import Settings

NOISE = 2 / 255  # standard deviation of the noise on photos that pictures should not show: that of a camera by day
SHIFT = 1 / 8  # part of a crop's side by which a second view moves at the most
EDGE = 1 / 16  # part of it that the border of a view reaches, which is not compared
EXPOSURE = 0.1  # how much brighter or darker a second view that moves is, at the most


class Cut(torch.autograd.Function):
    """Pictures cut to 0..1: what a network paints beyond is not seen, and would buy style that no file has.

    The gradient of a value that is cut passes where a step down it leads back, and is 0 where it leads further away.
    """

    @staticmethod
    def forward(ctx, pictures):
        ctx.save_for_backward(pictures)
        return pictures.clamp(0, 1)

    @staticmethod
    def backward(ctx, *gradients):
        (pictures,), (gradient,) = ctx.saved_tensors, gradients
        away = ((pictures < 0) & (gradient > 0)) | ((pictures > 1) & (gradient < 0))
        return gradient.masked_fill(away, 0)


class View(NamedTuple):
    """A second view of the photos of a step.

    term: as of `viewed`. photos: [N, 3, H, W], of 0..1 but for the noise.
    rows, columns: those of it that show what the middle of the first view shows.
    """

    term: str
    photos: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor


def viewed(settings: Settings, step: int) -> str | None:
    """The term for which a step looks at its photos a second time, "noise" and "motion" in turns, if there is any."""
    term, weight = ("motion", settings.motion) if step % 2 else ("noise", settings.stability)
    return term if weight and steadied(settings, step) else None


def added_weights(settings: Settings, step: int) -> dict[str, float]:
    """The weights of the terms that are added to J in a step, by name, each of which counts times beta; those of weight 0 are
    left out."""
    weights = {"noise": settings.stability, "motion": settings.motion, "grid": settings.evenness}
    terms = "grid", viewed(settings, step)
    return {name: weight for name, weight in weights.items() if weight and name in terms}


def second_view(term: str, photos: torch.Tensor, sides, settings: Settings, step: int, share=slice(None)) -> View:
    """Photos [N, 3, H, W] of 0..1, the `share` of a batch, as a camera sees them a moment later.

    sides: height and width of the pictures of their middle. A function of the seed and the step. "noise": with noise.
    "motion": also moved, and with another exposure. It moves by whole pixels, so that pictures can be compared without an
    interpolation, which would reward a blur.
    """
    random = np.random.default_rng((settings.seed, step, 2))
    moved = [0, 0]
    if term == "motion":
        moved = [int(random.integers(-furthest, furthest + 1)) for furthest in (int(SHIFT * side) for side in sides)]
        photos = _moved(photos, *moved) * (1 + EXPOSURE * random.uniform(-1, 1))
    noise = torch.Generator(photos.device).manual_seed(settings.seed * 1_000_003 + step)
    batch = settings.batch, *photos.shape[1:]
    photos = photos + NOISE * torch.randn(batch, generator=noise, device=photos.device)[share]
    return View(term, photos, *(_middle(side, photos.device) + by for side, by in zip(sides, moved, strict=True)))


def _moved(photos, down, right):
    """Photos moved by whole pixels; what comes in is a reflection."""
    height, width = photos.shape[2:]
    y, x = abs(down), abs(right)
    return pad(photos, [x, x, y, y], mode="reflect")[..., y - down : y - down + height, x - right : x - right + width]


def _middle(side, device=None):
    """The indices that are compared: what stays in sight, and out of reach of the border, however the view moves."""
    margin = int(SHIFT * side) + int(EDGE * side)
    return torch.arange(margin, side - margin, device=device)


def view_cost(pictures: torch.Tensor, seen: torch.Tensor, view: View) -> torch.Tensor:
    """How much the pictures `seen` of a second view differ from those of the first, where both show the same.

    It is the mean square as a multiple of that of camera noise, so that for a view with nothing but noise a network that
    returns its photo has 1. Both are [N, 3, H, W] of 0..1; one number comes back. For noise this is stability training
    (Zheng et al., *Improving the Robustness of Deep Neural Networks via Stability Training*, CVPR 2016); motion made from
    photos is in Wang et al., *Consistent Video Style Transfer via Relaxation and Regularization*, TIP 2020.
    """
    rows, columns = (_middle(side, pictures.device) for side in pictures.shape[2:])
    first, second = pictures[:, :, rows][..., columns], seen[:, :, view.rows][..., view.columns]
    return (second - first).square().mean() / NOISE**2


def grid_cost(pictures: torch.Tensor) -> torch.Tensor:
    """Mean square, in grey levels, of what repeats every 8 px (or 4, or 2) all over pictures [N, 3, H, W] of 0..1.

    Even resizes leave no checkerboard in what they make larger, but the convolution and ReLU after them can: a slanting
    filter answers differently from pixel to pixel. The loss network hardly sees a pattern so faint; a flat sky shows it.
    """
    rows, columns = (side // PERIOD for side in pictures.shape[2:])
    pixels = pictures.permute(0, 2, 3, 1)  # so that the gradient is channels_last too
    pixels = pixels[:, : PERIOD * rows, : PERIOD * columns]
    mean = 255 * pixels.unflatten(2, (columns, PERIOD)).unflatten(1, (rows, PERIOD)).mean((1, 3))
    return (mean - mean.mean((1, 2), keepdim=True)).square().mean()
