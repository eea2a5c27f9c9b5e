"""The transformer networks: photo in, stylized picture out, in one pass.

`johnson` is the reference that everyone knows: Johnson, Alahi and Fei-Fei, *Perceptual Losses for Real-Time Style
Transfer and Super-Resolution*, ECCV 2016, with instance normalization (Ulyanov et al. 2016) and resize-convolutions.
`live` is ours, for CPUs: docs/networks.md says what was measured on the way to it.
"""

import torch
from torch import nn
from torch.nn import functional as F

from allaprima.errors import AllaprimaError
from allaprima.models.blocks import Conv, Graph, Merge, MirrorFirst, Residual, SeparableResidual, ToPixels, Upsample


class Transformer(nn.Module):
    """What all transformer networks share: padding to a size that suits the network, and the value range.

    Subclasses set `multiple` (height and width inside the network are multiples of it) and `margin` (pixels that are
    reflected outwards on each side and cut off again, so that the zero padding inside never shows), and implement `body`
    in torch and `body_onnx` in ONNX: pixels to pixels, both [N, 3, h, w] around 0, where 0..1 is -0.5..0.5.
    """

    architecture: str
    multiple: int
    margin: int

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Photos RGB [N, 3, H, W], 0..1, H and W >= 16, to stylized pictures of the same shape, not clamped."""
        height, width = photos.shape[-2:]
        down, right = (-(size + 2 * self.margin) % self.multiple for size in (height, width))
        half, m = self.margin // 2, self.margin
        x = F.pad(photos - 0.5, [half] * 4, mode="reflect")  # in two steps: 16 pixels can't reflect 16
        x = F.pad(x, [m - half, m - half + right, m - half, m - half + down], mode="reflect")
        return self.body(x)[..., m : m + height, m : m + width] + 0.5


class Johnson(Transformer):
    """1.7 million parameters: 9x9 stem, two strided convolutions, five residual blocks of 128, and the way back."""

    architecture, multiple, margin = "johnson", 4, 0

    def __init__(self):
        super().__init__()
        reflect = {"norm": True, "pad": "reflect"}
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
        return self.layers(x)

    def body_onnx(self, graph: Graph, x: str) -> str:
        for layer in self.layers:
            x = layer.onnx(graph, x)
        return x


class Live(Transformer):
    """Style is decided at 1/8 of the resolution, where a convolution is cheap; the photo's detail comes back by skips.

    width: channels at 1/2, 1/4 and 1/8. blocks: residual blocks at 1/8. It begins with a nearly grey picture: from
    there, colours and strokes are learned sooner than from a copy of the photo (docs/networks.md).

    Zero padding reaches 14 pixels in at the top and left (the strided convolutions pad there alone) and 10 at the
    bottom and right: the margin cuts that off. What would spread it further, the trunk, never sees it: `MirrorFirst`.
    """

    architecture, multiple, margin = "live", 8, 16

    def __init__(self, width=(16, 32, 64), blocks=6):
        super().__init__()
        half, quarter, eighth = width
        self.stem = Conv(3, half, 3, 2, norm=True)
        self.quarter = Conv(half, quarter, 3, 2, norm=True)
        self.eighth = Conv(quarter, eighth, 3, 2, norm=True)
        self.trunk = nn.Sequential(MirrorFirst(), *(SeparableResidual(eighth) for _ in range(blocks)))
        self.to_quarter = Merge(eighth, quarter)
        self.to_half = Merge(quarter, half)
        self.to_pixels = ToPixels(half)
        self.to_pixels.conv.weight.data *= 0.1
        nn.init.zeros_(self.to_pixels.conv.bias)

    def body(self, x):
        half = self.stem(x)
        quarter = self.quarter(half)
        x = self.trunk(self.eighth(quarter))
        return self.to_pixels(self.to_half(self.to_quarter(x, quarter), half))

    def body_onnx(self, graph: Graph, x: str) -> str:
        half = self.stem.onnx(graph, x)
        quarter = self.quarter.onnx(graph, half)
        x = self.eighth.onnx(graph, quarter)
        for block in self.trunk:
            x = block.onnx(graph, x)
        x = self.to_half.onnx(graph, self.to_quarter.onnx(graph, x, quarter), half)
        return self.to_pixels.onnx(graph, x)


ARCHITECTURES = {network.architecture: network for network in (Live, Johnson)}


def transformer(architecture: str) -> Transformer:
    """A freshly initialised network by its name, `live` or `johnson`."""
    if architecture not in ARCHITECTURES:
        raise AllaprimaError(f"There is no network {architecture!r}. Choose one of: {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[architecture]()
