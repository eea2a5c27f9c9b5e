/** The page's side of the worker: one order under way at a time, so that the delay never grows. */

/** @typedef {{strength: number, stroke?: number | null, keep_colors?: boolean}} Controls as core/contract.py has them */

export class Engine {
  depth = 1; // frames under way

  /** @param {"wasm" | "webgpu"} provider what computes: the processor, or the graphics card */
  constructor(provider = "wasm") {
    this.provider = provider;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.threads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
    /** @type {Promise<unknown>} */
    this.line = Promise.resolve();
  }

  /**
   * Make a style the one that paints, warm at this size.
   * @param {string} url
   */
  load(url, width, height) {
    return this.order({ load: url, provider: this.provider, threads: this.threads, width, height });
  }

  /**
   * The painted picture of an RGBA buffer, in the same memory, which is handed over meanwhile.
   * @param {Controls} controls
   * @returns {Promise<{painted: ArrayBuffer, milliseconds: number}>}
   */
  paint(buffer, width, height, controls) {
    return this.order({ paint: buffer, width, height, ...controls }, [buffer]);
  }

  /** @param {object} message @param {Transferable[]} handed */
  order(message, handed = []) {
    const work = this.line.then(
      () =>
        new Promise((resolve, reject) => {
          this.worker.onmessage = ({ data }) => (data.failed ? reject(new Error(data.failed)) : resolve(data));
          this.worker.onerror = () => reject(new Error("The painting engine can't be started: reload the page."));
          this.worker.postMessage(message, handed);
        }),
    );
    this.line = work.catch(() => {});
    return work;
  }
}
