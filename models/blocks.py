"""The parts that transformer networks are made of.

Each part says twice what it computes: `forward` in torch, for training, and `onnx` as nodes of an ONNX graph, for
running. The two stand side by side so that they can be read and changed together, and every export compares them. What
training needs and running does not (a resize before a convolution, say) is folded away in `onnx`.
"""

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F


class Graph:
    """An ONNX graph under construction: nodes and constants, with a fresh name for every value.

    prefix: of all names, to tell those of a branch from those of the graph around it.
    """

    def __init__(self, prefix=""):
        self.prefix, self.nodes, self.constants, self._count, self._known = prefix, [], [], 0, {}

    def fresh(self, hint: str) -> str:
        self._count += 1
        return f"{self.prefix}{hint.lower()}_{self._count}"

    def constant(self, value, dtype=np.float32) -> str:
        """The name of a constant; equal small constants are stored once."""
        value = value.detach().float().cpu().numpy() if isinstance(value, torch.Tensor) else value
        array = np.ascontiguousarray(np.asarray(value, dtype))
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 16 else None
        if key in self._known:
            return self._known[key]
        name = self.fresh("constant")
        self.constants.append(numpy_helper.from_array(array, name))
        if key:
            self._known[key] = name
        return name

    def ints(self, *values) -> str:
        return self.constant(values, np.int64)

    def add(self, kind: str, *inputs: str, **attributes) -> str:
        """Append a node of one output and return the output's name."""
        output = self.fresh(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def cast(self, x: str, dtype=TensorProto.FLOAT) -> str:
        return self.add("Cast", x, to=dtype)


class SettlingNorm(nn.InstanceNorm2d):
    """Instance normalization while a network learns, a fixed scale and shift in the end.

    The statistics of each photo make training many times faster; running them costs ONNX Runtime a third of the time,
    and they are where droplets and flicker come from. So it keeps running averages of them, as batch normalization does
    (Ioffe and Szegedy 2015), and uses those in evaluation mode. `Transformer.settle` puts it there while training goes
    on, so that the network gets used to them; `Conv` then folds them into its convolution.
    """

    def __init__(self, channels):
        super().__init__(channels, affine=True, track_running_stats=True, momentum=0.03)


def InstanceNorm(channels):
    return nn.InstanceNorm2d(channels, affine=True)


class Conv(nn.Module):
    """Convolution that keeps the size (or halves it, stride 2), then optional normalization, then ReLU.

    norm: None, `InstanceNorm` or `SettlingNorm`. pad: `zero`, the fastest in ONNX Runtime; `reflect`, as Johnson et
    al.; or `none`, which loses the kernel's rim.
    Instance normalization: Ulyanov, Vedaldi and Lempitsky, *Instance Normalization: The Missing Ingredient*, 2016.
    """

    def __init__(self, inputs, outputs, kernel=3, stride=1, groups=1, norm=None, act=True, pad="zero"):
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            groups=groups,
            bias=norm is None,
            padding=kernel // 2 if pad == "zero" else 0,
        )
        self.norm = norm(outputs) if norm else None
        self.act, self.reflect = act, kernel // 2 if pad == "reflect" else 0

    def forward(self, x):
        if self.reflect:
            x = F.pad(x, [self.reflect] * 4, mode="reflect")
        if isinstance(self.norm, SettlingNorm) and not self.norm.training:
            weight, bias = self.folded()
            x = F.conv2d(x, weight, bias, self.conv.stride, self.conv.padding, groups=self.conv.groups)
        else:
            x = self.conv(x)
            x = self.norm(x) if self.norm else x
        return F.relu(x) if self.act else x

    def folded(self):
        """Weight and bias of the convolution that does what it and its settled normalization do."""
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        return self.conv.weight * scale.view(-1, 1, 1, 1), self.norm.bias - self.norm.running_mean * scale

    def onnx(self, graph: Graph, x: str) -> str:
        if self.reflect:
            r = self.reflect
            x = graph.add("Pad", x, graph.ints(0, 0, r, r, 0, 0, r, r), mode="reflect")
        conv = self.conv
        weight, bias = self.folded() if isinstance(self.norm, SettlingNorm) else (conv.weight, conv.bias)
        x = conv_onnx(graph, x, weight, bias, conv.padding[0], conv.stride[0], conv.groups)
        if type(self.norm) is nn.InstanceNorm2d:
            weight, bias = graph.constant(self.norm.weight), graph.constant(self.norm.bias)
            x = graph.add("InstanceNormalization", x, weight, bias, epsilon=self.norm.eps)
        return graph.add("Relu", x) if self.act else x


def conv_onnx(graph: Graph, x: str, weight, bias=None, pad=0, stride=1, groups=1) -> str:
    """A Conv node of a square kernel."""
    inputs = [x, graph.constant(weight)] + ([] if bias is None else [graph.constant(bias)])
    return graph.add(
        "Conv", *inputs, kernel_shape=list(weight.shape[2:]), pads=[pad] * 4, strides=[stride] * 2, group=groups
    )


