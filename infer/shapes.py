"""How large everything in a graph becomes for a picture of a given size, worked out without running it."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from allaprima.infer.operators import EVALUATED, FOLLOWED, MOST, OPERATORS, Node, Refused, Value, makes_integers


@dataclass
class Graph:
    """inputs: the shapes, None where a size, or all of it, is free; whole: those of integers. constants: by name."""

    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, list[int | None] | None] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    outputs: list[str] = field(default_factory=list)
    constants: dict[str, Value] = field(default_factory=dict)


class Needs(NamedTuple):
    """elements: the most that are held at one time. work: multiplications, additions, and whatever an element costs."""

    elements: int
    work: int


def follow(graph: Graph, outer: dict[str, Value]) -> tuple[list[Value], Needs]:
    """The outputs of a graph and what it needs, for its inputs, or what is `outer` of a branch.

    Raises Refused, with the reason, where that can't be told.
    """
    values = dict(outer) | graph.constants
    last = {name: k for k, node in enumerate(graph.nodes) for name in _used(node)}
    kept = set(graph.outputs)
    held = sum(math.prod(value.shape) for value in graph.constants.values())
    most, work = held, 0
    for k, node in enumerate(graph.nodes):
        if any(name and name not in values for name in node.inputs):
            raise Refused(f"its {node.op} takes something that is not there")
        given = [values[name] if name else None for name in node.inputs]
        try:
            results, inside = _branches(node, values) if node.op == "If" else _apply(node, given)
        except Refused:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise Refused(f"its {node.op} does not fit what it gets") from error
        held += sum(math.prod(value.shape) for value in results)
        most, work = max(most, held + inside.elements), work + inside.work
        for name, value in zip(node.outputs, results):
            values[name] = value
        for name in {*_used(node), *node.outputs} - kept:
            if last.get(name, -1) <= k and name in values and name not in outer:
                held -= math.prod(values.pop(name).shape)
    if not kept <= values.keys():
        raise Refused("one of its outputs is not there")
    return [values[name] for name in graph.outputs], Needs(most, work)


def _used(node) -> list[str]:
    """The names that a node takes from the graph, those in its branches too."""
    inner = [one for graph in node.attributes.values() if isinstance(graph, Graph) for one in graph.nodes]
    ends = [name for graph in node.attributes.values() if isinstance(graph, Graph) for name in graph.outputs]
    return [*node.inputs, *ends, *(name for one in inner for name in _used(one))]


def _branches(node, values):
    """Either branch may be taken: the larger one counts."""
    ways = [follow(node.attributes[name], values) for name in ("then_branch", "else_branch")]
    (results, needs), (others, other_needs) = ways
    if len(results) != len(others) or len(results) != len(node.outputs):
        raise Refused("the branches of its If have different outputs")
    larger = [max(pair, key=lambda value: math.prod(value.shape)) for pair in zip(results, others)]
    return [Value(value.shape, None, value.whole) for value in larger], Needs(*map(max, zip(needs, other_needs)))


def _apply(node, given):
    """The outputs of a node, and its Needs apart from them."""
    shapes = OPERATORS[node.op](node, *given)
    shapes = shapes if isinstance(shapes, list) else [shapes]
    if len(node.outputs) > len(shapes):
        raise Refused(f"its {node.op} has {len(node.outputs)} outputs")
    for shape in shapes:
        if len(shape) > 16 or min(shape, default=0) < 0 or math.prod(shape) > MOST:
            raise Refused(f"its {node.op} would make something of the size {'x'.join(map(str, shape[:16]))}")
    whole = makes_integers(node, given)
    if node.op == "Div" and whole and (given[1].array is None or -1 in given[1].array):
        raise Refused("it divides integers by what may be -1")  # the least of them by that ends the process
    results = [Value(tuple(shape), None, whole) for shape in shapes[: len(node.outputs)]]
    work = sum(math.prod(value.shape) for value in (*results, *filter(None, given)))
    if node.op in ("Conv", "ConvTranspose"):
        spread = results[0] if node.op == "Conv" else given[0]
        work += math.prod(spread.shape) * math.prod(given[1].shape[1:])
    elif node.op in ("AveragePool", "MaxPool"):
        work += math.prod(results[0].shape) * math.prod(node.integers("kernel_shape", []))
    known = all(value is None or value.array is not None for value in given)
    if node.op == "Shape":
        start, end = node.integer("start", 0), node.attributes.get("end")
        results = [Value(results[0].shape, np.array(given[0].shape[start:end], np.int64), True)]
    elif node.op in EVALUATED and known and math.prod(results[0].shape) <= FOLLOWED:
        with np.errstate(all="ignore"):
            array = np.asarray(EVALUATED[node.op](node, *given))
        results = [Value(array.shape, array, whole)]
    return results, Needs(0, work)
