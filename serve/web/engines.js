/** Who paints: this browser, or the server that the page is from. The faster of the two, unless the user chooses. */
import { Engine } from "./engine.js";
import { Remote } from "./remote.js";

const FRAMES = 5; // that each engine is measured with

export class Engines {
  /**
   * @param {HTMLSelectElement} select the choice, hidden where there is none
   * @param {{changed: () => void, warn: (text: string) => void}} page `changed`: another engine paints from now on
   */
  constructor(select, page) {
    this.select = select;
    this.page = page;
    this.browser = new Engine();
    this.server = new Remote((error) => this.lose(error));
    /** @type {Engine | Remote} */
    this.current = this.browser;
    this.loaded = new Map();
    /** @type {{file: string, server?: string} | undefined} the style that was asked for last */
    this.wanted = undefined;
    this.measured = this.picked = false;
    select.onchange = () => {
      this.picked = true;
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
    if (style.server && !this.measured) {
      this.measured = true;
      this.measure(width, height).catch(() => {}); // then the one that paints goes on; `lose` tells why
    }
    await this.open(this.current, style, width, height);
  }

  /** Load a style where it is not the one that the engine has; a wall that is hung anew has new ones. */
  async open(engine, style, width, height) {
    if (this.loaded.get(engine) === style) return;
    await engine.load(engine === this.server ? style.server : style.file, width, height);
    this.loaded.set(engine, style);
  }

  paint(buffer, width, height, controls) {
    return this.current.paint(buffer, width, height, controls);
  }

  /** Start with the server, which is ready at once; when the browser is ready too, the faster one goes on. */
  async measure(width, height) {
    this.current = this.server;
    this.select.value = "server";
    this.select.labels[0].hidden = false;
    const times = {};
    for (const name of ["browser", "server"]) {
      const engine = this[name];
      await this.open(engine, this.wanted, width, height); // the user may have chosen another one meanwhile
      const began = performance.now();
      for (let k = 0; k < FRAMES; k++) await engine.paint(new ArrayBuffer(4 * width * height), width, height, { strength: 1 });
      times[name] = (performance.now() - began) / FRAMES;
      const option = [...this.select.options].find(({ value }) => value === name);
      if (option) option.textContent += `, ${times[name].toFixed(0)} ms`;
    }
    if (!this.picked && times.browser < times.server) this.use("browser");
    if (this.current !== this.server) this.server.close();
  }

  /** @param {string} name */
  use(name) {
    this.select.value = name;
    if (name === "browser") this.server.close();
    this.current = this[name];
    this.page.changed();
  }

  /** @param {Error} error */
  lose(error) {
    if (this.current === this.server) this.use("browser");
    this.page.warn(error.message);
  }
}
