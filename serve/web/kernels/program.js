/**
 * A network at one size, as calls of kernels over buffers in the memory of WebAssembly.
 *
 * A program is numbers in that memory, which every thread reads: for each call the number of the kernel, how many rows its
 * result has, how many arguments follow, and these; and -1 after the last.
 */

/**
 * @typedef {import("./network.js").Step} Step
 * @typedef {import("./network.js").Convolution} Convolution
 * @typedef {ReturnType<typeof import("./network.js").readNetwork>} Network
 * @typedef {{at: number, key: string, uses: number}} Buffer
 * @typedef {{at: number, row: number, height: number, width: number, channels: number, buffer: Buffer}} Value
 *   `at`: the byte of its first number; `row`: floats from one row to the next
 */

export const KERNELS = ["convolve", "expand", "depthwise", "moments", "settle", "scale", "enlarge", "gather", "floats", "equalize", "bytes"];
const PAGE = 65536, FIRST = 2 * PAGE; // bytes; the first two pages are the compiler's
const LINE = 64; // bytes that a processor moves at a time
const CHUNK = 32; // of kernels.c

/** Memory that is given out from the front on, all zeros. It is there, and written to, from `commit` on. */
export class Heap {
  /** @param {WebAssembly.Memory} memory */
  constructor(memory) {
    this.memory = memory;
    this.end = this.written = FIRST;
    /** @type {(() => void)[]} */
    this.pending = [];
  }

  /** Where so many bytes are. @param {number} bytes */
  take(bytes) {
    const at = this.end;
    this.end = Math.ceil((at + bytes) / LINE) * LINE;
    return at;
  }

  /** Where these numbers are. @param {Float32Array | Float64Array | Int32Array} numbers */
  put(numbers) {
    const at = this.take(numbers.byteLength), { buffer, byteOffset, byteLength } = numbers;
    this.pending.push(() => new Uint8Array(this.memory.buffer, at, byteLength).set(new Uint8Array(buffer, byteOffset, byteLength)));
    return at;
  }

  /** Make room for all that was taken, at once, so that a picture that is too large takes nothing. */
  commit() {
    const missing = Math.ceil((this.end - this.memory.buffer.byteLength) / PAGE);
    try {
      if (missing > 0) this.memory.grow(missing);
    } catch (error) {
      this.pending = [];
      this.end = this.written;
      throw new Error("The picture is too large for the browser's memory: choose a smaller one.", { cause: error });
    }
    this.pending.splice(0).forEach((write) => write());
    this.written = this.end;
  }

  /** Give back all that was taken from there on. */
  reset(end = FIRST) {
    if (this.written > end) new Uint8Array(this.memory.buffer, end, this.written - end).fill(0);
    this.end = this.written = end;
    this.pending = [];
  }
}

/** Put the weights of a network into memory. @param {Network} network @param {Heap} heap @returns {Map<object, number>} */
export function placeWeights(network, heap) {
  const places = new Map();
  const place = (step) => {
    for (const part of ["weights", "bias", "gamma", "beta"]) if (step[part]) places.set(step[part], heap.put(step[part]));
    if (step.hidden) place(step.hidden);
  };
  network.steps.forEach(place);
  place(network.contrast);
  heap.commit();
  return places;
}

/**
 * @param {Network} network @param {Map<object, number>} places of its weights @param {Heap} heap
 * @returns {{program: number, photo: number, picture: number}} places in memory: of the program, of the photo's bytes and of
 *   the picture's, both RGBA
 */
export function compile(network, places, heap, width, height) {
  const compiler = new Compiler(network, places, heap);
  const photo = heap.take(4 * width * height), picture = heap.take(4 * width * height);
  compiler.begin(photo, width, height);
  for (const step of network.steps) compiler[step.kind](/** @type {any} */ (step));
  const { at, row } = compiler.value(network.last.to);
  compiler.call("bytes", height, at, row, picture, width, network.start);
  const program = heap.put(Float64Array.from([...compiler.calls, -1]));
  heap.commit();
  return { program, photo, picture };
}

class Compiler {
  /** @param {Network} network @param {Map<object, number>} places @param {Heap} heap */
  constructor(network, places, heap) {
    this.network = network;
    this.places = places;
    this.heap = heap;
    /** @type {number[]} */
    this.calls = [];
    /** @type {Map<string, Value>} */
    this.values = new Map();
    /** @type {Map<string, number[]>} buffers that are not used any more, by size */
    this.free = new Map();
    this.borders = bordersOf(network.steps);
    this.uses = usesOf(network);
    this.zeros = heap.take(64); // the bias of a convolution that has none
  }

