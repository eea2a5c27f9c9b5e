/** Train: a painting into the line, and what its network paints while it learns. */
import { Engine } from "./engine.js";
import { draw, openCamera, openFile } from "./sources.js";
import { ask, following, inWords, keepLooking, layCards, make, readable } from "./studio.js";
import { addView, isShown, whenChosen } from "./views.js";

const $ = (id) => /** @type {any} */ (document.getElementById(id));
const SIDE = 320; // px, long side of what the network of the moment paints: small, training needs the machine
const SHARE = 0.01; // of the processor: what the camera's pictures may take of it, for the same reason
const COSTS = { J: "J, the loss", content: "content cost", style: "style cost" };
const STATES = { waiting: "waits in line", stopped: "stopped", done: "done", failed: "failed" };

/** @type {{id: string, name: string, state: string, steps: number, done: number, left: number, about: string, moment: number, style: number, report: boolean, process: number}[]} */
let trainings = [];
/** @type {File | null} */
let painting = null;
/** @type {File | null} the file that was chosen last */
let newest = null;
/** @type {{paint: (name: string) => void, hang: () => void}} what Paint does for a style that is ready */
let paintView;
let watched = "", seen = "", hung = "";

const { tell, look, order } = following(refresh, $("train-message"));

// -- the painting -----------------------------------------------------------------------------------------------

/** Show a painting, and what is wrong with it. @param {File} [file] */
async function choose(file) {
  if (!file || $("painting").disabled) return;
  newest = file;
  painting = null;
  $("train-start").disabled = true;
  tell("");
  $("painting-faults").replaceChildren();
  try {
    const about = await ask(`paintings?style_size=${$("style-size").value}`, { method: "POST", body: file });
    if (newest !== file) return;
    Object.assign($("painting-shown"), { src: about.shown, hidden: false });
    $("painting-name").textContent = `${file.name}, ${about.width}×${about.height}`;
    $("painting-faults").replaceChildren(...about.faults.map((fault) => make("li", { textContent: fault })));
    painting = file;
    $("train-start").disabled = false;
    sayTime();
  } catch (error) {
    if (newest !== file) return;
    forget();
    tell(error.message);
  }
}

/** No painting is chosen any more. */
function forget() {
  painting = null;
  $("train-start").disabled = true;
  $("painting-shown").hidden = true;
  $("painting-name").textContent = "Drop a painting here, or choose one";
  $("painting-faults").replaceChildren();
  sayTime();
}

function sayTime() {
  const before = trainings.filter(({ state }) => state === "training" || state === "waiting");
  const wait = before.reduce((sum, { left }) => sum + left + 60, 0);
  const line = before.length ? ` It begins in about ${inWords(wait)}, after what is in line.` : "";
  $("train-time").textContent = painting
    ? `About ${inWords(60 * $("minutes").value)} of training, and a minute more for the report.${line}`
    : "";
}

async function start() {
  if (!painting) return;
  const settings = { name: painting.name, minutes: $("minutes").value, style_size: $("style-size").value };
  $("train-start").disabled = true; // a second press would be a second training
  const asked = ask(`trainings?${new URLSearchParams(settings)}`, { method: "POST", body: painting });
  const made = await asked.finally(() => ($("train-start").disabled = false));
  watched = made.id;
  forget();
}

// -- the line ---------------------------------------------------------------------------------------------------

async function refresh() {
  ({ trainings } = await ask("trainings"));
  const styles = trainings.filter(({ style }) => style).map(({ name, style }) => name + style).join();
  if (styles !== hung) await paintView.hang();
  hung = styles;
  $("train-none").hidden = trainings.length > 0;
  layCards($("trainings"), trainings, newCard, refreshed);
  await showMoment();
}

