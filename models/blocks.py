"""The parts that transformer networks are made of.

A part takes tensors, for training, or values of an ONNX graph, for export. The leaves have two sides, `in_torch` and `in_onnx`,
which stand side by side so that they can be read and changed together; every export compares them. What training needs and
running does not (a resize before a convolution, say) is folded away in `in_onnx`. All that is made of parts says how they
are wired once, in `forward`, and does not know which of the two runs through it.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional as F

from allaprima.models.graph import Graph, Value


class Leaf(nn.Module):
    """A part with two sides: `in_torch(*tensors)` and `in_onnx(*values)`."""

    in_torch: Callable[..., torch.Tensor]
    in_onnx: Callable[..., Value]

    def forward(self, *inputs):
        return self.in_onnx(*inputs) if isinstance(inputs[0], Value) else self.in_torch(*inputs)


class SettlingNorm(nn.InstanceNorm2d):
    """Instance normalization while a network learns, a fixed scale and shift in the end.

    The statistics of each photo make training many times faster; running them everywhere costs ONNX Runtime two fifths of
    the time more. So it keeps running averages of them, as batch normalization does (Ioffe and Szegedy 2015), and uses
    those in evaluation mode. `Transformer.settle` puts it there while training goes on, so that the network gets used to
    them; `Conv` then folds them into its convolution.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels):
        super().__init__(channels, affine=True, track_running_stats=True, momentum=0.03)


def InstanceNorm(channels):
    return nn.InstanceNorm2d(channels, affine=True)


Norm = Callable[[int], nn.InstanceNorm2d]  # a normalization of so many channels


class Conv(Leaf):
    """Convolution that keeps the size (or halves it, stride 2), then optional normalization, then ReLU.

    norm: None, `InstanceNorm` or `SettlingNorm`. pad: `zero`, the fastest in ONNX Runtime; `reflect`, as Johnson et
    al.; or `none`, which loses the kernel's rim.
    Instance normalization: Ulyanov, Vedaldi and Lempitsky, *Instance Normalization: The Missing Ingredient*, 2016.
    """

    def __init__(self, inputs, outputs, kernel=3, stride=1, groups=1, norm: Norm | None = None, act=True, pad="zero"):
        super().__init__()
        self.zeros = kernel // 2 if pad == "zero" else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, self.zeros, groups=groups, bias=norm is None)
        self.norm = norm(outputs) if norm else None
        self.act, self.reflect = act, kernel // 2 if pad == "reflect" else 0

    def in_torch(self, x):
        if self.reflect:
            x = F.pad(x, [self.reflect] * 4, mode="reflect")
        if isinstance(self.norm, SettlingNorm) and not self.norm.training:
            weight, bias = self.folded(self.norm)
            x = F.conv2d(x, weight, bias, self.conv.stride, self.zeros, groups=self.conv.groups)
        else:
            x = self.conv(x)
            if self.norm:
                x = normalized(self.norm, x)
        return F.relu(x) if self.act else x

    def folded(self, norm: SettlingNorm):
        """Weight and bias of the convolution that does what it and its settled normalization do."""
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return self.conv.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale

    def in_onnx(self, x):
        if self.reflect:
            r = self.reflect
            x = x.op("Pad", x.graph.ints(0, 0, r, r, 0, 0, r, r), mode="reflect")
        conv = self.conv
        weight, bias = self.folded(self.norm) if isinstance(self.norm, SettlingNorm) else (conv.weight, conv.bias)
        x = convolve(x, weight, bias, self.zeros, conv.stride[0], conv.groups)
        if self.norm and not isinstance(self.norm, SettlingNorm):
            x = normalization(self.norm, x)
        return x.op("Relu") if self.act else x


class Normalize(Leaf):
    """Instance normalization and ReLU of features that come from more than a convolution."""

    def __init__(self, channels):
        super().__init__()
        self.norm = InstanceNorm(channels)

    def in_torch(self, x):
        return F.relu(normalized(self.norm, x))

    def in_onnx(self, x):
        return normalization(self.norm, x).op("Relu")


