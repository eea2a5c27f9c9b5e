"""What a model file from a stranger may hold, checked before ONNX Runtime opens it.

ONNX Runtime trusts a file: it reads other files that the model names, calculates what a Loop says for as long as it says,
and takes the memory for any size that is written down. So only the operators of image networks are let through
(`OPERATORS`, and If), only with all numbers inside the file, and only where memory and work have a bound. Field numbers:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. What readers of protobuf may take in two ways is refused.
"""

import math
from pathlib import Path

import numpy as np

from allaprima.core.errors import AllaprimaError, explain_os_error
from allaprima.infer.modelfile import (
    BYTES,
    FIXED32,
    MOST_FIELDS,
    VARINT,
    check_model_file,
    fields,
    read_varint,
)
from allaprima.infer.operators import FOLLOWED, OPERATORS, TYPES, Node, Refused, Value, is_whole
from allaprima.infer.shapes import Graph, follow

LARGEST = 256 * 2**20  # bytes of a model file; a style has one to seven million
MOST_NODES = 4096
DEEPEST = 4  # graphs in graphs, which an If has
# Elements that may be held at a time, and multiplications that may be done, for each pixel of the picture and besides.
MEMORY, MEMORY_BESIDES = 1024, 2**27
WORK, WORK_BESIDES = 4_000_000, 10**10
LARGEST_INPUT = 3 * 20 * 10**6  # numbers in a picture whose size the file fixes
USUAL = 64  # px: a side that is free, when a model is opened


def read_model(path: Path) -> bytes:
    """The bytes of a model file; AllaprimaError where it can't be read, or is larger than any style."""
    try:
        if path.stat().st_size > LARGEST:
            raise AllaprimaError(
                f"{path} has more than {LARGEST >> 20} MB, which no style needs: give a model made by `allaprima train`."
            )
        return path.read_bytes()
    except OSError as error:
        raise explain_os_error(error, path) from error


