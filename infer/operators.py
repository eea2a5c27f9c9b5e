"""What each operator of style networks makes of its inputs: a rule for its shape, and one for its numbers.

The numbers are followed where sizes are calculated in the graph: how far to pad, how often to repeat. A size that would
depend on the colours of the picture is refused. The operators: https://onnx.ai/onnx/operators/.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

FOLLOWED = 1024  # elements of a tensor whose numbers are followed
MOST = 2**40  # elements of a tensor, of which nothing larger is even thought of
TYPES = {  # NumPy's, by TensorProto.DataType
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4", 13: "<u8",
}  # fmt: skip


class Refused(ValueError):
    """Why a model is not run: the end of a sentence."""


class Value(NamedTuple):
    """What flows through the graph: its shape, what is in it where that is known and small, and whether it is integers."""

    shape: tuple[int, ...]
    array: np.ndarray | None = None
    whole: bool = False

    def numbers(self) -> list:
        """What is in it, for a size or a place. Raises Refused where that is not known."""
        if self.array is None:
            raise Refused("it has sizes that depend on the colours of the picture")
        return self.array.ravel().tolist()


@dataclass
class Node:
    """One node: `attributes` are numbers, texts, lists of numbers, arrays, and Graphs."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)

    def integer(self, name, default: int) -> int:
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise Refused(f"{name} of its {self.op} is not a whole number")
        return value

    def integers(self, name, default) -> Any:
        value = self.attributes.get(name, default)
        if value is not None and not (isinstance(value, list) and all(isinstance(one, int) for one in value)):
            raise Refused(f"{name} of its {self.op} is not a list of whole numbers")
        return value


def _same(node, x, *rest):
    return x.shape


def _broadcast(node, *values):
    return np.broadcast_shapes(*(value.shape for value in values))