function newCard({ id, name }) {
  const post = (what) => () => order(() => ask(`trainings/${id}/${what}`, { method: "POST" }));
  const button = (about, textContent, onclick) => make("button", { className: about, textContent, onclick });
  const card = make(
    "li",
    { className: "card" },
    make("img", { src: `studio/trainings/${id}/painting.jpg`, alt: "" }),
    make("h3", { textContent: readable(name) }),
    make("div", {}, make("progress", { ariaLabel: `Steps of ${name}` }), make("p", { className: "about" })),
    make(
      "div",
      { className: "row" },
      button("stop", "Stop", post("stop")),
      button("continue", "Continue", post("continue")),
      button("paint", "Paint with it", () => paintView.paint(name)),
      make("a", { className: "button download", textContent: "Download", href: `styles/${encodeURIComponent(name)}.onnx`, download: `${name}.onnx` }),
      make("a", { className: "button report", textContent: "Report", href: `studio/trainings/${id}/report.html`, target: "_blank" }),
      button("longer", "5 minutes more", post("longer?minutes=5")),
      button("watch", "Watch", () => order(async () => (watched = id))),
      button("remove", "Remove", () => order(() => remove(id, name))),
    ),
  );
  card.dataset.id = id;
  return card;
}

async function remove(id, name) {
  if (confirm(`Remove the training of ${name}? It can't be continued then. A style on the wall stays.`))
    await ask(`trainings/${id}`, { method: "DELETE" });
}

/** The card as the training is now. */
function refreshed(card, training) {
  const { state, steps, done, left, about, style, report, moment } = training;
  const part = (name) => card.querySelector(name);
  Object.assign(part("progress"), { max: steps || 1, value: done, hidden: state === "done" });
  const now = state !== "training" ? STATES[state] : done && done < steps ? `${inWords(left)} left` : about || "Starting";
  const words = state === "done" ? `done, ${done} steps` : done ? `${now}, step ${done} of ${steps}` : now;
  part(".about").textContent = state === "failed" ? about : words;
  const shows = {
    ".stop": state === "training" || state === "waiting",
    ".continue": state === "stopped" || state === "failed",
    ".longer": state === "done",
    ".paint": Boolean(style),
    ".download": Boolean(style),
    ".report": report,
    ".watch": Boolean(moment) && training !== watchedNow(),
    ".remove": state !== "training",
  };
  for (const [name, shown] of Object.entries(shows)) part(name).hidden = !shown;
  return card;
}

// -- the network of the moment ----------------------------------------------------------------------------------

/** @type {Engine} */
let engine;
/** @type {[HTMLCanvasElement, any][] | null} */
let photos = null;
/** @type {Promise<import("./sources.js").Source> | null} */
let camera = null;
let atWork = false;

/** The training whose network of the moment is shown: the one that was chosen, or the one at work. */
function watchedNow() {
  const chosen = trainings.find(({ id, moment }) => id === watched && moment);
  return chosen ?? trainings.find(({ state, moment }) => state === "training" && moment);
}

async function showMoment() {
  const training = watchedNow();
  $("moment").hidden = !training;
  $("moment-hint").hidden = seen.startsWith(`${training?.id}/`);
  if (!training || !isShown("train") || atWork) return;
  const moment = `${training.id}/${training.moment}`;
  if (moment === seen) return;
  atWork = true;
  try {
    engine ??= Object.assign(new Engine(), { threads: 1 });
    photos ??= await hangPhotos();
    await engine.load(`studio/trainings/${training.id}/moment.onnx?${training.moment}`, 64, 48);
    for (const [canvas, photo] of photos) await paint(canvas, photo);
    await drawCurves(training.id);
    seen = moment;
    $("moment-hint").hidden = true;
    $("moments").dataset.moment = moment;
  } finally {
    atWork = false;
  }
}

/** The photos that no training sees, each with a canvas for its painting. */
async function hangPhotos() {
  const names = (await ask("trainings")).photos;
  /** @type {[HTMLCanvasElement, any][]} */
  const pairs = [];
  for (const name of names) {
    const answer = await fetch(`studio/photos/${name}`);
    const photo = await openFile(new File([await answer.blob()], name, { type: "image/jpeg" }));
    pairs.push([make("canvas", { role: "img", ariaLabel: `${name.split(".")[0]}, painted` }), photo]);
  }
  for (const [canvas] of pairs) $("live").before(make("figure", {}, canvas));
  return pairs;
}

