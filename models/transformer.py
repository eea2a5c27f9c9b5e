"""The transformer networks: photo in, stylized picture out, in one pass.

`johnson` is the reference that everyone knows: Johnson, Alahi and Fei-Fei, *Perceptual Losses for Real-Time Style
Transfer and Super-Resolution*, ECCV 2016, with instance normalization (Ulyanov et al. 2016) and resize-convolutions.
`live` is ours, for CPUs: docs/networks.md says what was measured on the way to it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from allaprima.core.contract import GRID
from allaprima.core.errors import AllaprimaError
from allaprima.models.blocks import (
    Contrast,
    Conv,
    FromBytes,
    Grain,
    InstanceNorm,
    Merge,
    MirrorFirst,
    Normalize,
    Residual,
    SeparableResidual,
    SettlingNorm,
    ToBytes,
    ToPixels,
    Upsample,
)


class Transformer(nn.Module):
    """What all transformer networks share: padding to a size that suits the network, and the value range.

    Subclasses set `multiple` (height and width inside the network are multiples of it), `margin` (pixels that are
    reflected outwards at the top and left, and at the bottom and right, and cut off again, so that the zero padding inside
    never shows) and `lead` (rows and columns beyond the margin, at the top and left, for a strided first convolution
    without padding). They implement `body`, for tensors: pixels around 0, where 0..1 is -0.5..0.5, [N, 3, lead + h,
    lead + w] to [N, 3, h, w]; and so, by their parts, for values of an ONNX graph: from 0..255, float, in the same layout,
    to rounded pixels, uint8 [N, h, w, 3].
    """

    architecture: str
    multiple: int
    margin: tuple[int, int]
    lead = 0
    body: Callable[..., Any]

    def forward(self, photos: torch.Tensor, framed=False) -> torch.Tensor:
        """Photos RGB [N, 3, H, W], 0..1, H and W >= 16, to stylized pictures of the same shape, not clamped.

        framed: the photos show `around` more than the pictures will, where others are reflected outwards.
        """
        if framed:
            height, width = (self.inner(side) for side in photos.shape[-2:])
            x = photos - 0.5
        else:
            height, width = photos.shape[-2:]
            (top, down), (left, right), first = self.around(height), self.around(width), self.pads()[0]
            x = F.pad(photos - 0.5, [first] * 4, mode="reflect")
            x = F.pad(x, [each - first for each in (left, right, top, down)], mode="reflect")
        start = self.margin[0]
        return self.body(x)[..., start : start + height, start : start + width] + 0.5

    def around(self, side: int) -> tuple[int, int]:
        """The pixels before and after a picture of this height or width that the network looks at."""
        return self.margin[0] + self.lead, self.margin[1] + -(side + sum(self.margin)) % self.multiple

    def inner(self, side: int) -> int:
        """The height or width of a picture, a multiple of `multiple`, from that with what is `around` it."""
        return (side - self.lead - sum(self.margin)) // self.multiple * self.multiple

    def middle(self, photos: torch.Tensor) -> torch.Tensor:
        """What pictures of such framed photos will show of them, channels_last as these are."""
        before = self.margin[0] + self.lead
        height, width = (self.inner(side) for side in photos.shape[-2:])
        shown = photos[..., before : before + height, before : before + width]
        return shown.contiguous(memory_format=torch.channels_last)

    def pads(self) -> tuple[int, int, int]:
        """The pixels to reflect outwards, in two steps, since 16 pixels can't reflect 16 at once.

        First so many on all sides, then so many before and so many (and what a multiple needs) after them.
        """
        first = min(8, *self.margin)
        return first, self.margin[0] + self.lead - first, self.margin[1] - first

    def settle(self):
        """Put each `SettlingNorm` into evaluation mode, in which the export has it; `train()` undoes it."""
        for module in self.modules():
            if isinstance(module, SettlingNorm):
                module.eval()

    def averages(self) -> list[torch.Tensor]:
        """The running averages of each `SettlingNorm`. Over a batch they are the means of those over its parts."""
        norms = [module for module in self.modules() if isinstance(module, SettlingNorm)]
        return [average for norm in norms for average in (norm.running_mean, norm.running_var)]

    def vary(self, seed):
        """Let the `Grain`, where there is one, begin at a place that follows from `seed`, until the next call."""
        for module in self.modules():
            if isinstance(module, Grain):
                place = np.random.default_rng(seed).integers(module.noise.shape[-1], size=2)
                for number, first in zip(module.start, place.tolist()):
                    number.fill_(first)  # a GPU is not waited for, as it is where numbers are copied to it


class Johnson(Transformer):
    """1.7 million parameters: 9x9 stem, two strided convolutions, five residual blocks of 128, and the way back."""

    architecture, multiple, margin = "johnson", 4, (0, 0)

    def __init__(self):
        super().__init__()
        reflect = {"norm": InstanceNorm, "pad": "reflect"}
        self.from_bytes, self.to_bytes = FromBytes(), ToBytes()
        self.layers = nn.Sequential(
            Conv(3, 32, 9, **reflect),
            Conv(32, 64, 3, 2, **reflect),
            Conv(64, 128, 3, 2, **reflect),
            *(Residual(128) for _ in range(5)),
            Upsample("nearest"),
            Conv(128, 64, **reflect),
            Upsample("nearest"),
            Conv(64, 32, **reflect),
            Conv(32, 3, 9, act=False, pad="reflect"),
        )

    def body(self, x):
        return self.to_bytes(self.layers(self.from_bytes(x)))


class Live(Transformer):
    """Style is decided at 1/8 of the resolution, strokes are drawn at 1/4 and 1/2, and the photo's detail comes back by skips.

    width, blocks: channels at 1/2, 1/4 and 1/8, and residual blocks there on the way back. It begins with a nearly grey
    picture: from there, colours and strokes are learned sooner than from a copy of the photo (docs/networks.md).

    The photo (`Contrast`), the features at 1/8 and 1/4 and the last ones are normalized by the picture at hand: strokes then
    follow its forms, and a dim photo is painted as boldly as a bright one. The other normalizations, at 1/2 and on the way
    down to 1/4 and back, would take more time than they are worth: they settle and vanish in the convolutions.

    Zero padding reaches 14 pixels in at the top and left (the strided convolutions pad there alone) and 10 at the bottom and
    right, and a block at 1/4 or 1/2 carries it on by a pixel of its own: the margin is that. The blocks at 1/8, which would
    carry it further, never see it: `MirrorFirst`.
    """

    architecture, multiple, lead = "live", 8, 1

    def __init__(self, width=(16, 32, 64), blocks=(1, 2, 1)):
        super().__init__()
        half, quarter, eighth = width
        at_half, at_quarter, at_eighth = blocks
        reach = 2 * at_half + 4 * at_quarter
        self.margin = 14 + reach, 10 + reach
        self.contrast, self.grain = Contrast(), Grain(GRID)
        self.stem = Conv(4, half, 3, 2, norm=SettlingNorm, pad="none")
        self.quarter = Conv(half, quarter, 3, 2, norm=SettlingNorm)
        self.eighth = Conv(quarter, eighth, 3, 2, norm=InstanceNorm)
        self.at_eighth = nn.Sequential(
            MirrorFirst(), *(SeparableResidual(eighth, 7, "reflect", InstanceNorm) for _ in range(at_eighth))
        )
        self.to_quarter = Merge(eighth, quarter)
        self.at_quarter = nn.Sequential(
            *(SeparableResidual(quarter, 3, "zero", InstanceNorm) for _ in range(at_quarter))
        )
        self.to_half = Merge(quarter, half)
        self.at_half = nn.Sequential(*(SeparableResidual(half, 3, "zero", SettlingNorm) for _ in range(at_half)))
        # without the last bias: the normalization would take it away, and its gradient would be rounding
        self.at_half[-1].get_submodule("narrow.conv").register_parameter("bias", None)
        self.normalize = Normalize(half)
        self.to_pixels = ToPixels(half)

    def body(self, x):
        half = self.stem(self.grain(self.contrast(x)))
        quarter = self.quarter(half)
        x = self.at_eighth(self.eighth(quarter))
        x = self.at_quarter(self.to_quarter(x, quarter))
        x = self.at_half(self.to_half(x, half))
        return self.to_pixels(self.normalize(x))


class Best(Live):
    """`Live` with twice the channels or more, and twice the blocks: for pictures rather than for a camera."""

    architecture = "best"

    def __init__(self):
        super().__init__((32, 96, 128), (2, 4, 2))


ARCHITECTURES = {network.architecture: network for network in (Live, Best, Johnson)}


def start_of(architecture: str) -> Path | None:
    """The bundled weights that a training of this network begins with (train/pretrain.py), where there are any."""
    file = Path(__file__).parent / "weights" / f"{architecture}.safetensors"
    return file if file.exists() else None


def transformer(architecture: str, start: str = "scratch") -> Transformer:
    """A network by its name, `live`, `best` or `johnson`: freshly initialised, or with its `pretrained` start if it has one."""
    if architecture not in ARCHITECTURES:
        raise AllaprimaError(f"There is no network {architecture!r}. Choose one of: {', '.join(ARCHITECTURES)}.")
    network = ARCHITECTURES[architecture]()
    if start == "pretrained" and (file := start_of(architecture)):
        network.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    return network
