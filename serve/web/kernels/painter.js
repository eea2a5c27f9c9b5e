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
    if (!(Number.isInteger(threads) && threads > 0)) throw new RangeError("The number of threads is a whole one above 0.");
    if (threads > 1 && "document" in globalThis) throw new RangeError("A page can't wait for threads: start it in a worker.");
    const ending = threads > 1 ? ".shared.wasm" : ".wasm";
    let code = await file("relaxed" + ending);
    if (!WebAssembly.validate(code)) code = await file("simd" + ending); // a browser without relaxed SIMD
    const module = await WebAssembly.compile(code), memory = memoryFor(threads);
    const painter = new Painter(await WebAssembly.instantiate(module, { env: { memory } }), memory, threads);
    const orders = Array.from({ length: threads - 1 }, (_, k) => ({ module, memory, control: painter.control, thread: k + 1, threads }));
    painter.hands = orders.map(() => new Worker(new URL("./hand.js", import.meta.url), { type: "module" }));
    // before this thread waits for the others, which can't start while it does
    await Promise.all(orders.map((order, k) => hired(painter.hands[k], order)));
    return painter;
  }

  /** @param {WebAssembly.Instance} instance @param {WebAssembly.Memory} memory */
  constructor({ exports }, memory, threads) {
    this.memory = memory;
    this.kernels = KERNELS.map((name) => /** @type {CallableFunction} */ (exports[name]));
    this.threads = threads;
    this.control = new Int32Array(threads > 1 ? new SharedArrayBuffer(16) : new ArrayBuffer(16));
    this.heap = new Heap(this.memory);
    /** @type {{network: ReturnType<typeof readNetwork>, places: Map<object, number>, end: number} | undefined} */
    this.style = undefined;
    this.size = "";
    /** @type {Worker[]} */
    this.hands = [];
  }

  /** End its threads. It can't paint any more. */
  close() {
    for (const hand of this.hands) hand.terminate();
    this.style = undefined;
  }

  /**
   * Paint with this model file from now on; with the one before where it is Unsupported.
   * @param {Uint8Array | ArrayBuffer} model @throws {import("./network.js").Unsupported}
   */
  load(model) {
    const network = readNetwork(model instanceof ArrayBuffer ? new Uint8Array(model) : model);
    this.style = undefined;
    this.heap.reset();
    this.style = { network, places: placeWeights(network, this.heap), end: this.heap.end };
    this.size = "";
  }

  /**
   * @param {ArrayLike<number>} photo RGBA bytes, as of an ImageData @param {number} width @param {number} height both at least LEAST
   * @returns {Uint8Array} the painted ones, opaque; they last until the next call, and lie in memory that threads share
   */
  paint(photo, width, height) {
    const isPhoto = Number.isInteger(width) && photo.length === 4 * width * height && Math.min(width, height) >= LEAST;
    if (!isPhoto)
      throw new RangeError(`A photo has 4 bytes for each pixel and at least ${LEAST} pixels a side.`);
    const { program, photo: from, picture } = this.compiled(width, height);
    const bytes = new Uint8Array(this.memory.buffer);
    bytes.set(photo, from);
    try {
      lead(this, program);
    } catch (error) {
      this.close(); // the threads are at different places
      throw error;
    }
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

/** Once a worker with hand.js is one more thread. @param {Worker} hand @returns {Promise<void>} */
function hired(hand, order) {
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
