"""What the tests of the baseline share: small pictures, a quick objective, and costs computed apart from a run."""

import numpy as np
import torch
from PIL import Image

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
