/**
 * The network, in a thread of its own: RGBA bytes in, painted RGBA bytes out, in the same buffer.
 *
 * Messages in:  {load: url, provider, threads, width, height}   a style, warmed up at that size before the answer
 *               {paint: ArrayBuffer, width, height, strength, stroke, keep_colors}
 * Messages out: {loaded: url} | {painted: ArrayBuffer, width, height, milliseconds} | {failed: sentence}
 */
import { Painter, Unsupported } from "./kernels/painter.js";
import { brighten, luminance, paintStrokes } from "./strokes.js";

const KERNELS = new URL("./kernels/", import.meta.url);

/** The builds of the runtime: that for a graphics card has code for the processor too, and is twice the size. */
const BUILDS = {
  wasm: { script: "./ort/ort.wasm.min.mjs", code: "./ort/ort-wasm-simd-threaded.wasm.gz" },
  webgpu: { script: "./ort/ort.webgpu.min.mjs", code: "./ort/ort-wasm-simd-threaded.asyncify.wasm.gz" },
};
const WARM_UP = 3; // the first runs at a size are several times slower than the rest

/** @typedef {(photo: Uint8Array, width: number, height: number) => Promise<Uint8Array>} Paint from RGB bytes to RGB bytes */

/** @type {Promise<Painter | null> | undefined} */
let painter;
/** @type {Promise<typeof import("./ort/ort.wasm.min.mjs")> | undefined} */
let runtime;
/** @type {import("./ort/ort.wasm.min.mjs").InferenceSession | null} */
let session = null;
/** @type {Paint} the network of the style that was loaded last */
let network = async () => {
  throw new Error("No style is loaded: choose one.");
};
let rgb = new Uint8Array(0);

onmessage = async ({ data }) => {
  try {
    if (data.load) await load(data);
    else await paint(data);
  } catch (error) {
    postMessage({ failed: String(error instanceof Error ? error.message : error), buffer: data.paint }, data.paint ? [data.paint] : []);
  }
};

/** @param {{load: string, provider: "wasm" | "webgpu", threads: number, width: number, height: number}} order */
async function load({ load: url, provider, threads, width, height }) {
  const answer = await fetched(url, `The style ${url}`);
  const model = new Uint8Array(await answer.arrayBuffer());
  network = (provider === "wasm" && (await withKernels(model, threads))) || (await withRuntime(model, provider, threads));
  for (let k = 0; k < WARM_UP; k++) await network(new Uint8Array(3 * width * height), width, height);
  postMessage({ loaded: url });
}

/** The network in kernels of our own, where they know it and the browser can run them. @param {Uint8Array} model */
async function withKernels(model, threads) {
  const file = (name) => fetched(new URL(name, KERNELS), "The painting engine").then((answer) => answer.arrayBuffer());
  const hire = () => new Worker(new URL("hand.js", KERNELS), { type: "module" });
  painter ??= Painter.start(file, threads, hire).catch(() => null); // ONNX Runtime tells what is missing
  const own = await painter;
  try {
    own?.load(model);
  } catch (error) {
    if (error instanceof Unsupported) return null;
    throw error;
  }
  return own && /** @type {Paint} */ (async (photo, width, height) => own.paint(photo, width, height));
}

/** The network in ONNX Runtime. @param {Uint8Array} model @param {"wasm" | "webgpu"} provider @returns {Promise<Paint>} */
async function withRuntime(model, provider, threads) {
  runtime ??= start(provider, threads).catch((error) => {
    runtime = undefined; // the next style tries again
    throw error;
  });
  const { InferenceSession, Tensor } = await runtime;
  const fresh = await InferenceSession.create(model, { executionProviders: [provider], graphOptimizationLevel: "all" });
  await session?.release(); // its memory is not the garbage collector's
  session = fresh;
  const strength = new Tensor("float32", [1], [1]);
  return async (photo, width, height) => {
    const { stylized } = await fresh.run({ image: new Tensor("uint8", photo, [1, height, width, 3]), strength });
    return /** @type {Uint8Array} */ (stylized.data);
  };
}

/** The runtime, which is the same for all styles. @param {"wasm" | "webgpu"} provider */
async function start(provider, threads) {
  const { script, code } = BUILDS[provider];
  const ort = /** @type {typeof import("./ort/ort.wasm.min.mjs")} */ (await import(script));
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.wasmBinary = await inflated(await fetched(new URL(code, import.meta.url), "The painting engine"));
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  return ort;
}

/** @param {string | URL} url @param {string} what */
async function fetched(url, what) {
  const answer = await fetch(url).catch(() => {
    throw new Error(`${what} can't be loaded, since the server does not answer: start it again and reload the page.`);
  });
  if (!answer.ok) throw new Error(`${what} can't be loaded (${answer.status}): reload the page.`);
  return answer;
}

/** The bytes of a gzip file, which some hosts have inflated on the way. @param {Response} answer */
async function inflated(answer) {
  const file = await answer.blob();
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const isGzip = first === 0x1f && second === 0x8b;
  return isGzip ? new Response(file.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer() : file.arrayBuffer();
}

/** @param {{paint: ArrayBuffer, width: number, height: number} & import("./engine.js").Controls} order */
async function paint({ paint: buffer, width, height, strength: wanted, stroke, keep_colors }) {
  const began = performance.now();
  const rgba = new Uint8ClampedArray(buffer);
  const count = width * height;
  if (rgb.length !== 3 * count) rgb = new Uint8Array(3 * count);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  const whole = await (stroke ? paintStrokes(network, rgb, width, height, stroke) : network(rgb, width, height));
  const painted = mixed(whole, wanted);
  if (keep_colors) {
    const before = luminance(rgb), after = luminance(painted);
    for (let k = 0; k < count; k++) brighten(rgba, k, 4, after[k] - before[k]);
  } else {
    for (let from = 0, to = 0; from < painted.length; from += 3, to += 4) {
      rgba[to] = painted[from];
      rgba[to + 1] = painted[from + 1];
      rgba[to + 2] = painted[from + 2];
    }
  }
  for (let to = 3; to < rgba.length; to += 4) rgba[to] = 255;
  postMessage({ painted: buffer, width, height, milliseconds: performance.now() - began }, [buffer]);
}

/** From the photo, which is in `rgb`, to the painted picture. @param {Uint8Array | Uint8ClampedArray} painted */
function mixed(painted, wanted) {
  if (wanted === 1) return painted;
  const result = new Uint8ClampedArray(painted.length); // it rounds
  for (let k = 0; k < result.length; k++) result[k] = rgb[k] + wanted * (painted[k] - rgb[k]);
  return result;
}
