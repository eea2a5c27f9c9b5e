/** A reader of ONNX model files: the nodes of the graph and its constants, as onnx.proto numbers their fields. */

/**
 * @typedef {{kind: string, inputs: string[], outputs: string[], attributes: Map<string, any>}} Node
 *   an attribute is a number, a text or numbers
 * @typedef {{dims: number[], values: ArrayLike<number>}} Constant
 */

const DAMAGED = "This is not a whole ONNX file.";
const FLOAT = 1, UINT8 = 2, INT32 = 6, INT64 = 7; // TensorProto.DataType

/** @param {Uint8Array} file @returns {{producer: string, nodes: Node[], constants: Map<string, Constant>}} */
export function readGraph(file) {
  const nodes = [], constants = new Map();
  let producer = "";
  for (const [field, graph] of fields(file)) {
    if (field === 2) producer = text(graph);
    if (field !== 7) continue; // ModelProto.graph
    for (const [kind, part] of fields(graph)) {
      if (kind === 1) nodes.push(readNode(part));
      if (kind === 5) constants.set(...readTensor(part));
    }
  }
  return { producer, nodes, constants };
}

/** The fields of a message: numbers as such, all else as bytes. @param {Uint8Array} message @returns {Generator<[number, any]>} */
function* fields(message) {
  const cursor = { at: 0 };
  while (cursor.at < message.length) {
    const key = varint(message, cursor), type = key & 7;
    if (type === 0) yield [key >>> 3, varint(message, cursor)];
    else {
      const length = type === 2 ? varint(message, cursor) : { 1: 8, 5: 4 }[type];
      if (!(length >= 0 && cursor.at + length <= message.length)) throw new RangeError(DAMAGED);
      yield [key >>> 3, message.subarray(cursor.at, (cursor.at += length))];
    }
  }
}

/** A whole number in groups of 7 bits, with its sign where it has 64 bits. */
function varint(bytes, cursor) {
  let value = 0n;
  for (let shift = 0n; shift < 70n && cursor.at < bytes.length; shift += 7n) {
    const byte = bytes[cursor.at++];
    value |= BigInt(byte & 127) << shift;
    if (!(byte & 128)) return Number(BigInt.asIntN(64, value));
  }
  throw new RangeError(DAMAGED);
}

const text = (bytes) => new TextDecoder().decode(bytes);

/** @param {Uint8Array} message @returns {Node} */
function readNode(message) {
  /** @type {Node} */
  const made = { kind: "", inputs: [], outputs: [], attributes: new Map() };
  for (const [field, value] of fields(message)) {
    if (field === 1) made.inputs.push(text(value));
    if (field === 2) made.outputs.push(text(value));
    if (field === 4) made.kind = text(value);
    if (field === 5) readAttribute(value, made);
  }
  return made;
}

/** @param {Uint8Array} message @param {Node} node */
function readAttribute(message, node) {
  let name = "";
  let value;
  const ints = [];
  for (const [field, content] of fields(message)) {
    if (field === 1) name = text(content);
    if (field === 2) value = view(content).getFloat32(0, true);
    if (field === 3) value = content;
    if (field === 4) value = text(content);
    if (field === 8) ints.push(...(typeof content === "number" ? [content] : packed(content)));
  }
  node.attributes.set(name, value ?? ints);
}

const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function packed(bytes) {
  const values = [], cursor = { at: 0 };
  while (cursor.at < bytes.length) values.push(varint(bytes, cursor));
  return values;
}

/** @param {Uint8Array} message @returns {[string, Constant]} */
function readTensor(message) {
  let name = "", type = 0, raw = new Uint8Array(0);
  const dims = [];
  for (const [field, value] of fields(message)) {
    if (field === 1) dims.push(...(typeof value === "number" ? [value] : packed(value)));
    if (field === 2) type = value;
    if (field === 8) name = text(value);
    if (field === 9) raw = Uint8Array.from(value); // aligned, as the arrays below want it
  }
  return [name, { dims, values: numbers(raw, type) }];
}

/** @returns {ArrayLike<number>} none for types that no style has */
function numbers(raw, type) {
  if (type === FLOAT) return new Float32Array(raw.buffer);
  if (type === UINT8) return raw;
  if (type === INT32) return new Int32Array(raw.buffer);
  if (type === INT64) return Array.from(new BigInt64Array(raw.buffer), Number);
  return [];
}
