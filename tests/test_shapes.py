"""The shapes that `infer/shapes.py` works out for each operator, against those that ONNX Runtime comes to."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from allaprima.infer.modelcheck import ModelGraph
from allaprima.infer.operators import OPERATORS, Value
from allaprima.infer.shapes import follow

X = np.random.default_rng(0).uniform(0.5, 2, (1, 4, 6, 8)).astype(np.float32)
VECTOR = np.ones(4, np.float32)
WEIGHT = np.ones((5, 4, 3, 3), np.float32)


def ints(*values):
    return np.int64(values)


def floats(*values):
    return np.float32(values)


UNARY = (
    "Abs Ceil Clip Dropout Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu Log Neg Reciprocal Relu Round Selu "
    "Sigmoid Sign Softplus Sqrt Tanh"
)
BINARY = "Add Div Max Min Mul Pow Sub Sum"
COMPARING = "Equal Greater GreaterOrEqual Less LessOrEqual PRelu"
REDUCING = "ReduceMax ReduceMean ReduceMin ReduceProd"
# operator -> examples of it, each (its attributes, its inputs; the first flows, the others are constants; the opset)
EXAMPLES = {
    **{op: [({}, [X])] for op in UNARY.split()},
    **{op: [({}, [X, floats(2)]), ({}, [VECTOR[:, None], X[0, 0, :1]])] for op in BINARY.split()},
    **{op: [({}, [X, X[:, :1]])] for op in COMPARING.split()},
    **{op: [({}, [X > 1, X[:1, :, :1] > 1])] for op in ("And", "Or")},
    **{
        op: [({"axes": [1, -1]}, [X]), ({"keepdims": 0, "axes": [2]}, [X]), ({}, [X]), ({}, [X, ints(1)], 18)]
        for op in REDUCING.split()
    },
    "ReduceSum": [({"keepdims": 0}, [X, ints(2)]), ({"noop_with_empty_axes": 1}, [X]), ({}, [X])],
    "AveragePool": [
        ({"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}, [X]),
        ({"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 3]}, [X]),
    ],
    "MaxPool": [({"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]}, [X])],
    "BatchNormalization": [({}, [X, VECTOR, VECTOR, VECTOR, VECTOR])],
    "Cast": [({"to": TensorProto.INT32}, [X]), ({"to": TensorProto.INT64}, [floats(1.5, 2)])],
    "Concat": [({"axis": 1}, [X, X[:, :2]]), ({"axis": -1}, [ints(1, 2), ints(3)])],
    "Constant": [({"value": numpy_helper.from_array(X)}, []), ({"value_ints": [1, 2]}, []), ({"value_float": 2.0}, [])],
    "ConstantOfShape": [({}, [ints(2, 3)]), ({"value": numpy_helper.from_array(ints(7))}, [ints(2)])],
    "Conv": [
        ({"strides": [2, 1], "pads": [1, 0, 1, 2]}, [X, WEIGHT]),
        ({"group": 4, "dilations": [2, 2]}, [X, WEIGHT[:4, :1], VECTOR]),
        ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [X, WEIGHT]),
    ],
    "ConvTranspose": [
        ({"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, [X, WEIGHT.transpose(1, 0, 2, 3)]),
        ({"group": 2, "dilations": [2, 1]}, [X, WEIGHT[:4, :3]]),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [X, WEIGHT.transpose(1, 0, 2, 3)]),
    ],
    "DepthToSpace": [({"blocksize": 2}, [X])],
    "DequantizeLinear": [
        ({}, [np.uint8([[1, 2]]), np.float32(0.1), np.uint8(1)]),
        ({"axis": 1}, [np.int8([[1, 2]]), floats(1, 2)]),
    ],
    "Expand": [({}, [X, ints(3, 1, 1, 8)])],
    "Gather": [({"axis": 1}, [X, np.int64([[0, 1, 3]])]), ({}, [ints(5, 6, 7), np.int64(1)])],
    "GlobalAveragePool": [({}, [X])],
    "InstanceNormalization": [({}, [X, VECTOR, VECTOR])],
    "LayerNormalization": [({"axis": -1}, [X, np.ones(8, np.float32)])],
    "Mod": [({}, [ints(-7, 7), ints(4)])],
    "Not": [({}, [X > 1])],
    "Pad": [
        ({"mode": "reflect"}, [X, ints(0, 0, 1, 2, 0, 0, 3, 4)]),
        ({}, [X, ints(0, 0, -1, 0, 0, 0, 0, 1)]),
        ({}, [X, ints(1, 2, 3, 4), floats(0)[0], ints(2, -1)], 18),
    ],
    "QuantizeLinear": [({}, [X, np.float32(0.1), np.uint8(1)]), ({"axis": 1}, [X, VECTOR, np.int8([0, 1, 2, 3])])],
    "Range": [({}, [np.int64(1), np.int64(10), np.int64(4)])],
    "Reshape": [({}, [X, ints(0, -1, 2)]), ({}, [ints(1, 2, 3, 4), ints(2, 2)])],
    "Resize": [
        ({"mode": "nearest"}, [X, None, floats(1, 1, 2, 1.6)]),
        ({"mode": "linear"}, [X, None, None, ints(1, 4, 5, 3)]),
        ({"axes": [2, 3], "mode": "cubic"}, [X, None, floats(2, 0.5)], 18),
        ({"mode": "nearest"}, [X, floats(1, 1, 2, 1.6)], 10),
    ],
    "Shape": [({}, [X]), ({"start": 1, "end": -1}, [X])],
    "Slice": [
        ({}, [X, ints(1, -2), ints(-1, -(2**62)), ints(2, 3), ints(1, -1)]),
        ({}, [X, ints(1), ints(2**62), ints(1)]),
        ({}, [ints(5, 6, 7), ints(0), ints(2)]),
        ({"starts": [1], "ends": [3], "axes": [2]}, [X], 9),
    ],
    "SpaceToDepth": [({"blocksize": 2}, [X])],
    "Split": [({"axis": 2}, [X, ints(1, 5)]), ({"axis": 1}, [X])],
    "Squeeze": [({}, [X]), ({}, [X, ints(0)]), ({"axes": [0]}, [X], 11)],
    "Tile": [({}, [X, ints(2, 1, 1, 3)])],
    "Transpose": [({"perm": [0, 2, 3, 1]}, [X]), ({}, [X])],
    "Unsqueeze": [({}, [X, ints(0, -1)]), ({"axes": [1]}, [X], 11)],
    "Upsample": [
        ({"mode": "nearest"}, [X, floats(1, 1, 2, 3)], 9),
        ({"mode": "nearest", "scales": [1.0, 1, 2, 2]}, [X], 7),
    ],
    "Where": [({}, [X > 1, X[:, :, :1], floats(1)])],
}


def one_node(op, attributes, inputs, opset=17, flowing=True):
    """The bytes of a model of one node; its first input flows in, or is a constant as the others are."""
    names = [f"in{k}" if array is not None else "" for k, array in enumerate(inputs)]
    outputs = ["out", "more"] if op == "Split" else ["out"]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for a, n in zip(inputs, names) if n][
        flowing and bool(inputs) :
    ]
    fed = (
        [helper.make_tensor_value_info("in0", helper.np_dtype_to_tensor_dtype(inputs[0].dtype), inputs[0].shape)]
        if flowing and inputs
        else []
    )
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, **attributes)],
        "one",
        fed,
        [ValueInfoProto(name="out")],  # its type is what the operator makes
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


FROM_NUMBERS_ALONE = {"ConstantOfShape", "Range"}  # a size that would flow in is refused
CASES = [
    pytest.param(op, *[*example, 17][:3], flowing, id=f"{op} {k} {'flowing' if flowing else 'known'}")
    for op in EXAMPLES
    for k, example in enumerate(EXAMPLES[op])
    for flowing in (True, False)
    if not (flowing and op in FROM_NUMBERS_ALONE)
]


def test_every_operator_has_an_example():
    assert set(EXAMPLES) == set(OPERATORS)


@pytest.mark.parametrize("op, attributes, inputs, opset, flowing", CASES)
def test_an_operator_makes_what_onnx_runtime_makes_of_it(op, attributes, inputs, opset, flowing):
    model = one_node(op, attributes, inputs, opset, flowing)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options)
    feed = {value.name: inputs[0] for value in session.get_inputs()}
    (made,) = session.run(["out"], feed)
    (value,), needs = follow(ModelGraph(model, op).graph, {name: Value(array.shape) for name, array in feed.items()})
    assert value.shape == np.shape(made) and needs.elements >= np.size(made)
    if value.array is not None:
        assert value.array.dtype == made.dtype and np.allclose(value.array, made, atol=1e-6)
