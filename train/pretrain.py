"""How the bundled start of a network is made, from which `train` learns a new style: by learning many styles at once.

benchmarks/make_start.py runs it.

All styles have the convolutions in common, and each its own normalizations and last convolution (Dumoulin, Shlens and
Kudlur, *A Learned Representation for Artistic Style*, ICLR 2017). The start has the mean of those: a style that is none of
them, a few steps from each. docs/networks.md says what else was tried.
"""

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch.func import functional_call

from allaprima.core.events import Advanced, Listener, Started, Wrote, ignore
from allaprima.core.files import write_atomically
from allaprima.media.pictures import read_rgb
from allaprima.models.perceptual import PerceptualLoss, balance
from allaprima.models.tensors import as_style
from allaprima.train.loss import Cut
from allaprima.train.settings import Settings
from allaprima.train.trainer import BALANCE, BALANCE_SEED, OPTIMIZERS, Trainer, objective_of

# At a rate like that of one style, J explodes in the first steps.
SETTINGS = {"start": "scratch", "steps": 9000, "learning_rate": 3e-3, "warmup": 200, "beta": 2.5}
SETTINGS |= {"stylization": 0.0, "stability": 0.0, "motion": 0.0, "evenness": 0.0}
WRITE_EVERY = 500


class LearnedStyle:
    """What a style has for itself: its loss, its Gram matrices and its parameters."""

    def __init__(self, trainer, picture: Image.Image, photos):
        painting = as_style(picture, trainer.settings.style_size).to(trainer.device)
        network = trainer.loss.network
        self.loss = PerceptualLoss(network, balance(network, painting, photos, objective_of(trainer.settings)))
        self.targets = self.loss.style_targets(painting)
        self.parameters = {
            name: parameter.detach().clone().requires_grad_()
            for name, parameter in trainer.network.named_parameters()
            if is_own(name)
        }


def is_own(name: str) -> bool:
    """Whether each style has a parameter of this name for itself: of a normalization or of the last convolution."""
    return ".norm." in name or name.startswith("to_pixels.")


class ManyStyles(Trainer):
    """A training of one network on paintings (files) and a cut of each, a random one of these styles at each step."""

    def __init__(self, paintings: list, settings: Settings, device=None):
        super().__init__(paintings[0], settings, device)
        random, photos = np.random.default_rng(settings.seed), self.network.middle(self.crops(BALANCE, BALANCE_SEED))
        whole = [read_rgb(file) for file in paintings]
        pictures = whole + [cut(picture, random) for picture in whole]  # a cut has larger strokes
        self.styles = [LearnedStyle(self, picture, photos) for picture in pictures]
        common = [parameter for name, parameter in self.network.named_parameters() if not is_own(name)]
        own = [parameter for style in self.styles for parameter in style.parameters.values()]
        self.optimizer = OPTIMIZERS["soap"](common, settings.learning_rate)
        self.own_optimizer = OPTIMIZERS["adam"](own, settings.learning_rate)
        self.replays_steps = False  # they differ
        self.read_every = self.abreast = 1
        self.copies = [self.network]

    def step(self):
        """A step of `Trainer` for one style, whose own parameters move too; returns J and the costs, by name."""
        self.style = self.styles[np.random.default_rng((self.settings.seed, self.done, 2)).integers(len(self.styles))]
        for group in self.own_optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.own_optimizer.zero_grad(set_to_none=True)
        values = super().step()
        self.own_optimizer.step()  # passes over the styles without a gradient
        return values

    def settled(self, step):
        return False  # the running averages are those of all styles

    def crops(self, count, seed, part=1.0, share=slice(None)):
        # larger ones in the end made a start no better
        return super().crops(count, seed, self.settings.early_size, share)

    def costs(self, network, photos, content_targets, view):
        stylized = Cut.apply(functional_call(network, self.style.parameters, (photos,), {"framed": True}))
        parts = self.style.loss.parts(stylized, content_targets, self.style.targets)
        return {name: parts[name] for name in self.of_J}

    def write(self, output):
        """The start: the common parameters and the mean of the styles' own; safetensors, half precision."""
        tensors = self.network.state_dict()
        for name in self.styles[0].parameters:
            tensors[name] = torch.stack([style.parameters[name].detach() for style in self.styles]).mean(0)
        halves = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        write_atomically(output, save({name: value.cpu().contiguous() for name, value in halves.items()}))


def cut(picture: Image.Image, random) -> Image.Image:
    """A random part of a picture, of about 0.6 of its sides."""
    part = random.uniform(0.5, 0.7)
    width, height = (int(part * side) for side in picture.size)
    left, top = random.integers(picture.width - width + 1), random.integers(picture.height - height + 1)
    return picture.crop((left, top, left + width, top + height))


def pretrain(paintings: list, output, settings: Settings, device=None, listener: Listener = ignore):
    """Train on `paintings` (files) and write the start, every WRITE_EVERY steps and at the end."""
    trainer = ManyStyles(paintings, settings, device)
    listener(Started("pretraining", settings.steps, "steps", f"Learning {len(trainer.styles)} styles at once."))
    while trainer.done < settings.steps:
        trainer.step()
        recent = np.mean([row["J"] for row in trainer.history[-500:]])
        listener(Advanced("pretraining", trainer.done, note=f"J {recent:.3f}"))
        if trainer.done % WRITE_EVERY == 0 or trainer.done == settings.steps:
            trainer.write(output)
    listener(Wrote(output))
