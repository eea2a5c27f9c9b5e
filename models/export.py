"""Export to the model file: one ONNX graph, uint8 pictures in and out, that gives the same picture in every runtime.

Input `image`: uint8 [N, H, W, 3], RGB, any N, H and W >= 16. Output `stylized`: the same shape and type. Optional input
`strength`: float32 scalar, 1.0 unless given; 0 returns the photo. Padding, scaling, clamping and rounding are inside.
"""

import base64
import io
import json

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from PIL import Image

from allaprima.core import __version__
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import write_atomically
from allaprima.models.blocks import Graph
from allaprima.models.transformer import Transformer

OPSET, IR_VERSION = 17, 8  # old enough for ONNX Runtime 1.13 and its web build
CHECKED_SIZES = ((1, 64, 64), (2, 75, 61), (1, 16, 16), (1, 203, 130), (1, 17, 31), (1, 23, 96))  # N, H, W


def build_graph(network: Transformer) -> onnx.ModelProto:
    """The ONNX model of a network, without metadata."""
    graph = Graph()
    photo, height, width = _padded_photo(graph, "image", network)
    pixels = network.onnx(graph, graph.add("Transpose", graph.cast(photo), perm=[0, 3, 1, 2]))
    start = graph.ints(network.margin[0], network.margin[0])
    end = graph.add("Add", graph.add("Concat", height, width, axis=0), start)
    pixels = graph.add("Slice", pixels, start, end, graph.ints(1, 2))
    full = graph.add("Equal", "strength", graph.constant(1.0))
    graph.nodes.append(
        helper.make_node("If", [full], ["stylized"], then_branch=_as_it_is(pixels), else_branch=_mixed(pixels, "image"))
    )

    shape = ["N", "H", "W", 3]
    strength = onnx.numpy_helper.from_array(np.array(1.0, np.float32), "strength")
    body = helper.make_graph(
        graph.nodes,
        "allaprima",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, shape),
            helper.make_tensor_value_info("strength", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("stylized", TensorProto.UINT8, shape)],
        [*graph.constants, strength],  # an input that is also a constant is optional, with that default
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name, model.producer_version = "allaprima", __version__
    onnx.checker.check_model(model)
    return model


def _branch(nodes, output, constants=()) -> onnx.GraphProto:
    """A branch of an If: nodes that see the names of the graph around them."""
    value = helper.make_tensor_value_info(output, TensorProto.UINT8, [None] * 4)
    return helper.make_graph(nodes, output, [], [value], list(constants))


def _as_it_is(pixels: str) -> onnx.GraphProto:
    """Full strength, as nearly always: the blend below would take a tenth of the network's time."""
    return _branch([helper.make_node("Identity", [pixels], ["painted"])], "painted")


def _mixed(pixels: str, photo: str) -> onnx.GraphProto:
    """photo + strength * (pixels - photo), of uint8 pictures, rounded; a strength beyond 0..1 exaggerates and is clipped."""
    graph = Graph("mixed_")
    photo, pixels = graph.cast(photo), graph.cast(pixels)
    blend = graph.add("Add", photo, graph.add("Mul", graph.add("Sub", pixels, photo), "strength"))
    blend = graph.add("Round", graph.add("Clip", blend, graph.constant(0.0), graph.constant(255.0)))
    blend = graph.cast(blend, TensorProto.UINT8)
    return _branch(graph.nodes, blend, graph.constants)


def _padded_photo(graph: Graph, image: str, network: Transformer):
    """Nodes that pad a uint8 NHWC picture as `Transformer.forward` does: it, and its own height and width."""
    first, before, after = network.pads()
    padded, shape = image, graph.add("Shape", image)
    if first:
        padded = graph.add("Pad", image, graph.ints(0, first, first, 0, 0, first, first, 0), mode="reflect")
    ends, sizes = [], []
    for axis in (1, 2):
        size = graph.add("Slice", shape, graph.ints(axis), graph.ints(axis + 1), graph.ints(0))
        # ONNX's Mod has the sign of the divisor, as Python's
        missing = graph.add(
            "Mod", graph.add("Sub", graph.ints(-sum(network.margin)), size), graph.ints(network.multiple)
        )
        ends.append(graph.add("Add", missing, graph.ints(after)))
        sizes.append(size)
    after = graph.add("Concat", graph.ints(0), *ends, graph.ints(0), axis=0)
    pads = graph.add("Concat", graph.ints(0, before, before, 0), after, axis=0)
    return graph.add("Pad", padded, pads, mode="reflect"), *sizes


def verify(model: bytes, network: Transformer):
    """Compare ONNX Runtime with torch at several sizes, odd ones too, and at strengths 0, 0.5 and 1.

    Raises AllaprimaError unless 99.9 % of the values are at most one grey level apart.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of every optional input
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    network = network.float().cpu().eval()
    for number, (n, h, w) in enumerate(CHECKED_SIZES):
        coarse = random.uniform(0, 255, (n, 8, 8, 3))  # smooth and varied, as photos are, not noise
        image = torch.nn.functional.interpolate(torch.from_numpy(coarse).permute(0, 3, 1, 2), (h, w), mode="bicubic")
        image = image.clamp(0, 255).round().permute(0, 2, 3, 1).byte()
        strength = (1.0, 0.5, 0.0)[number % 3]
        photo = image.permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            wanted = photo + strength * (network(photo).clamp(0, 1) - photo)
        wanted = (wanted.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
        got = session.run(["stylized"], {"image": image.numpy(), "strength": np.asarray(strength, np.float32)})[0]
        close = np.mean(np.abs(got.astype(int) - wanted) <= 1) if got.shape == wanted.shape else 0.0
        if close < 0.999:
            raise AllaprimaError(
                f"The exported model differs from the network at {w}x{h} ({close:.2%} of values agree); "
                "nothing was written. Please report this with your versions of torch and onnxruntime."
            )


def export(network: Transformer, path, metadata: dict):
    """Write the model file of a network, verified, whole or not at all.

    metadata: `name`, `thumbnail` (base64 JPEG), `credit`, `licence`, `settings`, `losses`, ...; what is not a string is
    stored as JSON. Architecture and version are added.
    """
    model = build_graph(network)
    metadata = {"architecture": network.architecture, "version": __version__, **metadata}
    helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})
    data = model.SerializeToString()
    verify(data, network)
    write_atomically(path, data)


def thumbnail(picture: np.ndarray) -> str:
    """A picture, uint8 [H, W, 3], as a base64 JPEG of at most 160 pixels a side, for the metadata."""
    image = Image.fromarray(picture)
    image.thumbnail((160, 160))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()
