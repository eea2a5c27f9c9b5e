/** Who paints: this browser, its graphics card, or the server that the page is from. The fastest, unless the user chooses. */
import { Engine } from "./engine.js";
import { Remote } from "./remote.js";

const FRAMES = 5; // that each engine is measured with
const GIVEN_UP = "The graphics card has given up: this browser paints without it now. Reload the page to try it again.";

export class Engines {
  /**
   * @param {HTMLSelectElement} select the choice, an option for each engine, hidden where there is none
   * @param {{changed: () => void, warn: (text: string) => void}} page `changed`: another engine paints from now on
   */
  constructor(select, page) {
    this.select = select;
    this.page = page;
    this.browser = new Engine();
    this.server = new Remote((error) => this.lose(error));
    /** @type {Engine | null} */
    this.graphics = null;
    /** @type {Engine | Remote} */
    this.current = this.browser;
    this.loaded = new Map();
    /** @type {{file: string, server?: string} | undefined} the style that was asked for last */
    this.wanted = undefined;
    this.measured = this.picked = false;
    select.onchange = () => {
      this.picked = true;
      this.page.warn("");
      this.use(select.value);
    };
  }

  /** How many frames may be under way. */
  get depth() {
    return this.current.depth;
  }

  /** @param {{file: string, server?: string}} style */
  async load(style, width, height) {
    this.wanted = style;
    if (!this.measured) {
      this.measured = true;
      if (style.server) this.current = this.server; // it is ready at once
      this.measure(Boolean(style.server), width, height).catch(() => {}); // then the one that paints goes on; `lose` tells why
    }
    const engine = this.current;
    await this.tried(engine, this.open(engine, style, width, height));
  }

  /** Load a style where it is not the one that the engine has; a wall that is hung anew has new ones. */
  async open(engine, style, width, height) {
    if (this.loaded.get(engine) === style) return;
    await engine.load(engine === this.server ? style.server : style.file, width, height);
    this.loaded.set(engine, style);
  }

  paint(buffer, width, height, controls) {
    const engine = this.current;
    return this.tried(engine, engine.paint(buffer, width, height, controls));
  }

  /** What an engine was asked for; a graphics card that fails is given up. */
  async tried(engine, work) {
    try {
      return await work;
    } catch (error) {
      if (engine !== this.graphics) throw error;
      this.giveUp();
      throw new Error(GIVEN_UP, { cause: error });
    }
  }

  /** While the first one paints, the others get ready; then the fastest goes on. */
  async measure(hasServer, width, height) {
    const names = ["browser"];
    if (hasServer) names.push("server");
    if (await hasGraphics()) {
      names.push("graphics");
      this.graphics = new Engine("webgpu");
    }
    for (const option of [...this.select.options]) if (!names.includes(option.value)) option.remove();
    if (names.length === 1) return;
    this.select.value = hasServer ? "server" : "browser";
    this.select.labels[0].hidden = false;
    const times = {};
    for (const name of names) {
      try {
        times[name] = await this.time(this[name], width, height);
        this.option(name).textContent += `, ${times[name].toFixed(0)} ms`;
      } catch (error) {
        if (name !== "graphics") throw error;
        this.giveUp(); // a card that can't run a style is as good as none
      }
    }
    const [fastest] = Object.keys(times).sort((one, other) => times[one] - times[other]);
    if (!this.picked && this[fastest] !== this.current) this.use(fastest);
    if (this.current !== this.server) this.server.close();
  }

  /** Milliseconds that an engine takes for a frame, once it is ready. */
  async time(engine, width, height) {
    await this.open(engine, this.wanted, width, height); // the user may have chosen another one meanwhile
    const began = performance.now();
    for (let k = 0; k < FRAMES; k++) await engine.paint(new ArrayBuffer(4 * width * height), width, height, { strength: 1 });
    return (performance.now() - began) / FRAMES;
  }

  /** @param {string} name */
  option(name) {
    return /** @type {HTMLOptionElement} */ ([...this.select.options].find(({ value }) => value === name));
  }

  /** @param {string} name */
  use(name) {
    this.select.value = name;
    if (name !== "server") this.server.close();
    this.current = this[name];
    this.page.changed();
  }

  /** The graphics card can't go on, and can't be chosen any more. */
  giveUp() {
    const graphics = this.graphics;
    if (!graphics) return;
    this.graphics = null;
    this.option("graphics").remove();
    graphics.line.then(() => graphics.worker.terminate()); // what else it was asked for is to fail too
    if (this.current === graphics) this.use("browser");
  }

  /** @param {Error} error */
  lose(error) {
    if (this.current === this.server) this.use("browser");
    this.page.warn(error.message);
  }
}

/** Whether WebGPU computes on a graphics card here, and not on a processor that plays one. */
async function hasGraphics() {
  const adapter = await /** @type {any} */ (navigator).gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info.isFallbackAdapter;
}
