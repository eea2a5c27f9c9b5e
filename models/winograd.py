"""3x3 convolutions with a quarter of the multiplications, for a network whose weights stay as they are.

Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, CVPR 2016: F(4x4, 3x3). A picture is cut into tiles of
4x4 pixels. Each tile with its neighbours, a window of 6x6, is transformed, and so are the kernels; a convolution is then a
product of matrices at each of the 36 places of a window, and what comes out is transformed back. It is worth its trouble
where float32 is multiplied by a CPU: bfloat16, where the hardware has it, and GPUs are faster without.
"""

from functools import cached_property
from typing import cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable

TILE = 4
WINDOW = TILE + 2
TILES = 96  # worked on at a time, so that what they become stays in a core's cache
FEWEST = 16  # tiles below which it gains nothing: the transformed kernels are four times as large to read

# The three transforms of the paper, for the points 0, 1, -1, 2 and -2: of a window, a kernel and a product.
TO_WINDOW = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
TO_KERNEL = torch.tensor([[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
TO_TILE = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


class FrozenConv(nn.Conv2d):
    """A 3x3 convolution, padded by 1, whose weights need no gradient and do not change once it was used."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)
        self.requires_grad_(False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        height, width = input.shape[-2:]
        many = self.in_channels >= TILE and -(-height // TILE) * -(-width // TILE) >= FEWEST
        if many and input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32:
            return cast(torch.Tensor, _Convolution.apply(input, self))
        return super().forward(input)

    @cached_property
    def kernels(self) -> torch.Tensor:
        return transformed(self.weight)

    @cached_property
    def kernels_back(self) -> torch.Tensor:
        """Those by which a gradient goes back."""
        return transformed(self.weight.flip(2, 3).transpose(0, 1))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, conv):
        ctx.conv = conv
        return convolve(x, conv.kernels, conv.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        return convolve(grads[0], ctx.conv.kernels_back), None


def transformed(weight: torch.Tensor) -> torch.Tensor:
    """Kernels [outputs, inputs, 3, 3], float32, as matrices [36, inputs, outputs], one for each place of a window, column by column."""
    outputs, inputs = weight.shape[:2]
    kernels = torch.kron(TO_KERNEL, TO_KERNEL) @ weight.permute(3, 2, 1, 0).reshape(9, -1)
    return kernels.view(WINDOW**2, inputs, outputs)


def convolve(x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Pictures [N, inputs, H, W], float32, with zeros around them, times `transformed` kernels, plus bias [outputs].

    Returns [N, outputs, H, W], channels_last; 1e-5 of its largest value from the exact one.
    """
    count, _, height, width = x.shape
    down, across = -(-height // TILE), -(-width // TILE)
    x = _padded(x.permute(0, 2, 3, 1), TILE * down - height, TILE * across - width)
    shape = count, kernels.shape[2], TILE * down, TILE * across
    whole = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    tiled = whole.permute(0, 2, 3, 1).unflatten(1, (down, TILE))
    pictures, rows = max(1, TILES // (down * across)), max(1, TILES // across)  # at a time, and rows of tiles in each
    for first in range(0, count, pictures):
        for row in range(0, down, rows):
            piece = tiled[first : first + pictures, row : row + rows]
            torch.add(_piece(x[first:, TILE * row :], len(piece), piece.shape[1], kernels), bias, out=piece)
    if shape[2:] == (height, width):
        return whole
    return whole[..., :height, :width].clone(memory_format=torch.channels_last)  # not a view, for what is done in place


def _padded(x, below, right):
    """Pictures [N, H, W, C] with a zero on each side, and so many more; in half the time of one that fills all with zeros first."""
    count, height, width, channels = x.shape
    padded = x.new_empty(count, height + 2 + below, width + 2 + right, channels)
    padded[:, 1 : height + 1, 1 : width + 1] = x
    for rim in padded[:, :1], padded[:, height + 1 :], padded[:, :, :1], padded[:, :, width + 1 :]:
        rim.zero_()
    return padded


def _piece(x, count, rows, kernels):
    """The first rows of tiles of the first `count` padded pictures [_, _, W, inputs]: [count, rows, TILE, W - 2, outputs]."""
    width, inputs = x.shape[2:]
    line, across = width * inputs, (width - 2) // TILE
    # windows overlap: first the lines of each row of them are copied and transformed, then the columns of each window
    lines = x.as_strided((WINDOW, count, rows, line), (line, x.stride(0), TILE * line, 1))
    lines = TO_WINDOW @ lines.reshape(WINDOW, -1)
    shape = WINDOW, WINDOW, count * rows, across, inputs
    columns = lines.as_strided(shape, (inputs, lines.stride(0), line, TILE * inputs, 1))
    windows = TO_WINDOW @ columns.reshape(WINDOW, -1)
    tiles = torch.bmm(windows.view(WINDOW**2, -1, inputs), kernels)
    columns = (TO_TILE @ tiles.view(WINDOW, -1)).view(TILE, WINDOW, count * rows, across, -1)
    lines = TO_TILE @ columns.permute(1, 2, 3, 0, 4).reshape(WINDOW, -1)
    return lines.view(TILE, count, rows, TILE * across, -1).permute(1, 2, 0, 3, 4)
