"""Export to the model file: one ONNX graph, uint8 pictures in and out, that gives the same picture in every runtime.

Input `image`: uint8 [N, H, W, 3], RGB, any N, H and W >= 16. Input `strength`: float32 [1]; 0 returns the photo, 1 the full
style. Output `stylized`: uint8, the shape of `image`. Padding, scaling, clamping and rounding are inside.
"""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from allaprima.core import __version__
from allaprima.core.contract import IMAGE, STYLIZED, Card
from allaprima.core.errors import AllaprimaError
from allaprima.core.files import write_atomically
from allaprima.media.pictures import to_jpeg
from allaprima.models.graph import OPSET, Graph, Value
from allaprima.models.transformer import Transformer

IR_VERSION = 8  # as old as graph.OPSET
CHECKED_SIZES = ((1, 64, 64), (2, 75, 61), (1, 16, 16), (1, 203, 130), (1, 17, 31), (1, 23, 96))  # N, H, W


@torch.no_grad()
def build_graph(network: Transformer) -> onnx.ModelProto:
    """The ONNX model of a network, without metadata."""
    graph = Graph()
    image, strength = graph.value(IMAGE), graph.value("strength")
    photo, height, width = _padded_photo(image, network)
    pixels = network.body(photo.cast().op("Transpose", perm=[0, 3, 1, 2]))
    start = network.margin[0]
    end = height.op("Concat", width, axis=0) + graph.ints(start, start)
    pixels = pixels.slice([start, start], end, [1, 2])
    full = strength.op("Equal", graph.constant([1.0]))
    whole, mixed = _as_it_is(pixels), _mixed(pixels, image, strength)
    graph.nodes.append(helper.make_node("If", [full.name], [STYLIZED], then_branch=whole, else_branch=mixed))

    shape = ["N", "H", "W", 3]
    body = helper.make_graph(
        graph.nodes,
        "allaprima",
        [
            helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape),
            helper.make_tensor_value_info("strength", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info(STYLIZED, TensorProto.UINT8, shape)],
        graph.constants,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name, model.producer_version = "allaprima", __version__
    onnx.checker.check_model(model)
    return model


def _branch(nodes, output, constants=()) -> onnx.GraphProto:
    """A branch of an If: nodes that see the names of the graph around them."""
    value = helper.make_tensor_value_info(output, TensorProto.UINT8, [None] * 4)
    return helper.make_graph(nodes, output, [], [value], list(constants))


def _as_it_is(pixels: Value) -> onnx.GraphProto:
    """Full strength, as nearly always: the blend below would take a tenth of the network's time."""
    return _branch([helper.make_node("Identity", [pixels.name], ["painted"])], "painted")


def _mixed(pixels: Value, image: Value, strength: Value) -> onnx.GraphProto:
    """image + strength * (pixels - image), of uint8 pictures, rounded; a strength beyond 0..1 exaggerates and is clipped."""
    graph = Graph("mixed_")
    photo, painted, strength = (graph.value(outside.name) for outside in (image, pixels, strength))
    photo = photo.cast()
    blend = photo + (painted.cast() - photo) * strength
    blend = blend.op("Clip", graph.constant(0.0), graph.constant(255.0)).op("Round").cast(TensorProto.UINT8)
    return _branch(graph.nodes, blend.name, graph.constants)


def _padded_photo(image: Value, network: Transformer) -> tuple[Value, Value, Value]:
    """A uint8 NHWC picture padded as `Transformer.forward` does it, and its own height and width."""
    ints, (first, before, after) = image.graph.ints, network.pads()
    padded, shape = image, image.op("Shape")
    if first:
        padded = image.op("Pad", ints(0, first, first, 0, 0, first, first, 0), mode="reflect")
    height, width = (shape.slice([axis], [axis + 1], [0]) for axis in (1, 2))
    # ONNX's Mod has the sign of the divisor, as Python's
    missing = ((ints(-sum(network.margin)) - size).op("Mod", ints(network.multiple)) for size in (height, width))
    down, right = (size + ints(after) for size in missing)
    pads = ints(0, before, before, 0).op("Concat", ints(0), down, right, ints(0), axis=0)
    return padded.op("Pad", pads, mode="reflect"), height, width


@torch.no_grad()
def verify(model: bytes, network: Transformer):
    """Compare ONNX Runtime with torch at several sizes, odd ones too, and at strengths 0, 0.5 and 1.

    network: float32, on the CPU, in evaluation mode. Raises AllaprimaError unless 99.9 % of the values are at most one grey
    level apart.
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for number, (n, h, w) in enumerate(CHECKED_SIZES):
        coarse = random.uniform(0, 255, (n, 8, 8, 3))  # smooth and varied, as photos are, not noise
        image = torch.nn.functional.interpolate(torch.from_numpy(coarse).permute(0, 3, 1, 2), (h, w), mode="bicubic")
        image = image.clamp(0, 255).round().permute(0, 2, 3, 1).byte()
        strength = (1.0, 0.5, 0.0)[number % 3]
        photo = image.permute(0, 3, 1, 2).float() / 255
        wanted = photo + strength * (network(photo).clamp(0, 1) - photo)
        wanted = (wanted.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
        feed = {IMAGE: image.numpy(), "strength": np.array([strength], np.float32)}
        got = np.asarray(session.run([STYLIZED], feed)[0])
        close = np.mean(np.abs(got.astype(int) - wanted) <= 1) if got.shape == wanted.shape else 0.0
        if close < 0.999:
            raise AllaprimaError(
                f"The exported model differs from the network at {w}x{h} ({close:.2%} of values agree); "
                "nothing was written. Please report this with your versions of torch and onnxruntime."
            )


def export(network: Transformer, path, card: Card):
    """Write the model file of a network, verified, whole or not at all; the network stays as it is.

    card: what the file will say of itself; the architecture is that of the network.
    """
    network = deepcopy(network).float().cpu().eval()
    model = build_graph(network)
    helper.set_model_props(model, replace(card, architecture=network.architecture).to_metadata())
    data = model.SerializeToString()
    verify(data, network)
    write_atomically(path, data)


def thumbnail(picture: np.ndarray) -> bytes:
    """The JPEG of a picture, uint8 [H, W, 3], that the card of a model shows: at most 160 pixels a side."""
    return to_jpeg(picture, 160, quality=85)
