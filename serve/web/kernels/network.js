/** The networks that the kernels can run: the graph of a model file as steps, before a size is known. */
import { readGraph } from "./onnx.js";

/** @typedef {import("./onnx.js").Node} Node @typedef {import("./onnx.js").Constant} Constant */

/**
 * What a network does, one after the other: the value `to` is made from `from`, and from `add` where there is one. Weights are
 * packed as kernels.c wants them.
 * @typedef {{from: string, to: string, add?: string, relu: boolean, k: number, stride: number, pad: number, channels: number,
 *   weights: Float32Array, bias: Float32Array}} Filters
 * @typedef {{kind: "convolve" | "depthwise"} & Filters} Convolution
 * @typedef {{kind: "expand", hidden: Convolution} & Filters} Expansion two convolutions of 1x1 and the ReLU between them
 * @typedef {{kind: "normalize", from: string, to: string, relu: boolean, gamma: Float32Array, beta: Float32Array,
 *   epsilon: number}} Normalization
 * @typedef {{kind: "cut", from: string, to: string, top: number, left: number}} Cut
 * @typedef {{kind: "reflect", from: string, to: string, top: number, left: number, bottom: number, right: number}} Reflection
 * @typedef {{kind: "enlarge", from: string, to: string, add: string}} Enlargement
 * @typedef {Convolution | Expansion | Normalization | Cut | Reflection | Enlargement} Step
 */

/** That a model is of another kind than the kernels are for; ONNX Runtime runs those. */
export class Unsupported extends Error {}

const TAIL =
  "Clip Cast Shape Slice Shape Slice Shape Slice Mul Mul Concat Reshape Transpose Concat Reshape Transpose Concat Reshape " +
  "Concat Add Slice Equal If";

/** @param {Uint8Array} file a model file of this project @throws {Unsupported} for others, and for damaged ones */
export function readNetwork(file) {
  try {
    return networkOf(new Graph(file));
  } catch (error) {
    throw error instanceof Unsupported ? error : new Unsupported("The kernels can't read the model.", { cause: error });
  }
}

/** @param {Graph} graph */
function networkOf(graph) {
  const { nodes } = graph;
  demand(graph.producer === "allaprima", "its maker");
  const begin = nodes.findIndex((node) => node.kind === "Conv" && graph.maker(node.inputs[0])?.kind === "Concat");
  const end = nodes.findIndex(({ kind }) => kind === "Clip");
  const tail = nodes.slice(end);
  demand(begin >= 0 && tail.map(({ kind }) => kind).join(" ") === TAIL, "its begin or end");
  const [photo, grain] = graph.joined(nodes[begin].inputs[0]);
  const steps = stepsOf(graph, nodes.slice(begin, end));
  const first = steps[0], last = steps[steps.length - 1];
  if (first.kind !== "convolve" || first.channels % 8 || first.pad) throw new Unsupported("The kernels want another first step.");
  demand(last.kind === "convolve" && last.channels === 12 && last.to === tail[0].inputs[0], "its last convolution");
  return { ...photoOf(graph, photo), grain: grainOf(graph, grain), first, last, steps, start: startOf(graph, tail) };
}

/** Where the picture begins in what was painted, once it is clear that its bytes are made as usual. @param {Node[]} tail */
function startOf(graph, tail) {
  const orders = tail.filter(({ kind }) => kind === "Transpose").map((node) => attribute(node, "perm").join(""));
  const range = [1, 2].map((place) => graph.values(tail[0].inputs[place])[0]);
  const [top, left] = graph.values(tail[tail.length - 3].inputs[1]);
  demand(orders.join() === "01342,0213" && range.join() === "0,255.5" && top === left && top % 2 === 0, "its end");
  return top;
}