class ModelGraph:
    """The graph of a model file, known to be harmless.

    data: the file's bytes; path: for the messages. Raises AllaprimaError, with the reason, for what ONNX Runtime must not
    get.
    """

    def __init__(self, data: bytes, path):
        check_model_file(data, path)
        self._path, self._checked = path, set()
        try:
            self.graph = _Reader().model(data)
        except Refused as reason:
            raise self._refusal(reason) from reason
        except (ValueError, LookupError, TypeError) as error:
            raise AllaprimaError(f"{path} is cut short or damaged: copy or export the model file again.") from error
        shapes = {
            name: tuple((USUAL if axis else 1) if size is None else size for axis, size in enumerate(shape))
            for name, shape in self.graph.inputs.items()
            if shape is not None
        }
        if any(math.prod(shape) > LARGEST_INPUT for shape in shapes.values()):
            raise self._refusal("it wants a picture of more than 20 million pixels")
        self.check(shapes)

    def check(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raise AllaprimaError where inputs of these shapes would take more memory or work than a style may."""
        key = tuple(sorted(shapes.items()))
        if key in self._checked:
            return
        pixels = max((math.prod(shape) for shape in shapes.values()), default=0) // 3
        given = {name: Value(tuple(shape), _control(shape), name in self.graph.whole) for name, shape in shapes.items()}
        try:
            _, needs = follow(self.graph, given)
            if needs.elements > MEMORY * pixels + MEMORY_BESIDES:
                raise Refused(f"it would hold {needs.elements:.0e} numbers at a time for a picture of {pixels} pixels")
            if needs.work > WORK * pixels + WORK_BESIDES:
                raise Refused(f"it would take {needs.work:.0e} operations for a picture of {pixels} pixels")
        except Refused as reason:
            raise self._refusal(reason) from reason
        if len(self._checked) > 1000:
            self._checked.clear()
        self._checked.add(key)

    def _refusal(self, reason) -> AllaprimaError:
        return AllaprimaError(f"{self._path} is not run, since {reason}: give a model made by `allaprima train`.")


def _control(shape):
    """The value of an input that is a single number: a control, at 1. A size that follows from one is followed so far."""
    return np.ones(shape, np.float32) if math.prod(shape) == 1 else None


class Message(dict):
    """The fields of a protobuf message: (wire type, payload) by number, in lists."""

    def payload(self, number, kind):
        """The payload of a field that comes at most once, None when it does not come."""
        found = self.get(number, [])
        if len(found) > 1:
            raise Refused("it says one thing twice")
        if found and found[0][0] != kind:
            raise ValueError("damaged")
        return found[0][1] if found else None

    def parts(self, number) -> list:
        """The payloads of a field that may come often, each a message or a text."""
        if any(kind != BYTES for kind, _ in self.get(number, [])):
            raise ValueError("damaged")
        return [payload for _, payload in self.get(number, [])]

    def text(self, number) -> str:
        return bytes(self.payload(number, BYTES) or b"").decode()

    def integer(self, number, default=0) -> int:
        payload = self.payload(number, VARINT)
        return default if payload is None else _varints(payload)[0]

    def integers(self, number) -> list[int]:
        """Whole numbers, one a field or many in one."""
        return [n for kind, payload in self.get(number, []) if kind in (VARINT, BYTES) for n in _varints(payload)]

    def floats(self, number) -> np.ndarray:
        return np.frombuffer(b"".join(p for kind, p in self.get(number, []) if kind in (FIXED32, BYTES)), "<f4")


def _varints(payload) -> list[int]:
    numbers, at = [], 0
    while at < len(payload):
        number, at = read_varint(payload, at)
        if number >= 2**64:
            raise ValueError("damaged")
        numbers.append(number - (2**64 if number >= 2**63 else 0))
    return numbers


class _Reader:
    """Reads a model's graph. Its methods raise Refused, with the reason, for what a style does not have."""

    def __init__(self):
        self._fields, self._nodes = MOST_FIELDS, MOST_NODES

    def model(self, data) -> Graph:
        if data[4:8] == b"ORTM":  # ONNX Runtime would take it for a file of its own format
            raise Refused("it is not ONNX alone")
        message = self._message(data)
        if message.parts(20) or message.parts(25):
            raise Refused("it has functions or a training in it")
        for part in message.parts(14):
            self._texts(self._message(part), 1, 2)
        self._texts(message, 2, 3, 4, 6)
        return self._graph(message.payload(7, BYTES), DEEPEST)

    def _texts(self, message, *numbers):
        """Texts that ONNX Runtime hands out: decoding raises a ValueError where one is none."""
        for number in numbers:
            message.text(number)

    def _message(self, data) -> Message:
        message = Message()
        for number, kind, _, payload in fields(data):
            self._fields -= 1
            if self._fields < 0:
                raise Refused("it has more parts than a style needs")
            message.setdefault(number, []).append((kind, payload))
        return message

    def _graph(self, data, deeper) -> Graph:
        if not deeper:
            raise Refused("its graphs lie too deep in each other")
        message, graph = self._message(data), Graph()
        self._texts(message, 2, 10)
        if message.parts(15):
            raise Refused("it has sparse tensors in it")
        for number in (11, 12, 13):  # inputs, outputs, and what is said of values between
            for part in message.parts(number):
                name, shape, whole = self._value(part)
                if number == 11:
                    graph.inputs[name] = shape
                    graph.whole |= {name} if whole else set()
                elif number == 12:
                    graph.outputs.append(name)
        for part in message.parts(5):
            name, value = self._tensor(part)
            graph.constants[name] = value
        graph.nodes = [self._node(part, deeper) for part in message.parts(1)]
        return graph

    def _value(self, data):
        """(name, shape or None, is it integers?) of what flows through the graph: a tensor, and nothing else."""
        message = self._message(data)
        name, kind = message.text(1), message.payload(2, BYTES)
        if kind is None:
            return name, None, True
        tensor = self._message(kind).payload(1, BYTES)
        if tensor is None:
            raise Refused("it works on other things than tensors")
        message = self._message(tensor)
        shape, whole = message.payload(2, BYTES), is_whole(TYPES.get(message.integer(1), "u1"))
        if shape is None:
            return name, None, whole
        sizes = []
        for part in self._message(shape).parts(1):
            dimension = self._message(part)
            self._texts(dimension, 2)
            sizes.append(dimension.integer(1) if 1 in dimension else None)
        return name, _checked_shape(sizes), whole

    def _tensor(self, data):
        """(name, Value) of a tensor whose numbers are all there."""
        message = self._message(data)
        shape, kind = tuple(_checked_shape(message.integers(1))), TYPES.get(message.integer(2))
        if message.parts(13) or message.integer(14):
            raise Refused("its numbers lie in another file")
        if kind is None or 3 in message or 6 in message:
            raise Refused("it has tensors of a kind that no style has")
        count, raw = math.prod(shape), message.payload(9, BYTES)
        if raw is not None:
            there, stored = len(raw) / np.dtype(kind).itemsize, lambda: np.frombuffer(raw, kind)
        elif 4 in message:
            floats = message.floats(4)
            there, stored = len(floats), lambda: floats
        elif 10 in message:
            there, stored = sum(len(payload) / 8 for _, payload in message[10]), lambda: None
        else:
            numbers = [n for number in (5, 7, 11) for n in self._counted(message.integers(number))]
            there, stored = len(numbers), lambda: None if kind == "<f2" else np.array(numbers).astype(kind)
        if there != count:
            raise Refused(f"it has a tensor of {count} numbers of which {there:g} are there")
        array = stored() if count <= FOLLOWED else None
        return message.text(8), Value(shape, None if array is None else array.reshape(shape), is_whole(kind))

    def _counted(self, numbers):
        self._fields -= len(numbers)
        if self._fields < 0:
            raise Refused("it has more parts than a style needs")
        return numbers

    def _node(self, data, deeper) -> Node:
        self._nodes -= 1
        if self._nodes < 0:
            raise Refused(f"it has more than {MOST_NODES} nodes")
        message = self._message(data)
        op, domain = message.text(4), message.text(7)
        if (op not in OPERATORS and op != "If") or domain not in ("", "ai.onnx"):
            name = ascii(f"{domain}.{op}".lstrip("."))[:60]
            raise Refused(f"it uses the operator {name}, which is not among those of styles")
        inputs, outputs = ([bytes(name).decode() for name in message.parts(number)] for number in (1, 2))
        attributes = dict(self._attribute(part, op, deeper) for part in message.parts(5))
        if op == "Constant":
            attributes = {"value": _constant(attributes)}
        return Node(op, inputs, outputs, attributes)

    def _attribute(self, data, op, deeper):
        message = self._message(data)
        name, kind = message.text(1), message.integer(20)
        number = {1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8}.get(kind)  # where a value of this kind is
        if number is None or message.keys() - {1, 13, 20, number} or (kind == 5 and op != "If"):
            raise Refused(f"its {op} has an attribute of a kind that no style has")
        match kind:
            case 1:
                value = float(np.frombuffer(message.payload(2, FIXED32) or bytes(4), "<f4")[0])
            case 2:
                value = message.integer(3)
            case 3:
                value = message.text(4)
            case 4:
                value = self._tensor(message.payload(5, BYTES) or b"")[1]
            case 5:
                value = self._graph(message.payload(6, BYTES) or b"", deeper - 1)
            case 6:
                value = message.floats(7).tolist()
            case _:
                value = self._counted(message.integers(8))
        return name, value


def _constant(attributes) -> Value:
    """The tensor of a Constant, whose value may be a plain number or a list of them."""
    (value,) = attributes.values()
    if isinstance(value, Value):
        return value
    array = np.array(value)
    if array.dtype.kind not in "if":
        raise Refused("its Constant is not a number")
    return Value(array.shape, array.astype("<f4") if array.dtype.kind == "f" else array, array.dtype.kind == "i")


def _checked_shape(sizes) -> list:
    if len(sizes) > 8 or any(size is not None and not 0 <= size < 2**31 for size in sizes):
        raise Refused("it has sizes that nothing can have")
    return sizes
