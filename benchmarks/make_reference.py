"""Writes infer/reference/johnson.onnx: the `johnson` network as `bench` times it, without its 6.7 MB of weights.

    uv run --extra train python benchmarks/make_reference.py

Time does not depend on what the weights are, so each is one number, repeated to its shape when the model is loaded.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from allaprima.core.contract import Card
from allaprima.models.export import build_graph
from allaprima.models.transformer import transformer

REFERENCE = Path(__file__).parent.parent / "infer" / "reference" / "johnson.onnx"


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, with each convolution's weights made from one number on loading."""
    graph = model.graph
    makers = []
    for weights in [constant for constant in graph.initializer if len(constant.dims) == 4]:
        graph.initializer.remove(weights)
        shape = f"{weights.name}_shape"
        graph.initializer.append(numpy_helper.from_array(np.array(weights.dims, np.int64), shape))
        value = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.01])
        makers.append(helper.make_node("ConstantOfShape", [shape], [weights.name], value=value))
    nodes = [*makers, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def reference() -> onnx.ModelProto:
    model = without_weights(build_graph(transformer("johnson")))
    card = Card("johnson", "johnson", "Johnson, Alahi and Fei-Fei, ECCV 2016")
    helper.set_model_props(model, card.to_metadata())
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    REFERENCE.write_bytes(reference().SerializeToString())
    print(f"{REFERENCE}: {REFERENCE.stat().st_size / 1000:.0f} kB")
