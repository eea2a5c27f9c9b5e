"""The deconvolutional network: what in a picture an activation of the loss network answers to.

Zeiler and Fergus, *Visualizing and Understanding Convolutional Networks*, 2013 (arXiv 1311.2901), section 2.1 and
figure 1: from an activation, with all others of its layer set to zero, back to the pixels, by undoing layer for layer
what the network did. A pooling is undone with switches, the places of the maxima in the forward pass; a ReLU by a ReLU;
a convolution by the same filters transposed.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from allaprima.core.errors import AllaprimaError
from allaprima.models.loss_network import LossNetwork


class Field(NamedTuple):
    """Which pixels a layer sees: place (y, x) sees the square of `size` pixels whose first row is `start + y * stride`
    and whose first column is `start + x * stride`; what lies outside of the picture is zero padding."""

    size: int
    stride: int
    start: int


def receptive_field(network: LossNetwork, layer: str) -> Field:
    """The exact receptive field of a layer, in pixels. Raises AllaprimaError for an unknown layer."""
    network.check([layer])
    size, stride, start = 1, 1, 0
    for name in network.names[: network.names.index(layer) + 1]:
        if name.startswith("conv"):  # 3x3, padded by one
            size, start = size + 2 * stride, start - stride
        elif name.startswith("pool"):  # 2x2
            size, stride = size + stride, 2 * stride
    return Field(size, stride, start)


def check_layers(name: str, layers, least=1) -> list[str]:
    """The names of layers as a list, each once.

    Raises AllaprimaError when it is not a list of names or has fewer than `least`.
    """
    if not (isinstance(layers, list | tuple) and all(isinstance(layer, str) for layer in layers)):
        raise AllaprimaError(f"{name} must be a list of names of layers, not {layers!r}.")
    if len(layers) < least:
        raise AllaprimaError(f"{name} is empty: give at least one layer, for example relu1_2.")
    return list(dict.fromkeys(layers))


def check_picture(network: LossNetwork, layer: str, shape, name: object = "The picture"):
    """Raise AllaprimaError when a picture of (H, W) pixels is smaller than the receptive field of `layer`."""
    height, width = shape
    size = receptive_field(network, layer).size
    if min(height, width) < size:
        fits = [other for other in network.names if receptive_field(network, other).size <= min(height, width)]
        raise AllaprimaError(
            f"{name} has {width}x{height} pixels and {layer} sees {size}x{size}: give a larger one"
            + (f", or a layer up to {fits[-1]}." if fits else ".")
        )


class Deconvnet:
    """A deconvnet attached to a loss network with max pooling; with another there are no switches: AllaprimaError."""

    def __init__(self, network: LossNetwork):
        if network.pooling != "max":
            raise AllaprimaError("A deconvnet needs the switches of max pooling: give a loss network with pooling max.")
        self.network = network

    @torch.no_grad()
    def forward(self, images: torch.Tensor, layer: str) -> tuple[torch.Tensor, list]:
        """Activations [N, C, h, w] of `layer` for pictures RGB [N, 3, H, W], 0..1, and the switches on the way there.

        Switches: for each pooling, the index of each maximum in its plane, [N, C, h, w], and the plane's size.
        """
        names = self.network.names
        self.network.check([layer])
        passed = names[: names.index(layer) + 1]
        pooled = [names[index - 1] for index, name in enumerate(passed) if name.startswith("pool")]
        taps = self.network(images, [*pooled, layer])
        switches = [(F.max_pool2d(taps[name], 2, return_indices=True)[1], taps[name].shape[-2:]) for name in pooled]
        return taps[layer], switches

    @torch.no_grad()
    def project(self, activations: torch.Tensor, layer: str, switches) -> torch.Tensor:
        """Activations [N, C, h, w] of `layer`, all but the ones of interest set to zero, down to pixels.

        Returns RGB [N, 3, H, W]: signed, in units of activation for a change of 1 in a pixel of 0..1, times activation.
        What the picture has more of than a grey one for this activation's sake is positive.
        """
        network, switches, x = self.network, list(switches), activations
        for name in reversed(network.names[: network.names.index(layer) + 1]):
            if name.startswith("conv"):
                x = F.conv_transpose2d(x, network.conv(name).weight, padding=1)
            elif name.startswith("relu"):
                x = x.clamp_min(0)
            else:
                x = unpool(x, *switches.pop())
        x = x * network.scale  # the network's input is scaled pixels
        return x.flip(1) if network.name == "vgg16_oxford" else x


def unpool(x: torch.Tensor, switches: torch.Tensor, size) -> torch.Tensor:
    """Each value of x [N, C, h, w] at the place that its switch says, in planes of `size`, with zeros elsewhere."""
    planes = x.new_zeros(*x.shape[:2], size[0] * size[1])
    return planes.scatter(2, switches.flatten(2), x.flatten(2)).unflatten(2, tuple(size))


def only(activations: torch.Tensor, channel: int, y: int, x: int) -> torch.Tensor:
    """Activations [1, C, h, w] with all but one set to zero."""
    alone = torch.zeros_like(activations)
    alone[0, channel, y, x] = activations[0, channel, y, x]
    return alone


def as_picture(projection: np.ndarray) -> np.ndarray:
    """A projection [3, H, W] as pixels, uint8 [H, W, 3]: zero is grey, positive lighter, NaN white.

    Scaled by itself, so that the strongest half of a percent of the values is cut off: deep layers have a few outliers.
    """
    return pixels(0.5 + 0.5 * projection / max(np.nanpercentile(np.abs(projection), 99.5), 1e-30))


def pixels(picture: np.ndarray) -> np.ndarray:
    """A picture [3, H, W], 0..1, NaN for white, as uint8 [H, W, 3]."""
    return (np.nan_to_num(picture, nan=1.0).clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