class Graph {
  /** @param {Uint8Array} file */
  constructor(file) {
    const { producer, nodes, constants } = readGraph(file);
    this.producer = producer;
    this.nodes = nodes;
    this.constants = constants;
    /** @type {Map<string, Node[]>} */
    this.users = new Map();
    this.makers = new Map(this.nodes.flatMap((node) => node.outputs.map((name) => [name, node])));
    for (const node of this.nodes)
      for (const name of node.inputs) this.users.set(name, [...(this.users.get(name) ?? []), node]);
  }

  /** The node that makes a value. @param {string} name @returns {Node | undefined} */
  maker(name) {
    return this.makers.get(name);
  }

  /** The node that alone uses a value, where it is of this kind. @param {string} name @param {string} kind */
  user(name, kind) {
    const users = this.users.get(name) ?? [];
    return users.length === 1 && users[0].kind === kind ? users[0] : undefined;
  }

  /** @param {string | undefined} name @returns {Constant} */
  constant(name) {
    const constant = this.constants.get(name ?? "");
    if (!constant) throw new Unsupported(`The kernels want ${name} to be a constant.`);
    demand(constant.dims.reduce((size, side) => size * side, 1) === constant.values.length, "the size of a constant");
    return constant;
  }

  /** @param {string | undefined} name @returns {ArrayLike<number>} */
  values(name) {
    return this.constant(name).values;
  }

  /** What a list is joined of. @param {string} name @returns {string[]} */
  joined(name) {
    const node = this.maker(name);
    return node?.kind === "Concat" ? node.inputs.flatMap((part) => this.joined(part)) : [name];
  }

  /** The nodes that lead to a value, from the last one on, each the first input of the one before. @param {string} kinds */
  trace(name, kinds) {
    return kinds.split(" ").map((kind) => {
      const node = this.maker(name);
      if (node?.kind !== kind) throw new Unsupported(`The kernels don't know a ${node?.kind} where a ${kind} is usual.`);
      name = node.inputs[0];
      return node;
    });
  }
}

/** @param {unknown} condition @param {string} what */
function demand(condition, what) {
  if (!condition) throw new Unsupported(`The kernels don't know the network: ${what} is another one.`);
}

/** How the photo is padded, and how its contrast is measured and made equal. @param {Graph} graph @param {string} name */
function photoOf(graph, name) {
  const [scaled, , , , outer, inner] = graph.trace(name, "Mul Sub Transpose Cast Pad Pad");
  const [made, , down, right] = graph.joined(outer.inputs[1]);
  const [sum, mod, sub] = graph.trace(down, "Add Mod Sub");
  const isReflected = [outer, inner].every((node) => node.attributes.get("mode") === "reflect");
  demand(isReflected && graph.maker(right)?.kind === "Add" && inner.inputs[0] === "image", "the padding of its photo");
  const padding = {
    inner: graph.values(inner.inputs[1])[1],
    before: graph.values(made)[1],
    after: graph.values(sum.inputs[1])[0],
    multiple: graph.values(mod.inputs[1])[0],
    margin: -graph.values(sub.inputs[0])[0],
  };
  const [divided] = graph.trace(scaled.inputs[1], "Div");
  const [, floor, factor, , , , conv] = graph.trace(divided.inputs[1], "Sqrt Add Mul ReduceMean GlobalAveragePool Mul Conv");
  const filters = graph.constant(conv.inputs[1]);
  const isUsual = attribute(conv, "strides").join() === "4,4" && !attribute(conv, "pads").some(Boolean) && !conv.inputs[2];
  demand(filters.dims.join() === "8,3,4,4" && isUsual, "the measure of contrast");
  const contrast = {
    weights: packed(filters, 4),
    factor: graph.values(factor.inputs[1])[0],
    least: graph.values(floor.inputs[1])[0],
    unit: graph.values(divided.inputs[0])[0],
  };
  return { padding, contrast };
}