def normalized(norm: nn.InstanceNorm2d, x: torch.Tensor) -> torch.Tensor:
    """`norm(x)` with the right gradient.

    It is flat in between, so that its gradient lies as it does: on a CPU, torch 2.15 takes one in the layout channels_last
    for a plain one where the batch is one picture, and the gradients are wrong.
    """
    return norm(x).flatten().view(x.shape)


def normalization(norm: nn.InstanceNorm2d, x: Value) -> Value:
    """An InstanceNormalization node."""
    return x.op("InstanceNormalization", x.graph.constant(norm.weight), x.graph.constant(norm.bias), epsilon=norm.eps)


def convolve(x: Value, weight, bias=None, pad=0, stride=1, groups=1) -> Value:
    """A Conv node of a square kernel."""
    inputs = [x.graph.constant(weight)] + ([] if bias is None else [x.graph.constant(bias)])
    attributes = {"kernel_shape": list(weight.shape[2:]), "pads": [pad] * 4, "strides": [stride] * 2}
    return x.op("Conv", *inputs, **attributes, dilations=[1, 1], group=groups)


class Contrast(Leaf):
    """A photo with its mean colour taken away and its contrast made equal to that of other photos.

    What is made equal is the mean energy of its finest but one Haar wavelets (4 px, both directions, all colours; Haar
    1910, Mallat 1989): edges and texture, which a style network paints after. The variance of the pixels tells less.
    Photos are of 0..1 (or around any other grey); a contrast below FLOOR is noise and is not raised further.
    """

    TARGET, FLOOR = 0.1, 0.014
    wavelets: torch.Tensor

    def __init__(self):
        super().__init__()
        across = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4, 1) / 8
        self.register_buffer("wavelets", torch.stack([across, across.T])[:, None].repeat(3, 1, 1, 1), persistent=False)

    def in_torch(self, x):
        detail = F.conv2d(x, self.wavelets.to(x.dtype), stride=4, groups=3)
        energy = detail.square().mean((2, 3), keepdim=True).mean(1, keepdim=True)
        return (x - x.mean((2, 3), keepdim=True)) * (self.TARGET * (energy + self.FLOOR**2).rsqrt())

    def in_onnx(self, x):
        """x: of 0..255."""
        # As one plain convolution, with two more channels of nothing: a size that ONNX Runtime is fast at.
        kernel = torch.zeros(8, 3, 4, 4)
        kernel[range(6), [0, 0, 1, 1, 2, 2]] = self.wavelets[:, 0].cpu() / 255
        detail = convolve(x, kernel, stride=4)
        energy = (detail * detail).op("GlobalAveragePool").op("ReduceMean", axes=[1]) * (8 / 6)
        gain = x.graph.constant(self.TARGET / 255).op("Div", (energy + self.FLOOR**2).op("Sqrt"))
        return (x - x.op("GlobalAveragePool")) * gain


class Grain(Leaf):
    """Adds a fourth colour to a photo: the grain of a canvas, fixed noise, each pixel of it -STRENGTH or STRENGTH.

    Where a photo is flat, a network with even resizes has nothing to make a stroke from (one with nearest-neighbour
    resizes takes its own grid for it, and camera noise, which flickers). Ulyanov et al., *Texture Networks*, ICML 2016,
    feed noise to theirs; this one does not change, so that it keeps still under a still camera. It has a channel of its
    own: added to the colours, it could not be told from the photo.

    In training it begins at `start`, (y, x), another place for each step: crops that all lie on the same piece of it would
    be learned by heart, with every star of *The Starry Night* at its place. period: pixels after which it repeats, a multiple
    of 8; contract.GRID, so that tiles of a picture fit together.
    """

    STRENGTH = 0.3
    noise: torch.Tensor
    start: torch.Tensor

    def __init__(self, period):
        super().__init__()
        bits = torch.randint(0, 2, (1, 1, period, period), generator=torch.Generator().manual_seed(1))
        self.register_buffer("noise", (2.0 * bits - 1) * self.STRENGTH, persistent=False)
        self.register_buffer("start", torch.zeros(2, dtype=torch.long), persistent=False)

    def in_torch(self, x):
        start = self.start if self.training else torch.zeros_like(self.start)
        rows, columns = (
            (torch.arange(size, device=x.device) + first) % self.noise.shape[-1]
            for size, first in zip(x.shape[2:], start)
        )
        noise = self.noise[:, :, rows][..., columns]
        return torch.cat([x, noise.expand(len(x), -1, -1, -1)], 1)

    def in_onnx(self, x):
        ints, period, shape = x.graph.ints, self.noise.shape[-1], x.op("Shape")
        count, size = shape.slice([0], [1], [0]), shape.slice([2], [4], [0])
        times = (size + ints(period - 1, period - 1)).op("Div", ints(period, period))
        # First what a small picture needs of it: what is repeated is copied.
        noise = self._noise(x.graph).slice([0, 0], size, [2, 3])
        noise = noise.op("Tile", count.op("Concat", ints(1), times, axis=0))
        return x.op("Concat", noise.slice([0, 0], size, [2, 3]), axis=1)

    def _noise(self, graph: Graph) -> Value:
        """The noise from one bit for each pixel, 131 kB instead of 4 MB; runtimes unpack it once, when they load it."""
        bytes = np.packbits(self.noise[0, 0].cpu().numpy() > 0, axis=1, bitorder="little")[..., None]
        powers, two = graph.constant(2 ** np.arange(8), np.int32), graph.constant(2, np.int32)
        bits = graph.constant(bytes, np.uint8).cast(TensorProto.INT32).op("Div", powers).op("Mod", two)
        bits = bits.op("Reshape", graph.ints(*self.noise.shape)).cast()
        return (bits - 0.5) * (2 * self.STRENGTH)


