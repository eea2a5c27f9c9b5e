"""A model file's bytes: is it ONNX and whole, and the same model with what it measures on a picture pinned.

A deploy machine has no `onnx` package, and none is needed: a protobuf message is a run of fields, and these few lines
read and write them. Encoding: https://protobuf.dev/programming-guides/encoding/. Field numbers:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from itertools import count

import numpy as np

from allaprima.core.contract import Card
from allaprima.core.errors import AllaprimaError

MOST_FIELDS = 2**19  # in a message, and in a file; a style has some thousands, and each takes microseconds
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's wire types
IR_VERSION, GRAPH, METADATA = 1, 7, 14  # fields of ModelProto; of an entry of the metadata, key = 1 and value = 2
NODE, INITIALIZER, INPUT, OUTPUT = 1, 5, 11, 12  # of GraphProto
NODE_INPUT, NODE_OUTPUT, OP_TYPE = 1, 2, 4  # of NodeProto
FLOAT = 1  # TensorProto.DataType
NORMALIZATION, GLOBAL_POOL = "InstanceNormalization", "GlobalAveragePool"
WHOLE_PICTURE = {NORMALIZATION, GLOBAL_POOL}  # the nodes that look at all of it


def check_model_file(data: bytes, path) -> None:
    """Raise AllaprimaError, with the reason, when `data`, read from `path`, is not one whole ONNX file."""
    if not data:
        raise AllaprimaError(f"{path} is empty: copy or export the model file again.")
    known = set()
    try:
        for number, kind, *_ in fields(data):
            known.add((number, kind))
    except ValueError:
        if (IR_VERSION, VARINT) in known:
            raise AllaprimaError(f"{path} is cut short or damaged: copy or export the model file again.") from None
    if (IR_VERSION, VARINT) not in known:
        raise AllaprimaError(f"{path} is not an ONNX file: give a model made by `allaprima train`.")
    if (GRAPH, BYTES) not in known:
        raise AllaprimaError(f"{path} is cut short or damaged: copy or export the model file again.")


def read_card(data: bytes, path) -> Card:
    """The card in the bytes of a model file, without a session of ONNX Runtime. path: for the messages.

    Raises AllaprimaError when it can't be read.
    """
    check_model_file(data, path)
    try:
        entries = [_entry(raw) for number, _, _, raw in fields(data) if number == METADATA]
    except (ValueError, KeyError):
        raise AllaprimaError(f"{path} is cut short or damaged: copy or export the model file again.") from None
    return Card.of_metadata(dict(entries), path)


def _entry(data) -> tuple[str, str]:
    """Key and value of an entry of the metadata."""
    texts = {number: bytes(text).decode() for number, _, _, text in fields(data)}
    return texts[1], texts.get(2, "")


def for_browsers(model: bytes) -> bytes:
    """The same ONNX model without what only `compare` and `inspect` need of the painting: a fifth of a style's bytes."""
    left_out = ("painting", "grams")
    return b"".join(
        raw for number, _, raw, body in fields(model) if number != METADATA or _entry(body)[0] not in left_out
    )


def pin_statistics(model: bytes, statistics) -> bytes:
    """The same ONNX model with everything that it measures on a whole picture given as numbers.

    statistics: a list of (mean [C], variance [C]), one for each InstanceNormalization and GlobalAveragePool (whose
    variance is not used) in the order of the graph. A normalization becomes the BatchNormalization that has these numbers
    as constants, a pooling becomes its mean. What becomes of a pixel then depends on its neighbourhood alone, and no
    longer on the whole picture. (ONNX Runtime folds most of it into the convolutions.)
    """

    numbers = count()

    def pin(op, node):
        if op not in WHOLE_PICTURE:
            return None
        k = next(numbers)
        mean, variance = statistics[k]
        if op == GLOBAL_POOL:
            return b"", _constant(_texts(node, NODE_OUTPUT)[0], mean, (1, -1, 1, 1))
        inputs = [raw for number, _, raw, _ in node if number == NODE_INPUT]
        inputs += [_field(NODE_INPUT, f"pinned_mean.{k}"), _field(NODE_INPUT, f"pinned_variance.{k}")]
        rest = [raw for number, _, raw, _ in node if number not in (NODE_INPUT, OP_TYPE)]  # epsilon is the same
        return (
            _field(NODE, b"".join([*inputs, *rest, _field(OP_TYPE, "BatchNormalization")])),
            _constant(f"pinned_mean.{k}", mean) + _constant(f"pinned_variance.{k}", variance),
        )

    return _rewrite(model, pin)


