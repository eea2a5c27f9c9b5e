"""One pass of each network next to `johnson`, and how much of the machine's arithmetic it reaches.

    uv run --extra train python benchmarks/model_speed.py --write

Weights are random: time does not depend on them. The networks take turns (infer/bench.py). The peaks are those of large
matrix products: float32 and int8 (unsigned by signed) in ONNX Runtime, bfloat16 in torch.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from page import publish, table
from torch.utils.flop_counter import FlopCounterMode

from allaprima.core.contract import Card
from allaprima.infer.bench import measure
from allaprima.infer.stylizer import Stylizer, physical_cores
from allaprima.infer.stylizer import ort as onnxruntime  # pyright: ignore[reportPrivateImportUsage]
from allaprima.models.export import export
from allaprima.models.transformer import ARCHITECTURES, transformer

SIZES = ((640, 480), (1280, 720))
SIDE = 2048  # of the matrices


def multiplications(network, width, height) -> int:
    """Multiply-and-add operations of the convolutions of a pass, with what is cut off at the border."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.rand(1, 3, height, width))
    return counter.get_total_flops() // 2


def seconds(work, runs=12) -> float:
    """The shortest of some runs: a peak is what the machine can do undisturbed."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def runtime_peak(op, inputs, output) -> float:
    """Giga-operations a second of a matrix product in ONNX Runtime. inputs: two arrays, the second constant."""
    constant = onnx.numpy_helper.from_array(inputs[1], "b")
    kind = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    graph = helper.make_graph(
        [helper.make_node(op, ["a", "b"], ["c"])],
        "peak",
        [helper.make_tensor_value_info("a", kind, [SIDE, SIDE])],
        [helper.make_tensor_value_info("c", output, [SIDE, SIDE])],
        [constant],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = physical_cores()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return 2e-9 * SIDE**3 / seconds(lambda: session.run(None, {"a": inputs[0]}))


def peaks() -> dict[str, float]:
    random = np.random.default_rng(0)
    floats = [random.normal(size=(SIDE, SIDE)).astype(np.float32) for _ in range(2)]
    integers = [random.integers(0, 255, (SIDE, SIDE), np.uint8), random.integers(-128, 127, (SIDE, SIDE), np.int8)]
    halves = [torch.from_numpy(x).bfloat16() for x in floats]
    torch.set_num_threads(physical_cores() or torch.get_num_threads())
    return {
        "float32": runtime_peak("MatMul", floats, TensorProto.FLOAT),
        "bfloat16": 2e-9 * SIDE**3 / seconds(lambda: halves[0] @ halves[1]),
        "int8": runtime_peak("MatMulInteger", integers, TensorProto.INT32),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md too")
    arguments = parser.parse_args()
    names = [*(name for name in ARCHITECTURES if name != "johnson"), "johnson"]
    networks = {name: transformer(name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for name, network in networks.items():
            export(network, Path(folder) / f"{name}.onnx", Card(name=name))
        stylizers = [Stylizer(Path(folder) / f"{name}.onnx", one_size=True) for name in names]
        found = {size: [statistics.median(t) for t in measure(stylizers, *size, arguments.runs)] for size in SIZES}
        top = peaks()
        speeds, roof = [], []
        for (width, height), times in found.items():
            for name, median in zip(names, times):
                speeds.append(
                    [f"{width}x{height}", name, f"{median:.1f} ms", f"{1000 / median:.1f}", f"{times[-1] / median:.1f}"]
                )
                if (width, height) == SIZES[0]:
                    count = multiplications(networks[name], width, height)
                    reached = 2e-6 * count / median
                    roof.append(
                        [
                            name,
                            f"{count / width / height / 1000:.2f}",
                            f"{2e-9 * count:.2f}",
                            f"{reached:.0f}",
                            f"{100 * reached / top['float32']:.0f} %",
                        ]
                    )
    head = ["size", "network", "median", "frames/s", "times as fast as johnson"]
    publish("One network pass", f"{stylizers[0].threads} threads.\n\n{table(head, speeds)}", arguments.write)
    said = ", ".join(f"{kind} {value:.0f}" for kind, value in top.items())
    note = (
        f"Peaks of a product of two {SIDE}x{SIDE} matrices, in giga-operations a second: {said}. The networks "
        f"at {SIZES[0][0]}x{SIZES[0][1]}:"
    )
    head = ["network", "thousand multiplications a pixel", "giga-operations", "a second", "of the float32 peak"]
    publish("Roofline", f"{note}\n\n{table(head, roof)}", arguments.write)


if __name__ == "__main__":
    main()