  /** @param {string} kernel @param {number} rows @param {number[]} args */
  call(kernel, rows, ...args) {
    this.calls.push(KERNELS.indexOf(kernel), rows, args.length, ...args);
  }

  /** Where weights are. @param {Float32Array} weights */
  place(weights) {
    return /** @type {number} */ (this.places.get(weights));
  }

  value(name) {
    return /** @type {Value} */ (this.values.get(name));
  }

  /** A new value, in a buffer with zeros around it where a convolution wants them. @returns {Value} */
  make(name, height, width, channels) {
    const border = this.borders.get(name) ?? 0;
    const row = (width + 2 * border) * channels;
    const key = [height, width, channels, border].join();
    const free = this.free.get(key)?.pop();
    const start = free ?? this.heap.take(4 * row * (height + 2 * border));
    const buffer = { at: start, key, uses: this.uses.get(name) ?? 0 };
    const value = { at: start + 4 * border * (row + channels), row, height, width, channels, buffer };
    this.values.set(name, value);
    return value;
  }

  /** Another name for a value, or for a part of it. @param {Value} value */
  alias(name, value) {
    value.buffer.uses += this.uses.get(name) ?? 0;
    this.values.set(name, value);
  }

  /** That a step has used a value: after the last use another may have its buffer. */
  used(name) {
    const { buffer } = this.value(name);
    if (--buffer.uses === 0) this.free.set(buffer.key, [...(this.free.get(buffer.key) ?? []), buffer.at]);
  }

  /** The photo with the grain as a fourth channel, and the first convolution's weights for its contrast. */
  begin(photo, photoWidth, photoHeight) {
    const { padding, contrast, grain, first } = this.network;
    const rows = sources(photoHeight, padding), columns = sources(photoWidth, padding);
    const value = this.make(first.from, rows.length, columns.length, 4);
    value.buffer.uses = Infinity; // the grain stays in it
    this.heap.pending.push(() => {
      const floats = new Float32Array(this.heap.memory.buffer);
      for (let y = 0, to = value.at / 4 + 3; y < value.height; y++)
        for (let x = 0; x < value.width; x++, to += 4)
          floats[to] = grain.values[(y % grain.height) * grain.width + (x % grain.width)];
    });
    const lists = [this.heap.put(rows), this.heap.put(columns)];
    this.call("floats", value.height, photo, 4 * photoWidth, ...lists, value.at, value.row, value.width);
    const sums = this.moments(value);
    const coarse = this.make("contrast", Math.floor(value.height / 4), Math.floor(value.width / 4), 8);
    this.call(
      "convolve", coarse.height, value.at, value.row, 4, 4, 4, this.place(contrast.weights), this.zeros, 0, 0,
      coarse.at, coarse.row, coarse.width, 8, 0,
    );
    const squares = this.moments(coarse);
    const weights = this.heap.take(first.weights.byteLength), bias = this.heap.take(first.bias.byteLength);
    this.call(
      "equalize", 1, sums, value.height, value.height * value.width, squares, coarse.height, coarse.height * coarse.width,
      contrast.factor, contrast.least, contrast.unit, this.place(first.weights), this.place(first.bias),
      first.k ** 2, weights, bias, first.channels,
    );
    this.places = new Map([...this.places, [first.weights, weights], [first.bias, bias]]);
  }

  /** Where the sums of each row of a value will be. @param {Value} value */
  moments({ at, row, height, width, channels }) {
    const sums = this.heap.take(4 * 2 * height * channels);
    this.call("moments", height, at, row, width, channels, sums);
    return sums;
  }

  /** @param {Convolution} step */
  convolve(step) {
    const x = this.value(step.from);
    const [height, width] = [x.height, x.width].map((size) => Math.floor((size + 2 * step.pad - step.k) / step.stride) + 1);
    const y = this.make(step.to, height, width, step.channels);
    this.call(
      "convolve", height, x.at - 4 * step.pad * (x.row + x.channels), x.row, x.channels, step.k, step.stride, this.place(step.weights),
      this.place(step.bias), ...this.added(step), y.at, y.row, width, step.channels, Number(step.relu),
    );
    this.used(step.from);
  }