/** The grain, which is stored as bits. @param {Graph} graph @param {string} name */
function grainOf(graph, name) {
  const made = graph.trace(name, "Slice Tile Slice Mul Sub Cast Reshape Mod Div Cast");
  const constant = (place) => graph.values(made[place].inputs[1]);
  const [factor, offset, shape, modulus, divisors] = [3, 4, 6, 7, 8].map(constant);
  const bytes = graph.values(made[9].inputs[0]);
  const values = new Float32Array(shape[2] * shape[3]);
  for (let k = 0; k < values.length; k++) {
    const bit = Math.floor(bytes[Math.floor(k / divisors.length)] / divisors[k % divisors.length]) % modulus[0];
    values[k] = (bit - offset[0]) * factor[0];
  }
  return { values, height: shape[2], width: shape[3] };
}

/** @param {Graph} graph @param {Node[]} nodes @returns {Step[]} */
function stepsOf(graph, nodes) {
  /** @type {Step[]} */
  const steps = [];
  const done = new Set();
  /** @type {Map<string, number>} the values that there are, and how many channels they have */
  const known = new Map([[nodes[0].inputs[0], 4]]);
  for (const node of nodes) {
    if (done.has(node)) continue;
    demand(Object.hasOwn(READERS, node.kind) && known.has(node.inputs[0]), node.kind);
    const step = READERS[node.kind](graph, node, known, done);
    const isOfACut = steps.some(({ kind, to }) => kind === "cut" && to === step.from);
    demand(!(isOfACut && (step.pad || step.kind === "normalize")), "what surrounds a value"); // it is a part of another
    demand(isFitting(step, known), "the size of its weights");
    known.set(step.to, step.channels ?? known.get(step.from));
    steps.push(step);
  }
  return steps;
}

/** Whether the weights of a step are those of the values that it takes. @param {any} step */
function isFitting({ kind, from, add, k, weights, bias, channels, hidden, gamma, beta }, known) {
  const inputs = known.get(from);
  if (kind === "normalize") return gamma.length === inputs && beta.length === inputs;
  if (kind === "enlarge") return known.get(add) === inputs;
  if (!weights) return true;
  const taps = kind === "depthwise" ? 1 : hidden ? hidden.channels : inputs;
  const isOwn = weights.length === channels * taps * k * k && bias.length === channels && (!add || known.get(add) === channels);
  const isHidden = !hidden || (hidden.weights.length === hidden.channels * inputs && hidden.bias.length === hidden.channels);
  return isOwn && isHidden && (kind !== "depthwise" || channels === inputs);
}

/** @param {Node} node @param {string} name @returns {number[]} */
function attribute(node, name) {
  return node.attributes.get(name) ?? [];
}

/** Take the node that alone uses what a step makes, where it is of that kind, into the step. */
function absorb(graph, step, kind, done) {
  const node = graph.user(step.to, kind);
  if (!node) return null;
  done.add(node);
  const other = node.inputs.find((name) => name !== step.to);
  step.to = node.outputs[0];
  return other ?? true;
}

/** The same for a sum with a value that is there already. */
function absorbSum(graph, step, known, done) {
  const sum = graph.user(step.to, "Add");
  if (sum?.inputs.some((name) => known.has(name))) step.add = absorb(graph, step, "Add", done);
}

/** Whether a convolution is of 1x1 and nothing else, in the blocks of channels that `expand` takes. */
function isOfPixels(graph, node) {
  const ones = [...attribute(node, "kernel_shape"), ...attribute(node, "strides"), node.attributes.get("group")];
  const isPlain = ones.every((number) => number === 1) && !attribute(node, "pads").some(Boolean);
  return isPlain && graph.constant(node.inputs[1]).dims[0] !== 12;
}