def measure_statistics(model: bytes) -> bytes:
    """The same ONNX model with two more outputs for the k-th InstanceNormalization or GlobalAveragePool of the graph.

    They are `mean.k` and `variance.k`, [N, C, 1, 1] float: those of the node's input.
    """

    numbers = count()

    def measure(op, node):
        if op not in WHOLE_PICTURE:
            return None
        k = next(numbers)
        x = _texts(node, NODE_INPUT)[0]
        nodes = [
            _whole(node),
            _node("GlobalAveragePool", [x], f"mean.{k}"),
            _node("Sub", [x, f"mean.{k}"], f"centred.{k}"),  # before squaring: float32 is enough then
            _node("Mul", [f"centred.{k}", f"centred.{k}"], f"squared.{k}"),
            _node("GlobalAveragePool", [f"squared.{k}"], f"variance.{k}"),
        ]
        return b"".join(nodes), _float_value(OUTPUT, f"mean.{k}") + _float_value(OUTPUT, f"variance.{k}")

    return _rewrite(model, measure)


def grain_of(model: bytes) -> tuple[str, str] | None:
    """The names of what an ONNX model has for its grain and for the noise that this repeats; None where it has none.

    The grain, float [1, 1, h, w], is what a Tile repeats of a Slice of the noise, float [1, 1, GRID, GRID] (`Grain` in
    models/blocks.py).
    """
    made, found = {}, []  # the inputs of the nodes by their output

    def look(op, node):
        inputs, outputs = _texts(node, NODE_INPUT), _texts(node, NODE_OUTPUT)
        if op == "Tile" and (part := made.get(inputs[0])):
            found.append((outputs[0], part[0]))
        made.update(dict.fromkeys(outputs, inputs))

    _rewrite(model, look)
    return found[0] if len(found) == 1 else None


def open_grain(model: bytes, grain: str) -> bytes:
    """The same ONNX model with `grain` as an input, at least as large as the pictures with the network's margins."""

    def leave_out(op, _):
        return (b"", _float_value(INPUT, grain)) if op == "Tile" else None

    return _rewrite(model, leave_out)


def show_value(model: bytes, name: str) -> bytes:
    """The same ONNX model with another output, a float value of its graph."""
    numbers = count()
    return _rewrite(model, lambda op, node: None if next(numbers) else (_whole(node), _float_value(OUTPUT, name)))


def _rewrite(model, rewrite):
    """Replace each node of the graph by what `rewrite(op, its fields)` says: (nodes, further fields), or None to keep it."""
    parts = []
    for number, kind, raw, body in fields(model):
        if (number, kind) == (GRAPH, BYTES):
            graph, further = [], []
            for part, _, field, node in fields(body):
                node = list(fields(node)) if part == NODE else []
                op = _texts(node, OP_TYPE)
                if op and (new := rewrite(op[0], node)):
                    field, more = new
                    further.append(more)
                graph.append(field)
            raw = _field(GRAPH, b"".join(graph + further))
        parts.append(raw)
    return b"".join(parts)


def _texts(given, wanted):
    return [bytes(value).decode() for number, _, _, value in given if number == wanted]


def _whole(node):
    return _field(NODE, b"".join(raw for _, _, raw, _ in node))


def _node(op, inputs, output):
    names = [_field(NODE_INPUT, name) for name in inputs] + [_field(NODE_OUTPUT, output)]
    return _field(NODE, b"".join([*names, _field(OP_TYPE, op)]))


def _constant(name, values, shape=(-1,)):
    """GraphProto.initializer: dims = 1, data_type = 2, name = 8, raw_data = 9."""
    values = np.asarray(values, "<f4").reshape(shape)
    dims = b"".join(_number(1, size) for size in values.shape)
    return _field(INITIALIZER, dims + _number(2, FLOAT) + _field(8, name) + _field(9, values.tobytes()))


def _float_value(number, name):
    """GraphProto.input or output of four sides: name = 1, type = 2 (tensor_type = 1 (elem_type = 1, shape = 2 (dim = 1))).

    Without the number of sides, ONNX Runtime would have less of the network in its blocked layout.
    """
    shape = _field(2, _field(1, b"") * 4)
    return _field(number, _field(1, name) + _field(2, _field(1, _number(1, FLOAT) + shape)))


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(number, value):
    return _varint(number << 3 | VARINT) + _varint(value)


def _field(number, payload):
    payload = payload.encode() if isinstance(payload, str) else payload
    return _varint(number << 3 | BYTES) + _varint(len(payload)) + payload


def read_varint(data, at):
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("not protobuf")


def fields(data):
    """Yield (number, wire type, the whole field, its payload) of a message; ValueError where it isn't one."""
    data, at, read = memoryview(data), 0, 0
    while at < len(data):
        start, read = at, read + 1
        key, at = read_varint(data, at)
        number, kind = key >> 3, key & 7
        body = at
        if kind == VARINT:
            _, at = read_varint(data, at)
        elif kind == BYTES:
            size, body = read_varint(data, at)
            at = body + size
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError("not protobuf")
        if at > len(data) or not 0 < number < 2**29 or read > MOST_FIELDS:
            raise ValueError("not protobuf")
        yield number, kind, data[start:at], data[body:at]
