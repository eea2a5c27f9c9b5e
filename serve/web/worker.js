/**
 * The network, in a thread of its own: RGBA bytes in, painted RGBA bytes out, in the same buffer. Pictures are opaque.
 *
 * Messages in:  {load: url, provider, threads, width, height}   a style, warmed up at that size before the answer
 *               {paint: ArrayBuffer, width, height, strength, stroke, keep_colors}
 * Messages out: {loaded: url} | {painted: ArrayBuffer, width, height, milliseconds} | {failed: sentence}
 */
import { Painter, Unsupported } from "./kernels/painter.js";
import { brighten, luminance, paintStrokes } from "./strokes.js";

/** The builds of the runtime: that for a graphics card has code for the processor too, and is twice the size. */
const BUILDS = {
  wasm: { script: "./ort/ort.wasm.min.mjs", code: "./ort/ort-wasm-simd-threaded.wasm.gz" },
  webgpu: { script: "./ort/ort.webgpu.min.mjs", code: "./ort/ort-wasm-simd-threaded.asyncify.wasm.gz" },
};
const WARM_UP = 3; // the first runs at a size are several times slower than the rest

/** @typedef {(photo: Uint8ClampedArray, width: number, height: number) => Promise<Uint8Array>} Paint from RGBA bytes to RGBA bytes */

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
  for (let k = 0; k < WARM_UP; k++) await network(new Uint8ClampedArray(4 * width * height), width, height);
  postMessage({ loaded: url });
}

/** The network in kernels of our own, where they know it and the browser can run them. @param {Uint8Array} model */
async function withKernels(model, threads) {
  painter ??= Painter.start(threads).catch(() => Painter.start()).catch(() => null); // ONNX Runtime tells what is missing
  const own = await painter;
  if (!own) painter = undefined; // the next style tries again
  try {
    own?.load(model);
  } catch (error) {
    if (error instanceof Unsupported) return null;
    throw error;
  }
  return own && /** @type {Paint} */ (async (photo, width, height) => paintedBy(own, photo, width, height));
}

/** @param {Painter} own */
function paintedBy(own, photo, width, height) {
  try {
    return own.paint(photo, width, height);
  } catch (error) {
    if (!own.style) painter = undefined; // it is broken: the next style starts another
    throw error;
  }
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
    const image = new Tensor("uint8", recoloured(photo, 4, 3), [1, height, width, 3]);
    const { stylized } = await fresh.run({ image, strength });
    return recoloured(/** @type {Uint8Array} */ (stylized.data), 3, 4);
  };
}

/** A picture with so many channels for each pixel, RGB or RGBA, with as many as that. @param {Uint8Array | Uint8ClampedArray} picture */
function recoloured(picture, channels, wanted) {
  const result = new Uint8Array((picture.length / channels) * wanted).fill(255);
  for (let from = 0, to = 0; from < picture.length; from += channels, to += wanted)
    for (let c = 0; c < 3; c++) result[to + c] = picture[from + c];
  return result;
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
async function paint({ paint: buffer, width, height, strength, stroke, keep_colors }) {
  const began = performance.now();
  const photo = new Uint8ClampedArray(buffer); // and then the picture
  const painted = await (stroke ? paintStrokes(network, photo, width, height, stroke) : network(photo, width, height));
  const picture = mix(keep_colors ? photo.slice() : photo, painted, strength);
  if (keep_colors) {
    const before = luminance(photo), after = luminance(picture);
    brighten(photo, before.map((grey, k) => after[k] - grey));
  }
  postMessage({ painted: buffer, width, height, milliseconds: performance.now() - began }, [buffer]);
}

/** Make a photo a picture painted with this strength. @param {Uint8ClampedArray} photo @param {ArrayLike<number>} painted */
function mix(photo, painted, strength) {
  if (strength === 1) photo.set(painted);
  else for (let k = 0; k < photo.length; k++) photo[k] += strength * (painted[k] - photo[k]); // rounded
  return photo;
}
