"""A style in the browser's engines against native ONNX Runtime, on one thread each, in turns.

    uv run --extra train python benchmarks/web_speed.py --write

The engines are what the page loads, here in node, whose V8 is that of Chromium: the kernels (serve/web/kernels), with relaxed
SIMD and without, and the WebAssembly build of ONNX Runtime (serve/web/ort). Times are those of the processor, so that other
work on the machine counts little, after all have warmed up.
"""

import argparse
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
from page import publish, table

import allaprima.serve.site
from allaprima.infer.library import find_style
from allaprima.infer.stylizer import ort as onnxruntime  # pyright: ignore[reportPrivateImportUsage]

SIZES = ((320, 240), (640, 480))
WARM_UP = 15  # V8 compiles anew what has run often enough

RELAXED = "--experimental-wasm-relaxed-simd"  # what nodes before 22 need for it
NODE = """
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { gunzipSync } from "node:zlib";
const [web, engine, path] = process.argv.slice(1), [width, height] = process.argv.slice(4).map(Number);
const values = (channels) => new Uint8Array(channels * width * height).map((_, k) => k * 40503), model = new Uint8Array(readFileSync(path));
let paint;
if (engine === "ort") {
  const ort = await import(web + "/ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmBinary = gunzipSync(readFileSync(new URL(web + "/ort/ort-wasm-simd-threaded.wasm.gz"))).buffer;
  ort.env.wasm.wasmPaths = web + "/ort/";
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const image = new ort.Tensor("uint8", values(3), [1, height, width, 3]), strength = new ort.Tensor("float32", [1], [1]);
  paint = () => session.run({ image, strength });
} else {
  const { Painter } = await import(web + "/kernels/painter.js");
  const painter = await Painter.start(1, async () => readFileSync(new URL(`${web}/kernels/${engine}.wasm`))), photo = values(4);
  painter.load(model);
  paint = () => painter.paint(photo, width, height);
}
for await (const _ of createInterface({ input: process.stdin })) {
  const before = process.cpuUsage();
  await paint();
  const spent = process.cpuUsage(before);
  console.log((spent.user + spent.system) / 1000);
}
"""
ENGINES = {"relaxed": "kernels", "simd": "kernels, plain SIMD", "ort": "ONNX Runtime's WebAssembly"}


class Web:
    """A model in an engine of the page, in a node of its own."""

    def __init__(self, engine, model, width, height):
        web = Path(allaprima.serve.site.WEB).resolve().as_uri()
        command = ["node", RELAXED, "--input-type=module", "-e", NODE, web, engine, str(model), str(width), str(height)]
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

    def __init__(self, model, width, height):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
        self._feeds = {"image": image, "strength": np.ones(1, np.float32)}

    def milliseconds(self) -> float:
        began = time.thread_time()
        self._session.run(None, self._feeds)
        return 1000 * (time.thread_time() - began)


def measure(model, width, height, runs) -> list[float]:
    """Milliseconds of a run, native and in each engine of the page, the medians of `runs` in turns."""
    web = [Web(engine, model, width, height) for engine in ENGINES]
    rivals = [Native(model, width, height), *web]
    rounds = [[rival.milliseconds() for rival in rivals] for _ in range(WARM_UP + runs)][WARM_UP:]
    for engine in web:
        engine.close()
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="wave")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = []
    for width, height in SIZES:
        native, *others = measure(find_style(options.model), width, height, options.runs)
        for name, time_ in zip(ENGINES.values(), others, strict=True):
            rows.append([f"{width}x{height}", name, f"{native:.1f} ms", f"{time_:.1f} ms", f"{time_ / native:.1f}"])
    text = table(["size", "engine", "native", "WebAssembly", "times as long"], rows)
    publish("In the browser's engine", text, options.write)


if __name__ == "__main__":
    main()
