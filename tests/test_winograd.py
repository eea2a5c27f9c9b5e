"""Winograd's convolution against a plain one in float64: values, gradients, and where it is used."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from allaprima.models import winograd
from allaprima.models.winograd import FrozenConv, convolve, transformed

ROUNDING = 3e-5  # of the largest value


def close(found, exact):
    assert found.shape == exact.shape
    assert (found - exact).abs().max() <= ROUNDING * exact.abs().max()


def layer(inputs, outputs):
    torch.manual_seed(0)
    return FrozenConv(inputs, outputs).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@settings(max_examples=60)
@given(
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 45), st.integers(1, 45), st.integers(1, 40)
)
def test_it_is_a_convolution(count, inputs, outputs, height, width, tiles):
    """Any size, and any number of tiles at a time: less than a row of them, some rows, or several pictures."""
    random = torch.Generator().manual_seed(height * width)
    x, weight, bias = (
        torch.randn(shape, generator=random)
        for shape in ((count, inputs, height, width), (outputs, inputs, 3, 3), [outputs])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "TILES", tiles)
        found = convolve(x, transformed(weight), bias)
    close(found, F.conv2d(x.double(), weight.double(), bias.double(), padding=1))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(16, 16), (23, 38), (23, 16), (16, 23)])
def test_its_gradient_is_that_of_a_convolution(size):
    conv, x = layer(8, 12), torch.randn(2, 8, *size, requires_grad=True)
    painted = conv(x)
    assert "_Convolution" in painted.grad_fn.name()
    direction = torch.randn_like(painted)
    (found,) = torch.autograd.grad(F.relu(painted, inplace=True), x, direction)
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    close(found, torch.autograd.grad(F.relu(exact), x, direction.double())[0])


@pytest.mark.parametrize(
    "inputs, size, dtype", [(3, 32, torch.float32), (8, 12, torch.float32), (8, 32, torch.float64)]
)
def test_colours_few_tiles_and_other_types_go_the_plain_way(inputs, size, dtype):
    conv, x = layer(inputs, 4).to(dtype), torch.randn(1, inputs, size, size, dtype=dtype)
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1))
    assert "kernels" not in vars(conv)
