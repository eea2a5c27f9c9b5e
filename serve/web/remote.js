/** The server engine: frames over one WebSocket, as serve/frames.py says. */

const BUSY = "The server paints for as many pages as it can: this browser paints now. Try the server again later.";
const STOPPED = "The server has stopped: this browser paints now. Start the server again, then choose it at Painted by.";
const OVERLOADED = 1013; // why the server closes a connection that it has no place for
const PAUSES = [0, 1000, 3000]; // ms before each try to connect again: a computer that wakes is not online at once

export class Remote {
  depth = 2; // orders under way: one is painted while the next is on its way. A third would give way, or another to it.

  /** @param {(error: Error) => void} lost is told when the connection ends unasked. */
  constructor(lost) {
    this.lost = lost;
    this.style = "";
    this.count = 0;
    /** @type {Map<number, PromiseWithResolvers<{painted: Uint8Array}> & {message: Uint8Array<ArrayBuffer>}>} */
    this.waiting = new Map();
    /** @type {number[]} before each try that is left; an answer renews them */
    this.pauses = [];
    /** @type {Promise<WebSocket> | null} */
    this.opening = null;
    this.unanswered = 0; // orders, those among them that are not sent yet
    this.unwanted = false; // the connection, once that is none
  }

  /** Make a style the one that paints, warm at this size. @param {string} style its name on the server */
  async load(style, width, height) {
    await this.order(style, new Uint8Array(4 * width * height), width, height, {});
    this.style = style;
  }

  /**
   * The painted picture of an RGBA buffer, which stays as it is.
   * @returns {Promise<{painted: Uint8Array}>}
   */
  paint(buffer, width, height, controls) {
    return this.order(this.style, new Uint8Array(buffer), width, height, controls);
  }

  async order(style, pixels, width, height, controls) {
    this.unwanted = false;
    this.unanswered++;
    try {
      return await this.send(style, pixels, width, height, controls);
    } finally {
      this.unanswered--;
      this.rest();
    }
  }

  async send(style, pixels, width, height, controls) {
    let socket = await (this.opening ??= this.establish());
    while (this.waiting.size >= this.depth) {
      await Promise.race([...this.waiting.values()].map((order) => order.promise.catch(() => {})));
      socket = await (this.opening ??= this.establish()); // it may have broken meanwhile
    }
    const id = ++this.count;
    const head = new TextEncoder().encode(`${JSON.stringify({ id, style, width, height, ...controls })}\n`);
    const message = new Uint8Array(head.length + pixels.length);
    message.set(head);
    message.set(pixels, head.length);
    const order = { ...Promise.withResolvers(), message };
    this.waiting.set(id, order);
    socket.send(message);
    return order.promise;
  }

  /** A connection, over which all is sent that has no answer yet. @returns {Promise<WebSocket>} */
  async establish() {
    try {
      const socket = await this.connect();
      this.waiting.forEach(({ message }) => socket.send(message));
      return socket;
    } catch {
      return this.again();
    }
  }

  /** Another connection after a pause, as long as there are tries left. @returns {Promise<WebSocket>} */
  async again(words = STOPPED) {
    const pause = words === BUSY ? undefined : this.pauses.shift();
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (pause !== undefined) return this.establish();
    const error = new Error(words);
    this.waiting.forEach((order) => order.reject(error));
    this.waiting.clear();
    if (this.opening) this.lost(error);
    this.opening = null;
    throw error;
  }

  /** @returns {Promise<WebSocket>} */
  connect() {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(new URL("api/frames", location.href).href.replace("http", "ws"));
      socket.binaryType = "arraybuffer";
      socket.onmessage = ({ data }) => this.take(new Uint8Array(data));
      socket.onclose = reject;
      socket.onopen = () => {
        resolve(socket);
        socket.onclose = ({ code }) => {
          this.opening = this.again(code === OVERLOADED ? BUSY : STOPPED);
          this.opening.catch(() => {}); // `lost` is told
        };
      };
    });
  }

  /** @param {Uint8Array} message */
  take(message) {
    const end = message.indexOf(10);
    const { id, error } = JSON.parse(new TextDecoder().decode(message.subarray(0, end)));
    const order = this.waiting.get(id);
    this.waiting.delete(id);
    this.pauses = [...PAUSES];
    error ? order?.reject(new Error(error)) : order?.resolve({ painted: message.subarray(end + 1) });
  }

  /** Give the place on the server back, once every order is answered; the next order takes one again. */
  close() {
    this.unwanted = true;
    this.rest();
  }

  rest() {
    if (!this.unwanted || this.unanswered) return;
    const opening = this.opening;
    this.opening = null;
    opening?.then(
      (socket) => {
        socket.onclose = null;
        socket.close();
      },
      () => {},
    );
  }
}