def _windows(node, x, channels, kernel):
    """The shape after a convolution or a pooling with this kernel."""
    strides, dilations = (node.integers(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    pads, auto = node.integers("pads", [0] * 2 * len(kernel)), node.attributes.get("auto_pad", "NOTSET")
    sizes = x.shape[2:]
    if not len(sizes) == len(kernel) == len(strides) == len(dilations) == len(pads) / 2:
        raise TypeError
    if min([*strides, *dilations, *kernel]) < 1:
        raise Refused(f"its {node.op} has a step of less than 1")
    out = []
    for k, (size, length, stride, dilation) in enumerate(zip(sizes, kernel, strides, dilations)):
        pad = pads[k] + pads[k + len(kernel)]
        if auto.startswith("SAME"):
            out.append(-(-size // stride))
            continue
        whole = size + pad - dilation * (length - 1) - 1
        out.append((-(-whole // stride) if node.integer("ceil_mode", 0) else whole // stride) + 1)
    return (x.shape[0], channels, *out)


def _conv(node, x, weight, *rest):
    return _windows(node, x, weight.shape[0], list(weight.shape[2:]))


def _pool(node, x):
    return [_windows(node, x, x.shape[1], node.integers("kernel_shape", None))] * 2


def _conv_transpose(node, x, weight, *rest):
    kernel = weight.shape[2:]
    ones, zeros = [1] * len(kernel), [0] * len(kernel)
    strides, dilations = node.integers("strides", ones), node.integers("dilations", ones)
    pads, more = node.integers("pads", zeros * 2), node.integers("output_padding", zeros)
    channels = weight.shape[1] * node.integer("group", 1)
    if node.attributes.get("output_shape") or not len(x.shape) - 2 == len(kernel) == len(strides) == len(dilations):
        raise Refused("its ConvTranspose says its own size")
    same = node.attributes.get("auto_pad", "NOTSET").startswith("SAME")
    sizes = [
        x.shape[k + 2] * strides[k]
        if same
        else (x.shape[k + 2] - 1) * strides[k]
        + more[k]
        + (kernel[k] - 1) * dilations[k]
        + 1
        - pads[k]
        - pads[k + len(kernel)]
        for k in range(len(kernel))
    ]
    return (x.shape[0], channels, *sizes)


def _axes(node, x, given):
    """The axes of a node, which newer versions take as an input; None where neither says."""
    axes = given.numbers() if given else node.integers("axes", None)
    return axes and [int(axis) % len(x.shape) for axis in axes]


def _over(node, x, axes=None):
    """The axes that a reduction goes over: all, where it does not say."""
    over = _axes(node, x, axes)
    return tuple(over or ([] if node.integer("noop_with_empty_axes", 0) else range(len(x.shape))))


def _reduce(node, x, axes=None):
    over, keep = _over(node, x, axes), node.integer("keepdims", 1)
    return tuple(1 if k in over else size for k, size in enumerate(x.shape) if keep or k not in over)


def _unsqueeze(node, x, axes=None):
    axes = axes.numbers() if axes else node.integers("axes", None)
    rank, sizes = len(x.shape) + len(axes), iter(x.shape)
    axes = {int(axis) % rank for axis in axes}
    return tuple(1 if k in axes else next(sizes) for k in range(rank))


def _squeeze(node, x, axes=None):
    over = _axes(node, x, axes)
    return tuple(size for k, size in enumerate(x.shape) if (k not in over if over else size != 1))


def _reshape(node, x, shape):
    sizes = [x.shape[k] if size == 0 else int(size) for k, size in enumerate(shape.numbers())]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = math.prod(x.shape) // max(1, -math.prod(sizes))
    if math.prod(sizes) != math.prod(x.shape):
        raise TypeError
    return tuple(sizes)


def _transpose(node, x):
    return tuple(x.shape[k] for k in node.integers("perm", list(range(len(x.shape)))[::-1]))


def _concat(node, *values):
    axis = node.integer("axis", 0)
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    return tuple(shape)


def _split(node, x, given=None):
    axis = node.integer("axis", 0)
    sizes = given.numbers() if given else node.integers("split", None)
    if not sizes:
        count = len(node.outputs)
        part = -(-x.shape[axis] // count)
        sizes = [part] * (count - 1) + [x.shape[axis] - part * (count - 1)]
    shapes = [list(x.shape) for _ in sizes]
    for shape, size in zip(shapes, sizes):
        shape[axis] = int(size)
    return [tuple(shape) for shape in shapes]


def _cuts(node, rank, starts, ends, axes, steps):
    """The slices of a Slice, for each axis."""
    cuts = [slice(None)] * rank
    axes = axes if axes is not None else list(range(len(starts)))
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts)):
        start, end, axis, step = map(int, (start, end, axis, step))
        cuts[axis] = slice(start, end if step > 0 or end > -(2**31) + 1 else None, step)
    return tuple(cuts)


def _slice_cuts(node, x, *given):
    lists = [value.numbers() if value else None for value in given] if given else None
    lists = lists or [node.integers(name, None) for name in ("starts", "ends", "axes")]
    return _cuts(node, len(x.shape), *lists, *[None] * (4 - len(lists)))


def _slice(node, x, *given):
    return tuple(len(range(*cut.indices(size))) for cut, size in zip(_slice_cuts(node, x, *given), x.shape))


def _gather(node, x, places):
    axis = node.integer("axis", 0) % len(x.shape)
    return x.shape[:axis] + places.shape + x.shape[axis + 1 :]


def _pad(node, x, pads=None, value=None, axes=None):
    sides = pads.numbers() if pads else node.integers("pads", None) or node.integers("paddings", None)
    over = axes.numbers() if axes else range(len(x.shape))
    shape = list(x.shape)
    if len(sides) != 2 * len(over):
        raise TypeError
    for k, axis in enumerate(over):
        shape[int(axis)] += int(sides[k]) + int(sides[k + len(over)])
    return tuple(shape)


def _resize(node, x, *given):
    """Resize (whose scales were its second input in version 10) and Upsample."""
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused("its Resize keeps a ratio of its own")
    sizes = given[2].numbers() if len(given) > 2 and given[2] else None
    scales = given[1] if len(given) > 1 else given[0] if given else None
    scales = scales.numbers() if scales and not sizes else node.attributes.get("scales")
    axes = node.integers("axes", None) or list(range(len(x.shape)))
    shape = list(x.shape)
    for k, axis in enumerate(axes):
        shape[axis] = int(sizes[k]) if sizes else math.floor(shape[axis] * scales[k])
    return tuple(shape)


def _block(node, x):
    block = node.integer("blocksize", 0)
    n, channels, height, width = x.shape
    if node.op == "DepthToSpace":
        return (n, channels // block**2, height * block, width * block)
    return (n, channels * block**2, height // block, width // block)


def _filled(node, shape):
    return tuple(int(size) for size in shape.numbers())


def _range(node, start, limit, step):
    (start,), (limit,), (step,) = start.numbers(), limit.numbers(), step.numbers()
    return (max(0, math.ceil((limit - start) / step)),)


def _shape(node, x):
    return (len(x.shape[node.integer("start", 0) : node.attributes.get("end")]),)


_SAME = (
    "Abs BatchNormalization Cast Ceil Clip DequantizeLinear Dropout Elu Erf Exp Floor HardSigmoid HardSwish Identity "
    "InstanceNormalization LayerNormalization LeakyRelu Log Neg Not QuantizeLinear Reciprocal Relu Round Selu Sigmoid "
    "Sign Softplus Sqrt Tanh"
)
_BROADCAST = "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Or Pow PRelu Sub Sum Where"
_REDUCE = "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"
OPERATORS: dict[str, Callable] = {
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_BROADCAST.split(), _broadcast),
    **dict.fromkeys(_REDUCE.split(), _reduce),
    "AveragePool": _pool,
    "Concat": _concat,
    "Constant": lambda node: node.attributes["value"].shape,
    "ConstantOfShape": _filled,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _block,
    "Expand": lambda node, x, shape: np.broadcast_shapes(x.shape, _filled(node, shape)),
    "Gather": _gather,
    "GlobalAveragePool": lambda node, x: x.shape[:2] + (1,) * len(x.shape[2:]),
    "MaxPool": _pool,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "SpaceToDepth": _block,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda node, x, times: tuple(size * int(n) for size, n in zip(x.shape, times.numbers(), strict=True)),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}


def is_whole(kind: str) -> bool:
    """Is this type of NumPy's one of integers?"""
    return np.dtype(kind).kind in "iu"


def makes_integers(node: Node, given: list[Value | None]) -> bool:
    """Is what a node makes of `given` integers?"""
    if node.op == "Cast":
        return is_whole(TYPES[node.attributes["to"]])
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return node.op == "QuantizeLinear"
    if node.op in ("Constant", "ConstantOfShape"):
        return "value" in node.attributes and node.attributes["value"].whole
    source = given[1] if node.op == "Where" else given[0]
    return node.op == "Shape" or (source is not None and source.whole)


def _elementwise(function):
    return lambda node, *values: function(*(value.array for value in values))


def _divided(x, y):
    """ONNX divides whole numbers as C does, towards zero."""
    return np.trunc(x / y).astype(x.dtype) if x.dtype.kind in "iu" else x / y


def _filling(node):
    """What a ConstantOfShape repeats: zeros where it does not say."""
    return node.attributes["value"].array.ravel()[0] if "value" in node.attributes else np.float32(0)


# What sizes are calculated with, on the numbers themselves
EVALUATED: dict[str, Callable] = {
    "Add": _elementwise(np.add),
    "Cast": lambda node, x: x.array.astype(TYPES[node.attributes["to"]]),
    "Ceil": _elementwise(np.ceil),
    "Concat": lambda node, *values: np.concatenate([value.array for value in values], node.integer("axis", 0)),
    "Constant": lambda node: node.attributes["value"].array,
    "ConstantOfShape": lambda node, shape: np.full(_filled(node, shape), _filling(node)),
    "Div": _elementwise(_divided),
    "Equal": _elementwise(np.equal),
    "Floor": _elementwise(np.floor),
    "Gather": lambda node, x, places: np.take(x.array, places.array, node.integer("axis", 0)),
    "Identity": _elementwise(np.array),
    "Max": _elementwise(lambda *arrays: np.stack(np.broadcast_arrays(*arrays)).max(0)),
    "Min": _elementwise(lambda *arrays: np.stack(np.broadcast_arrays(*arrays)).min(0)),
    "Mod": _elementwise(np.mod),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "ReduceProd": lambda node, x, *axes: x.array.prod(_over(node, x, *axes), keepdims=node.integer("keepdims", 1)),
    "Reshape": lambda node, x, shape: x.array.reshape(_reshape(node, x, shape)),
    "Round": _elementwise(np.round),
    "Slice": lambda node, x, *given: x.array[_slice_cuts(node, x, *given)],
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": lambda node, x, *axes: x.array.reshape(_squeeze(node, x, *axes)),
    "Sub": _elementwise(np.subtract),
    "Transpose": lambda node, x: x.array.transpose(node.integers("perm", None)),
    "Unsqueeze": lambda node, x, *axes: x.array.reshape(_unsqueeze(node, x, *axes)),
    "Where": _elementwise(np.where),
}