class Contrast(nn.Module):
    """A photo with its mean colour taken away and its contrast made equal to that of other photos.

    What is made equal is the mean energy of its finest but one Haar wavelets (4 px, both directions, all colours; Haar
    1910, Mallat 1989): edges and texture, which a style network paints after. The variance of the pixels tells less.
    Photos are of 0..1 (or around any other grey); a contrast below FLOOR is noise and is not raised further.
    """

    TARGET, FLOOR = 0.1, 0.014

    def __init__(self):
        super().__init__()
        across = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4, 1) / 8
        self.register_buffer("wavelets", torch.stack([across, across.T])[:, None].repeat(3, 1, 1, 1), persistent=False)

    def forward(self, x):
        detail = F.conv2d(x, self.wavelets.to(x.dtype), stride=4, groups=3)
        energy = detail.square().mean((2, 3), keepdim=True).mean(1, keepdim=True)
        return (x - x.mean((2, 3), keepdim=True)) * (self.TARGET * (energy + self.FLOOR**2).rsqrt())

    def onnx(self, graph: Graph, x: str) -> str:
        """x: of 0..255."""
        # As one plain convolution, with two more channels of nothing: a size that ONNX Runtime is fast at.
        kernel = torch.zeros(8, 3, 4, 4)
        kernel[range(6), [0, 0, 1, 1, 2, 2]] = self.wavelets[:, 0].cpu() / 255
        detail = graph.add("Conv", x, graph.constant(kernel), strides=[4, 4])
        energy = graph.add("GlobalAveragePool", graph.add("Mul", detail, detail))
        energy = graph.add("Mul", graph.add("ReduceMean", energy, axes=[1]), graph.constant(8 / 6))
        root = graph.add("Sqrt", graph.add("Add", energy, graph.constant(self.FLOOR**2)))
        gain = graph.add("Div", graph.constant(self.TARGET / 255), root)
        return graph.add("Mul", graph.add("Sub", x, graph.add("GlobalAveragePool", x)), gain)


class Grain(nn.Module):
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

    def __init__(self, period):
        super().__init__()
        bits = torch.randint(0, 2, (1, 1, period, period), generator=torch.Generator().manual_seed(1))
        self.register_buffer("noise", (2.0 * bits - 1) * self.STRENGTH, persistent=False)
        self.register_buffer("start", torch.zeros(2, dtype=torch.long), persistent=False)

    def forward(self, x):
        start = self.start if self.training else torch.zeros_like(self.start)
        rows, columns = (
            (torch.arange(size, device=x.device) + first) % self.noise.shape[-1]
            for size, first in zip(x.shape[2:], start)
        )
        noise = self.noise[:, :, rows][..., columns]
        return torch.cat([x, noise.expand(len(x), -1, -1, -1)], 1)

    def onnx(self, graph: Graph, x: str) -> str:
        period = self.noise.shape[-1]
        shape = graph.add("Shape", x)
        count, size = (graph.add("Slice", shape, graph.ints(start), graph.ints(end)) for start, end in ((0, 1), (2, 4)))
        times = graph.add("Div", graph.add("Add", size, graph.ints(period - 1, period - 1)), graph.ints(period, period))
        times = graph.add("Concat", count, graph.ints(1), times, axis=0)
        # First what a small picture needs of it: what is repeated is copied.
        noise = graph.add("Slice", self._noise_onnx(graph), graph.ints(0, 0), size, graph.ints(2, 3))
        noise = graph.add("Slice", graph.add("Tile", noise, times), graph.ints(0, 0), size, graph.ints(2, 3))
        return graph.add("Concat", x, noise, axis=1)

    def _noise_onnx(self, graph: Graph) -> str:
        """The noise from one bit for each pixel, 131 kB instead of 4 MB; runtimes unpack it once, when they load it."""
        bits = np.packbits(self.noise[0, 0].cpu().numpy() > 0, axis=1, bitorder="little")
        bits = graph.cast(graph.constant(bits[..., None], np.uint8), TensorProto.INT32)
        bits = graph.add(
            "Mod", graph.add("Div", bits, graph.constant(2 ** np.arange(8), np.int32)), graph.constant(2, np.int32)
        )
        bits = graph.cast(graph.add("Reshape", bits, graph.ints(*self.noise.shape)))
        return graph.add("Mul", graph.add("Sub", bits, graph.constant(0.5)), graph.constant(2 * self.STRENGTH))


