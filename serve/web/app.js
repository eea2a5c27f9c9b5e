/** The Paint page: a source, a style, and controls that act at once. */
import { offerStyles, startConvert } from "./convert.js";
import { Engines } from "./engines.js";
import { cameras, draw, openCamera, openFile } from "./sources.js";
import { hasStudio, readable } from "./studio.js";
import { paintThumbnails } from "./thumbnails.js";
import { startTrain } from "./train.js";
import { addView, followAddress, isShown, whenChosen } from "./views.js";

const LEAST = 16; // px, the smallest side that a style takes
const PHOTO_SIDE = 1280; // px, long side at which a photo is painted
const ASKING = "Waiting for the camera: allow it where the browser asks.";
const BRUSHES = [0.5, 0.7, 1, 1.4, 2]; // the strokes that a key goes through, as in infer/live.py
const $ = (id) => /** @type {any} */ (document.getElementById(id));
const [before, after] = [$("before"), $("after")].map((canvas) => canvas.getContext("2d"));
/** @type {any} */
const photo = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

const engines = new Engines($("engine"), { changed: reload, warn: alertUser });
/** @type {{name: string, file: string, server?: string, thumbnail: string, credit: string}[]} */
let styles = [];
let chosen = -1, loaded = -1, underWay = 0, again = false, loading = false;
let asking = 0, answered = 0; // the numbers of the picture that was asked for last, and of the one that is shown
/** @type {import("./sources.js").Source | null} */
let source = null, lastPhoto = null;
/** @type {Promise<import("./sources.js").Source> | null} what is being opened */
let opening = null;
/** @type {Promise<import("./sources.js").Source> | null} the camera that was asked for last */
let asked = null;
/** @type {MediaRecorder | null} */
let recorder = null;
const shown = []; // [time, delay] of the frames of the last second

/** Say how things are: to the eye, and to those who listen, for whom the speed beside it changes too often. */
function sayState() {
  const name = readable(styles[loading ? chosen : loaded]?.name ?? "");
  const style = loading ? `Loading ${name} …` : name ? `Style: ${name}` : "No style is loaded: choose one.";
  $("said").textContent = opening && opening === asked ? ASKING : style;
}

