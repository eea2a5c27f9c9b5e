"""An ONNX graph under construction: values flow through it as tensors flow through torch."""

from dataclasses import dataclass

import numpy as np
import torch
from onnx import TensorProto, defs, helper, numpy_helper

OPSET = 17  # old enough for ONNX Runtime 1.13 and its web build


class Graph:
    """An ONNX graph under construction: nodes and constants, with a fresh name for every value.

    prefix: of all names, to tell those of a branch from those of the graph around it.
    """

    def __init__(self, prefix=""):
        self.prefix, self.nodes, self.constants, self._count, self._known = prefix, [], [], 0, {}

    def fresh(self, hint: str) -> str:
        self._count += 1
        return f"{self.prefix}{hint.lower()}_{self._count}"

    def value(self, name: str) -> "Value":
        """A value that is there already, an input say."""
        return Value(self, name)

    def constant(self, value, dtype: type = np.float32) -> "Value":
        """A constant; equal small ones are stored once."""
        value = value.detach().float().cpu().numpy() if isinstance(value, torch.Tensor) else value
        array = np.ascontiguousarray(np.asarray(value, dtype))
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 16 else None
        if key in self._known:
            return self._known[key]
        constant = Value(self, self.fresh("constant"))
        self.constants.append(numpy_helper.from_array(array, constant.name))
        if key:
            self._known[key] = constant
        return constant

    def ints(self, *values: int) -> "Value":
        return self.constant(values, np.int64)

    def add(self, kind: str, *inputs: "Value | None", **attributes) -> "Value":
        """Append a node of one output, with every attribute written out: not all runtimes fill in the defaults."""
        names = [x.name if x else "" for x in inputs]
        output = Value(self, self.fresh(kind))
        self.nodes.append(helper.make_node(kind, names, [output.name], **(_defaults(kind) | attributes)))
        return output


def _defaults(kind):
    """Those of an operator's attributes that have one."""
    attributes = defs.get_schema(kind, OPSET).attributes.items()
    return {name: helper.get_attribute_value(a.default_value) for name, a in attributes if a.default_value.type}


@dataclass(frozen=True)
class Value:
    """What flows through a graph, as a tensor flows through torch: parts take either."""

    graph: Graph
    name: str

    def op(self, kind: str, *others: "Value | None", **attributes) -> "Value":
        """What a node of that kind makes of it, and of `others`."""
        return self.graph.add(kind, self, *others, **attributes)

    def cast(self, dtype=TensorProto.FLOAT) -> "Value":
        return self.op("Cast", to=dtype)

    def slice(self, start: list[int], end: "list[int] | Value", axes: list[int]) -> "Value":
        end = end if isinstance(end, Value) else self.graph.ints(*end)
        return self.op("Slice", self.graph.ints(*start), end, self.graph.ints(*axes))

    def __add__(self, other):
        return self.op("Add", self._like(other))

    def __sub__(self, other):
        return self.op("Sub", self._like(other))

    def __mul__(self, other):
        return self.op("Mul", self._like(other))

    def _like(self, other):
        """A number is a float constant."""
        return other if isinstance(other, Value) else self.graph.constant(other)
