"""Model files from a stranger: what ONNX Runtime would do for them is refused before it gets them, in one sentence."""

import base64
import json
import tracemalloc
import zlib

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from allaprima.core.contract import Card
from allaprima.core.errors import AllaprimaError
from allaprima.infer import modelcheck
from allaprima.infer.modelcheck import ModelGraph
from allaprima.infer.stylizer import Stylizer
from conftest import PACKAGE, ROOT, make_model

node, array = helper.make_node, numpy_helper.from_array


def contract(nodes, constants=(), inputs=(), opset=17):
    """A model of ours: `nodes` make float `painted` [N, H, W, 3] of float `photo`."""
    nodes = [
        node("Cast", ["image"], ["photo"], to=TensorProto.FLOAT),
        *nodes,
        node("Cast", ["painted"], ["stylized"], to=TensorProto.UINT8),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
    result = helper.make_tensor_value_info("stylized", TensorProto.UINT8, ["N", "H", "W", 3])
    graph = helper.make_graph(nodes, "crafted", [image, *inputs], [result], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def ints(name, *values):
    return array(np.int64(values), name)


def elsewhere():
    """A weight whose numbers lie in a file outside the model's folder."""
    model = contract([node("Add", ["photo", "secret"], ["painted"])], [array(np.ones(3, np.float32), "secret")])
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../etc/passwd"), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    return model


def claimed(*sizes):
    """A weight that is said to have these sizes, with the numbers of three."""
    model = contract([node("Add", ["photo", "w"], ["painted"])], [array(np.ones(3, np.float32), "w")])
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(sizes)
    return model


def loop():
    """A Loop that goes on for 2^62 turns."""
    count = [
        node("Identity", ["more"], ["more_out"]),
        node("Add", ["x", "x"], ["x_out"]),
    ]
    value, flag = helper.make_tensor_value_info, TensorProto.BOOL
    body = helper.make_graph(
        count,
        "body",
        [value("turn", TensorProto.INT64, []), value("more", flag, []), value("x", TensorProto.FLOAT, None)],
        [value("more_out", flag, []), value("x_out", TensorProto.FLOAT, None)],
    )
    turns = [array(np.int64(2**62), "turns"), array(np.array(True), "go")]
    return contract([node("Loop", ["turns", "go", "photo"], ["painted"], body=body)], turns)


def nested(depth):
    """If in If in If."""

    def branch(nodes, name):
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    inner = node("Identity", ["photo"], ["at0"])
    for level in range(depth):
        ways = {
            "then_branch": branch([inner], f"at{level}"),
            "else_branch": branch([node("Identity", ["photo"], ["other"])], "other"),
        }
        inner = node("If", ["yes"], [f"at{level + 1}"], **ways)
    return contract([inner, node("Identity", [f"at{depth}"], ["painted"])], [array(np.array(True), "yes")])


def function():
    model = contract([node("Mine", ["photo"], ["painted"], domain="mine")])
    model.opset_import.append(helper.make_opsetid("mine", 1))
    steps = [node("Relu", ["x"], ["y"])]
    model.functions.append(helper.make_function("mine", "Mine", ["x"], ["y"], steps, model.opset_import[:1]))
    return model


def twice_said(model):
    """Two graphs in one file: protobuf makes one of them, another reader takes either."""
    bytes_ = model.SerializeToString()
    return bytes_ + onnx.ModelProto(graph=onnx.GraphProto(name="second")).SerializeToString()


DOUBLED = [node("Concat", ["photo" if k == 0 else f"d{k}"] * 2, [f"d{k + 1}"], axis=1) for k in range(40)]
CRAFTED = {
    "numbers in another file": (elsewhere, "its numbers lie in another file"),
    "four gigabytes that are not there": (lambda: claimed(1 << 15, 1 << 15), "are there"),
    "a negative size": (lambda: claimed(-3), "sizes that nothing can have"),
    "an overflowing size": (lambda: claimed(1 << 31, 1 << 31, 1 << 31), "sizes that nothing can have"),
    "a Loop without end": (loop, "the operator 'Loop'"),
    "graphs in graphs": (lambda: nested(20), "too deep"),
    "an operator of a stranger": (
        lambda: contract([node("Run", ["photo"], ["painted"], domain="evil")]),
        "the operator 'evil.Run'",
    ),
    "an operator of Microsoft's": (
        lambda: contract([node("Gelu", ["photo"], ["painted"], domain="com.microsoft")]),
        "the operator 'com.microsoft.Gelu'",
    ),
    "functions": (function, "functions"),
    "twice as much forty times": (lambda: contract([*DOUBLED, node("Slice", ["d40", "a", "b"], ["painted"])]), "size"),
    "a constant of 2^60": (
        lambda: contract(
            [node("ConstantOfShape", ["size"], ["big"]), node("Add", ["photo", "big"], ["painted"])],
            [ints("size", 1 << 30, 1 << 30)],
        ),
        "would make something of the size 1073741824x1073741824",
    ),
    "thirty thousand pictures side by side": (
        lambda: contract([node("Tile", ["photo", "times"], ["painted"])], [ints("times", 1, 30_000, 1, 1)]),
        "numbers at a time",
    ),
    "an outer product": (
        lambda: contract(
            [
                node("Reshape", ["photo", "flat"], ["column"]),
                node("Reshape", ["photo", "row"], ["rows"]),
                node("Mul", ["column", "rows"], ["painted"]),
            ],
            [ints("flat", -1, 1), ints("row", 1, -1)],
        ),
        None,  # at 64x64 it is small: refused when a picture comes
    ),
    "a size by the colours": (
        lambda: contract(
            [
                node("ReduceMax", ["photo"], ["most"], keepdims=0),
                node("Cast", ["most"], ["n"], to=TensorProto.INT64),
                node("Reshape", ["n", "one"], ["size"]),
                node("ConstantOfShape", ["size"], ["big"]),
                node("ReduceSum", ["big"], ["sum"], keepdims=0),
                node("Add", ["photo", "sum"], ["painted"]),
            ],
            [ints("one", 1)],
        ),
        "sizes that depend on the colours",
    ),
    "a convolution that takes hours": (
        lambda: contract(
            [
                node("Transpose", ["photo"], ["planes"], perm=[0, 3, 1, 2]),
                *(
                    node("Conv", ["planes" if k == 0 else f"c{k}", "w"], [f"c{k + 1}"], pads=[64] * 4)
                    for k in range(999)
                ),
                node("Transpose", ["c999"], ["painted"], perm=[0, 2, 3, 1]),
            ],
            [array(np.ones((3, 3, 129, 129), np.float32), "w")],
        ),
        "operations",
    ),
    "the least integer by -1": (
        lambda: contract(
            [
                node("Cast", ["photo"], ["n"], to=TensorProto.INT64),
                node("Div", ["least", "n"], ["d"]),
                node("Cast", ["d"], ["painted"], to=TensorProto.FLOAT),
            ],
            [ints("least", -(2**63))],
        ),
        "divides integers by what may be -1",
    ),
    "five thousand nodes": (
        lambda: contract([node("Relu", ["photo" if k == 0 else f"r{k}"], [f"r{k + 1}"]) for k in range(5000)]),
        "more than 4096 nodes",
    ),
    "a picture of 10^12 pixels": (
        lambda: contract(
            [node("Identity", ["photo"], ["painted"])],
            inputs=[helper.make_tensor_value_info("strength", TensorProto.FLOAT, [1 << 20, 1 << 20])],
        ),
        "more than 20 million",
    ),
    "said twice": (lambda: twice_said(contract([node("Relu", ["photo"], ["painted"])])), "twice"),
    "another format inside": (
        lambda: b"\x08\x08\x12\x04ORTM" + contract([node("Relu", ["photo"], ["painted"])]).SerializeToString(),
        "not ONNX alone|twice",
    ),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_model_is_refused_in_a_sentence_and_before_a_session_is_made(tmp_path, monkeypatch, photo, name):
    make, reason = CRAFTED[name]
    model, path = make(), tmp_path / "stranger.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    if reason:
        monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: pytest.fail("a session is made"))
    with pytest.raises(AllaprimaError, match=reason) as refused:
        Stylizer(path)(photo)
    assert str(refused.value).startswith(f"{path} is not run, since it") and "\n" not in str(refused.value)
    assert len(str(refused.value)) < len(str(path)) + 200


def test_what_is_larger_than_any_style_is_not_read(tmp_path):
    with open(tmp_path / "huge.onnx", "wb") as file:
        file.truncate(modelcheck.LARGEST + 1)  # a hole: no disk is used
    with pytest.raises(AllaprimaError, match="more than 256 MB"):
        Stylizer(tmp_path / "huge.onnx")


@pytest.mark.parametrize("place", ["metadata", "graph name", "dimension", "producer"])
def test_names_that_are_not_text(tmp_path, place):
    """ONNX Runtime hands them out as text, wherever they are."""
    model = contract([node("Relu", ["photo"], ["painted"])])
    match place:
        case "metadata":
            helper.set_model_props(model, {"name": "MARKER"})
        case "graph name":
            model.graph.name = "MARKER"
        case "dimension":
            model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "MARKER"
        case "producer":
            model.producer_name = "MARKER"
    path = tmp_path / "stranger.onnx"
    path.write_bytes(model.SerializeToString().replace(b"MARKER", b"MARK\xffR"))
    with pytest.raises(AllaprimaError, match="is cut short or damaged"):
        Stylizer(path)


@pytest.mark.parametrize(
    "key, value",
    [
        ("settings", "[" * 100_000),
        ("losses", '{"a":' * 100_000),
        ("grams", json.dumps({"relu1_2": [base64.b64encode(bytes(4 * 5000)).decode(), 0.5, ""]})),
        ("grams", json.dumps({"relu1_2": [base64.b64encode(bytes(8)).decode(), 0.5, "eJwDAAAAAAE="]})),
        ("format", "9" * 5000),
        ("thumbnail", "%"),
    ],
)
def test_a_card_that_is_made_to_hurt(key, value):
    with pytest.raises(AllaprimaError, match=f"damaged: its {key} can't be read"):
        Card.of_metadata({key: value})


def test_a_gram_matrix_is_not_a_bomb():
    """A thousand times as many levels as its channels have: what is beyond them is never unpacked."""
    channels, levels = np.ones(64, "<f4").tobytes(), zlib.compress(bytes(10**8))
    packed = [base64.b64encode(channels).decode(), 0.5, base64.b64encode(levels).decode()]
    tracemalloc.start()
    gram = Card.of_metadata({"grams": json.dumps({"relu1_2": packed})}).grams["relu1_2"]
    assert tracemalloc.get_traced_memory()[1] < 5e6 and gram.shape == (64, 64)
    tracemalloc.stop()


def test_the_styles_that_there_are_pass(tmp_path):
    styles = [*(PACKAGE / "infer" / "styles").glob("*.onnx"), PACKAGE / "infer" / "reference" / "johnson.onnx"]
    for path in [*styles, ROOT / "tests" / "format1.onnx", make_model(tmp_path / "tiny.onnx")]:
        graph = ModelGraph(path.read_bytes(), path)
        graph.check(
            {name: (1, 1536, 1536, 3) if name == "image" else tuple(s) for name, s in graph.graph.inputs.items()}
        )


def zoo_model(path):
    """Layers as the ONNX model zoo's fast-neural-style has them: opset 9, one size, and scales that are calculated."""
    weight = array(np.full((3, 3, 3, 3), 1 / 27, np.float32), "w")
    nodes = [
        node("Pad", ["in"], ["padded"], mode="reflect", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        node("Conv", ["padded", "w"], ["c"], kernel_shape=[3, 3], strides=[2, 2]),
        node("InstanceNormalization", ["c", "ones", "ones"], ["normal"]),
        node("Relu", ["normal"], ["relu"]),
        node("Constant", [], ["two"], value=array(np.float32(2), "")),
        node("Cast", ["two"], ["cast"], to=TensorProto.FLOAT),
        node("Floor", ["cast"], ["floor"]),
        node("Unsqueeze", ["floor"], ["scale"], axes=[0]),
        node("Concat", ["one_one", "scale", "scale"], ["scales"], axis=0),
        node("Upsample", ["relu", "scales"], ["out"], mode="nearest"),
    ]
    constants = [weight, array(np.ones(3, np.float32), "ones"), array(np.float32([1, 1]), "one_one")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 224, 224]) for name in ("in", "out")]
    graph = helper.make_graph(nodes, "zoo", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4), path)
    return path


def test_a_model_like_those_of_the_zoo_runs(tmp_path, photo):
    assert Stylizer(zoo_model(tmp_path / "zoo.onnx"), foreign="0..255")(photo).shape == photo.shape