/** Paint what a source shows now into a canvas. */
async function paint(canvas, source) {
  const scale = SIDE / Math.max(source.width, source.height);
  const [width, height] = [source.width, source.height].map((side) => Math.max(16, Math.round(scale * side)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  /** @type {any} */
  const photo = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  draw(photo, source.element);
  const pixels = photo.getImageData(0, 0, width, height).data.buffer;
  const { painted } = await engine.paint(pixels, width, height, { strength: 1 });
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(painted), width, height), 0, 0);
}

async function toggleCamera() {
  if (camera) return stopCamera(); // also one that is not open yet
  const mine = openCamera(SIDE, "", loseCamera);
  camera = mine;
  showCamera();
  await order(() => paintCamera(mine).finally(() => camera === mine && stopCamera()));
}

/** Paint what a camera shows until it is stopped. @param {Promise<import("./sources.js").Source>} mine */
async function paintCamera(mine) {
  const source = await mine;
  while (camera === mine) {
    const began = performance.now();
    if (isShown("train") && seen) await paint($("live").querySelector("canvas"), source);
    const took = performance.now() - began;
    await new Promise((resolve) => setTimeout(resolve, took / (SHARE * navigator.hardwareConcurrency) - took));
  }
}

function showCamera() {
  $("live-camera").setAttribute("aria-pressed", String(Boolean(camera)));
  $("live").querySelector("canvas").hidden = !camera;
}

function stopCamera() {
  camera?.then((source) => source.stop(), () => {}); // what goes wrong with it is told where it was asked for
  camera = null;
  showCamera();
}

/** @param {string} words why it is lost */
function loseCamera(words) {
  stopCamera();
  tell(words);
}

// -- curves -----------------------------------------------------------------------------------------------------

async function drawCurves(id) {
  if (!$("curves").open) return;
  const costs = await ask(`trainings/${id}/costs.json`);
  $("curves-drawn").replaceChildren(
    ...Object.entries(COSTS).map(([name, title]) =>
      make("figure", {}, make("figcaption", { textContent: `${title}: ${costs[name].at(-1).toPrecision(3)}` }), curve(costs.step, costs[name], title)),
    ),
  );
}

/** A curve over the steps, the cost on a logarithmic scale, as an SVG. */
function curve(steps, values, title) {
  const logs = values.map((value) => Math.log(Math.max(value, 1e-9)));
  const least = Math.min(...logs), span = Math.max(...logs) - least || 1;
  const points = logs.map((log, k) => `${(300 * steps[k]) / steps.at(-1)},${95 - (90 * (log - least)) / span}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 300 100", class: "curve", role: "img" })) svg.setAttribute(name, value);
  svg.setAttribute("aria-label", `${title}, from ${values[0].toPrecision(3)} to ${values.at(-1).toPrecision(3)}`);
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  return svg;
}

// -- the view ---------------------------------------------------------------------------------------------------

/** @param {typeof paintView} view */
export async function startTrain(view) {
  paintView = view;
  addView("train", { shown: look, left: stopCamera, dropped: ({ files }) => choose(files[0]) });
  whenChosen($("painting"), ([file]) => choose(file));
  $("style-size").onchange = () => painting && choose(painting);
  $("minutes").onchange = sayTime;
  $("train-start").onclick = () => order(start);
  $("live-camera").onclick = toggleCamera;
  $("curves").ontoggle = () => seen && drawCurves(seen.split("/")[0]).catch((error) => tell(error.message));
  $("promise").textContent = "Everything stays on this machine: nothing is uploaded anywhere else.";
  const { possible } = await ask("trainings");
  $("train-missing").hidden = possible;
  $("painting").disabled = !possible;
  keepLooking(look, () => isShown("train"));
}
