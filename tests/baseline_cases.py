"""What the tests of the baseline share: small pictures, a quick objective, and costs computed apart from a run."""

import numpy as np
import torch
from PIL import Image

from allaprima.baseline.optimizer import Descent, optimize
from allaprima.models.perceptual import Objective, PerceptualLoss
from allaprima.models.tensors import to_tensor
from conftest import PHOTOS

# What `balance` gives for the pictures of the tests, about: they need not compute it each time.
CONTENT = {"relu2_2": 1e-5}
STYLE = {"relu1_2": 1e-9, "relu2_2": 1e-9}
GOAL = Objective(content=CONTENT, style=STYLE)


def bundled(name, side=72):
    """A bundled photo with a long side of `side` pixels, uint8 [H, W, 3]."""
    image = Image.open(PHOTOS / name).convert("RGB")
    image.thumbnail((side, side))
    return np.array(image)


def costs_of(image, content, painting, network, goal=GOAL):
    """The Costs of a picture, from the loss itself."""
    loss = PerceptualLoss(network, goal)
    with torch.no_grad():
        return loss(to_tensor(image), loss.content_targets(to_tensor(content)), loss.style_targets(to_tensor(painting)))


def psnr(a, b):
    """Peak signal-to-noise ratio in dB of means of 2x2 pixels."""

    def halve(image):
        image = image[: image.shape[0] // 2 * 2] / 255.0
        return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4

    return -10 * np.log10(np.mean((halve(a) - halve(b)) ** 2))


def quick(content, painting, network, goal=GOAL, **options):
    """A run of five iterations, with the weights as they are."""
    options = {"descent": Descent(iterations=5), "balanced": False} | options
    return optimize(content, painting, goal, network=network, **options)
