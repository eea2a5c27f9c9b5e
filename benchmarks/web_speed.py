"""A style in the browser's engine against native ONNX Runtime, on one thread each, in turns.

    uv run --extra train python benchmarks/web_speed.py --write

The engine is the WebAssembly build that the page loads (serve/web/ort), here in node, whose V8 is that of Chromium. Times
are those of the processor, so that other work on the machine counts little, after both have warmed up. A product of two
matrices shows how far apart the two are in what networks mostly do.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from page import publish, table

import allaprima.serve.site
from allaprima.infer.library import find_style
from allaprima.infer.stylizer import ort as onnxruntime  # pyright: ignore[reportPrivateImportUsage]

SIZES = ((320, 240), (640, 480))
SIDE = 1024  # of the matrices
WARM_UP = 15  # V8 compiles anew what has run often enough

NODE = """
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { gunzipSync } from "node:zlib";
const [library, model, described] = process.argv.slice(1);
const ort = await import(library + "/ort.wasm.min.mjs");
ort.env.wasm.wasmPaths = library + "/";
ort.env.wasm.wasmBinary = gunzipSync(readFileSync(new URL(library + "/ort-wasm-simd-threaded.wasm.gz"))).buffer;
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";
const session = await ort.InferenceSession.create(readFileSync(model), { executionProviders: ["wasm"] });
const arrays = { uint8: Uint8Array, float32: Float32Array };
const feeds = {};
for (const [name, [type, shape]] of Object.entries(JSON.parse(described))) {
  const values = new arrays[type](shape.reduce((a, b) => a * b, 1)).map((_, k) => (type === "uint8" ? k * 40503 : 1));
  feeds[name] = new ort.Tensor(type, values, shape);
}
for await (const _ of createInterface({ input: process.stdin })) {
  const before = process.cpuUsage();
  await session.run(feeds);
  const spent = process.cpuUsage(before);
  console.log((spent.user + spent.system) / 1000);
}
"""


class Web:
    """A model in WebAssembly, in a node of its own. shapes: type and shape of each input."""

    def __init__(self, model, shapes):
        library = (Path(allaprima.serve.site.WEB) / "ort").resolve().as_uri()
        command = ["node", "--input-type=module", "-e", NODE, library, str(model), json.dumps(shapes)]
        self._node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def milliseconds(self) -> float:
        self._node.stdin.write("\n")
        self._node.stdin.flush()
        return float(self._node.stdout.readline())

    def close(self):
        self._node.stdin.close()
        self._node.wait()


class Native:
    """The same model in native ONNX Runtime."""

    def __init__(self, model, shapes):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        random = np.random.default_rng(0)
        self._feeds = {
            name: random.integers(0, 256, shape).astype(np.uint8) if kind == "uint8" else np.ones(shape, np.float32)
            for name, (kind, shape) in shapes.items()
        }

    def milliseconds(self) -> float:
        began = time.thread_time()
        self._session.run(None, self._feeds)
        return 1000 * (time.thread_time() - began)


def measure(model, shapes, runs) -> tuple[float, float]:
    """Milliseconds of a run, native and in WebAssembly, the medians of `runs` in turns."""
    native, web = Native(model, shapes), Web(model, shapes)
    pairs = [(native.milliseconds(), web.milliseconds()) for _ in range(WARM_UP + runs)][WARM_UP:]
    web.close()
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def product(path):
    """Write a model that is one product of matrices, the second constant, as the weights of a network are."""
    weights = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [SIDE, SIDE])],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [SIDE, SIDE])],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="wave")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = []
    for width, height in SIZES:
        shapes = {"image": ("uint8", [1, height, width, 3]), "strength": ("float32", [1])}
        times = measure(find_style(options.model), shapes, options.runs)
        rows.append([f"{options.model}, {width}x{height}", *times])
    with tempfile.TemporaryDirectory() as folder:
        product(Path(folder) / "product.onnx")
        times = measure(Path(folder) / "product.onnx", {"a": ("float32", [SIDE, SIDE])}, options.runs)
    rows.append([f"product of two {SIDE}x{SIDE} matrices", *times])
    rates = [2 * SIDE**3 / time / 1e6 for time in times]
    text = table(
        ["", "native", "WebAssembly", "times as long"],
        [[name, f"{native:.1f} ms", f"{web:.1f} ms", f"{web / native:.1f}"] for name, native, web in rows],
    )
    text += f"\n\nThe product: {rates[0]:.0f} giga-operations a second native, {rates[1]:.0f} in WebAssembly."
    publish("In the browser's engine", text, options.write)


if __name__ == "__main__":
    main()
