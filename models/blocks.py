"""The parts that transformer networks are made of.

A part takes tensors, for training, or values of an ONNX graph, for export. The leaves have two sides, `in_torch` and `in_onnx`,
which stand side by side so that they can be read and changed together; every export compares them. What training needs and
running does not (a resize before a convolution, say) is folded away in `in_onnx`. All that is made of parts says how they
are wired once, in `forward`, and does not know which of the two runs through it.
"""

from collections.abc import Callable
from typing import cast

import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional as F

from allaprima.models.graph import Value


class Leaf(nn.Module):
    """A part with two sides: `in_torch(*tensors)` and `in_onnx(*values)`."""

    in_torch: Callable[..., torch.Tensor]
    in_onnx: Callable[..., Value]

    def forward(self, *inputs):
        return self.in_onnx(*inputs) if isinstance(inputs[0], Value) else self.in_torch(*inputs)


class SettlingNorm(nn.InstanceNorm2d):
    """Instance normalization while a network learns, a fixed scale and shift in the end.

    The statistics of each photo make training many times faster; running them costs ONNX Runtime a third of the time,
    and they are where droplets and flicker come from. So it keeps running averages of them, as batch normalization does
    (Ioffe and Szegedy 2015), and uses those in evaluation mode. `Transformer.settle` puts it there while training goes
    on, so that the network gets used to them; `Conv` then folds them into its convolution.
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
                # flat in between, so that its gradient lies as it does: on a CPU, torch 2.15 takes one in the layout
                # channels_last for a plain one where the batch is one picture, and the gradients are wrong
                x = self.norm(x).flatten().view(x.shape)
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
            weight, bias = x.graph.constant(self.norm.weight), x.graph.constant(self.norm.bias)
            x = x.op("InstanceNormalization", weight, bias, epsilon=self.norm.eps)
        return x.op("Relu") if self.act else x


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
    """x + what a 5x5 depthwise convolution sees, mixed by two 1x1 convolutions through twice the channels.

    The block of Liu et al., *A ConvNet for the 2020s*, CVPR 2022, with a settling normalization and ReLU. A third of the
    time of `Residual`, with a larger field of view.
    """

    def __init__(self, channels):
        super().__init__()
        self.look = Conv(channels, channels, 5, groups=channels, norm=SettlingNorm, act=False, pad="reflect")
        self.widen = Conv(channels, 2 * channels, 1)
        self.narrow = Conv(2 * channels, channels, 1, act=False)

    def forward(self, x):
        return x + self.narrow(self.widen(self.look(x)))


class Merge(nn.Module):
    """Decoder step: channels down by a 1x1 convolution, twice the size, plus the encoder's features of that size, 3x3.

    The 1x1 convolution comes before the resize, where it costs a quarter; the two commute. The 3x3 one is depthwise.
    """

    def __init__(self, inputs, outputs, norm: Norm = SettlingNorm):
        super().__init__()
        self.narrow = Conv(inputs, outputs, 1, act=False)
        self.up = Upsample("bilinear")
        self.conv = Conv(outputs, outputs, groups=outputs, norm=norm)

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