class Upsample(Leaf):
    """Twice the size, `nearest` or `bilinear`: before a convolution it leaves no checkerboard, as a strided transposed
    convolution does (Odena, Dumoulin and Olah, *Deconvolution and Checkerboard Artifacts*, Distill 2016)."""

    def __init__(self, mode):
        super().__init__()
        self.mode = mode

    def in_torch(self, x):
        return F.interpolate(x, scale_factor=2, mode=self.mode)

    def in_onnx(self, x):
        how = {
            "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
            "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        }
        return x.op("Resize", None, x.graph.constant([1, 1, 2, 2]), **how[self.mode])


class MirrorFirst(Leaf):
    """Replaces the first row and column, which zero padding has touched, by mirror images of the third."""

    def in_torch(self, x):
        return F.pad(x[..., 1:, 1:], [1, 0, 1, 0], mode="reflect")

    def in_onnx(self, x):
        x = x.slice([1, 1], [2**31, 2**31], [2, 3])
        return x.op("Pad", x.graph.ints(0, 0, 1, 1, 0, 0, 0, 0), mode="reflect")


class Residual(nn.Module):
    """x + conv(conv(x)), both with instance normalization, the second without ReLU (Johnson et al., appendix)."""

    def __init__(self, channels):
        super().__init__()
        self.first = Conv(channels, channels, norm=InstanceNorm, pad="reflect")
        self.second = Conv(channels, channels, norm=InstanceNorm, act=False, pad="reflect")

    def forward(self, x):
        return x + self.second(self.first(x))


class SeparableResidual(nn.Module):
    """x + what a depthwise convolution sees, mixed by two 1x1 convolutions through twice the channels.

    The block of Liu et al., *A ConvNet for the 2020s*, CVPR 2022, with another normalization and ReLU. A third of the time of
    `Residual`. kernel, pad, norm: of the depthwise convolution, as of `Conv`; with zeros, ONNX Runtime adds x in the last
    convolution.
    """

    def __init__(self, channels, kernel, pad, norm):
        super().__init__()
        self.look = Conv(channels, channels, kernel, groups=channels, norm=norm, act=False, pad=pad)
        self.widen = Conv(channels, 2 * channels, 1)
        self.narrow = Conv(2 * channels, channels, 1, act=False)

    def forward(self, x):
        return x + self.narrow(self.widen(self.look(x)))


class Merge(nn.Module):
    """Decoder step: channels down by a 1x1 convolution, twice the size, plus the encoder's features of that size, 3x3.

    The 1x1 convolution comes before the resize, where it costs a quarter; the two commute. The 3x3 one is depthwise.
    """

    def __init__(self, inputs, outputs):
        super().__init__()
        self.narrow = Conv(inputs, outputs, 1, act=False)
        self.up = Upsample("bilinear")
        self.conv = Conv(outputs, outputs, groups=outputs, norm=SettlingNorm)

    def forward(self, x, skip):
        return self.conv(self.up(self.narrow(x)) + skip)


class FromBytes(Leaf):
    """Where a network begins that has no `Contrast`: from 0..255 to -0.5..0.5, as it is in torch already."""

    def in_torch(self, x):
        return x

    def in_onnx(self, x):
        return (x - 127.5).op("Div", x.graph.constant(255.0))


class ToBytes(Leaf):
    """Where a network ends that has no `ToPixels`: from -0.5..0.5 to rounded pixels, uint8 [N, H, W, 3]; in torch as it is."""

    def in_torch(self, x):
        return x

    def in_onnx(self, x):
        x = (x * 255.0 + 127.5).op("Clip", x.graph.constant(0.0), x.graph.constant(255.0)).op("Round")
        return x.cast(TensorProto.UINT8).op("Transpose", perm=[0, 2, 3, 1])


class ToPixels(Leaf):
    """Half resolution to pixels: bilinear resize, then a 3x3 convolution to RGB.

    Every output pixel of an even or odd row and column is a fixed 3x3 weighting of the half-resolution features, so the
    pair is folded into one 3x3 convolution to 12 channels and a depth-to-space: a resize-convolution, with its freedom
    from checkerboards, that never makes a full-resolution feature map.
    """

    # what a tap of a row's kernel takes of its three neighbours at half resolution: [phase, tap, neighbour]
    TAPS = (
        ((0.75, 0.25, 0.0), (0.25, 0.75, 0.0), (0.0, 0.75, 0.25)),
        ((0.25, 0.75, 0.0), (0.0, 0.75, 0.25), (0.0, 0.25, 0.75)),
    )

    taps: torch.Tensor

    def __init__(self, inputs):
        super().__init__()
        self.register_buffer("taps", torch.tensor(self.TAPS), persistent=False)
        self.conv = nn.Conv2d(inputs, 3, 3, padding=1)
        self.conv.weight.data *= 0.1  # a nearly grey picture to begin with
        nn.init.zeros_(self.bias)

    @property
    def bias(self) -> nn.Parameter:
        return cast(nn.Parameter, self.conv.bias)  # for a type checker, a Conv2d may have none

    def in_torch(self, x):
        n, _, h, w = x.shape
        phases = F.conv2d(x, self.folded_weight(), self.bias.repeat(4), padding=1)
        return phases.view(n, 2, 2, 3, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, 3, 2 * h, 2 * w)

    def folded_weight(self) -> torch.Tensor:
        """The kernel [12, inputs, 3, 3] at half resolution, channels ordered row phase, column phase, colour."""
        return torch.einsum("piy,qjx,ocij->pqocyx", self.taps, self.taps, self.conv.weight).flatten(0, 2)

    def in_onnx(self, x):
        """Rounded pixels, uint8 [N, H, W, 3], where `in_torch` gives -0.5..0.5.

        Each step is placed for ONNX Runtime: the clip becomes part of the convolution, bytes are moved rather than
        floats, the pixels in rows first and then the rows, which is five times as fast as both at once.
        """
        ints, constant = x.graph.ints, x.graph.constant
        bias = self.bias.repeat(4) * 255 + 127.5 + 0.5  # the cast cuts off the fraction
        x = convolve(x, self.folded_weight().detach() * 255, bias, pad=1)
        x = x.op("Clip", constant(0.0), constant(255.5)).cast(TensorProto.UINT8)
        n, h, w = (x.op("Shape").slice([axis], [axis + 1], [0]) for axis in (0, 2, 3))
        height, width = (size.op("Mul", ints(2)) for size in (h, w))
        x = x.op("Reshape", n.op("Concat", ints(2, 6), h, w, axis=0))
        x = x.op("Transpose", perm=[0, 1, 3, 4, 2])  # row phase, h, w, column phase and colour
        x = x.op("Reshape", n.op("Concat", ints(2), h, ints(-1), axis=0))
        x = x.op("Transpose", perm=[0, 2, 1, 3])
        return x.op("Reshape", n.op("Concat", height, width, ints(3), axis=0))