const READERS = {
  Conv(graph, node, known, done) {
    const filters = graph.constant(node.inputs[1]), [channels, inputs, k] = filters.dims;
    const [stride] = attribute(node, "strides"), [pad] = attribute(node, "pads");
    const group = node.attributes.get("group"), isDepthwise = group > 1;
    const isEven = ["pads", "strides"].every((name) => new Set(attribute(node, name)).size === 1);
    demand(channels % 4 === 0 && filters.dims[3] === k && isEven, "a convolution");
    demand(attribute(node, "dilations").join() === "1,1", "a convolution");
    demand(!isDepthwise || (inputs === 1 && stride === 1 && group === channels), "a convolution");
    const bias = node.inputs[2] ? Float32Array.from(graph.values(node.inputs[2])) : new Float32Array(channels);
    const step = { from: node.inputs[0], to: node.outputs[0], k, stride, pad, channels, bias, relu: false };
    if (isDepthwise) {
      step.relu = Boolean(absorb(graph, step, "Relu", done));
      return { kind: "depthwise", ...step, weights: transposed(filters) };
    }
    absorbSum(graph, step, known, done);
    step.relu = Boolean(absorb(graph, step, "Relu", done));
    const made = { kind: "convolve", ...step, weights: packed(filters, inputs) };
    const back = isOfPixels(graph, node) && step.relu && !step.add && graph.user(step.to, "Conv");
    if (!back || !isOfPixels(graph, back)) return made;
    done.add(back);
    const second = READERS.Conv(graph, back, known, done);
    demand(second.kind === "convolve", "a block");
    return { ...second, kind: "expand", from: step.from, hidden: made };
  },

  InstanceNormalization(graph, node, _known, done) {
    const [from, gamma, beta] = node.inputs;
    demand(graph.user(from, node.kind), "a normalization"); // it is made in place
    const step = { kind: "normalize", from, to: node.outputs[0], epsilon: node.attributes.get("epsilon") ?? 1e-5, relu: false };
    step.relu = Boolean(absorb(graph, step, "Relu", done));
    return { ...step, gamma: Float32Array.from(graph.values(gamma)), beta: Float32Array.from(graph.values(beta)) };
  },

  Slice(graph, node) {
    const [from, starts, ends, axes] = node.inputs;
    const [top, left] = Array.from(graph.values(starts));
    const isToTheEnd = Array.from(graph.values(ends)).every((end) => end > 2 ** 30);
    demand(Array.from(graph.values(axes)).join() === "2,3" && isToTheEnd && top >= 0 && left >= 0 && !node.inputs[4], "a slice");
    return { kind: "cut", from, to: node.outputs[0], top, left };
  },

  Pad(graph, node) {
    const [n, c, top, left, n2, c2, bottom, right] = Array.from(graph.values(node.inputs[1]));
    demand(node.attributes.get("mode") === "reflect" && !(n || c || n2 || c2), "a padding");
    return { kind: "reflect", from: node.inputs[0], to: node.outputs[0], top, left, bottom, right };
  },

  Resize(graph, node, known, done) {
    const ways = ["mode", "coordinate_transformation_mode"].map((name) => node.attributes.get(name)).join();
    const isDouble = Array.from(graph.values(node.inputs[2])).join() === "1,1,2,2" && ways === "linear,half_pixel";
    const step = { kind: "enlarge", from: node.inputs[0], to: node.outputs[0] };
    absorbSum(graph, step, known, done);
    demand(isDouble && step.add, "a resize");
    return step;
  },
};

/**
 * Filters [out, in, k, k] in blocks of output channels [row][column, in][out of the block].
 * @param {Constant} filters @param {number} inputs at least the filters' own; the others have zeros
 */
function packed({ dims: [out, own, k], values }, inputs) {
  const result = new Float32Array(out * k * k * inputs), most = out === 12 ? 12 : 8; // as kernels.c has it
  let to = 0;
  for (let block = 0; block < out; block += most) {
    const size = Math.min(most, out - block);
    for (let tap = 0; tap < k * k; tap++)
      for (let c = 0; c < inputs; c++)
        for (let o = block; o < block + size; o++) result[to++] = c < own ? values[(o * own + c) * k * k + tap] : 0;
  }
  return result;
}

/** Filters [channel, 1, k, k] as [k, k, channel]. @param {Constant} filters */
function transposed({ dims: [channels, , k], values }) {
  return Float32Array.from({ length: channels * k * k }, (_, at) => values[(at % channels) * k * k + Math.floor(at / channels)]);
}
