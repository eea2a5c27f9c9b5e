"""A copy of a model file in fewer bits: float16, or int8 in most convolutions. It keeps the contract.

The conversions are ONNX Runtime's own; what is here is what they must leave alone, and how much the pictures change.
"""

from dataclasses import dataclass, replace
from graphlib import TopologicalSorter

import numpy as np
import onnx
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from allaprima.core import __version__
from allaprima.core.checks import StrPath, check_model_name, check_path
from allaprima.core.contract import FORMAT, IMAGE
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Listener, Task, Wrote, ignore, passing
from allaprima.core.files import atomic, check_output, temporary_folder
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import read_photo
from allaprima.train.settings import BUNDLED, BUNDLED_HELD_OUT

PRECISIONS = ("float16", "int8")
SIDE = 640  # px, long side of the photos
WHOLE_PICTURE = ["GlobalAveragePool", "InstanceNormalization", "ReduceMean"]  # sums that float16 can't hold
# Convolutions at either end that int8 leaves alone: they are near the pixels, where rounding is seen. With three at the end,
# *wave* would differ by 6 grey levels instead of 2.
FIRST, LAST = 3, 6
PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")  # a mark by which the console is not advised to prepare it


@dataclass(frozen=True)
class Difference:
    """Between the pictures of two models, in grey levels: the mean, and the largest of any pixel's R, G and B."""

    mean: float
    largest: int


def copy_in_precision(
    model: StrPath, output: StrPath, precision: str, *, overwrite: bool = False, listener: Listener = ignore
) -> Difference:
    """Write a copy of a model file whose network computes in another precision; how much its pictures differ.

    model: a path, or the name of a style. precision: "float16", or "int8", whose ranges are measured on the bundled photos.
    The difference is that on the bundled photos that are kept for measuring. The copy has the name of its file.
    Raises AllaprimaError for another precision, a model that can't be had in it, and an output that can't be written.
    """
    if precision not in PRECISIONS:
        raise AllaprimaError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
    style = Stylizer(model, provider="cpu")
    if style.card.format < FORMAT or style.card.precision:
        kind = style.card.precision or f"of format {style.card.format}"
        raise AllaprimaError(f"{style.path} is {kind}: give the model file that `allaprima train` wrote.")
    check_model_name(check_path("output", output))
    output = check_output(output, [style.path], overwrite=overwrite, listener=listener)
    photos = {path.name: read_photo(path, SIDE) for path in sorted(BUNDLED.glob("*.jpg"))}
    held_out = [photos.pop(name) for name in BUNDLED_HELD_OUT]
    with passing(listener) as told:
        task = Task(told, "photos", len(held_out), "photos", f"Writing {output}, in {precision}.")
        network = _converted(style, precision, photos.values(), output.stem)
        with atomic(output) as part:
            onnx.save(network, part)
            difference = _difference(Stylizer(part, provider="cpu"), style, held_out, task)
    sizes = " instead of ".join(f"{path.stat().st_size / 1e6:.2f}" for path in (output, style.path))
    about = f"{difference.mean:.2f} grey levels on average, {difference.largest} at most"
    listener(Wrote(output, f"{sizes} MB; its pictures of {len(held_out)} photos differ by {about}"))
    return difference


def _converted(style, precision, photos, name):
    """The model of a style in another precision, as a style of that name."""
    network = onnx.load(style.path)
    for number, node in enumerate(network.graph.node):
        node.name = node.name or f"node_{number}"  # by which nodes are left out
    network = _float16(network) if precision == "float16" else _int8(network, style.path, photos)
    _sort(network.graph)
    card = replace(style.card, name=name, precision=precision, version=__version__)
    helper.set_model_props(network, card.to_metadata())
    network.producer_name, network.producer_version = "allaprima", __version__
    return network


def _difference(copy, style, photos, task):
    apart = []
    for photo in photos:
        apart.append(np.abs(copy(photo).astype(int) - style(photo)))
        task.advance()
    return Difference(float(np.mean([each.mean() for each in apart])), max(int(each.max()) for each in apart))


def _float16(network):
    known, once = {constant.name for constant in network.graph.initializer}, []
    for node in network.graph.node:
        if known.issuperset(node.input):  # runtimes work it out when they load it, but not in float16
            known.update(node.output)
            once.append(node.name)
    return convert_float_to_float16(
        network,
        keep_io_types=["strength"],  # float32, as the contract has it  # pyright: ignore[reportArgumentType]
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *WHOLE_PICTURE],
        node_block_list=once,
    )


def _int8(network, path, photos):
    convolutions = [node.name for node in network.graph.node if node.op_type == "Conv"]
    if len(convolutions) <= FIRST + LAST:
        raise AllaprimaError(f"The network of {path} is too small for int8: use float16.")
    network.metadata_props.add(key=PREPARED[0], value=PREPARED[1])
    with temporary_folder() as folder:
        written = folder / "int8.onnx"
        quantize_static(
            network,
            written,
            _Calibration(photos),
            per_channel=True,
            reduce_range=True,  # 7 bits: processors without VNNI add up two products in 16
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=convolutions[:FIRST] + convolutions[-LAST:],
        )
        return onnx.load(written)


def _sort(graph):
    """Each node behind those that it takes from, as ONNX has it: the converters leave that to the runtime."""
    maker = {name: k for k, node in enumerate(graph.node) for name in node.output}
    takes = {k: {maker[name] for name in _taken(node) if name in maker} for k, node in enumerate(graph.node)}
    count = len(graph.node)
    graph.node.extend([graph.node[k] for k in TopologicalSorter(takes).static_order()])
    del graph.node[:count]


def _taken(node):
    """What a node takes, the branches of an If too."""
    inside = (inner for attribute in node.attribute for inner in attribute.g.node)
    return [*node.input, *(name for inner in inside for name in inner.input)]


class _Calibration(CalibrationDataReader):
    def __init__(self, photos):
        self._photos = iter(photos)

    def get_next(self):
        photo = next(self._photos, None)
        return None if photo is None else {IMAGE: photo[None], "strength": np.ones(1, np.float32)}