function alertUser(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

// -- painting ------------------------------------------------------------------------------------------------

/** Width and height at which a source is painted. */
function paintedSize({ width, height, moving }) {
  const side = moving ? Number($("size").value) : PHOTO_SIDE;
  const scale = Math.min(1, side / Math.max(width, height));
  return [width, height].map((length) => Math.max(LEAST, Math.round(length * scale)));
}

/** Paint what the source shows now; few pictures are under way at a time, and what comes between is left out. */
async function paint() {
  const full = underWay >= engines.depth;
  if (full || !source || !source.width || loaded < 0) {
    again = full;
    return;
  }
  underWay++;
  again = false;
  const number = ++asking;
  try {
    const taken = performance.now();
    const [width, height] = paintedSize(source);
    if (photo.canvas.width !== width || photo.canvas.height !== height) Object.assign(photo.canvas, { width, height });
    photo.setTransform($("mirror").checked ? -1 : 1, 0, 0, 1, $("mirror").checked ? width : 0, 0);
    draw(photo, source.element);
    const pixels = photo.getImageData(0, 0, width, height);
    const strength = $("strength").value;
    const controls = { strength: strength / 100, stroke: strokeAsked(), keep_colors: $("colors").checked };
    const style = styles[loaded].name;
    const { painted } = await engines.paint(pixels.data.buffer, width, height, controls);
    if (number < answered) return; // another engine has painted a newer one meanwhile
    answered = number;
    if (after.canvas.width !== width || after.canvas.height !== height) {
      for (const { canvas } of [before, after]) Object.assign(canvas, { width, height });
      $("view").style.setProperty("--aspect", width / height);
    }
    // An engine that takes the pixels away has one picture under way: then the canvas still shows the photo.
    pixels.data.length ? before.putImageData(pixels, 0, 0) : before.drawImage(photo.canvas, 0, 0);
    after.putImageData(new ImageData(new Uint8ClampedArray(painted), width, height), 0, 0);
    Object.assign(after.canvas.dataset, { style, strength, stroke: controls.stroke, colors: controls.keep_colors });
    measure(performance.now(), taken);
    $("snapshot").disabled = false;
    $("record").disabled = !source.moving; // a canvas that does not change records nothing
  } catch (error) {
    alertUser(error.message);
  } finally {
    underWay--;
    if (again) paint();
  }
}

function measure(now, taken) {
  shown.push([now, now - taken]);
  while (shown.length > 2 && now - shown[0][0] > 1000) shown.shift();
  const delays = shown.map(([, delay]) => delay).sort((a, b) => a - b);
  const delay = delays[delays.length >> 1].toFixed(0);
  const span = now - shown[0][0];
  const rate = source?.moving && span ? `${((1000 * (shown.length - 1)) / span).toFixed(1)} frames/s, ` : "";
  $("speed").textContent = `${rate}${delay} ms at ${after.canvas.width}×${after.canvas.height}`;
}

/** Ask for a picture at each frame that the video shows. */
function follow(video) {
  const next = () => {
    if (source?.element !== video) return;
    if (isShown("paint")) paint();
    video.requestVideoFrameCallback ? video.requestVideoFrameCallback(next) : requestAnimationFrame(next);
  };
  next();
}

// -- styles ---------------------------------------------------------------------------------------------------

/** The chosen style into the engine that paints from now on. */
function reload() {
  loaded = -1;
  $("speed").textContent = "";
  load(chosen);
}

function choose(index) {
  alertUser("");
  return styles.length ? load(index) : null; // there are none before the wall hangs
}

async function load(index) {
  chosen = (index + styles.length) % styles.length;
  const mine = chosen;
  document.querySelectorAll(".style").forEach((button, k) => button.setAttribute("aria-pressed", String(k === mine)));
  loading = true;
  sayState();
  try {
    const [width, height] = source?.width ? paintedSize(source) : [480, 360];
    await engines.load(styles[mine], width, height);
    loaded = mine;
    if (mine === chosen) paint();
  } catch (error) {
    alertUser(error.message);
  }
  if (mine === chosen) loading = false;
  sayState();
}

/** The styles as they are now, on the wall. */
async function hang() {
  const names = [chosen, loaded].map((index) => styles[index]?.name);
  styles = await (await fetch("styles.json")).json();
  [chosen, loaded] = names.map((name) => styles.findIndex((style) => style.name === name));
  offerStyles(styles);
  $("wall").replaceChildren(
    ...styles.map(({ name, thumbnail, credit }, index) => {
      const button = document.createElement("button");
      button.className = "style";
      button.title = credit;
      button.setAttribute("aria-pressed", String(index === chosen));
      const picture = Object.assign(new Image(), { src: thumbnail, alt: "" });
      const label = Object.assign(document.createElement("span"), { textContent: readable(name) });
      button.append(picture, label);
      button.onclick = () => choose(index);
      return button;
    }),
  );
  repaintWall();
}

/** The user's last photo on the wall, where there is one. */
function repaintWall() {
  if (!lastPhoto) return;
  const { element, width, height } = lastPhoto;
  const isBusy = () => underWay > 0 || source?.moving || !isShown("paint");
  paintThumbnails(element, width, height, styles, [...$("wall").querySelectorAll("img")], isBusy).catch(() => {});
}

async function paintWith(name) {
  location.hash = "paint";
  await hang();
  await choose(styles.findIndex((style) => style.name === name));
}

// -- sources --------------------------------------------------------------------------------------------------

/**
 * Show what is being opened, unless the user has chosen something else by then.
 * @param {Promise<any>} mine @param {boolean} [own] whether it is the user's, not the example
 */
async function use(mine, own = true) {
  opening = mine;
  alertUser("");
  sayState();
  try {
    const opened = await mine;
    if (opening !== mine) return opened.stop();
    stopRecording();
    source?.stop();
    source = opened;
    shown.length = 0;
    opened.moving ? follow(opened.element) : paint();
    if ($("paint").hidden) restCamera();
    if (own && !opened.moving) {
      lastPhoto = opened;
      repaintWall();
    }
  } catch (error) {
    if (opening === mine) alertUser(error.message);
  } finally {
    if (opening === mine) opening = null;
    sayState();
  }
}

async function useCamera(deviceId = "") {
  const mine = openCamera(Number($("size").value), deviceId, loseCamera);
  asked = mine;
  await use(mine);
  const camera = await mine.catch(() => null);
  if (!camera) return;
  const found = await cameras();
  $("device").replaceChildren(...found.map((device, k) => new Option(device.label || `Camera ${k + 1}`, device.deviceId)));
  const current = camera.element.srcObject.getVideoTracks()[0].getSettings().deviceId;
  if (current) $("device").value = current;
  $("device-field").hidden = found.length < 2;
}

/** @param {string} words why it is lost */
function loseCamera(words) {
  stopRecording();
  $("speed").textContent = "";
  alertUser(words);
}

/** The view is left: nobody is filmed then, and what was recorded until now is kept. */
function restCamera() {
  stopRecording();
  if (source?.element.srcObject) source.stop();
}

/** The view is back: so is its camera, or the picture as the controls are now. */
const resume = () => (source?.element.srcObject?.active === false ? useCamera($("device").value) : paint());

async function openExample() {
  const answer = await fetch("example.jpg");
  return openFile(new File([await answer.blob()], "example.jpg", { type: "image/jpeg" }));
}

/** @param {ArrayLike<File>} files of which the first is taken */
const useFile = ({ 0: file }) => file && use(openFile(file));
const useExample = () => use(openExample(), false);

// -- what is kept ---------------------------------------------------------------------------------------------

/** @param {Blob} blob @param {string} style its name @param {string} ending */
function keep(blob, style, ending) {
  const time = new Date().toISOString().slice(0, 19).replace(/[-:T]/g, "");
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob) });
  link.download = `allaprima-${style}-${time}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function snapshot() {
  const { style } = after.canvas.dataset;
  if (style) after.canvas.toBlob((blob) => keep(blob, style, "png"), "image/png");
}

function record() {
  if (recorder) return stopRecording();
  if ($("record").disabled) return;
  const kind = ["video/mp4", "video/webm"].find((type) => self.MediaRecorder?.isTypeSupported(type));
  if (!kind) return alertUser("This browser can't record. Update it, or take snapshots.");
  const parts = [];
  const { style } = after.canvas.dataset; // the one that paints now: at the end there may be none
  recorder = new MediaRecorder(after.canvas.captureStream(), { mimeType: kind });
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    const clip = new Blob(parts, { type: kind });
    clip.size ? keep(clip, style, kind.split("/")[1]) : alertUser("Nothing was painted meanwhile, so nothing is recorded. Press Record again.");
  };
  recorder.start(1000);
  $("record").setAttribute("aria-pressed", "true");
  $("record").textContent = "Stop recording";
}

function stopRecording() {
  recorder?.stop();
  recorder = null;
  $("record").setAttribute("aria-pressed", "false");
  $("record").textContent = "Record";
}

// -- controls -------------------------------------------------------------------------------------------------

function setStrength(value) {
  $("strength").value = value;
  $("strength-value").textContent = `${$("strength").value} %`;
  paint();
}

/** The size of strokes that is asked for; null where they are as trained, which is below the least size. */
const strokeAsked = () => ($("stroke").value < BRUSHES[0] ? null : Number($("stroke").value));

function setStroke(value) {
  $("stroke").value = value;
  const words = strokeAsked() === null ? "as trained" : `× ${strokeAsked()}`;
  $("stroke-value").textContent = words;
  $("stroke").setAttribute("aria-valuetext", words);
  paint();
}

function setSplit(percent) {
  $("divider").value = percent;
  $("view").style.setProperty("--split", `${percent}%`);
}

const KEYS = {
  n: () => choose(chosen + 1),
  p: () => choose(chosen - 1),
  "+": () => setStrength(Number($("strength").value) + 10),
  "=": () => setStrength(Number($("strength").value) + 10),
  "-": () => setStrength(Number($("strength").value) - 10),
  o: () => setSplit(Number($("divider").value) ? 0 : 50),
  b: () => setStroke(BRUSHES.find((size) => size > (strokeAsked() ?? 0)) ?? $("stroke").min),
  c: () => $("colors").click(),
  m: () => $("mirror").click(),
  s: snapshot,
  r: record,
  f: () => $("fullscreen").click(),
};

function listen() {
  $("camera").onclick = () => useCamera();
  $("device").onchange = () => useCamera($("device").value);
  whenChosen($("file"), useFile);
  $("example").onclick = useExample;
  for (const [name, set] of Object.entries({ strength: setStrength, stroke: setStroke })) {
    $(name).oninput = () => set($(name).value);
    set($(name).value); // browsers keep it when the page is loaded again, and not what stands beside it
  }
  $("divider").oninput = () => setSplit($("divider").value);
  $("size").onchange = $("mirror").onchange = $("colors").onchange = () => paint();
  $("snapshot").onclick = snapshot;
  $("record").onclick = record;
  $("fullscreen").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen());
  addView("paint", { dropped: ({ files }) => useFile(files), shown: resume, left: restCamera });
  window.addEventListener("beforeunload", (event) => recorder && event.preventDefault());
  document.onkeydown = (event) => {
    if (!isShown("paint") || event.ctrlKey || event.metaKey || event.altKey || document.activeElement?.matches("select")) return;
    const number = Number(event.key);
    if (number >= 1 && number <= styles.length) choose(number - 1);
    else KEYS[event.key.toLowerCase()]?.();
  };
}

async function begin() {
  listen(); // before all that takes its time: who is quick is heard
  // Threads need a page that is isolated from others; where the host can't say so, the service worker does.
  if ("serviceWorker" in navigator && self.isSecureContext) {
    const known = navigator.serviceWorker.controller;
    await navigator.serviceWorker.register("sw.js").then(() => navigator.serviceWorker.ready, () => {});
    if (!known && !self.crossOriginIsolated && !sessionStorage.getItem("isolated") && !source && !opening) {
      sessionStorage.setItem("isolated", "tried");
      return location.reload();
    }
  }
  await hang();
  if (await hasStudio()) {
    startConvert();
    await startTrain({ hang, paint: paintWith });
  } else if (styles.some((style) => style.server)) {
    $("promise").textContent = "The server keeps no picture that it paints.";
  }
  followAddress();
  await Promise.all([choose(0), source || opening ? null : useExample()]); // who has been quick has something else by now
}

begin().catch((error) => alertUser(error.message));
