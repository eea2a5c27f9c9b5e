"""A model file's bytes: is it ONNX and whole, and the same model with its instance normalizations pinned.

A deploy machine has no `onnx` package, and none is needed: a protobuf message is a run of fields, and these few lines
read and write them. Encoding: https://protobuf.dev/programming-guides/encoding/. Field numbers:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import numpy as np

from allaprima.errors import AllaprimaError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's wire types
IR_VERSION, GRAPH = 1, 7  # fields of ModelProto
NODE, INITIALIZER, OUTPUT = 1, 5, 12  # of GraphProto
NODE_INPUT, NODE_OUTPUT, OP_TYPE = 1, 2, 4  # of NodeProto
FLOAT = 1  # TensorProto.DataType


def check_model_file(data: bytes, path) -> None:
    """Raise AllaprimaError, with the reason, when `data`, read from `path`, is not one whole ONNX file."""
    if not data:
        raise AllaprimaError(f"{path} is empty: copy or export the model file again.")
    known = set()
    try:
        for number, kind, *_ in _fields(data):
            known.add((number, kind))
    except ValueError:
        if (IR_VERSION, VARINT) in known:
            raise AllaprimaError(f"{path} is cut short or damaged: copy or export the model file again.") from None
    if (IR_VERSION, VARINT) not in known:
        raise AllaprimaError(f"{path} is not an ONNX file: give a model made by `allaprima train`.")
    if (GRAPH, BYTES) not in known:
        raise AllaprimaError(f"{path} is cut short or damaged: copy or export the model file again.")


def pin_normalization(model: bytes, statistics) -> bytes:
    """The same ONNX model with every instance normalization done by given numbers.

    statistics: a list of (mean [C], variance [C]), one for each InstanceNormalization in the order of the graph; it
    becomes the BatchNormalization that has these numbers as constants. What becomes of a pixel then depends on its
    neighbourhood alone, and no longer on the whole picture. (ONNX Runtime folds most of it into the convolutions.)
    """
    def pin(node, k):
        inputs = [raw for number, _, raw, _ in node if number == NODE_INPUT]
        inputs += [_field(NODE_INPUT, f"pinned_mean.{k}"), _field(NODE_INPUT, f"pinned_variance.{k}")]
        rest = [raw for number, _, raw, _ in node if number not in (NODE_INPUT, OP_TYPE)]  # epsilon is the same
        mean, variance = statistics[k]
        return (_field(NODE, b"".join([*inputs, *rest, _field(OP_TYPE, "BatchNormalization")])),
                _constant(f"pinned_mean.{k}", mean) + _constant(f"pinned_variance.{k}", variance))

    return _rewrite_normalization(model, pin)


def measure_normalization(model: bytes) -> bytes:
    """The same ONNX model with two more outputs for the k-th InstanceNormalization of the graph.

    They are `mean.k` and `variance.k`, [N, C, 1, 1] float: those of the normalization's input.
    """
    def measure(node, k):
        x = next(bytes(value).decode() for number, _, _, value in node if number == NODE_INPUT)
        nodes = [
            _field(NODE, b"".join(raw for _, _, raw, _ in node)),
            _node("GlobalAveragePool", [x], f"mean.{k}"),
            _node("Sub", [x, f"mean.{k}"], f"centred.{k}"),  # before squaring: float32 is enough then
            _node("Mul", [f"centred.{k}", f"centred.{k}"], f"squared.{k}"),
            _node("GlobalAveragePool", [f"squared.{k}"], f"variance.{k}"),
        ]
        return b"".join(nodes), _float_output(f"mean.{k}") + _float_output(f"variance.{k}")

    return _rewrite_normalization(model, measure)


def _rewrite_normalization(model, rewrite):
    """Replace the k-th InstanceNormalization by `rewrite(its fields, k)` -> (nodes, further fields of the graph)."""
    parts = []
    for number, kind, raw, body in _fields(model):
        if (number, kind) == (GRAPH, BYTES):
            graph, further, k = [], [], 0
            for part, _, field, node in _fields(body):
                if part == NODE and _is_normalization(node):
                    field, more = rewrite(list(_fields(node)), k)
                    further.append(more)
                    k += 1
                graph.append(field)
            raw = _field(GRAPH, b"".join(graph + further))
        parts.append(raw)
    return b"".join(parts)


def _is_normalization(node):
    return any(number == OP_TYPE and value == b"InstanceNormalization" for number, _, _, value in _fields(node))


def _node(op, inputs, output):
    names = [_field(NODE_INPUT, name) for name in inputs] + [_field(NODE_OUTPUT, output)]
    return _field(NODE, b"".join([*names, _field(OP_TYPE, op)]))


def _constant(name, values):
    """GraphProto.initializer: dims = 1, data_type = 2, name = 8, raw_data = 9."""
    return _field(INITIALIZER, _number(1, len(values)) + _number(2, FLOAT) + _field(8, name)
                  + _field(9, np.asarray(values, "<f4").tobytes()))


def _float_output(name):
    """GraphProto.output: name = 1, type = 2 (tensor_type = 1 (elem_type = 1))."""
    return _field(OUTPUT, _field(1, name) + _field(2, _field(1, _number(1, FLOAT))))


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


def _read_varint(data, at):
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("not protobuf")


def _fields(data):
    """Yield (number, wire type, the whole field, its payload) of a message; ValueError where it isn't one."""
    data, at = memoryview(data), 0
    while at < len(data):
        start = at
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        body = at
        if kind == VARINT:
            _, at = _read_varint(data, at)
        elif kind == BYTES:
            size, body = _read_varint(data, at)
            at = body + size
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError("not protobuf")
        if at > len(data) or number == 0:
            raise ValueError("not protobuf")
        yield number, kind, data[start:at], data[body:at]