class Upsample(nn.Module):
    """Twice the size, `nearest` or `bilinear`: before a convolution it leaves no checkerboard, as a strided transposed
    convolution does (Odena, Dumoulin and Olah, *Deconvolution and Checkerboard Artifacts*, Distill 2016)."""

    def __init__(self, mode):
        super().__init__()
        self.mode = mode

    def forward(self, x):
        return F.interpolate(x, scale_factor=2, mode=self.mode)

    def onnx(self, graph: Graph, x: str) -> str:
        scales = graph.constant([1, 1, 2, 2])
        if self.mode == "bilinear":
            return graph.add("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
        return graph.add(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )


class Residual(nn.Module):
    """x + conv(conv(x)), both with instance normalization, the second without ReLU (Johnson et al., appendix)."""

    def __init__(self, channels):
        super().__init__()
        self.first = Conv(channels, channels, norm=InstanceNorm, pad="reflect")
        self.second = Conv(channels, channels, norm=InstanceNorm, act=False, pad="reflect")

    def forward(self, x):
        return x + self.second(self.first(x))

    def onnx(self, graph: Graph, x: str) -> str:
        return graph.add("Add", x, self.second.onnx(graph, self.first.onnx(graph, x)))


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

    def onnx(self, graph: Graph, x: str) -> str:
        return graph.add("Add", x, self.narrow.onnx(graph, self.widen.onnx(graph, self.look.onnx(graph, x))))


class MirrorFirst(nn.Module):
    """Replaces the first row and column, which zero padding has touched, by mirror images of the third."""

    def forward(self, x):
        return F.pad(x[..., 1:, 1:], [1, 0, 1, 0], mode="reflect")

    def onnx(self, graph: Graph, x: str) -> str:
        x = graph.add("Slice", x, graph.ints(1, 1), graph.ints(2**31, 2**31), graph.ints(2, 3))
        return graph.add("Pad", x, graph.ints(0, 0, 1, 1, 0, 0, 0, 0), mode="reflect")


class Merge(nn.Module):
    """Decoder step: channels down by a 1x1 convolution, twice the size, plus the encoder's features of that size, 3x3.

    The 1x1 convolution comes before the resize, where it costs a quarter; the two commute. The 3x3 one is depthwise.
    """

    def __init__(self, inputs, outputs, norm=SettlingNorm):
        super().__init__()
        self.narrow = Conv(inputs, outputs, 1, act=False)
        self.up = Upsample("bilinear")
        self.conv = Conv(outputs, outputs, groups=outputs, norm=norm)

    def forward(self, x, skip):
        return self.conv(self.up(self.narrow(x)) + skip)

    def onnx(self, graph: Graph, x: str, skip: str) -> str:
        return self.conv.onnx(graph, graph.add("Add", self.up.onnx(graph, self.narrow.onnx(graph, x)), skip))


class ToPixels(nn.Module):
    """Half resolution to pixels: bilinear resize, then a 3x3 convolution to RGB.

    Every output pixel of an even or odd row and column is a fixed 3x3 weighting of the half-resolution features, so the
    pair is folded into one 3x3 convolution to 12 channels and a depth-to-space: a resize-convolution, with its freedom
    from checkerboards, that never makes a full-resolution feature map.
    """

    def __init__(self, inputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, 3, 3, padding=1)
        self.conv.weight.data *= 0.1  # a nearly grey picture to begin with
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))

    @torch.no_grad()
    def folded_weight(self) -> torch.Tensor:
        """The kernel [12, inputs, 3, 3] at half resolution, channels ordered row phase, column phase, colour.

        It is read off the responses to single impulses, so it holds for whatever linear resize `forward` uses.
        """
        inputs = self.conv.in_channels
        impulses = torch.zeros(inputs, inputs, 7, 7)
        impulses[range(inputs), range(inputs), 3, 3] = 1
        response = self.forward(impulses.to(self.conv.weight)) - self.conv.bias.view(1, 3, 1, 1)
        # response to an input at 3, seen at i: the kernel's tap 3 - i + 1; i runs over 4, 3, 2 for the taps 0, 1, 2
        phases = [response[:, :, dy::2, dx::2][:, :, 2:5, 2:5].flip(2, 3) for dy in (0, 1) for dx in (0, 1)]
        return torch.cat([phase.transpose(0, 1) for phase in phases])

    def onnx(self, graph: Graph, x: str) -> str:
        """Rounded pixels, uint8 [N, H, W, 3], where `forward` gives -0.5..0.5.

        Each step is placed for ONNX Runtime: the clip becomes part of the convolution, bytes are moved rather than
        floats, the pixels in rows first and then the rows, which is five times as fast as both at once.
        """
        bias = self.conv.bias.repeat(4) * 255 + 127.5 + 0.5  # the cast cuts off the fraction
        x = conv_onnx(graph, x, self.folded_weight() * 255, bias, pad=1)
        x = graph.cast(graph.add("Clip", x, graph.constant(0.0), graph.constant(255.5)), TensorProto.UINT8)
        n, h, w = (graph.add("Slice", graph.add("Shape", x), graph.ints(k), graph.ints(k + 1)) for k in (0, 2, 3))
        height, width = (graph.add("Mul", size, graph.ints(2)) for size in (h, w))
        x = graph.add("Reshape", x, graph.add("Concat", n, graph.ints(2, 6), h, w, axis=0))
        x = graph.add("Transpose", x, perm=[0, 1, 3, 4, 2])  # row phase, h, w, column phase and colour
        x = graph.add("Reshape", x, graph.add("Concat", n, graph.ints(2), h, graph.ints(-1), axis=0))
        x = graph.add("Transpose", x, perm=[0, 2, 1, 3])
        return graph.add("Reshape", x, graph.add("Concat", n, height, width, graph.ints(3), axis=0))