  /** @param {import("./network.js").Expansion} step */
  expand(step) {
    const x = this.value(step.from), { hidden } = step;
    const y = this.make(step.to, x.height, x.width, step.channels);
    const between = this.heap.take(4 * x.height * CHUNK * hidden.channels);
    const first = [this.place(hidden.weights), this.place(hidden.bias), between, hidden.channels];
    this.call(
      "expand", x.height, x.at, x.row, x.channels, ...first, this.place(step.weights), this.place(step.bias), ...this.added(step),
      y.at, y.row, y.width, step.channels, Number(step.relu),
    );
    this.used(step.from);
  }

  /** What is added to the result of a step: place and row. @param {{add?: string}} step */
  added({ add }) {
    if (!add) return [0, 0];
    const { at, row } = this.value(add);
    this.used(add);
    return [at, row];
  }

  /** @param {Convolution} step */
  depthwise(step) {
    const x = this.value(step.from), [height, width] = [x.height, x.width].map((size) => size + 2 * step.pad - step.k + 1);
    const y = this.make(step.to, height, width, x.channels);
    this.call(
      "depthwise", height, x.at - 4 * step.pad * (x.row + x.channels), x.row, step.k, this.place(step.weights),
      this.place(step.bias), y.at, y.row, width, x.channels, Number(step.relu),
    );
    this.used(step.from);
  }

  /** @param {import("./network.js").Normalization} step */
  normalize(step) {
    const x = this.value(step.from), { at, row, height, width, channels } = x;
    const sums = this.moments(x), scaling = this.heap.take(8 * channels);
    const numbers = [this.place(step.gamma), this.place(step.beta), step.epsilon];
    this.call("settle", channels, sums, height, height * width, channels, ...numbers, scaling);
    this.call("scale", height, at, row, width, channels, scaling, Number(step.relu));
    this.alias(step.to, x);
    this.used(step.from);
  }

  /** @param {import("./network.js").Cut} step */
  cut(step) {
    const x = this.value(step.from);
    const at = x.at + 4 * (step.top * x.row + step.left * x.channels);
    this.alias(step.to, { ...x, at, height: x.height - step.top, width: x.width - step.left });
    this.used(step.from);
  }

  /** @param {import("./network.js").Reflection} step */
  reflect(step) {
    const x = this.value(step.from);
    const list = (before, size, after) => Int32Array.from({ length: before + size + after }, (_, k) => mirrored(k - before, size));
    const lists = [list(step.top, x.height, step.bottom), list(step.left, x.width, step.right)];
    const y = this.make(step.to, lists[0].length, lists[1].length, x.channels);
    this.call("gather", y.height, x.at, x.row, ...lists.map((numbers) => this.heap.put(numbers)), y.at, y.row, y.width, x.channels);
    this.used(step.from);
  }

  /** @param {import("./network.js").Enlargement} step */
  enlarge(step) {
    const x = this.value(step.from);
    const y = this.make(step.to, 2 * x.height, 2 * x.width, x.channels);
    this.call("enlarge", y.height, x.at, x.row, x.height, x.width, x.channels, ...this.added(step), y.at, y.row);
    this.used(step.from);
  }
}

/** How many zeros a value needs around it for the convolutions that use it. @param {Step[]} steps */
function bordersOf(steps) {
  /** @type {Map<string, number>} */
  const borders = new Map();
  const want = (name, border = 0) => borders.set(name, Math.max(border, borders.get(name) ?? 0));
  for (const step of [...steps].reverse()) {
    if ("pad" in step) want(step.from, step.pad);
    if (step.kind === "normalize") want(step.from, borders.get(step.to)); // it is the same buffer
  }
  return borders;
}

/** How often each value is used. @param {Network} network */
function usesOf({ steps, last }) {
  const names = [last.to, ...steps.flatMap((step) => ("add" in step && step.add ? [step.from, step.add] : [step.from]))];
  /** @type {Map<string, number>} */
  const uses = new Map();
  for (const name of names) uses.set(name, (uses.get(name) ?? 0) + 1);
  return uses;
}

/** Where a place beyond a row of `size` pixels lies in it. */
function mirrored(place, size) {
  return place < 0 ? -place : place >= size ? 2 * size - 2 - place : place;
}

/** The pixel of the photo that each one of the padded photo is. @param {number} size @param {Network["padding"]} padding */
function sources(size, { inner, before, after, multiple, margin }) {
  const missing = (((-margin - size) % multiple) + multiple) % multiple;
  const middle = size + 2 * inner;
  return Int32Array.from({ length: before + middle + after + missing }, (_, k) => mirrored(mirrored(k - before, middle) - inner, size));
}
