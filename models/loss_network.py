"""The loss network: a VGG whose activations say what a picture shows (content) and how it is painted (style).

Simonyan and Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, 2014.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import cast
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Warned, ignore
from allaprima.models.winograd import FrozenConv

OXFORD_WEIGHTS = Path(__file__).parent / "weights" / "vgg16_oxford.safetensors"
# For each network: convolutions in each of its five blocks.
CONVS = {"vgg16_oxford": (2, 2, 3, 3, 3), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
# What reading a file that is not a state dict, or that of another network, may raise.
UNREADABLE = (OSError, SafetensorError, RuntimeError, KeyError, EOFError, ValueError, AttributeError, UnpicklingError)
CHANNELS = (64, 128, 256, 512, 512)


def layer_names(name: str = "vgg16_oxford") -> list[str]:
    """All taps in order: conv1_1, relu1_1, conv1_2, relu1_2, pool1, ... pool5."""
    names = []
    for block, count in enumerate(CONVS[name], start=1):
        for k in range(1, count + 1):
            names += [f"conv{block}_{k}", f"relu{block}_{k}"]
        names.append(f"pool{block}")
    return names


class LossNetwork(nn.Module):
    """VGG-16 or VGG-19, frozen, with a named tap behind every layer.

    name: `vgg16_oxford` (bundled), `vgg16` or `vgg19` (torchvision's, from its cache, a download, or `weights`).
    pooling: `max`, as trained, or `avg`, which Gatys et al. (2016) found to give slightly smoother pictures.
    weights: a local file instead of the default: safetensors for `vgg16_oxford`, torchvision's .pth for the others.
    dtype: what activations are computed in. torch.bfloat16 halves the time on CPUs and GPUs that have it.
    listener: is told of a download.

    Raises AllaprimaError for an unknown name or pooling, and for weights that aren't there or don't fit.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        name: str = "vgg16_oxford",
        pooling: str = "max",
        weights=None,
        dtype=torch.float32,
        listener: Listener = ignore,
    ):
        super().__init__()
        if name not in CONVS:
            raise AllaprimaError(f"There is no loss network {name!r}. Choose one of: {', '.join(CONVS)}.")
        if pooling not in ("max", "avg"):
            raise AllaprimaError(f"There is no pooling {pooling!r}. Choose max or avg.")
        self.name, self.pooling = name, pooling
        self.names = layer_names(name)
        convs, channels = {}, 3
        for block, count in enumerate(CONVS[name]):
            for k in range(count):
                convs[f"conv{block + 1}_{k + 1}"] = FrozenConv(channels, CHANNELS[block])
                channels = CHANNELS[block]
        self.convs = nn.ModuleDict(convs)
        self._load(weights, listener)
        if name == "vgg16_oxford":  # BGR, 0..255, minus the mean of ImageNet
            mean, scale = (103.939, 116.779, 123.68), (255.0, 255.0, 255.0)
        else:  # RGB, 0..1, standardised
            mean, scale = (0.485 / 0.229, 0.456 / 0.224, 0.406 / 0.225), (1 / 0.229, 1 / 0.224, 1 / 0.225)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()
        self.dtype = dtype
        # channels_last is a third faster than the plain layout, on CPU and GPU
        self.convs.to(dtype=dtype, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _load(self, weights, listener):
        try:
            if self.name == "vgg16_oxford":
                state = load_file(weights or OXFORD_WEIGHTS)
            else:
                state = _rename_torchvision(_torchvision_state(self.name, weights, listener), self.convs)
            self.convs.load_state_dict({key: value.float() for key, value in state.items()})
        except UNREADABLE as error:
            file = weights or (OXFORD_WEIGHTS if self.name == "vgg16_oxford" else _cached(self.name))
            again = (
                "install allaprima again" if self.name == "vgg16_oxford" else "delete it, so that it is fetched again"
            )
            remedy = "give a file of that network" if weights else again
            raise AllaprimaError(f"The weights {file} can't be read as {self.name}: {remedy}.") from error

    def forward(self, images: torch.Tensor, layers) -> dict[str, torch.Tensor]:
        """Activations [N, C, h, w] at each of `layers`, in the network's dtype; stops at the deepest of them.

        images: RGB [N, 3, H, W], values 0..1. Each pooling halves the size, rounding down.
        """
        self.check(layers)
        self.check_size(images.shape[-2:], layers)
        x = images.flip(1) if self.name == "vgg16_oxford" else images
        x = (x * self.scale - self.mean).to(self.dtype, memory_format=torch.channels_last)
        left, taps = set(layers), {}
        for name in self.names:
            if not left:
                break
            if name.startswith("conv"):
                x = self.conv(name)(x)
            elif name.startswith("relu"):
                x = F.relu(x, inplace=name.replace("relu", "conv") not in taps)  # in place, unless conv is tapped
            else:
                x = F.max_pool2d(x, 2) if self.pooling == "max" else F.avg_pool2d(x, 2)
            if name in left:
                taps[name] = x
                left.discard(name)
        return taps

    def conv(self, name: str) -> nn.Conv2d:
        """The convolution of that name, `conv3_1` say."""
        return cast(nn.Conv2d, self.convs[name])

    def check(self, layers):
        """Raise AllaprimaError for the first layer name that the network does not have."""
        for layer in layers:
            if layer not in self.names:
                raise AllaprimaError(f"{self.name} has no layer {layer!r}. It has: {', '.join(self.names)}.")

    def channels(self, layer: str) -> int:
        """How many feature maps a layer has."""
        passed = self.names[: self.names.index(layer) + 1]
        return [self.conv(name).out_channels for name in passed if name in self.convs][-1]

    def check_size(self, size, layers, name: object = "A picture"):
        """Raise AllaprimaError when pictures of size (H, W) vanish in the poolings before the deepest layer."""
        deepest = max((self.names.index(layer) for layer in layers), default=-1)
        least = 2 ** sum(name.startswith("pool") for name in self.names[: deepest + 1])
        if min(size) < least:
            raise AllaprimaError(
                f"{name} of {size[1]}x{size[0]} is too small for {self.names[deepest]}: "
                f"give one of at least {least}x{least} pixels."
            )


def _torchvision_state(name, weights, listener):
    """torchvision's weights as a state dict, from a file or through torchvision (its cache, else a download)."""
    if weights:
        return torch.load(weights, map_location="cpu", weights_only=True)
    source, file = _source(name), _cached(name)
    if not file.exists():
        listener(Warned(f"The weights of {name} are downloaded once, 0.6 GB, to {file.parent}."))
    try:
        return source.get_state_dict(progress=False)
    except (URLError, OSError) as error:
        raise AllaprimaError(
            f"The weights of {name} are not on this machine and can't be downloaded: put torchvision's "
            f"{file.name} into {file.parent}, or name it with --loss-weights."
        ) from error


def _source(name):
    from torchvision import models

    return {"vgg16": models.VGG16_Weights, "vgg19": models.VGG19_Weights}[name].IMAGENET1K_V1


def _cached(name):
    """Where torchvision keeps the weights that it has fetched."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _source(name).url.rsplit("/", 1)[-1]


def _rename_torchvision(state, convs):
    """torchvision numbers its layers (features.0, features.2, ...): the n-th convolution is our n-th."""
    numbers = sorted({int(key.split(".")[1]) for key in state if key.startswith("features.")})
    return {
        f"{ours}.{part}": state[f"features.{theirs}.{part}"]
        for ours, theirs in zip(convs, numbers, strict=True)
        for part in ("weight", "bias")
    }
