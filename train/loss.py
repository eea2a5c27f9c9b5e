"""The loss of a training: a sum of named terms, each a cost times a weight.

    loss = alpha * content + beta * style + tv * TV      J, as models/perceptual.py defines it for the optimizer too
         + stability * noise + evenness * grid           what a training adds, below

J is reported without what is added, so that a network and the optimizer are measured by the same number.
"""

import torch

from allaprima.train.schedule import steadied
from allaprima.train.settings import Settings

NOISE = 2 / 255  # standard deviation of the noise on photos that pictures should not show: that of a camera by day
PERIOD = 8  # pixels: the networks halve a picture three times, so their own pattern can have no longer period


def added_weights(settings: Settings, step: int) -> dict[str, float]:
    """The weights of the terms that are added to J in a step, by name; those of weight 0 are left out."""
    weights = {"noise": settings.stability if steadied(settings, step) else 0.0, "grid": settings.evenness}
    return {name: weight for name, weight in weights.items() if weight}


def noise_for(photos: torch.Tensor, settings: Settings, step: int, share=slice(None)) -> torch.Tensor:
    """Camera noise for photos [N, 3, H, W] of 0..1, the `share` of a batch: a function of the seed and the step."""
    random = torch.Generator(photos.device).manual_seed(settings.seed * 1_000_003 + step)
    shape = (settings.batch, *photos.shape[1:])
    return NOISE * torch.randn(shape, generator=random, device=photos.device)[share]


def noise_cost(stylized: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    """How much noise the pictures `noisy` of photos with noise show: its mean square in them over that in the photos.

    1 for a network that returns its photo. Zheng et al., *Improving the Robustness of Deep Neural Networks via Stability
    Training*, CVPR 2016. Both are [N, 3, H, W] of 0..1; one number comes back.
    """
    return (noisy - stylized).square().mean() / NOISE**2


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
