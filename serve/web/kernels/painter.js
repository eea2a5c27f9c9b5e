/** Paints with kernels of our own, several times as fast as a general runtime: see docs/browser.md. */
import { readNetwork } from "./network.js";
import { Heap, KERNELS, compile, placeWeights } from "./program.js";
import { lead } from "./threads.js";

export { Unsupported } from "./network.js";

const MOST = [65535, 16384]; // pages of memory; a telephone may refuse to share the first
const LEAST = 16; // px

/** The kernels at work: in a worker, so that the page goes on meanwhile, or on one thread in the page itself. */
export class Painter {
  /**
   * @param {number} threads more than one in isolated pages alone
   * @param {(name: string) => Promise<BufferSource>} file the kernels by name: "relaxed.wasm", say; those beside this file
   */
  static async start(threads = 1, file = fetched) {
    const ending = threads > 1 ? ".shared.wasm" : ".wasm";
    let code = await file("relaxed" + ending);
    if (!WebAssembly.validate(code)) code = await file("simd" + ending); // a browser without relaxed SIMD
    const module = await WebAssembly.compile(code);
    const painter = new Painter(module, threads);
    const { memory, control } = painter;
    // before this thread waits for the others, which can't start while it does
    const orders = Array.from({ length: threads - 1 }, (_, k) => ({ module, memory, control, thread: k + 1, threads }));
    await Promise.all(orders.map(hired));
    return painter;
  }

  /** @param {WebAssembly.Module} module */
  constructor(module, threads) {
    this.memory = memoryFor(threads);
    const { exports } = new WebAssembly.Instance(module, { env: { memory: this.memory } });
    this.kernels = KERNELS.map((name) => /** @type {CallableFunction} */ (exports[name]));
    this.threads = threads;
    this.control = new Int32Array(threads > 1 ? new SharedArrayBuffer(16) : new ArrayBuffer(16));
    this.heap = new Heap(this.memory);
    /** @type {{network: ReturnType<typeof readNetwork>, places: Map<object, number>, end: number} | undefined} */
    this.style = undefined;
    this.size = "";
  }

  /** Paint with this model file from now on. @param {Uint8Array} model @throws {import("./network.js").Unsupported} */
  load(model) {
    const network = readNetwork(model);
    this.heap.reset();
    this.style = { network, places: placeWeights(network, this.heap), end: this.heap.end };
    this.size = "";
  }

  /**
   * @param {ArrayLike<number>} photo RGBA bytes, as of an ImageData @param {number} width @param {number} height both at least LEAST
   * @returns {Uint8Array} the painted ones, opaque; they last until the next call
   */
  paint(photo, width, height) {
    if (photo.length !== 4 * width * height || Math.min(width, height) < LEAST)
      throw new RangeError(`A photo has 4 bytes for each pixel and at least ${LEAST} pixels a side.`);
    const { program, photo: from, picture } = this.compiled(width, height);
    const bytes = new Uint8Array(this.memory.buffer);
    bytes.set(photo, from);
    lead(this, program);
    return bytes.subarray(picture, picture + photo.length);
  }

  /** The network at a size, the last one that was asked for. */
  compiled(width, height) {
    if (!this.style) throw new Error("No style is loaded.");
    const { network, places, end } = this.style, size = `${width}x${height}`;
    if (this.size !== size) {
      this.size = "";
      this.heap.reset(end);
      this.program = compile(network, places, this.heap, width, height);
      this.size = size;
    }
    return /** @type {ReturnType<typeof compile>} */ (this.program);
  }
}

function memoryFor(threads) {
  const memory = (maximum) => new WebAssembly.Memory({ initial: 2, maximum, shared: threads > 1 });
  try {
    return memory(MOST[0]);
  } catch {
    return memory(MOST[1]);
  }
}

/** A worker that is one more thread, once it is ready. @returns {Promise<void>} */
function hired(order) {
  const hand = new Worker(new URL("./hand.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    hand.onmessage = () => resolve();
    hand.onerror = () => reject(new Error("A thread can't be started: use one."));
    hand.postMessage(order);
  });
}

/** @param {string} name */
async function fetched(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} can't be loaded (${answer.status}).`);
  return answer.arrayBuffer();
}
